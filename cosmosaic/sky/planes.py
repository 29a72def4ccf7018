"""Planes of single exposures, from the differences between exposures of the same sky.

Light on the sky cancels in the differences, and a gradient that all exposures share stays. SWarp's and Montage's
matching of planes over overlaps is the same least-squares problem. A plane fitted to a part of a detector would be
extrapolated over the rest, where nothing constrains it. So levels and slopes are solved together, the levels
constrained by the pedestals and the slopes by their own spread over the survey, which is fitted as well (empirical
Bayes, maximum likelihood by expectation maximisation; Dempster, Laird & Rubin 1977, J. R. Stat. Soc. B 39, 1).
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array

from cosmosaic.cells.survey import CellExposure, CellSurvey, differences, without_patterns
from cosmosaic.exposures.patterns import Patterns
from cosmosaic.sky.normal_equations import NormalEquations, Structure
from cosmosaic.sky.overlap import STILL, Window, common_window
from cosmosaic.sky.pedestal import Level

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

PASSES = 3
"""Solutions, each without the outliers of the one before."""
ITERATIONS = 20
CLIP_SIGMA = 6.0
LEVEL_SIGMA = 3.0
"""Pedestals constrain the levels with their errors times this: a glow or a gradient of an exposure moves its mode by
more than its error."""
LEAST_OVERLAP = 0.25
"""Smallest overlap in parts of the smaller exposure's cells: at an edge, residual wisps look like a slope."""
FIRST_SPREAD = 0.05
"""First guess of the slopes' spread, in units of the pixel rms."""
ALL = (slice(None), slice(None))
TERMS = 3
"""Unknowns of an exposure: level in the middle of its cells, slopes along x and y over a detector's width."""


def detilt(survey: CellSurvey, levels: Mapping[str, Level], cells: Flags) -> tuple[CellSurvey, Patterns]:
    """Subtract planes from the exposures' cells.

    Parameters
    ----------
    survey
        Exposures on the lattice.
    levels
        First guess of each exposure's level with its error, MJy/sr.
    cells
        Cells that may be used, shape of the lattice: without the cores of sources, which do not cancel.

    Returns
    -------
    survey
        The exposures without planes, with the same mean levels.
    planes
        Plane subtracted from each exposure, MJy/sr.
    """
    used = {exposure.name: Packed.of(exposure.usable & cells[exposure.window]) for exposure in survey.exposures}
    spread = FIRST_SPREAD * survey.pixel_rms
    for _ in range(PASSES):
        solution, spread = most_likely(*_normal_equations(survey, used), [levels[name] for name in used], spread)
        planes = {name: _nodes(slopes) for name, slopes in zip(used, solution[:, 1:], strict=True)}
        flat = without_patterns(survey, planes)
        middles = dict(zip(used, solution[:, 0], strict=True))
        for exposure, excess, noise, compared in differences(flat, middles, cells):
            kept = used[exposure.name].flags() & (~compared | (np.abs(excess) < CLIP_SIGMA * noise))
            used[exposure.name] = Packed.of(kept)
    return flat, planes


class Packed(NamedTuple):
    """Flags of an exposure's cells, eight in a byte: they are kept for all exposures at once."""

    bits: NDArray[np.uint8]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, flags: Flags) -> Self:
        """Pack flags."""
        return cls(np.packbits(flags), flags.shape)

    def flags(self) -> Flags:
        """Return them, shape as it was."""
        size = int(np.prod(self.shape))
        return np.unpackbits(self.bits, count=size).view(np.bool_).reshape(self.shape)


def _nodes(slopes: Floats) -> list[Floats]:
    """Values a quarter of the detector from its middle, shape (2, 2)."""
    ends = np.array([-0.25, 0.25])
    return [ends * slopes[0] + ends[:, None] * slopes[1]]


def _normal_equations(survey: CellSurvey, used: Mapping[str, Packed]) -> tuple[csc_array, Floats]:
    """Matrix and right-hand side of the least squares of all wide overlaps, the sky of each cell eliminated."""
    cells, total = {}, np.zeros(survey.grid.shape)
    for exposure in survey.exposures:
        weight = _weight(exposure, used, ALL)
        total[exposure.window] += weight
        cells[exposure.name] = int(np.count_nonzero(weight))
    place = {name: number for number, name in enumerate(cells)}
    right = np.zeros((len(place), TERMS))
    blocks: list[tuple[int, int, Floats]] = []
    for (one, other), terms in zip(survey.pairs, survey.compared(partial(_overlap, used, cells, total)), strict=True):
        if terms is None:
            continue
        i, j = place[one.name], place[other.name]
        right[i] += terms.right[0]
        right[j] -= terms.right[1]
        first, mixed, second = terms.blocks
        blocks += [(i, i, first), (i, j, -mixed), (j, j, second), (j, i, -mixed.T)]
    return _of_blocks(blocks, right.size), right.ravel()


