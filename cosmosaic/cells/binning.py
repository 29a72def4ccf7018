"""Pixels of an exposure brought onto the lattice of cells."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.wcs.utils import proj_plane_pixel_area
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from cosmosaic.cells.medians import is_constant, median_of
from cosmosaic.cells.source_masks import mask_image
from cosmosaic.cells.survey import CellExposure, CellSurvey, Flags, Floats, NoSkyError, gather
from cosmosaic.dq import implausible_in, is_usable, native
from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.exposures.keywords import GROUP_KEYWORDS, KeywordError, detector_of, group_of
from cosmosaic.exposures.library import exposure_name
from cosmosaic.geometry.grid import sky_to_pixel, survey_grid
from cosmosaic.geometry.interpolation import LATTICE_STEP_PIXELS, LatticeSplines
from cosmosaic.geometry.windows import CELL_PIXELS, cell_lattice
from cosmosaic.records import Lattice
from cosmosaic.source_light import grown
from cosmosaic.survey import GridSettings

FloatImage = NDArray[np.float32]
CellNumbers = NDArray[np.int32]

OUTLIER_SIGMA = 5.0
"""Pixels farther from their cell's median level are cosmic rays or cores of sources; neither is sky."""
FEWEST_PIXELS = 0.5
"""A cell counts in an exposure if at least this fraction of a full cell's pixels lies in it."""
AROUND_CELLS = 5
"""Side of the squares of cells whose median is the light around a cell."""
GROW_ARCSEC = 0.1
"""Masks of sources are enlarged by this: a long-wavelength pixel reaches 0.045 arcsec beyond its centre, the rest is
room for a rim that is fainter than the isophote a segment ends at."""


def bin_exposures(paths: Sequence[Path]) -> CellSurvey:
    """Bin exposures of one filter onto their own lattice.

    Parameters
    ----------
    paths
        ``_cal`` files of one filter.

    Raises
    ------
    NoSkyError
        An exposure has no usable pixel; the file is named.
    """
    from jwst import datamodels  # takes long, and exposures in memory do not need it

    footprints = {path.name: read_footprint(path) for path in paths}
    with datamodels.open(paths[0]) as first:
        pixel_arcsec = float(np.sqrt(first.meta.photometry.pixelarea_arcsecsq))
    grid = cell_lattice(survey_grid(GridSettings(), footprints), pixel_arcsec)
    exposures = []
    for path in paths:
        with datamodels.open(path) as model:
            exposures.append(bin_exposure(model, grid))
    return gather(exposures, grid)


class ExposurePixels(NamedTuple):
    """The pixels of one exposure to be binned."""

    name: str
    detector: str
    group: str
    """Identity of the exposure group."""
    data: FloatImage
    """Surface brightness, MJy/sr, shape ``(ny, nx)``."""
    err: FloatImage
    wcs: Any
    """The gwcs."""


def bin_exposure(model: Any, grid: Lattice) -> CellExposure:
    """Bring one exposure onto a lattice.

    Cosmic rays are clipped first, symmetrically, which does not move the mean of the noise.

    Parameters
    ----------
    model
        A `jwst.datamodels.ImageModel` of surface brightness.
    grid
        The lattice.
    """
    return bin_pixels(pixels_of(model), usable_pixels(model), grid)


def pixels_of(model: Any) -> ExposurePixels:
    """Return the pixels of a `jwst.datamodels.ImageModel`."""
    name = model.meta.filename
    detector = detector_of({"DETECTOR": model.meta.instrument.detector}, name)
    group = "_".join(_group_of(model))
    return ExposurePixels(exposure_name(name), detector, group, native(model.data), native(model.err), model.meta.wcs)


