"""Exposures on one coarse lattice of the sky: means over cells a few pixels wide.

Sky levels are properties of large areas, so sky work is done on cells eight pixels wide. Means of 64 pixels are
nearly Gaussian where single pixels are skewed by photon noise (the mode of pixels lies several per cent of their rms
below the mean), a faint source stands out eight times higher, and all exposures share the cells: differences and
stacks are plain subtractions and sums.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from cosmosaic.exposures.patterns import pattern_at
from cosmosaic.geometry.windows import WHOLE, Box, box_of, window_of
from cosmosaic.records import Lattice, MosaicGrid

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
FEWEST_CELLS = 1000
"""Of an exposure in a part of the survey: 8 by 8 arcsec in the short-wavelength channel."""
FEWEST_FOR_LEVEL = 50
"""Cells of an exposure, outside of sources, from which its level is measured."""
FOLDS = 5
"""Parts that the blocks of cells fall into; the first is kept from every solution, to score it on."""
BLOCK_CELLS = 16
"""Width of the blocks whose scatter gives errors, in cells: 4 arcsec in the short-wavelength channel."""


class NoSkyError(RuntimeError):
    """An exposure has no pixel in which the sky can be measured."""


@dataclass(frozen=True)
class CellExposure:
    """One exposure of one detector as cells of the lattice that it touches."""

    name: str
    detector: str
    group: str
    """Identity of the exposure group."""
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
    exposures: tuple[CellExposure, ...]
    light: tuple[CellExposure, ...] = ()
    """The same exposures with all their light, if pixels of known sources are left out of ``exposures``."""

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
    def folds(self) -> NDArray[np.int64]:
        """Number of the part that each cell of the lattice belongs to.

        Each part has one in five blocks of each row, column and diagonal of blocks: residual 1/f noise runs along rows,
        a slope of the sky in any direction, and a part that missed some of either would differ from the others.
        """
        row, column = self._block_numbers()
        return (2 * row[:, None] + column) % FOLDS

    @cached_property
    def held_out(self) -> Flags:
        """Cells of the lattice that no solution may use."""
        return self.folds == 0

    @cached_property
    def blocks(self) -> NDArray[np.int64]:
        """Number of the block that each cell of the lattice belongs to."""
        row, column = (block - block[0] for block in self._block_numbers())
        return row[:, None] * (column[-1] + 1) + column

    @cached_property
    def pairs(self) -> list[tuple[CellExposure, CellExposure]]:
        """Every two exposures whose windows may have cells in common, in order."""
        low = np.array([exposure.origin for exposure in self.exposures]).reshape(-1, 2)
        high = low + np.array([exposure.mean.shape for exposure in self.exposures]).reshape(-1, 2)
        windows = shapely.box(*low.T, *high.T)
        first, second = shapely.STRtree(windows).query(windows)
        ordered = sorted((a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True) if a < b)
        return [(self.exposures[a], self.exposures[b]) for a, b in ordered]

    def _block_numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of blocks, counted from the tangent point: they stay when exposures are added."""
        box = box_of(self.grid)
        return (box.y + np.arange(box.height)) // BLOCK_CELLS, (box.x + np.arange(box.width)) // BLOCK_CELLS


def gather(exposures: Sequence[CellExposure], grid: Lattice) -> CellSurvey:
    """Put exposures whose origins are cells of an endless lattice into the window that holds them all."""
    low = np.min([exposure.origin for exposure in exposures], axis=0)
    high = np.max([np.add(exposure.origin, exposure.mean.shape) for exposure in exposures], axis=0)
    rows, columns = map(int, high - low)
    return placed(exposures, window_of(grid, Box(int(low[1]), int(low[0]), columns, rows), WHOLE))


def placed(exposures: Sequence[CellExposure], window: MosaicGrid) -> CellSurvey:
    """Put exposures whose origins are cells of an endless lattice into a window that holds them all."""
    box = box_of(window)
    moved = (replace(each, origin=(each.origin[0] - box.y, each.origin[1] - box.x)) for each in exposures)
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


def _cut(exposure: CellExposure, row: int, column: int, box: Box) -> CellExposure:
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


def sums_on_detector(exposure: CellExposure, values: Floats, used: Flags, parts: int) -> tuple[Floats, Floats]:
    """Sum values of an exposure's cells in equal parts of its detector.

    Parameters
    ----------
    exposure
        Tells where on the detector its cells lie.
    values
        Values of the cells, any unit, shape of the exposure.
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
    return cell_sums(index, values[used], shape), cell_sums(index, None, shape)


def without_patterns(survey: CellSurvey, patterns: Mapping[str, Sequence[Floats]]) -> CellSurvey:
    """Subtract patterns from the exposures' cells without changing their mean levels."""
    exposures, light = (
        tuple(_without(each, patterns.get(each.name, ())) for each in some) for some in (survey.exposures, survey.light)
    )
    return CellSurvey(survey.grid, exposures, light)


def _without(exposure: CellExposure, patterns: Sequence[Floats]) -> CellExposure:
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
    """Difference of one exposure from the others, MJy/sr, shape of the exposure."""

    exposure: CellExposure
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


def cell_sums(index: NDArray[np.int64], values: Floats | None, shape: tuple[int, int]) -> Floats:
    sums: Floats = np.bincount(index, values, minlength=shape[0] * shape[1]).astype(np.float64)
    return sums.reshape(shape)
