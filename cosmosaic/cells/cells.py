"""Exposures on one coarse lattice of the sky: means over cells a few pixels wide.

Sky levels are properties of large areas, so everything here works on cells eight pixels wide. Means of 64 pixels
are nearly Gaussian where single pixels are skewed by photon noise (the mode of pixels lies several per cent of
their rms below the mean), a faint source stands out eight times higher, and all exposures share the cells:
differences and stacks are plain subtractions and sums.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.wcs.utils import proj_plane_pixel_area
from jwst import datamodels
from numpy.typing import NDArray
from scipy import ndimage

from cosmosaic.cells.source_masks import mask_image
from cosmosaic.dq import implausible_in, is_usable
from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.exposures.keywords import GROUP_KEYWORDS, KeywordError, detector_of, group_of
from cosmosaic.exposures.library import exposure_name
from cosmosaic.exposures.patterns import pattern_at
from cosmosaic.geometry.grid import sky_to_pixel, survey_grid
from cosmosaic.geometry.interpolation import LATTICE_STEP_PIXELS, LatticeSplines
from cosmosaic.geometry.windows import CELL_PIXELS, Box, box_of, cell_lattice, window_of
from cosmosaic.records import MosaicGrid
from cosmosaic.source_light import grown
from cosmosaic.steps.result import Made
from cosmosaic.survey import GridSettings

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

OUTLIER_SIGMA = 5.0
"""Pixels farther from their cell's median level are cosmic rays or cores of sources; neither is sky."""
FEWEST_PIXELS = 0.5
"""A cell counts in an exposure if at least this fraction of a full cell's pixels lies in it."""
FEWEST_CELLS = 1000
"""Of an exposure in a part of the survey: 8 by 8 arcsec in the short-wavelength channel."""
FEWEST_FOR_LEVEL = 50
"""Cells of an exposure, outside of sources, that tell its level."""
AROUND_CELLS = 5
"""Side of the squares of cells whose median tells what light is around one."""
HOLD_OUT = 2
"""One in ``HOLD_OUT**2`` blocks of cells is kept from every solution, to score it on."""
BLOCK_CELLS = 16
"""Width of the blocks whose scatter gives errors, in cells: 4 arcsec in the short-wavelength channel."""
GROW_ARCSEC = 0.1
"""Masks of sources are enlarged by this: a long-wavelength pixel reaches 0.045 arcsec beyond its centre, the rest is
room for a rim that is fainter than the isophote a segment ends at."""


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

    @cached_property
    def middle(self) -> tuple[float, float]:
        """Mean column and row of the usable cells, as in ``detector_position``."""
        x, y = (float(np.mean(position[self.usable])) for position in self.detector_position)
        return x, y

    def from_middle(self, cells: Flags) -> tuple[Floats, Floats]:
        """Columns and rows of some cells, counted from the middle of the usable ones, in widths of a detector."""
        (x, y), (x0, y0) = self.detector_position, self.middle
        return x[cells] - x0, y[cells] - y0

    @cached_property
    def weight(self) -> Floats:
        """Weight of each cell in a stack, 0 where it has no mean.

        One noise per exposure: weights from each cell's own error would favour the fainter draws of photons.
        """
        return np.where(self.usable, self.pixels / self.pixel_rms**2, 0.0)


@dataclass(frozen=True)
class CellSurvey:
    """All exposures of one filter on their common lattice."""

    grid: MosaicGrid
    exposures: tuple[Exposure, ...]
    light: tuple[Exposure, ...] = ()
    """Where pixels of known sources are left out of the exposures: the same with all their light."""

    @property
    def with_light(self) -> "CellSurvey":
        """The exposures with all their light, on which sources are found."""
        return CellSurvey(self.grid, self.light or self.exposures)

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
        row, column = (block % HOLD_OUT for block in self._block_numbers())
        return (row[:, None] == 0) & (column == 0)

    @cached_property
    def blocks(self) -> NDArray[np.int64]:
        """Number of the block that each cell of the lattice belongs to."""
        row, column = (block - block[0] for block in self._block_numbers())
        return row[:, None] * (column[-1] + 1) + column

    def _block_numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of blocks, counted from the tangent point: they stay when exposures are added."""
        box = box_of(self.grid)
        return (
            (box.y + np.arange(box.height)) // BLOCK_CELLS,
            (box.x + np.arange(box.width)) // BLOCK_CELLS,
        )


def bin_exposures(paths: Sequence[Path]) -> CellSurvey:
    """Bring exposures of one filter onto a lattice of their own.

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