def bin_pixels(exposure: ExposurePixels, good: Flags, grid: Lattice) -> CellExposure:
    """Bring the good pixels of one exposure onto a lattice.

    Raises
    ------
    NoSkyError
        No pixel is good, or all have the same value.
    """
    number = int(np.count_nonzero(good))
    if not number:
        raise NoSkyError(f"{exposure.name}: no usable pixel to measure the sky in; check its DQ extension")
    if is_constant(exposure.data, good):
        raise NoSkyError(f"{exposure.name}: all usable pixels have one value, so it has no sky; leave it out")
    pixel_rms, level = (median_of(plane, good, number) for plane in (exposure.err, exposure.data))
    places = sky_positions(exposure.wcs, good.shape, partial(sky_to_pixel, grid))
    origin = (int(np.rint(places[0].min())), int(np.rint(places[1].min())))
    last = (int(np.rint(places[0].max())), int(np.rint(places[1].max())))
    shape = (last[0] - origin[0] + 1, last[1] - origin[1] + 1)
    cells = _cells_of(good, places, origin, shape[1])
    levels = _levels(exposure, cells, shape, (pixel_rms, level))
    sums = np.zeros((*shape, 7))
    _add_pixels(exposure.data, exposure.err, places, cells, levels, sums)
    count, total, variance, *others = np.moveaxis(sums, 2, 0)
    enough = count >= FEWEST_PIXELS * CELL_PIXELS**2
    filled = np.where(enough, count, np.nan)
    off_row, off_column, x, y = (plane / filled for plane in others)
    return CellExposure(
        name=exposure.name,
        detector=exposure.detector,
        group=exposure.group,
        origin=origin,
        mean=_at_centres(total / filled, (off_row, off_column)),
        variance=np.where(enough, variance / np.maximum(count, 1) ** 2, np.inf),
        pixels=np.where(enough, count, 0).astype(np.int32),
        pixel_rms=pixel_rms,
        detector_rows=good.shape[0],
        detector_position=(x, y),
    )


def _group_of(model: Any) -> tuple[str, ...]:
    """Identity of an exposure group, from a data model."""
    observation = model.meta.observation
    attributes = ("program_number", "observation_number", "visit_number", "visit_group", "sequence_id", "activity_id")
    known = [getattr(observation, name) for name in (*attributes, "exposure_number")]
    keywords = dict(zip(GROUP_KEYWORDS, known, strict=True)) | {"VISIT_ID": observation.visit_id}
    try:
        return group_of(keywords, model.meta.filename)
    except KeywordError:
        # An exposure of an unknown group belongs to no other.
        return (exposure_name(model.meta.filename),)


def _at_centres(mean: Floats, off_centre: Sequence[Floats]) -> Floats:
    """Bring cells' means from the middle of their pixels to the middle of the cell, by the slope of those around it.

    Pixels and cells are of nearly the same scale, so over hundreds of cells all pixels lie off to the same side. In a
    steep nebula two exposures would differ by much more than their levels.
    """
    known = np.isfinite(mean)
    inner = ndimage.binary_erosion(known, np.ones((3, 3), dtype=bool))
    around = np.where(known, mean, 0.0)
    moved = mean.copy()
    for axis, offset in enumerate(off_centre):
        # Least squares of a plane through three by three cells.
        slope = ndimage.prewitt(around, axis=axis) / 6.0
        moved -= np.where(inner, slope * offset, 0.0)
    return moved


def usable_pixels(model: Any) -> Flags:
    """Pixels with a plausible value and error that are not flagged DO_NOT_USE or NON_SCIENCE."""
    return is_usable(model.data, model.err, model.dq) & ~implausible_in(model)


def source_pixels(path: Path, wcs: Any, shape: tuple[int, int]) -> Flags:
    """Pixels of an exposure that fall on a source of a mask, or within `GROW_ARCSEC` of one; the exposure's shape."""
    found = np.zeros(shape, dtype=bool)
    with fits.open(path) as hdus:
        mask = mask_image(hdus, path.name)
        row, column = nearest_pixels(wcs, shape, mask.pixels_of)
        radius = GROW_ARCSEC / (3600 * np.sqrt(proj_plane_pixel_area(mask.wcs)))
        (top, bottom), (left, right) = (
            (max(0, int(place.min() - radius)), min(size, int(place.max() + radius) + 2))
            for place, size in zip((row, column), mask.hdu.shape, strict=True)
        )
        if top >= bottom or left >= right:
            return found
        # Only the part of a survey's map around one exposure is read.
        sources = grown(mask.hdu.section[top:bottom, left:right] != 0, radius)
    inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    found[inside] = sources[row[inside] - top, column[inside] - left]
    return found


