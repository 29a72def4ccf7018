"""Levels from overlaps: two exposures of the same sky differ only by their levels.

Sources cancel in the differences, so no mask has to find them all. The absolute zero, which differences do not
contain, and levels of exposures without overlaps come from the pedestals. Both measurements enter one least-squares
solution with their real errors. The idea is Montage's and SWarp's; see also the MIRI and NIRCam mosaics of
PHANGS (Williams et al. 2024, ApJS 273, 13).
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array, eye_array, vstack
from scipy.sparse.csgraph import connected_components

from cosmosaic.cells.survey import CellExposure, CellSurvey, Outline
from cosmosaic.sky.normal_equations import NormalEquations, Structure
from cosmosaic.sky.pedestal import Level
from cosmosaic.sky.solution import SkySolution

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Window = tuple[slice, slice]
Position = tuple[float, float]

FEWEST_OVERLAP_CELLS = 100
"""Overlaps of fewer cells (6400 pixels) are left out."""
CLIP_SIGMA = 4.0
ITERATIONS = 20
STILL = 1e-10
"""Weights, and factors on errors, that change by less have come to rest."""
HUBER_SIGMA = 2.0
LARGEST_PULL = 4.0


class OverlapStep(NamedTuple):
    """Level of one exposure minus that of another, where they see the same sky."""

    first: str
    second: str
    difference: float
    """MJy/sr."""
    error: float
    """From the scatter between blocks of the overlap, MJy/sr."""
    pixels: int
    """Pixels of the smaller of the two sets."""
    fraction: float
    """Part of the smaller detector's cells that the overlap holds."""
    middles: tuple[Position, Position]
    """Mean x and y of the overlap from the middle of each exposure, in widths of a detector."""


class Solution(NamedTuple):
    """Levels that fit overlaps and pedestals, and how well they do."""

    levels: dict[str, Level]
    groups: list[list[str]]
    """Sets of exposures that overlaps connect."""
    pedestal_scale: float
    """Factor by which the pedestals' errors were enlarged to agree with the overlaps."""
    deviations: dict[str, float]
    """Error of each level against the mean of its group, MJy/sr."""
    zeros: list[float]
    """Error of the mean level of each group, MJy/sr."""
    structure: float
    """Rms of the structure within single exposures (1/f noise, wisps), which a level does not model, MJy/sr: an
    overlap's mean differs from its exposure's by ``structure * sqrt(1 / fraction - 1)``."""


def measure_steps(survey: CellSurvey, cells: Flags) -> list[OverlapStep]:
    """Measure the step between the levels of every two overlapping exposures.

    Parameters
    ----------
    survey
        Exposures on the lattice.
    cells
        Cells that may be used, shape of the lattice.
    """
    steps = survey.compared(partial(_step, survey, cells))
    return [step for step in steps if step is not None]


def solve_levels(steps: list[OverlapStep], pedestals: Mapping[str, Level]) -> Solution:
    """Find the levels that fit all steps and pedestals best.

    The level of an exposure is the mean over all of it, and an overlap's mean differs from that by the plane of the
    exposure at the overlap's middle, whatever its origin: without it all overlaps of a dither pattern agree on levels
    that grow with the dither. Two quantities are fitted with the levels so that residuals match their errors (variance
    components): the factor by which the pedestals' errors are too small, since light hidden below the noise is not in
    them, and the structure within detectors beyond planes.
    Single measurements that disagree with the others lose weight (Huber).

    Parameters
    ----------
    steps
        From `measure_steps`.
    pedestals
        Level of every exposure, which sets the zero.
    """
    names = list(pedestals)
    design, planes = _design(names, steps), planes_of(pedestals)
    measured = [step_between_means(step, planes) for step in steps]
    measured += [(level.value, level.error) for level in pedestals.values()]
    observed, errors = np.array(measured).T
    partial = np.array([2.0 * (1.0 / step.fraction - 1.0) for step in steps] + [0.0] * len(names))
    is_pedestal = np.arange(len(observed)) >= len(steps)

    # Overlaps have precedence: a disagreement that pedestals or structure could explain is attributed to pedestals.
    scale, structure = 1.0, min(float(np.median(errors[kind])) for kind in (is_pedestal, ~is_pedestal) if kind.any())
    places = Structure.of(design.T @ design)
    for _ in range(ITERATIONS):
        sigma = np.sqrt(np.where(is_pedestal, scale * errors, errors) ** 2 + structure**2 * partial)
        fit = _weighted_fit(design, observed, sigma, places)
        variances = fit.normal.variances()
        # Every level is one unknown, which pedestals determine by this part and steps by the rest.
        by_pedestals = float(np.sum(fit.weight[is_pedestal] * variances))
        of_scale = _agreement(fit.pull[is_pedestal], len(names) - by_pedestals, lowest=1.0 / scale)
        of_structure = _agreement(fit.pull[~is_pedestal], len(steps) - len(names) + by_pedestals, lowest=0.0)
        scale, structure = scale * of_scale, structure * of_structure
        if max(abs(of_scale - 1), abs(of_structure - 1)) < STILL:
            break
    levels = {
        name: Level(float(value), float(np.sqrt(variance)))
        for name, value, variance in zip(names, fit.solution, variances, strict=True)
    }
    groups = connected_groups(names, steps)
    deviations, zeros = _errors_in_groups(groups, names, fit.normal, variances)
    return Solution(levels, groups, scale, deviations, zeros, structure)


