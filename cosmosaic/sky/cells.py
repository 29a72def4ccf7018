"""Exposures on one coarse lattice of the sky: means over cells a few pixels wide.

Sky levels are properties of large areas, so everything here works on cells eight pixels wide. Means of 64 pixels
are nearly Gaussian where single pixels are skewed by photon noise (the mode of pixels lies several per cent of
their rms below the mean), a faint source stands out eight times higher, and all exposures share the cells:
differences and stacks are plain subtractions and sums.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jwst import datamodels
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.exposures import exposure_name
from cosmosaic.mosaic.grid import sky_to_pixel, survey_grid
from cosmosaic.records import MosaicGrid
from cosmosaic.survey import GridSettings

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

CELL_PIXELS = 8
"""Width of a cell in detector pixels."""
OUTLIER_SIGMA = 5.0
"""Pixels farther from their cell's median level are cosmic rays or cores of sources; neither is sky."""
FEWEST_PIXELS = 0.5
"""A cell counts in an exposure if at least this fraction of a full cell's pixels lies in it."""
SPLINE_STEP_PIXELS = 32
HOLD_OUT = 2
"""One in ``HOLD_OUT**2`` blocks of cells is kept from every solution, to score it on."""
BLOCK_CELLS = 16
"""Width of the blocks whose scatter gives errors, in cells: 4 arcsec in the short-wavelength channel."""
UNUSABLE = pixel["DO_NOT_USE"] | pixel["NON_SCIENCE"]


class NoSkyError(RuntimeError):
    """An exposure has no pixel in which the sky could be measured."""


@dataclass(frozen=True)
class Exposure:
    """One exposure of one detector as cells of the lattice that it touches."""

    name: str
    detector: str
    group: str
    """What all detectors of one exposure share."""
    origin: tuple[int, int]
    """Row and column on the lattice of the first cell."""
    mean: Floats
    """Mean surface brightness of the usable pixels of each cell, MJy/sr, shape ``(ny, nx)``; NaN where too few."""
    variance: Floats
    """Variance of `mean` as the pixels' errors give it, same shape; infinite where `mean` is NaN."""
    pixels: NDArray[np.int32]
    """Number of pixels in each mean."""
    pixel_rms: float
    """Median error of the usable pixels in MJy/sr."""
    detector_rows: int
    """Rows of the exposure."""
    detector_position: tuple[Floats, Floats]
    """Mean column and row on the detector of each cell's pixels, -0.5 to 0.5 from edge to edge."""

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the lattice."""
        (row, column), (ny, nx) = self.origin, self.mean.shape
        return slice(row, row + ny), slice(column, column + nx)

    @cached_property
    def usable(self) -> Flags:
        """Cells with a mean."""
        return np.isfinite(self.mean)


@dataclass(frozen=True)
class CellSurvey:
    """All exposures of one filter on their common lattice."""

    grid: MosaicGrid
    exposures: tuple[Exposure, ...]

    @property
    def names(self) -> list[str]:
        """Names of the exposures, in order."""
        return [exposure.name for exposure in self.exposures]

    @property
    def pixel_rms(self) -> float:
        """Median over the exposures of their pixel rms, MJy/sr."""
        return float(np.median([exposure.pixel_rms for exposure in self.exposures]))

    @cached_property
    def held_out(self) -> Flags:
        """Cells of the lattice that no solution may use: one in four blocks, in a regular pattern."""
        row, column = (np.arange(size) // BLOCK_CELLS % HOLD_OUT for size in self.grid.shape)
        return (row[:, None] == 0) & (column == 0)

    @cached_property
    def blocks(self) -> NDArray[np.int64]:
        """Number of the block that each cell of the lattice belongs to."""
        row, column = (np.arange(size) // BLOCK_CELLS for size in self.grid.shape)
        return row[:, None] * (column[-1] + 1) + column


def bin_exposures(paths: Sequence[Path], pixel_masks: dict[str, Flags] | None = None) -> CellSurvey:
    """Bring exposures of one filter onto a lattice of cells.

    Parameters
    ----------
    paths
        ``_cal`` files of one filter.
    pixel_masks
        Pixels to leave out by exposure name, shape of the exposure; e.g. from `cosmosaic.sky.masks`.

    Raises
    ------
    NoSkyError
        An exposure has no usable pixel; the file is named.
    """
    masks = pixel_masks or {}
    with datamodels.open(paths[0]) as first:
        scale_mas = 1000 * float(np.sqrt(first.meta.photometry.pixelarea_arcsecsq)) * CELL_PIXELS
    grid = lattice(paths, scale_mas)
    exposures = []
    for path in paths:
        with datamodels.open(path) as model:
            exposures.append(bin_exposure(model, grid, masks.get(exposure_name(path.name))))
    return CellSurvey(grid, tuple(exposures))


def lattice(paths: Sequence[Path], scale_mas: float) -> MosaicGrid:
    """Make the lattice that covers a set of exposures."""
    footprints = {}
    for path in paths:
        with datamodels.open(path) as model:
            ny, nx = model.data.shape
            corners = model.meta.wcs(
                np.array([-0.5, nx - 0.5, nx - 0.5, -0.5]),
                np.array([-0.5, -0.5, ny - 0.5, ny - 0.5]),
                with_bounding_box=False,
            )
            footprints[path.name] = [(float(ra), float(dec)) for ra, dec in zip(*corners, strict=True)]
    return survey_grid(GridSettings(pixel_scale_mas=round(scale_mas)), footprints)


def bin_exposure(model: Any, grid: MosaicGrid, mask: Flags | None = None) -> Exposure:
    """Bring one exposure onto a lattice.

    Cosmic rays are clipped first, symmetrically, which does not move the mean of the noise.

    Parameters
    ----------
    model
        A `jwst.datamodels.ImageModel` of surface brightness.
    grid
        The lattice.
    mask
        Pixels to leave out, shape ``(ny, nx)``.
    """
    good = usable_pixels(model)
    if mask is not None:
        good &= ~mask
    if not good.any():
        raise NoSkyError(f"{model.meta.filename}: no usable pixel to measure the sky in; check its DQ extension")
    row, column = cell_positions(model.meta.wcs, good.shape, grid)
    origin = (int(row.min()), int(column.min()))
    shape = (int(row.max()) - origin[0] + 1, int(column.max()) - origin[1] + 1)
    index = ((row - origin[0]) * shape[1] + column - origin[1])[good]
    data, error = model.data[good].astype(np.float64), model.err[good].astype(np.float64)
    pixel_rms = float(np.median(error))
    kept = _without_outliers(data, error, index, shape[0] * shape[1])
    index, data, error = index[kept], data[kept], error[kept]
    count, total, variance = (_sums(index, values, shape) for values in (None, data, error**2))
    enough = count >= FEWEST_PIXELS * CELL_PIXELS**2
    filled = np.where(enough, count, np.nan)
    y, x = np.nonzero(good)
    along = [
        _sums(index, (position[kept] / (size - 1) - 0.5), shape) / filled
        for position, size in ((x, good.shape[1]), (y, good.shape[0]))
    ]
    observation = model.meta.observation
    return Exposure(
        name=exposure_name(model.meta.filename),
        detector=model.meta.instrument.detector,
        group="".join(
            str(getattr(observation, part))
            for part in ("visit_id", "visit_group", "sequence_id", "activity_id", "exposure_number")
        ),
        origin=origin,
        mean=total / filled,
        variance=np.where(enough, variance / np.maximum(count, 1) ** 2, np.inf),
        pixels=np.where(enough, count, 0).astype(np.int32),
        pixel_rms=pixel_rms,
        detector_rows=good.shape[0],
        detector_position=(along[0], along[1]),
    )


def usable_pixels(model: Any) -> Flags:
    """Pixels with a value and an error that are not flagged DO_NOT_USE or NON_SCIENCE."""
    return np.isfinite(model.data) & np.isfinite(model.err) & (model.err > 0) & ((model.dq & UNUSABLE) == 0)


def cell_positions(wcs: Any, shape: tuple[int, int], grid: MosaicGrid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the cell that each pixel's centre falls in; both have the exposure's shape.

    The WCS is evaluated every 32 pixels and interpolated with a cubic spline, exact to 1e-6 pixels.
    """
    nodes = [np.arange(-SPLINE_STEP_PIXELS, size + 2 * SPLINE_STEP_PIXELS, SPLINE_STEP_PIXELS) for size in shape]
    y, x = np.meshgrid(*(node.astype(float) for node in nodes), indexing="ij")
    sky = np.stack(wcs(x.ravel(), y.ravel(), with_bounding_box=False), axis=1)
    on_grid = sky_to_pixel(grid, sky).T.reshape(2, *y.shape)
    column, row = (
        np.rint(RectBivariateSpline(*nodes, values)(np.arange(shape[0]), np.arange(shape[1]))).astype(np.int64)
        for values in on_grid
    )
    return row, column


