"""Levels from overlaps: what two detectors see of the same sky differs by their levels alone.

Sources cancel in the differences, so no mask has to find them all; the absolute zero, which no difference knows,
and detectors that overlap with nothing come from the pedestals. Both kinds of measurement enter one least-squares
solution with their real errors. The idea is Montage's and SWarp's; see also the MIRI and NIRCam mosaics of
PHANGS (Williams et al. 2024, ApJS 273, 13).
"""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosmosaic.sky.cells import CellSurvey, Exposure
from cosmosaic.sky.pedestal import Level
from cosmosaic.sky.solution import SkySolution

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Window = tuple[slice, slice]
Position = tuple[float, float]

FEWEST_OVERLAP_CELLS = 100
"""Overlaps of fewer cells (6400 pixels) are left out."""
CLIP_SIGMA = 4.0
BRIGHT_SIGMA = 20.0
"""Cells whose mean exceeds the median by this many of its errors hold sources that do not cancel: sampling
differs between exposures by more than the noise."""
ITERATIONS = 20
HUBER_SIGMA = 2.0
LARGEST_PULL = 4.0
PART_ON_DETECTOR = 0.5, 0.5
"""Part of the detectors' planes that stays on the detector, and its error, before the data have told it: somewhere
between none and all."""


class Step(NamedTuple):
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
    """By how much the pedestals' own errors had to be enlarged to agree with the overlaps."""
    structure: float
    """Rms of the light of single exposures (1/f noise, wisps) that a level is no model for, MJy/sr, such that an
    overlap's mean differs from its detector's by ``structure * sqrt(1 / fraction - 1)``."""
    on_detector: float
    """Part of the detectors' planes that stays on the detector; the rest is on the sky."""


class _Measurements(NamedTuple):
    """Steps, pedestals and what is known of the planes beforehand, one after the other."""

    design: Floats
    """By measurement and unknown: the levels, and the part of the planes that stays on the detector."""
    observed: Floats
    errors: Floats
    partial: Floats
    """Variance that structure within detectors adds, in units of its mean square."""
    is_step: Flags
    is_pedestal: Flags


def measure_steps(survey: CellSurvey, cells: Flags) -> list[Step]:
    """Measure the step between the levels of every two overlapping exposures.

    Parameters
    ----------
    survey
        Exposures on the lattice.
    cells
        Cells that may be used, shape of the lattice.
    """
    pairs = combinations(survey.exposures, 2)
    return [step for a, b in pairs if (step := _step(survey, cells, a, b)) is not None]


def solve_levels(steps: list[Step], pedestals: Mapping[str, Level]) -> Solution:
    """Find the levels that fit all steps and pedestals best.

    Three things are found with the levels. Two are such that residuals have the size that their errors say (variance
    components): by how much the pedestals' errors fall short, which cannot know what light hides below the noise,
    and the structure within detectors that makes the mean of a narrow overlap differ from that of its detector.
    The third is the part of the planes of single detectors that stays on the detector. All overlaps of a dither
    pattern agree with such a plane on levels that grow with the dither; pedestals agree likewise with a plane on the
    sky. So it is known no better than the two agree with each other, and the levels' errors say so.
    Single measurements that disagree with the rest lose weight (Huber).

    Parameters
    ----------
    steps
        From `measure_steps`.
    pedestals
        Level of every exposure, which sets the zero.
    """
    names, known = list(pedestals), _measurements(steps, pedestals)
    scale, structure = 1.0, float(np.median(known.errors[known.is_pedestal]))
    for _ in range(ITERATIONS):
        errors = np.where(known.is_pedestal, scale * known.errors, known.errors)
        sigma = np.sqrt(errors**2 + structure**2 * known.partial)
        solution, covariance, pull, share = _weighted_solution(known.design, known.observed, sigma)
        scale *= _agreement(pull, share, known.is_pedestal, lowest=1.0 / scale)
        structure *= _agreement(pull, share, known.is_step, lowest=0.0)
    levels = {
        name: Level(float(value), float(np.sqrt(variance)))
        for name, value, variance in zip(names, solution[:-1], np.diag(covariance)[:-1], strict=True)
    }
    return Solution(levels, connected_groups(names, steps), scale, structure, float(solution[-1]))


def _measurements(steps: list[Step], pedestals: Mapping[str, Level]) -> _Measurements:
    place = {name: index for index, name in enumerate(pedestals)}
    last = len(steps) + len(place)
    design = np.zeros((last + 1, len(place) + 1))
    for row, step in enumerate(steps):
        design[row, place[step.first]], design[row, place[step.second]] = 1.0, -1.0
        design[row, -1] = _plane_step(step, pedestals)
    design[len(steps) :] = np.eye(len(place) + 1)
    known = [(step.difference, step.error) for step in steps]
    known += [(level.value, level.error) for level in pedestals.values()]
    observed, errors = np.array([*known, PART_ON_DETECTOR]).T
    partial = np.zeros(last + 1)
    partial[: len(steps)] = [2.0 * (1.0 / step.fraction - 1.0) for step in steps]
    number = np.arange(last + 1)
    is_step, is_last = number < len(steps), number == last
    return _Measurements(design, observed, errors, partial, is_step, ~is_step & ~is_last)


def _plane_step(step: Step, pedestals: Mapping[str, Level]) -> float:
    """The step that the planes of both detectors would make if they stayed on them, MJy/sr."""
    first, second = (
        np.dot(pedestals[name].slopes, middle) for name, middle in zip(step[:2], step.middles, strict=True)
    )
    return float(first - second)