def bin_frame(exposure: Path, grid: MosaicGrid, folder: Path) -> Made:
    """Bring one exposure onto the survey's lattice of cells.

    Parameters
    ----------
    exposure
        A ``_cal`` file.
    grid
        From `cell_lattice`.
    folder
        Gets ``<exposure>_cells.npz``.

    Raises
    ------
    NoSkyError
        The exposure has no usable pixel; the file is named.
    """
    with datamodels.open(exposure) as model:
        binned = bin_exposure(model, grid)
    return Made(cells=write_cells(binned, folder / f"{binned.name}_cells.npz"))


def bin_masked_frame(exposure: Path, mask: Path, grid: MosaicGrid, folder: Path) -> Made:
    """Bring what one exposure has outside of known sources onto the survey's lattice of cells.

    An exposure that they fill comes with all its light, as without a mask, of which a pedestal is an upper limit.

    Parameters
    ----------
    exposure
        A ``_cal`` file.
    mask
        A mask of sources (`cosmosaic.cells.source_masks`).
    grid
        From `cell_lattice`.
    folder
        Gets ``<exposure>_masked.npz``.

    Raises
    ------
    NoSkyError
        The exposure has no usable pixel; the file is named.
    cosmosaic.cells.source_masks.SourceMaskError
        The mask is none.
    """
    with datamodels.open(exposure) as model:
        binned, usable = bin_exposure(model, grid), usable_pixels(model)
        free = usable & ~source_pixels(mask, model.meta.wcs, usable.shape)
        outside = _bin_pixels(model, free, grid) if free.any() else binned
    if np.count_nonzero(outside.usable) >= FEWEST_FOR_LEVEL:
        binned = outside
    return Made(cells=write_cells(binned, folder / f"{binned.name}_masked.npz"))


def write_cells(exposure: Exposure, path: Path) -> Path:
    """Write an exposure's cells."""
    x, y = exposure.detector_position
    np.savez_compressed(
        path,
        names=np.array([exposure.name, exposure.detector, exposure.group]),
        numbers=np.array([*exposure.origin, exposure.detector_rows], dtype=np.int64),
        pixel_rms=np.float64(exposure.pixel_rms),
        pixels=exposure.pixels.astype(np.uint8),
        mean=exposure.mean.astype(np.float32),
        variance=exposure.variance.astype(np.float32),
        x=x.astype(np.float32),
        y=y.astype(np.float32),
    )
    return path


def read_cells(paths: Sequence[Path], grid: MosaicGrid) -> CellSurvey:
    """Read exposures that `bin_frame` brought onto a lattice, in the order of their names."""
    return gather([_read(path) for path in sorted(paths, key=lambda path: path.name)], grid)


def gather(exposures: Sequence[Exposure], grid: MosaicGrid) -> CellSurvey:
    """Put exposures whose origins are cells of an endless lattice into the window that holds them all."""
    low = np.min([exposure.origin for exposure in exposures], axis=0)
    high = np.max([np.add(exposure.origin, exposure.mean.shape) for exposure in exposures], axis=0)
    window = grid.model_copy(
        update={"crpix": (-0.5 - int(low[1]), -0.5 - int(low[0])), "shape": tuple(map(int, high - low)), "tile": "full"}
    )
    moved = (replace(each, origin=(each.origin[0] - int(low[0]), each.origin[1] - int(low[1]))) for each in exposures)
    return CellSurvey(window, tuple(moved))


def cut(survey: CellSurvey, box: Box) -> CellSurvey:
    """Cut a rectangle of the lattice out of a survey, counted as its grid's pixels are.

    Exposures of fewer than `FEWEST_CELLS` cells in it are left out.
    """
    whole = box_of(survey.grid)
    row, column = box.y - whole.y, box.x - whole.x
    exposures = (_cut(exposure, row, column, box) for exposure in survey.exposures)
    kept = tuple(exposure for exposure in exposures if np.count_nonzero(exposure.usable) >= FEWEST_CELLS)
    return CellSurvey(window_of(survey.grid, box, survey.grid.tile), kept)


