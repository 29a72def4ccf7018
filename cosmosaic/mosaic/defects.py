"""Defects of a mosaic: holes and thin spots inside the coverage, each with its position and cause."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy import units
from astropy.io import fits
from astropy.table import QTable, Table, vstack
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from scipy import ndimage

from cosmosaic.geometry.grid import pixel_to_sky, sky_to_pixel
from cosmosaic.geometry.sphere import Footprint
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.result import Made

Flags = NDArray[np.bool_]

LINE_RATIO = 5.0
"""A hole this many times longer than wide is a line."""
SMALLEST_THIN_PIXELS = 400
"""Smaller places with a single exposure are due to cosmic rays and bad pixels, of which there are thousands."""
TOUCHING = np.ones((3, 3), dtype=bool)
STRIPED, STEPPED = ("rows", "columns"), ("step",)


def list_defects(
    mosaic: Path, verdict: Path, window: MosaicGrid, footprints: Mapping[str, Footprint], stem: str, folder: Path
) -> Made:
    """Name each connected defect of a mosaic by its cause.

    Parameters
    ----------
    mosaic, verdict
        The mosaic (``_i2d.fits``) and the verdict on its sky (``_verdict.ecsv``).
    window
        The mosaic's window.
    footprints
        Footprints of its exposures.
    stem
        Name of the table without ending.
    folder
        Gets ``_defects.ecsv``: ``cause``, position of the middle, size in pixels, and the exposure that is at fault.
    """
    with fits.open(mosaic, memmap=True) as hdus:
        seen = np.isfinite(hdus["SCI"].data)
        depth = hdus["NEXP"].data if "NEXP" in hdus else None
        tables = [hole_table(seen, window, footprints)]
        if depth is not None:
            tables.append(thin_table(depth, window))
    tables.append(exposure_table(Table.read(verdict, format="ascii.ecsv").filled(""), window, footprints))
    table = vstack(tables, metadata_conflicts="silent")
    path = folder / f"{stem}_defects.ecsv"
    table.write(path, format="ascii.ecsv")
    return Made(table=path, facts={"holes": float(len(tables[0])), "defects": float(len(table))})


def hole_table(seen: Flags, grid: MosaicGrid, footprints: Mapping[str, Footprint]) -> QTable:
    """List the connected pixels without data that the coverage encloses.

    Parameters
    ----------
    seen
        True where there are data, shape of the window.
    grid
        The window.
    footprints
        Footprints of the exposures: a hole outside all of them is a gap between exposures, others are bad pixels.
    """
    polygons = [Polygon(sky_to_pixel(grid, corners)) for corners in footprints.values()]
    # Holes are connected over corners, but not with the outside.
    labels, _ = ndimage.label(ndimage.binary_fill_holes(seen) & ~seen, structure=TOUCHING)
    rows = []
    for window, pixels in _regions(labels):
        y, x = _middle(window, pixels)
        height, width = pixels.shape
        if not any(polygon.contains_point((x, y)) for polygon in polygons):
            cause = "no coverage"
        elif _length_over_width(pixels) >= LINE_RATIO:
            cause = "line of bad pixels"
        else:
            cause = "bad pixels"
        rows.append((cause, "", x, y, width, height, int(pixels.sum())))
    return _table(rows, grid)


def thin_table(depth: NDArray[np.floating], grid: MosaicGrid) -> QTable:
    """List the connected places that a single exposure covers, where cosmic rays cannot be distinguished from sources.

    Parameters
    ----------
    depth
        Number of exposures at each pixel, shape of the window.
    grid
        The window.
    """
    labels, _ = ndimage.label(depth == 1)
    rows = []
    for window, pixels in _regions(labels):
        if pixels.sum() >= SMALLEST_THIN_PIXELS:
            y, x = _middle(window, pixels)
            rows.append(("single exposure", "", x, y, pixels.shape[1], pixels.shape[0], int(pixels.sum())))
    return _table(rows, grid)


def exposure_table(verdict: Table, grid: MosaicGrid, footprints: Mapping[str, Footprint]) -> QTable:
    """List the exposures that the verdict found a step or stripes in."""
    rows = []
    for metric in verdict:
        name = str(metric["where"])
        if (
            metric["state"] not in ("warn", "fail")
            or metric["metric"] not in STRIPED + STEPPED
            or name not in footprints
        ):
            continue
        corners = sky_to_pixel(grid, footprints[name])
        (x, y), (width, height) = corners.mean(axis=0), np.ptp(corners, axis=0)
        cause = "1/f noise" if metric["metric"] in STRIPED else "step"
        rows.append((cause, name, float(x), float(y), round(width), round(height), round(width * height)))
    return _table(rows, grid)


def _regions(labels: NDArray[np.integer]) -> list[tuple[tuple[slice, slice], Flags]]:
    found = ndimage.find_objects(labels)
    return [(window, labels[window] == number) for number, window in enumerate(found, start=1)]


def _middle(window: tuple[slice, slice], pixels: Flags) -> tuple[float, float]:
    """0-based row and column of the pixel of a region nearest to its mean, which may itself be outside."""
    places = np.argwhere(pixels)
    nearest = places[np.argmin(np.sum((places - places.mean(axis=0)) ** 2, axis=1))]
    return float(nearest[0] + window[0].start), float(nearest[1] + window[1].start)


def _length_over_width(pixels: Flags) -> float:
    """Ratio of the axes of a region's ellipse, including the extent of its pixels."""
    places = np.argwhere(pixels).T
    covariance = np.cov(places) if places.shape[1] > 1 else np.zeros((2, 2))
    small, large = np.linalg.eigvalsh(covariance + np.eye(2) / 12)
    return float(np.sqrt(large / small))


def _table(rows: list[tuple[str, str, float, float, int, int, int]], grid: MosaicGrid) -> QTable:
    names = ("cause", "exposure", "x", "y", "width", "height", "pixels")
    types = ("U24", "U80", "f8", "f8", "i8", "i8", "i8")
    table = QTable(rows=rows or None, names=names, dtype=types)
    sky = pixel_to_sky(grid, np.stack([table["x"], table["y"]], axis=1)) if rows else np.zeros((0, 2))
    table["ra"], table["dec"] = sky[:, 0] * units.deg, sky[:, 1] * units.deg
    for name, words in {
        "x": "0-based pixel",
        "y": "0-based pixel",
        "width": "pixels",
        "height": "pixels",
        "pixels": "number",
    }.items():
        table[name].info.description = words
    return table
