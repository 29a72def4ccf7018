"""Pixels of an exposure brought onto the lattice of cells."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs.utils import proj_plane_pixel_area
from jwst import datamodels
from numpy.typing import NDArray
from scipy import ndimage

from cosmosaic.cells.source_masks import mask_image
from cosmosaic.cells.survey import CellExposure, CellSurvey, Flags, Floats, NoSkyError, cell_sums, gather
from cosmosaic.dq import implausible_in, is_usable
from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.exposures.keywords import GROUP_KEYWORDS, KeywordError, detector_of, group_of
from cosmosaic.exposures.library import exposure_name
from cosmosaic.geometry.grid import sky_to_pixel, survey_grid
from cosmosaic.geometry.interpolation import LATTICE_STEP_PIXELS, LatticeSplines
from cosmosaic.geometry.windows import CELL_PIXELS, cell_lattice
from cosmosaic.records import Lattice
from cosmosaic.source_light import grown
from cosmosaic.survey import GridSettings

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
    footprints = {path.name: read_footprint(path) for path in paths}
    with datamodels.open(paths[0]) as first:
        pixel_arcsec = float(np.sqrt(first.meta.photometry.pixelarea_arcsecsq))
    grid = cell_lattice(survey_grid(GridSettings(), footprints), pixel_arcsec)
    exposures = []
    for path in paths:
        with datamodels.open(path) as model:
            exposures.append(bin_exposure(model, grid))
    return gather(exposures, grid)


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
    return bin_pixels(model, usable_pixels(model), grid)


def bin_pixels(model: Any, good: Flags, grid: Lattice) -> CellExposure:
    if not good.any():
        raise NoSkyError(f"{model.meta.filename}: no usable pixel to measure the sky in; check its DQ extension")
    if np.ptp(model.data[good]) == 0:
        raise NoSkyError(f"{model.meta.filename}: all usable pixels have one value, so it has no sky; leave it out")
    y_cell, x_cell = sky_positions(model.meta.wcs, good.shape, partial(sky_to_pixel, grid))
    row, column = (np.rint(place).astype(np.int64) for place in (y_cell, x_cell))
    origin = (int(row.min()), int(column.min()))
    shape = (int(row.max()) - origin[0] + 1, int(column.max()) - origin[1] + 1)
    index = ((row - origin[0]) * shape[1] + column - origin[1])[good]
    data, error = model.data[good].astype(np.float64), model.err[good].astype(np.float64)
    pixel_rms = float(np.median(error))
    kept = _without_outliers(data, error, index, shape)
    index, data, error = index[kept], data[kept], error[kept]
    count, total, variance = (cell_sums(index, values, shape) for values in (None, data, error**2))
    enough = count >= FEWEST_PIXELS * CELL_PIXELS**2
    filled = np.where(enough, count, np.nan)
    off_centre = [
        cell_sums(index, (place - nearest)[good][kept], shape) / filled
        for place, nearest in ((y_cell, row), (x_cell, column))
    ]
    y, x = np.nonzero(good)
    along = [
        cell_sums(index, (position[kept] / (size - 1) - 0.5), shape) / filled
        for position, size in ((x, good.shape[1]), (y, good.shape[0]))
    ]
    return CellExposure(
        name=exposure_name(model.meta.filename),
        detector=detector_of({"DETECTOR": model.meta.instrument.detector}, model.meta.filename),
        group="".join(_group_of(model)),
        origin=origin,
        mean=_at_centres(total / filled, off_centre),
        variance=np.where(enough, variance / np.maximum(count, 1) ** 2, np.inf),
        pixels=np.where(enough, count, 0).astype(np.int32),
        pixel_rms=pixel_rms,
        detector_rows=good.shape[0],
        detector_position=(along[0], along[1]),
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


def _without_outliers(data: Floats, error: Floats, index: NDArray[np.int64], shape: tuple[int, int]) -> Flags:
    """Pixels within `OUTLIER_SIGMA` of the mean of their cell; the mean is taken of values clipped to the noise."""
    noise = np.median(error)
    count = np.maximum(cell_sums(index, None, shape), 1)
    # Clipped at a few sigma of the cells around, a cosmic ray cannot drag the mean it is compared with.
    raw = np.where(cell_sums(index, None, shape) > 0, cell_sums(index, data, shape) / count, np.median(data))
    around = ndimage.median_filter(raw, AROUND_CELLS).ravel()
    near = around[index]
    first = cell_sums(index, np.clip(data, near - 3 * noise, near + 3 * noise), shape).ravel() / count.ravel()
    # Scatter beyond the noise is light of the sky, whose pixels differ by more than noise.
    lit = np.abs(first - around) > 2 * noise
    return lit[index] | (np.abs(data - first[index]) < OUTLIER_SIGMA * error)