def _cut(exposure: Exposure, row: int, column: int, box: Box) -> Exposure:
    top, left = (start - origin for start, origin in zip((row, column), exposure.origin, strict=True))
    part = (slice(max(top, 0), max(top + box.height, 0)), slice(max(left, 0), max(left + box.width, 0)))
    x, y = exposure.detector_position
    return replace(
        exposure,
        origin=(max(-top, 0), max(-left, 0)),
        mean=exposure.mean[part],
        variance=exposure.variance[part],
        pixels=exposure.pixels[part],
        detector_position=(x[part], y[part]),
    )


def _read(path: Path) -> Exposure:
    with np.load(path) as stored:
        name, detector, group = map(str, stored["names"])
        row, column, detector_rows = map(int, stored["numbers"])
        mean, variance, x, y = (stored[key].astype(np.float64) for key in ("mean", "variance", "x", "y"))
        return Exposure(
            name=name,
            detector=detector,
            group=group,
            origin=(row, column),
            mean=mean,
            variance=variance,
            pixels=stored["pixels"].astype(np.int32),
            pixel_rms=float(stored["pixel_rms"]),
            detector_rows=detector_rows,
            detector_position=(x, y),
        )


def bin_exposure(model: Any, grid: MosaicGrid) -> Exposure:
    """Bring one exposure onto a lattice.

    Cosmic rays are clipped first, symmetrically, which does not move the mean of the noise.

    Parameters
    ----------
    model
        A `jwst.datamodels.ImageModel` of surface brightness.
    grid
        The lattice.
    """
    return _bin_pixels(model, usable_pixels(model), grid)


