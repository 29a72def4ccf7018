"""Speed and memory of catalogues on mosaics of any size, made by repeating the middle of smaller ones."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits
from catalog_programs import PROGRAMS, measured
from numpy.typing import NDArray

PLANES = ("SCI", "ERR", "WHT", "NEXP", "DQ")
"""What the programs read."""
COVERED = 0.995
"""Fraction of the repeated square that all filters cover, at least."""
STEP = 16


def measure_large(mosaics: Mapping[str, Path], psfs: Mapping[str, Path], side: int, folder: Path) -> dict[str, dict]:
    """Run every program on mosaics of this side and of half of it.

    Returns
    -------
    costs
        By program: ``sources_per_cpu_s`` on the smaller mosaics, ``peak_mb`` by side.
    """
    costs: dict[str, dict] = {name: {"peak_mb": {}} for name in PROGRAMS}
    square = middle_square(mosaics)
    for length in (side // 2, side):
        large = {band: repeat(path, square, length, folder / f"{band}_i2d.fits") for band, path in mosaics.items()}
        for name, cost in costs.items():
            found, took = measured(name, large, psfs, folder / name)
            cost["peak_mb"][str(length)] = round(took.peak_mb)
            if length == side // 2:
                rows = sum(map(len, found.values())) / len(found)
                cost |= {"sources": rows, "cpu_s": took.cpu_s, "sources_per_cpu_s": rows / took.cpu_s}
            costs[name] = cost
        for path in large.values():
            path.unlink()
    return costs


def middle_square(mosaics: Mapping[str, Path]) -> tuple[slice, slice]:
    """Find the largest square about the middle of what all filters cover that has hardly a gap."""
    covered = np.all([np.nan_to_num(fits.getdata(path, "WHT")) > 0 for path in mosaics.values()], axis=0)
    row, column = (int(np.median(places)) for places in np.nonzero(covered))

    def about(half: int) -> tuple[slice, slice]:
        return slice(row - half, row + half), slice(column - half, column + half)

    half = STEP
    while min(row, column) > half + STEP and covered[about(half + STEP)].mean() > COVERED:
        half += STEP
    return about(half)


def repeat(path: Path, square: tuple[slice, slice], side: int, made: Path) -> Path:
    """Write a mosaic that repeats a square of another in `PLANES`; headers and other extensions stay as they are."""
    made.parent.mkdir(parents=True, exist_ok=True)
    with fits.open(path) as hdus:
        for name in PLANES:
            hdus[name].data = _repeated(hdus[name].data[square], side)
        hdus.writeto(made, overwrite=True)
    return made


def _repeated(plane: NDArray, side: int) -> NDArray:
    times = -(-side // plane.shape[0])
    return np.ascontiguousarray(np.tile(plane, (times, times))[:side, :side])
