"""Speed and memory of catalogues on mosaics of any size, made by repeating a part of smaller ones."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits
from catalog_programs import PROGRAMS, measured
from numpy.typing import NDArray
from scipy import ndimage

PLANES = ("SCI", "ERR", "WHT", "NEXP", "DQ")
"""What the programs read."""
HOLE_PIXELS = 8
"""Holes up to twice as wide count as covered, such as cores of saturated stars."""


def measure_large(mosaics: Mapping[str, Path], psfs: Mapping[str, Path], side: int, folder: Path) -> dict[str, dict]:
    """Run every program on mosaics of this side and of half of it.

    Returns
    -------
    costs
        By program: ``sources_per_cpu_s`` on the smaller mosaics, ``peak_mb`` by side.
    """
    costs: dict[str, dict] = {name: {"peak_mb": {}} for name in PROGRAMS}
    square = covered_square(mosaics)
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


def covered_square(mosaics: Mapping[str, Path]) -> tuple[slice, slice]:
    """Find the largest square that all filters cover, but for small holes."""
    covered = np.all([np.nan_to_num(fits.getdata(path, "WHT")) > 0 for path in mosaics.values()], axis=0)
    covered = ndimage.binary_closing(np.pad(covered, HOLE_PIXELS), iterations=HOLE_PIXELS)
    inside = ndimage.distance_transform_cdt(covered, "chessboard")
    middle = np.unravel_index(np.argmax(inside), inside.shape)
    half = int(inside[middle]) - 1
    row, column = (int(place) - HOLE_PIXELS for place in middle)
    return slice(row - half, row + half), slice(column - half, column + half)


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
