"""Exposures on one coarse lattice of the sky: means over cells a few pixels wide.

Sky levels are properties of large areas, so sky work is done on cells eight pixels wide. Means of 64 pixels are
nearly Gaussian where single pixels are skewed by photon noise (the mode of pixels lies several per cent of their rms
below the mean), a faint source stands out eight times higher, and all exposures share the cells: differences and
stacks are plain subtractions and sums.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

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


TOGETHER = 16
"""Neighbouring exposures that are compared with as many others at a time."""


class NoSkyError(RuntimeError):
    """An exposure has no pixel in which the sky can be measured."""


@dataclass(frozen=True)
class Outline:
    """What is known of an exposure without its cells."""

    name: str
    detector: str
    origin: tuple[int, int]
    """Row and column on the lattice of the first cell."""
    shape: tuple[int, int]
    """Rows and columns of cells."""
    pixel_rms: float
    """Median error of the usable pixels in MJy/sr."""
    detector_rows: int
    """Rows of pixels."""

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the lattice."""
        (row, column), (ny, nx) = self.origin, self.shape
        return slice(row, row + ny), slice(column, column + nx)


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

    @cached_property
    def outline(self) -> Outline:
        """What is known of it without its cells."""
        ny, nx = self.mean.shape
        return Outline(self.name, self.detector, self.origin, (ny, nx), self.pixel_rms, self.detector_rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.outline.shape

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the lattice."""
        return self.outline.window

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


@runtime_checkable
class Stored(Protocol):
    """Exposures that are read when they are taken (`cosmosaic.cells.stored.StoredExposures`)."""

    def changed(self, change: Callable[[CellExposure], Mapping[str, Any]]) -> Sequence[CellExposure]:
        """Return the exposures with some arrays changed."""


Found = TypeVar("Found")


@dataclass(frozen=True)
class CellSurvey:
    """All exposures of one filter on their common lattice."""

    grid: MosaicGrid
    exposures: Sequence[CellExposure]
    """In memory, or read one by one when they are taken: to hold all of a large survey takes much memory."""
    light: Sequence[CellExposure] = ()
    """The same exposures with all their light, if pixels of known sources are left out of ``exposures``."""

    @property
    def with_light(self) -> "CellSurvey":
        """The exposures with all their light, on which sources are found."""
        return CellSurvey(self.grid, self.light or self.exposures)

    @cached_property
    def outlines(self) -> list[Outline]:
        """The exposures without their cells, in order."""
        return [exposure.outline for exposure in self.exposures]

    @property
    def names(self) -> list[str]:
        """Names of the exposures, in order."""
        return [outline.name for outline in self.outlines]

    @cached_property
    def pixel_rms(self) -> float:
        """Median over the exposures of their pixel rms, MJy/sr."""
        return float(np.median([outline.pixel_rms for outline in self.outlines]))

    @cached_property
    def held_out(self) -> Flags:
        """Cells of the lattice that no solution may use."""
        return self.folds((slice(None), slice(None))) == 0

    def folds(self, window: tuple[slice, slice]) -> NDArray[np.int8]:
        """Return the number of the part that each cell of a window of the lattice belongs to.

        Each part has one in five blocks of each row, column and diagonal of blocks: residual 1/f noise runs along rows,
        a slope of the sky in any direction, and a part that missed some of either would differ from the others.
        """
        row, column = (
            (place * block[part] % FOLDS).astype(np.int8)
            for place, block, part in zip((2, 1), self._block_numbers, window, strict=True)
        )
        return (row[:, None] + column) % np.int8(FOLDS)

    def blocks(self, window: tuple[slice, slice]) -> NDArray[np.int64]:
        """Return the number of the block that each cell of a window of the lattice belongs to."""
        row, column = (block - block[0] for block in self._block_numbers)
        return row[window[0], None] * (column[-1] + 1) + column[window[1]]

    @cached_property
    def pairs(self) -> list[tuple[Outline, Outline]]:
        """Every two exposures whose windows may have cells in common, in order."""
        return [(self.outlines[a], self.outlines[b]) for a, b in self._pair_numbers.tolist()]

    def compared(self, compare: Callable[[CellExposure, CellExposure], Found]) -> list[Found]:
        """Compare every two exposures of `pairs`; return what was found, in the same order.

        Neighbours are compared with neighbours at a time, so that few exposures are held, and each is read a few times.

        Parameters
        ----------
        compare
            Function of two exposures, which must not keep their arrays.
        """
        numbers = self._pair_numbers
        if not len(numbers):
            return []
        groups = np.sort(self._neighbourhoods[numbers], axis=1)
        found: dict[int, Found] = {}
        held: dict[int, CellExposure] = {}
        order = np.lexsort((groups[:, 0], groups[:, 1]))
        for _, places in groupby(order.tolist(), key=lambda place: groups[place].tolist()):
            pairs = {place: numbers[place].tolist() for place in places}
            needed = {number for pair in pairs.values() for number in pair}
            held = {number: exposure for number, exposure in held.items() if number in needed}
            held |= {number: self.exposures[number] for number in needed if number not in held}
            found |= {place: compare(held[a], held[b]) for place, (a, b) in pairs.items()}
        return [found[place] for place in range(len(numbers))]

    @cached_property
    def _pair_numbers(self) -> NDArray[np.int64]:
        """Numbers of the exposures of each pair, in order, shape ``(N, 2)``."""
        low = np.array([outline.origin for outline in self.outlines]).reshape(-1, 2)
        high = low + np.array([outline.shape for outline in self.outlines]).reshape(-1, 2)
        windows = shapely.box(*low.T, *high.T)
        first, second = shapely.STRtree(windows).query(windows)
        pairs = np.stack([first, second], axis=1)[first < second]
        return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]

    @cached_property
    def _neighbourhoods(self) -> NDArray[np.int64]:
        """Number of the group of neighbouring exposures that each belongs to: parts of strips of the field."""
        row, column = np.array([outline.origin for outline in self.outlines]).reshape(-1, 2).T
        height = 2 * max(outline.shape[0] for outline in self.outlines)
        groups = np.empty(len(row), dtype=np.int64)
        groups[np.lexsort((column, row // height))] = np.arange(len(row)) // TOGETHER
        return groups

    @cached_property
    def _block_numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of blocks, counted from the tangent point: they stay when exposures are added."""
        box = box_of(self.grid)
        return (box.y + np.arange(box.height)) // BLOCK_CELLS, (box.x + np.arange(box.width)) // BLOCK_CELLS


def gather(exposures: Sequence[CellExposure], grid: Lattice) -> CellSurvey:
    """Put exposures whose origins are cells of an endless lattice into the window that holds them all."""
    return placed(exposures, window_around([exposure.outline for exposure in exposures], grid))


def window_around(outlines: Sequence[Outline], grid: Lattice) -> MosaicGrid:
    """Return the window of a lattice that holds all exposures."""
    low = np.min([outline.origin for outline in outlines], axis=0)
    high = np.max([np.add(outline.origin, outline.shape) for outline in outlines], axis=0)
    rows, columns = map(int, high - low)
    return window_of(grid, Box(int(low[1]), int(low[0]), columns, rows), WHOLE)


def placed(exposures: Iterable[CellExposure], window: MosaicGrid) -> CellSurvey:
    """Put exposures whose origins are cells of an endless lattice into a window that holds them all, in memory."""
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

    def flattened(exposure: CellExposure) -> dict[str, Floats]:
        return {"mean": _mean_without(exposure, patterns.get(exposure.name, ()))}

    return CellSurvey(survey.grid, changed(survey.exposures, flattened), changed(survey.light, flattened))


def changed(
    exposures: Sequence[CellExposure], change: Callable[[CellExposure], Mapping[str, Any]]
) -> Sequence[CellExposure]:
    """Return exposures with some arrays changed: in memory, or stored, as they were.

    Parameters
    ----------
    exposures
        The exposures.
    change
        Returns the changed arrays of an exposure by the names of the fields; called in the order of the exposures.
    """
    if isinstance(exposures, Stored):
        return exposures.changed(change)
    return tuple(replace(each, **change(each)) for each in exposures)


def _mean_without(exposure: CellExposure, patterns: Sequence[Floats]) -> Floats:
    x, y = (np.nan_to_num(position) for position in exposure.detector_position)
    image = sum((pattern_at(nodes, x, y) for nodes in patterns), np.zeros(x.shape))
    shift = np.sum(image * exposure.pixels) / np.sum(exposure.pixels)
    return exposure.mean - (image - shift)


def stack(survey: CellSurvey, levels: Mapping[str, float]) -> Floats:
    """Average the exposures, their levels taken out; MJy/sr, shape of the lattice, NaN where nothing was observed."""
    return mean_of(survey.grid, survey.exposures, levels)


def mean_of(grid: MosaicGrid, exposures: Iterable[CellExposure], levels: Mapping[str, float]) -> Floats:
    """Average some exposures of a lattice as `stack` does."""
    total, weights = sums_of(grid, exposures, levels)
    # In place: these planes are the largest arrays of a large survey.
    np.divide(total, weights, out=total, where=weights > 0)
    total[~(weights > 0)] = np.nan
    return total


def sums_of(grid: MosaicGrid, exposures: Iterable[CellExposure], levels: Mapping[str, float]) -> tuple[Floats, Floats]:
    """Weighted sum of exposures without their levels, and sum of weights (inverse variances of the cells)."""
    total, weights = (np.zeros(grid.shape) for _ in range(2))
    for exposure in exposures:
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
    total, weights = sums_of(survey.grid, survey.exposures, levels)
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