def _design(names: list[str], steps: list[OverlapStep]) -> csr_array:
    """Rows of steps, then of pedestals, over columns of levels."""
    place = {name: index for index, name in enumerate(names)}
    firsts, seconds = ([place[name] for name in each] for each in _ends(steps))
    row = np.arange(len(steps))
    entries = np.repeat([1.0, -1.0], len(steps)), (np.tile(row, 2), np.array([*firsts, *seconds], dtype=np.int64))
    return csr_array(vstack([coo_array(entries, shape=(len(steps), len(names))), eye_array(len(names))]))


def _ends(steps: list[OverlapStep]) -> tuple[list[str], list[str]]:
    return [step.first for step in steps], [step.second for step in steps]


def _errors_in_groups(
    groups: list[list[str]], names: list[str], normal: NormalEquations, variances: Floats
) -> tuple[dict[str, float], list[float]]:
    """Error of each level against the mean of its group, and of each group's mean."""
    # Groups have no covariance with each other: one solution gives the row sums of all.
    variance = dict(zip(names, variances, strict=True))
    row_sum = dict(zip(names, normal.solve(np.ones(len(names))), strict=True))
    deviations: dict[str, float] = {}
    zeros: list[float] = []
    for group in groups:
        to_mean = np.array([row_sum[name] for name in group]) / len(group)
        mean = float(to_mean.mean())
        # The exposures of a group share the error of its zero, which is not part of their steps.
        deviation = np.sqrt(np.maximum(np.array([variance[name] for name in group]) - 2 * to_mean + mean, 0.0))
        deviations |= dict(zip(group, deviation.tolist(), strict=True))
        zeros.append(float(np.sqrt(mean)))
    return deviations, zeros


def planes_of(pedestals: Mapping[str, Level]) -> dict[str, tuple[Floats, Floats]]:
    """Slopes of exposures and their variances, held by the slopes' own spread over the survey (empirical Bayes)."""
    slopes = np.array([level.slopes for level in pedestals.values()])
    variance = np.array([level.slope_errors for level in pedestals.values()]) ** 2
    # Exposures with uncertain slopes get little weight in the spread of the slopes.
    weight = (1.0 + variance / (np.median(variance) or 1.0)) ** -2.0
    spread = max(float(np.average(slopes**2 - variance, weights=weight)), 0.0)
    part = spread / np.maximum(spread + variance, np.finfo(float).tiny)
    return dict(zip(pedestals, zip(part * slopes, part * variance, strict=True), strict=True))


def step_between_means(step: OverlapStep, planes: Mapping[str, tuple[Floats, Floats]]) -> tuple[float, float]:
    """The step between the means of two whole exposures, and its error."""
    (first, first_variance), (second, second_variance) = planes[step.first], planes[step.second]
    a, b = np.array(step.middles)
    variance = step.error**2 + first_variance @ a**2 + second_variance @ b**2
    return step.difference - float(first @ a - second @ b), float(np.sqrt(variance))


class _Fit(NamedTuple):
    """A solution by weighted least squares."""

    solution: Floats
    normal: NormalEquations
    weight: Floats
    """Of every measurement."""
    pull: Floats
    """Residual of every measurement in sigma."""


def _weighted_fit(design: csr_array, observed: Floats, sigma: Floats, places: Structure) -> _Fit:
    """Solve a Huber-weighted least-squares problem."""
    huber, transposed = np.ones_like(observed), design.T.tocsr()
    for _ in range(ITERATIONS):
        weight = huber / sigma**2
        normal = NormalEquations(transposed @ diags_array(weight) @ design, places)
        solution = normal.solve(transposed @ (weight * observed))
        pull = (observed - design @ solution) / sigma
        before, huber = huber, np.minimum(1.0, HUBER_SIGMA / np.maximum(np.abs(pull), 1e-9))
        if np.max(np.abs(huber - before)) < STILL:
            break
    return _Fit(solution, normal, weight, pull)


def _agreement(pull: Floats, freedom: float, lowest: float) -> float:
    """Factor on an error at which the residuals match their degrees of freedom."""
    if freedom < 1:
        return 1.0
    excess = float(np.sum(np.minimum(pull**2, LARGEST_PULL**2))) / freedom
    return float(np.clip(np.sqrt(excess), max(lowest, 0.2), 5.0))