def on_lattice(survey: CellSurvey, exposure: Exposure, values: NDArray[Any], fill: Any) -> NDArray[Any]:
    """Put an exposure's cells onto the whole lattice."""
    whole = np.full(survey.grid.shape, fill, dtype=values.dtype)
    whole[exposure.window] = values
    return whole


def stack(survey: CellSurvey, levels: Mapping[str, float]) -> Floats:
    """Average the exposures, their levels taken out; MJy/sr, shape of the lattice, NaN where nothing was observed."""
    total, weights = stack_sums(survey, levels)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weights > 0, total / weights, np.nan)


def stack_sums(survey: CellSurvey, levels: Mapping[str, float]) -> tuple[Floats, Floats]:
    """Weighted sum of the exposures without their levels, and sum of weights (inverse variances of the cells)."""
    total, weights = (np.zeros(survey.grid.shape) for _ in range(2))
    for exposure in survey.exposures:
        # One noise per exposure: weights from each cell's own error would favour the fainter draws of photons.
        weight = np.where(exposure.usable, exposure.pixels / exposure.pixel_rms**2, 0.0)
        total[exposure.window] += weight * np.where(exposure.usable, exposure.mean - levels[exposure.name], 0.0)
        weights[exposure.window] += weight
    return total, weights


def _sums(index: NDArray[np.int64], values: Floats | None, shape: tuple[int, int]) -> Floats:
    sums: Floats = np.bincount(index, values, minlength=shape[0] * shape[1]).astype(np.float64)
    return sums.reshape(shape)


def _without_outliers(data: Floats, error: Floats, index: NDArray[np.int64], cells: int) -> Flags:
    """Pixels within `OUTLIER_SIGMA` of the mean of their cell; the mean is taken of values clipped to the noise."""
    typical, noise = np.median(data), np.median(error)
    count = np.maximum(np.bincount(index, minlength=cells), 1)
    # Clipped at a few sigma of the whole exposure, a cosmic ray cannot drag the mean it is compared with.
    first = np.bincount(index, np.clip(data, typical - 3 * noise, typical + 3 * noise), minlength=cells) / count
    first += np.where(first > typical + 2 * noise, np.inf, 0.0)
    bright = np.isinf(first[index])
    return bright | (np.abs(data - first[index]) < OUTLIER_SIGMA * error)