class _Overlap(NamedTuple):
    """Terms of the normal equations that one overlap gives."""

    right: Floats
    """Of the first exposure and of the second one, shape ``(2, TERMS)``."""
    blocks: Floats
    """Of the first with itself, with the second, and of the second, shape ``(3, TERMS, TERMS)``."""


def _overlap(
    used: Mapping[str, Packed], cells: Mapping[str, int], total: Floats, one: CellExposure, other: CellExposure
) -> _Overlap | None:
    """Terms of two exposures; None if their overlap is narrow."""
    for whole, a, b in common_window(one, other):
        # Eliminating the sky leaves the differences of all pairs, with these weights.
        product = _weight(one, used, a) * _weight(other, used, b)
        shared = product / np.maximum(total[whole], np.finfo(float).tiny)
        if np.count_nonzero(shared) < LEAST_OVERLAP * min(cells[one.name], cells[other.name]):
            return None
        step = np.nan_to_num(one.mean[a]) - np.nan_to_num(other.mean[b])
        first, second = _terms(one, a), _terms(other, b)
        right = [np.einsum("aij,ij->a", terms, shared * step) for terms in (first, second)]
        ends = (first, first), (first, second), (second, second)
        blocks = [np.einsum("aij,bij,ij->ab", *each, shared) for each in ends]
        return _Overlap(np.array(right), np.array(blocks))
    return None


def _of_blocks(blocks: list[tuple[int, int, Floats]], size: int) -> csc_array:
    """Sum blocks of unknowns of two exposures into a matrix, with a diagonal for exposures that have none too."""
    blocks = blocks + [(number, number, np.zeros((TERMS, TERMS))) for number in range(size // TERMS)]
    i, j = np.array([block[:2] for block in blocks], dtype=np.int64).T
    values = np.array([block[2] for block in blocks])
    term = np.arange(TERMS)
    row, column = (TERMS * i[:, None, None] + term[:, None]), (TERMS * j[:, None, None] + term)
    row, column = np.broadcast_to(row, values.shape).ravel(), np.broadcast_to(column, values.shape).ravel()
    return csc_array(coo_array((values.ravel(), (row, column)), shape=(size, size)))


def _weight(exposure: CellExposure, used: Mapping[str, Packed], window: Window) -> Floats:
    return np.where(used[exposure.name].flags()[window], exposure.weight[window], 0.0)


def _terms(exposure: CellExposure, window: Window) -> Floats:
    x, y = (
        np.nan_to_num(position[window]) - middle
        for position, middle in zip(exposure.detector_position, exposure.middle, strict=True)
    )
    return np.stack([np.ones_like(x), x, y])


def most_likely(matrix: csc_array, right: Floats, levels: list[Level], spread: float) -> tuple[Floats, float]:
    """Solve for levels and slopes, shape ``(exposures, 3)``, and find the spread of the slopes.

    Parameters
    ----------
    matrix, right
        Normal equations of the overlaps, three unknowns for each exposure.
    levels
        Constraint on the level of each.
    spread
        First guess.
    """
    value, error = np.array([(level.value, level.error) for level in levels]).T
    expected, precision = np.zeros((2, len(levels), TERMS))
    expected[:, 0], precision[:, 0] = value, (LEVEL_SIGMA * error) ** -2.0
    places = Structure.of(matrix)
    for _ in range(ITERATIONS):
        precision[:, 1:] = spread**-2.0
        held = matrix.copy()
        held.setdiag(matrix.diagonal() + precision.ravel())
        normal = NormalEquations(held, places)
        solution = normal.solve(right + (precision * expected).ravel()).reshape(expected.shape)
        variance = normal.variances().reshape(expected.shape)
        before, spread = spread, float(np.sqrt(np.mean(solution[:, 1:] ** 2 + variance[:, 1:])))
        if abs(spread - before) < STILL * spread:
            break
    return solution, spread