def connected_groups(names: list[str], steps: list[OverlapStep]) -> list[list[str]]:
    """Sort exposures into sets that overlaps connect."""
    design = _design(names, steps)
    _, labels = connected_components(design.T @ design, directed=False)
    groups: dict[int, list[str]] = {}
    for name, label in zip(names, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(name)
    return list(groups.values())


def common_window(
    first: CellExposure | Outline, second: CellExposure | Outline
) -> Iterator[tuple[Window, Window, Window]]:
    """Yield the window that two exposures share, in cells of the lattice and of each; nothing if they do not."""
    low = np.maximum(first.origin, second.origin)
    high = np.minimum(np.add(first.origin, first.shape), np.add(second.origin, second.shape))
    if np.any(low >= high):
        return
    height, width = high - low
    whole, a, b = (
        (slice(row, row + height), slice(column, column + width))
        for row, column in (low, low - first.origin, low - second.origin)
    )
    yield whole, a, b


def tied(levels: Mapping[str, Level], kept: SkySolution, survey: CellSurvey) -> dict[str, Level]:
    """Shift the levels of a new solution to the zero of the kept levels, which may be of other exposures as well.

    A new exposure's level is shifted by the mean difference between kept and new levels of the exposures that it
    overlaps with, weighted by their common cells; of all kept exposures where it overlaps with none.

    Parameters
    ----------
    levels
        Levels that were solved together.
    kept
        The part of the earlier solution that is kept.
    survey
        The exposures' cells.
    """
    shifts = {one.name: one.level - levels[one.name].value for one in kept.exposures if one.name in levels}
    stay = {one.name: Level(one.level, np.nan if one.error is None else one.error) for one in kept.exposures}
    common: dict[str, dict[str, int]] = {name: {} for name in levels if name not in stay}

    def count(a: CellExposure, b: CellExposure) -> int:
        # Cells of exposures that are both new, or both kept, are not read.
        return _common_cells(a, b) if (a.name in common) != (b.name in common) else 0

    for (a, b), number in zip(survey.pairs, survey.compared(count), strict=True):
        for new, other in ((a, b), (b, a)):
            if new.name in common and other.name in shifts:
                common[new.name][other.name] = number
    everywhere = float(np.mean(list(shifts.values())))

    def shifted(name: str) -> Level:
        cells = {other: number for other, number in common[name].items() if number}
        # Without overlaps all count the same.
        shift = np.average([shifts[other] for other in cells], weights=list(cells.values())) if cells else everywhere
        return Level(levels[name].value + float(shift), levels[name].error)

    return {name: stay[name] if name in stay else shifted(name) for name in levels}


def _common_cells(first: CellExposure, second: CellExposure) -> int:
    return sum(int(np.count_nonzero(first.usable[a] & second.usable[b])) for _, a, b in common_window(first, second))


def _step(survey: CellSurvey, cells: Flags, first: CellExposure, second: CellExposure) -> OverlapStep | None:
    windows = list(common_window(first, second))
    if not windows:
        return None
    whole, a, b = windows[0]
    used = cells[whole] & first.usable[a] & second.usable[b]
    if np.count_nonzero(used) < FEWEST_OVERLAP_CELLS:
        return None
    difference = (first.mean[a] - second.mean[b])[used]
    variance = (first.variance[a] + second.variance[b])[used]
    near = _unclipped(difference, variance)
    if np.count_nonzero(near) < FEWEST_OVERLAP_CELLS:
        return None
    difference, variance, blocks = difference[near], variance[near], survey.blocks(whole)[used][near]
    # One weight for all cells: errors from the data themselves would favour the fainter draws.
    value, error = float(np.mean(difference)), _block_error(difference, variance, blocks)
    pixels = min(int(first.pixels[a][used][near].sum()), int(second.pixels[b][used][near].sum()))
    smaller = min(int(first.usable.sum()), int(second.usable.sum()))
    # Masked cells within the overlap do not make it narrower.
    shared = int(np.count_nonzero(first.usable[a] & second.usable[b]))
    middles = _middle(first, a, used, near), _middle(second, b, used, near)
    return OverlapStep(first.name, second.name, value, error, pixels, shared / smaller, middles)


def _middle(exposure: CellExposure, window: Window, used: Flags, near: Flags) -> Position:
    (x, y), (x0, y0) = exposure.detector_position, exposure.middle
    return float(np.mean(x[window][used][near])) - x0, float(np.mean(y[window][used][near])) - y0


def _unclipped(difference: Floats, variance: Floats) -> Flags:
    kept = np.full(difference.shape, True)
    sigma = np.sqrt(variance)
    for _ in range(5):
        centre = float(np.median(difference[kept]))
        kept = kept & (np.abs(difference - centre) < CLIP_SIGMA * sigma * 1.5)
    return kept


def _block_error(difference: Floats, variance: Floats, blocks: NDArray[np.int64]) -> float:
    """Error of the mean: the scatter of the blocks' sums about it, never below that of the pixels' errors."""
    formal = float(np.sqrt(np.sum(variance)) / difference.size)
    _, block = np.unique(blocks, return_inverse=True)
    sums = np.bincount(block, difference - difference.mean())
    if sums.size < 4:
        return 1.5 * formal
    scatter = float(np.sqrt(np.sum(sums**2) * sums.size / (sums.size - 1)) / difference.size)
    return max(scatter, formal)