def _weighted_solution(design: Floats, observed: Floats, sigma: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Solve a Huber-weighted least-squares problem.

    Returns
    -------
    solution, covariance
        Of the unknowns.
    pull, share
        Residual in sigma, and the part of its variance that the solution left in it, for every measurement.
    """
    huber = np.ones_like(observed)
    for _ in range(ITERATIONS):
        weight = huber / sigma**2
        covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
        solution = covariance @ (design.T @ (weight * observed))
        pull = (observed - design @ solution) / sigma
        huber = np.minimum(1.0, HUBER_SIGMA / np.maximum(np.abs(pull), 1e-9))
    share = 1 - np.einsum("ij,jk,ik->i", design, covariance, design) * weight
    return solution, covariance, pull, share


def _agreement(pull: Floats, share: Floats, which: Flags, lowest: float) -> float:
    """Factor on an error at which the residuals would have the size that they should have."""
    freedom = float(np.sum(share[which]))
    if freedom < 1:
        return 1.0
    excess = float(np.sum(np.minimum(pull[which] ** 2, LARGEST_PULL**2))) / freedom
    return float(np.clip(np.sqrt(excess), max(lowest, 0.2), 5.0))


def connected_groups(names: list[str], steps: list[Step]) -> list[list[str]]:
    """Sort exposures into sets that overlaps connect."""
    leader = {name: name for name in names}

    def head(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for step in steps:
        leader[head(step.second)] = head(step.first)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(head(name), []).append(name)
    return list(groups.values())


def common_window(first: Exposure, second: Exposure) -> Iterator[tuple[Window, Window, Window]]:
    """Yield the window that two exposures share, in cells of the lattice and of each; nothing if they do not."""
    low = np.maximum(first.origin, second.origin)
    high = np.minimum(np.add(first.origin, first.mean.shape), np.add(second.origin, second.mean.shape))
    if np.any(low >= high):
        return
    height, width = high - low
    whole, a, b = (
        (slice(row, row + height), slice(column, column + width))
        for row, column in (low, low - first.origin, low - second.origin)
    )
    yield whole, a, b


def tied(levels: Mapping[str, Level], kept: SkySolution, survey: CellSurvey) -> dict[str, Level]:
    """Put levels of a new solution on the zero of those that are kept.

    A new exposure's level is shifted by the mean difference between kept and new levels of the exposures that it
    overlaps with, weighted by their common cells; of all kept exposures where it overlaps with none.

    Parameters
    ----------
    levels
        Of all exposures, solved together.
    kept
        What stays as it was.
    survey
        The exposures' cells.
    """
    shifts = {one.name: one.level - levels[one.name].value for one in kept.exposures}
    exposures = {exposure.name: exposure for exposure in survey.exposures}
    stay = {one.name: Level(one.level, np.nan if one.error is None else one.error) for one in kept.exposures}

    def shifted(name: str) -> Level:
        weights = [_common_cells(exposures[name], exposures[other]) for other in shifts]
        # Where nothing overlaps all count the same.
        shift = np.average(list(shifts.values()), weights=weights if any(weights) else None)
        return Level(levels[name].value + float(shift), levels[name].error)

    return {name: stay[name] if name in stay else shifted(name) for name in levels}


def _common_cells(first: Exposure, second: Exposure) -> int:
    return sum(int(np.count_nonzero(first.usable[a] & second.usable[b])) for _, a, b in common_window(first, second))


def _step(survey: CellSurvey, cells: Flags, first: Exposure, second: Exposure) -> Step | None:
    windows = list(common_window(first, second))
    if not windows:
        return None
    whole, a, b = windows[0]
    used = cells[whole] & first.usable[a] & second.usable[b]
    if np.count_nonzero(used) < FEWEST_OVERLAP_CELLS:
        return None
    difference = (first.mean[a] - second.mean[b])[used]
    variance = (first.variance[a] + second.variance[b])[used]
    brightness = np.minimum(first.mean[a], second.mean[b])[used]
    near = brightness < np.median(brightness) + BRIGHT_SIGMA * np.sqrt(np.median(variance))
    near &= _unclipped(difference, variance, near)
    if np.count_nonzero(near) < FEWEST_OVERLAP_CELLS:
        return None
    difference, variance, blocks = difference[near], variance[near], survey.blocks[whole][used][near]
    # One weight for all cells: errors from the data themselves would favour the fainter draws.
    value, error = float(np.mean(difference)), _block_error(difference, variance, blocks)
    pixels = min(int(first.pixels[a][used][near].sum()), int(second.pixels[b][used][near].sum()))
    smaller = min(int(first.usable.sum()), int(second.usable.sum()))
    # What is masked within the overlap does not make it narrower.
    shared = int(np.count_nonzero(first.usable[a] & second.usable[b]))
    middles = _middle(first, a, used, near), _middle(second, b, used, near)
    return Step(first.name, second.name, value, error, pixels, shared / smaller, middles)


def _middle(exposure: Exposure, window: Window, used: Flags, near: Flags) -> Position:
    x, y = (float(np.mean(position[window][used][near])) for position in exposure.from_middle)
    return x, y


def _unclipped(difference: Floats, variance: Floats, kept: Flags) -> Flags:
    centre = 0.0
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