def _bin_pixels(model: Any, good: Flags, grid: MosaicGrid) -> Exposure:
    if not good.any():
        raise NoSkyError(f"{model.meta.filename}: no usable pixel to measure the sky in; check its DQ extension")
    if np.ptp(model.data[good]) == 0:
        raise NoSkyError(f"{model.meta.filename}: all usable pixels hold the same value: it has no sky; leave it out")
    y_cell, x_cell = sky_positions(model.meta.wcs, good.shape, partial(sky_to_pixel, grid))
    row, column = (np.rint(place).astype(np.int64) for place in (y_cell, x_cell))
    origin = (int(row.min()), int(column.min()))
    shape = (int(row.max()) - origin[0] + 1, int(column.max()) - origin[1] + 1)
    index = ((row - origin[0]) * shape[1] + column - origin[1])[good]
    data, error = model.data[good].astype(np.float64), model.err[good].astype(np.float64)
    pixel_rms = float(np.median(error))
    kept = _without_outliers(data, error, index, shape)
    index, data, error = index[kept], data[kept], error[kept]
    count, total, variance = (_sums(index, values, shape) for values in (None, data, error**2))
    enough = count >= FEWEST_PIXELS * CELL_PIXELS**2
    filled = np.where(enough, count, np.nan)
    off_centre = [
        _sums(index, (place - nearest)[good][kept], shape) / filled
        for place, nearest in ((y_cell, row), (x_cell, column))
    ]
    y, x = np.nonzero(good)
    along = [
        _sums(index, (position[kept] / (size - 1) - 0.5), shape) / filled
        for position, size in ((x, good.shape[1]), (y, good.shape[0]))
    ]
    return Exposure(
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
    """What the detectors of an exposure share, from a data model."""
    observation = model.meta.observation
    attributes = ("program_number", "observation_number", "visit_number", "visit_group", "sequence_id", "activity_id")
    known = [getattr(observation, name) for name in (*attributes, "exposure_number")]
    keywords = dict(zip(GROUP_KEYWORDS, known, strict=True)) | {"VISIT_ID": observation.visit_id}
    try:
        return group_of(keywords, model.meta.filename)
    except KeywordError:
        # What nothing tells of belongs to no other.
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
        # Of a survey's map, what lies around one exposure is read.
        sources = grown(mask.hdu.section[top:bottom, left:right] != 0, radius)
    inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    found[inside] = sources[row[inside] - top, column[inside] - left]
    return found


def cell_positions(wcs: Any, shape: tuple[int, int], grid: MosaicGrid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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


def sums_on_detector(exposure: Exposure, values: Floats, used: Flags, parts: int) -> tuple[Floats, Floats]:
    """Sum values of an exposure's cells in equal parts of its detector.

    Parameters
    ----------
    exposure
        Tells where on the detector its cells lie.
    values
        Of the cells, any unit, shape of the exposure.
    used
        Cells that count, same shape.
    parts
        Number of parts along each side of the detector.

    Returns
    -------
    total, number
        Sum and number of cells, shape ``(parts, parts)``, rows first.
    """
    x, y = (
        np.clip((position[used] + 0.5) * parts, 0, parts - 1e-6).astype(np.int64)
        for position in exposure.detector_position
    )
    index, shape = y * parts + x, (parts, parts)
    return _sums(index, values[used], shape), _sums(index, None, shape)


def without_patterns(survey: CellSurvey, patterns: Mapping[str, Sequence[Floats]]) -> CellSurvey:
    """Subtract patterns from the exposures' cells; their mean levels stay what they were."""
    exposures, light = (
        tuple(_without(each, patterns.get(each.name, ())) for each in some) for some in (survey.exposures, survey.light)
    )
    return CellSurvey(survey.grid, exposures, light)


def _without(exposure: Exposure, patterns: Sequence[Floats]) -> Exposure:
    x, y = (np.nan_to_num(position) for position in exposure.detector_position)
    image = sum((pattern_at(nodes, x, y) for nodes in patterns), np.zeros(x.shape))
    shift = np.sum(image * exposure.pixels) / np.sum(exposure.pixels)
    return replace(exposure, mean=exposure.mean - (image - shift))


def stack(survey: CellSurvey, levels: Mapping[str, float]) -> Floats:
    """Average the exposures, their levels taken out; MJy/sr, shape of the lattice, NaN where nothing was observed."""
    total, weights = stack_sums(survey, levels)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weights > 0, total / weights, np.nan)


def stack_sums(survey: CellSurvey, levels: Mapping[str, float]) -> tuple[Floats, Floats]:
    """Weighted sum of the exposures without their levels, and sum of weights (inverse variances of the cells)."""
    total, weights = (np.zeros(survey.grid.shape) for _ in range(2))
    for exposure in survey.exposures:
        total[exposure.window] += exposure.weight * np.where(
            exposure.usable, exposure.mean - levels[exposure.name], 0.0
        )
        weights[exposure.window] += exposure.weight
    return total, weights


class Difference(NamedTuple):
    """What one exposure has that the others have not, MJy/sr, shape of the exposure."""

    exposure: Exposure
    excess: Floats
    """Exposure minus the stack of all others, levels taken out."""
    noise: Floats
    used: Flags
    """Cells in which enough others were observed."""


def differences(survey: CellSurvey, levels: Mapping[str, float], cells: Flags) -> Iterator[Difference]:
    """Compare each exposure with the stack of all others.

    Parameters
    ----------
    survey
        Exposures on the lattice.
    levels
        Level of each, MJy/sr.
    cells
        Cells that may be used, shape of the lattice: without the cores of sources, which do not cancel.
    """
    total, weights = stack_sums(survey, levels)
    for exposure in survey.exposures:
        own = exposure.weight
        rest = weights[exposure.window] - own
        cleared = np.where(exposure.usable, exposure.mean - levels[exposure.name], 0.0)
        used = exposure.usable & (rest > 0.5 * own) & cells[exposure.window]
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = cleared - (total[exposure.window] - own * cleared) / rest
            noise = np.sqrt(exposure.variance + 1.0 / rest)
        yield Difference(exposure, excess, noise, used)


def _sums(index: NDArray[np.int64], values: Floats | None, shape: tuple[int, int]) -> Floats:
    sums: Floats = np.bincount(index, values, minlength=shape[0] * shape[1]).astype(np.float64)
    return sums.reshape(shape)


def _without_outliers(data: Floats, error: Floats, index: NDArray[np.int64], shape: tuple[int, int]) -> Flags:
    """Pixels within `OUTLIER_SIGMA` of the mean of their cell; the mean is taken of values clipped to the noise."""
    noise = np.median(error)
    count = np.maximum(_sums(index, None, shape), 1)
    # Clipped at a few sigma of the cells around, a cosmic ray cannot drag the mean it is compared with.
    raw = np.where(_sums(index, None, shape) > 0, _sums(index, data, shape) / count, np.median(data))
    around = ndimage.median_filter(raw, AROUND_CELLS).ravel()
    near = around[index]
    first = _sums(index, np.clip(data, near - 3 * noise, near + 3 * noise), shape).ravel() / count.ravel()
    # What is not the noise about its surroundings is light of the sky, whose pixels differ by more than noise.
    lit = np.abs(first - around) > 2 * noise
    return lit[index] | (np.abs(data - first[index]) < OUTLIER_SIGMA * error)