def cell_positions(wcs: Any, shape: tuple[int, int], grid: Lattice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the cell that each pixel's centre falls in; both have the exposure's shape."""
    return nearest_pixels(wcs, shape, partial(sky_to_pixel, grid))


def nearest_pixels(
    wcs: Any, shape: tuple[int, int], to_pixel: Callable[[Floats], Floats]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the pixel of another image that each pixel's centre falls in; both of the exposure's shape."""
    row, column = (np.rint(place).astype(np.int64) for place in sky_positions(wcs, shape, to_pixel))
    return row, column


def sky_positions(wcs: Any, shape: tuple[int, int], to_pixel: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
    """Row and column in another image of each pixel's centre; both of the exposure's shape.

    The WCS is evaluated every 32 pixels and interpolated with a cubic spline, exact to 1e-6 pixels.

    Parameters
    ----------
    wcs
        The exposure's gwcs.
    shape
        Rows and columns of the exposure.
    to_pixel
        Converts directions (RA, Dec) in degrees to 0-based pixels (x, y) of the other image; shape ``(N, 2)`` both.
    """
    step = LATTICE_STEP_PIXELS
    rows, columns = (np.arange(-step, size + 2 * step, step, dtype=float) for size in shape)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    sky = np.stack(wcs(x.ravel(), y.ravel(), with_bounding_box=False), axis=1)
    on_grid = to_pixel(sky).T.reshape(2, *y.shape)
    column, row = LatticeSplines(rows, columns, on_grid)(*map(np.arange, shape))
    return row, column


class _Levels(NamedTuple):
    """What the pixels of each cell are compared with, shape of the cells."""

    level: Floats
    """The mean of values clipped to the noise."""
    is_lit: Flags
    """Light of the sky, whose pixels differ by more than noise."""


def _levels(
    exposure: ExposurePixels, cells: CellNumbers, shape: tuple[int, int], typical: tuple[float, float]
) -> _Levels:
    """Return the level of each cell; outliers are the pixels farther than `OUTLIER_SIGMA` from that of a dark cell.

    Parameters
    ----------
    exposure, cells
        The pixels, and the cell of each.
    shape
        Rows and columns of cells.
    typical
        Median error and median of the pixels.
    """
    noise, median = typical
    count, total = _sums_within(exposure.data, cells, np.zeros(shape), np.inf)
    raw = np.where(count > 0, total / np.maximum(count, 1), median)
    # Clipped at a few sigma of the cells around, a cosmic ray cannot drag the mean it is compared with.
    around = ndimage.median_filter(raw, AROUND_CELLS)
    first = _sums_within(exposure.data, cells, around, 3 * noise)[1] / np.maximum(count, 1)
    return _Levels(first, np.abs(first - around) > 2 * noise)


@njit(cache=True, nogil=True)
def _cells_of(good: Flags, places: tuple[Floats, Floats], origin: tuple[int, int], columns: int) -> CellNumbers:
    """Number of the cell that each good pixel's centre falls in, row by row from an origin; -1 for other pixels."""
    cells = np.full(good.shape, -1, dtype=np.int32)
    for j in range(good.shape[0]):
        for i in range(good.shape[1]):
            if good[j, i]:
                row, column = int(np.rint(places[0][j, i])), int(np.rint(places[1][j, i]))
                cells[j, i] = (row - origin[0]) * columns + column - origin[1]
    return cells


@njit(cache=True, nogil=True)
def _sums_within(data: Floats, cells: CellNumbers, centre: Floats, most: float) -> tuple[Floats, Floats]:
    """Number and sum of the pixels of each cell, clipped to some distance from a centre."""
    count, total = np.zeros(centre.shape), np.zeros(centre.shape)
    counts, totals, centres = count.reshape(-1), total.reshape(-1), centre.reshape(-1)
    for j in range(data.shape[0]):
        for i in range(data.shape[1]):
            cell = cells[j, i]
            if cell >= 0:
                value = np.float64(data[j, i])
                counts[cell] += 1.0
                totals[cell] += min(max(value, centres[cell] - most), centres[cell] + most)
    return count, total


@njit(cache=True, nogil=True, error_model="numpy")
def _add_pixels(
    data: Floats, err: Floats, places: tuple[Floats, Floats], cells: CellNumbers, levels: _Levels, sums: Floats
) -> None:
    """Add the pixels that are no outliers to the sums of their cells.

    The sums are the number of pixels, value, variance, distance in rows and columns from the cell's centre, and column
    and row on the detector, -0.5 to 0.5; shape ``(rows, columns, 7)``.
    """
    ny, nx = data.shape
    of_cell = sums.reshape(-1, 7)
    level, is_lit = levels.level.reshape(-1), levels.is_lit.reshape(-1)
    for j in range(ny):
        for i in range(nx):
            cell = cells[j, i]
            if cell < 0:
                continue
            value, error = np.float64(data[j, i]), np.float64(err[j, i])
            if not (is_lit[cell] or abs(value - level[cell]) < OUTLIER_SIGMA * error):
                continue
            y, x = places[0][j, i], places[1][j, i]
            of_cell[cell, 0] += 1.0
            of_cell[cell, 1] += value
            of_cell[cell, 2] += error * error
            of_cell[cell, 3] += y - np.rint(y)
            of_cell[cell, 4] += x - np.rint(x)
            of_cell[cell, 5] += i / (nx - 1) - 0.5
            of_cell[cell, 6] += j / (ny - 1) - 0.5
