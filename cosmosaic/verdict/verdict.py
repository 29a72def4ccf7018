"""How flat a sky is: metrics that need no truth, and pass, warn, fail or not measurable with the reason in words.

Levels are scored on blocks of sky that no solution may use (`cosmosaic.cells.cells.CellSurvey.held_out`), else the
method that fits the overlaps would win by construction. Everything is in per cent of the rms of one pixel in one
exposure.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cosmosaic.cells.cells import (
    CELL_PIXELS,
    CellSurvey,
    Exposure,
    cut,
    differences,
    stack,
    sums_on_detector,
    without_patterns,
)
from cosmosaic.geometry.windows import Box, box_of
from cosmosaic.records import STATES, MosaicGrid, State
from cosmosaic.sky.methods import (
    EmptySky,
    Levels,
    Sky,
    bright_cells,
    find_sources,
    honest_pedestals,
    look_for_light,
    values_of,
)
from cosmosaic.sky.overlap import Solution, Step, measure_steps, solve_levels
from cosmosaic.sky.pedestal import pedestals
from cosmosaic.sky.planes import detilt
from cosmosaic.sky.stripes import destripe
from cosmosaic.sky.unseen import shows_empty_sky
from cosmosaic.sky.zero import NO_EMPTY_SKY

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

SIGNIFICANT_SIGMA = 4.0
"""A metric must exceed a limit by this many of its errors: of dozens of metrics none shall do so by chance."""
PASS_SIGMA = 2.0
"""A metric passes only where it lies below its limit of failure by this many of its errors."""
DECISIVE = ("step", "zero")
"""What must have been measured for a sky to pass."""
LIGHT_PART = 0.3
"""By how much of its rms light in empty sky lifts a level, where nothing tells more."""
APERTURE_CELLS = (1, 2, 4, 8)
PATTERN_CELLS = 8
"""Side in cells of the blocks in which light that stays on the detector is looked for: 2 arcsec."""
ROW_PIXELS = 16
HALO_CELLS = (4.0, 8.0, 16.0)
"""Edges in cells of the rings around bright sources."""
LARGEST_SOURCES = 20
LARGE_CELLS = 60
"""Sources of at least this many cells are large: 4 square arcseconds in the short-wavelength channel."""


class Limit(NamedTuple):
    """Above which a metric warns, and above which it fails; per cent of the pixel rms."""

    warn: float
    fail: float


LIMITS = {
    "step": Limit(1.0, 3.0),
    "zero": Limit(1.0, 5.0),
    "rows": Limit(8.0, 15.0),
    "columns": Limit(8.0, 15.0),
    "detector": Limit(3.0, 8.0),
    "halo": Limit(6.0, 10.0),
    "growth": Limit(3.0, 6.0),
}


MEANINGS = {
    "step": "the exposure whose level is farthest off the others, as the blocks of sky say that no solution may use",
    "zero": "how far the level of all exposures together is off the empty sky",
    "rows": "rms of the means of rows, 16 pixels wide, of the worst exposure against the others: 1/f noise",
    "columns": "the same of columns",
    "detector": "rms of the light that stays at one place of a detector whatever the sky: wisps, or a bad flat",
    "halo": "how far the sky around one of the largest sources is too low: over-subtraction",
    "growth": "by how much empty apertures of 8 by 8 cells scatter beyond what sqrt(N) makes of single cells: what is"
    " left of stripes, gradients and steps, and the light of faint sources",
    "rms step": "of all overlaps, without what their errors explain; in errors, 1 is noise alone",
    "rms level": "distance of the levels from those that the held-out blocks give, without what noise explains",
    "scatter": "rms of the means of empty square apertures of so many cells of 8 by 8 pixels on a side",
    "growth / sqrt N": "scatter of the largest over what sqrt(N) makes of the smallest: 1 is white noise",
    "pure noise": "the same exposures with nothing but the noise of their pixels, measured and judged alike",
}
"""What each metric means."""


class Metric(NamedTuple):
    """One measure of flatness, in per cent of the pixel rms."""

    name: str
    value: float
    """NaN where it cannot be told."""
    error: float
    """NaN where it cannot be told."""
    where: str
    """Exposure, detector or source that is worst."""
    state: State
    message: str


class Apertures(NamedTuple):
    """Empty square apertures of one size on the stack."""

    cells: int
    """Side of the apertures."""
    number: int
    bias: float
    """Mean surface brightness in per cent of the pixel rms."""
    scatter: float
    """Rms of the apertures' means in per cent of the pixel rms."""


@dataclass(frozen=True)
class Verdict:
    """All metrics of one set of levels."""

    metrics: tuple[Metric, ...]
    apertures: tuple[Apertures, ...]
    pulls: tuple[float, ...]
    """Step over its error, for every overlap."""
    steps: float
    """Rms step in per cent of the pixel rms, noise subtracted."""
    score: float
    """Rms distance of the levels from those of the held-out blocks, noise subtracted, in per cent of the pixel rms:
    what methods are ranked by."""
    score_error: float

    @property
    def steps_in_errors(self) -> float:
        """Rms over the overlaps of (step / its error); 1 is perfect, NaN is none."""
        return float(np.sqrt(np.mean(np.square(self.pulls)))) if self.pulls else np.nan

    @property
    def state(self) -> State:
        """The worst of the metrics' states; of those that are not measurable, only step and zero count."""
        counting = [
            metric.state for metric in self.metrics if metric.name in DECISIVE or metric.state != "not measurable"
        ]
        return max(counting, key=STATES.index)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What did not pass, and why."""
        return tuple(metric.message for metric in self.metrics if metric.state not in ("pass", "not applicable"))

    @property
    def growth(self) -> float:
        """Scatter of the largest apertures over what sqrt(N) makes of the smallest's."""
        first, last = self.apertures[0], self.apertures[-1]
        return last.scatter / (first.scatter * first.cells / last.cells) if first.scatter else np.nan


@dataclass(frozen=True)
class Judge:
    """What the levels of one set of exposures are judged by; made once, used for every method."""

    survey: CellSurvey
    sources: Flags
    """Cells that hold sources, shape of the lattice."""
    cores: Flags
    """Cells too bright to cancel in differences."""
    levels: Levels
    """First guess of each exposure's level."""
    empty: EmptySky
    """What passes for empty sky."""

    @property
    def reference(self) -> Levels:
        """Levels that the held-out blocks alone give."""
        return self._held_out.solution.levels

    @cached_property
    def shows_sky(self) -> dict[str, bool]:
        """Whether an exposure shows empty sky."""
        return {name: shows_empty_sky(light, self.survey.pixel_rms) for name, light in self.empty.left.items()}

    @cached_property
    def sky(self) -> Flags:
        """Cells that are empty sky, shape of the lattice."""
        sky = ~self.sources
        for exposure in self.survey.exposures:
            if not self.shows_sky[exposure.name]:
                sky[exposure.window] &= ~exposure.usable
        return sky

    @cached_property
    def _held_out(self) -> "_HeldOut":
        guess = honest_pedestals(self.survey, self.empty)
        # Gradients make the means of narrow overlaps differ from their detectors': what is judged by them would share
        # that error.
        destriped, _ = destripe(self.survey, values_of(self.levels), ~self.cores)
        flat, _ = detilt(destriped, guess, ~self.cores & self.survey.held_out)
        mirrored = _Mirrored(flat.grid, flat.exposures)
        steps = measure_steps(mirrored, ~self.cores & self.survey.held_out)
        corrected, plain = honest_pedestals(mirrored, self.empty), pedestals(mirrored, self.empty.deep)
        solution = solve_levels(steps, corrected)
        structure = solution.structure
        steps = [
            step._replace(error=float(np.hypot(step.error, structure * np.sqrt(2 * (1 / step.fraction - 1)))))
            for step in steps
        ]
        return _HeldOut(solution, steps, {name: plain[name].value - corrected[name].value for name in plain})

    @cached_property
    def _residuals(self) -> dict[str, Floats]:
        # Wrong levels of the others would pass for stripes: so whatever is judged, with the levels that are known.
        return _residuals(self.survey, values_of(self.reference), ~self.cores)

    def judge(self, levels: Mapping[str, float]) -> Verdict:
        """Judge a set of levels.

        Parameters
        ----------
        levels
            Level that is taken out of each exposure, MJy/sr.
        """
        unit, held_out = 100.0 / self.survey.pixel_rms, self._held_out
        offsets, errors = self._offsets(levels)
        steps = np.array(
            [unit * (each.difference - levels[each.first] + levels[each.second]) for each in held_out.steps]
        )
        step_errors = np.array([unit * step.error for step in held_out.steps])
        brightness = stack(self.survey, levels)
        apertures = tuple(empty_apertures(unit * brightness, ~self.sky, size) for size in APERTURE_CELLS)
        score, score_error = _rms_without_noise(np.array(list(offsets.values())), np.array(list(errors.values())))
        if held_out.steps:
            alone = (
                _worst_level(offsets, errors),
                self._zero(levels, apertures),
                _worst_stripes("rows", self.survey, self._residuals, unit),
                _worst_stripes("columns", self.survey, self._residuals, unit),
                _own_light(self.survey, self._residuals, unit),
            )
        else:
            nothing = "no two exposures see the same sky"
            step, rows, columns, detector = (
                _unknown(name, "not applicable", nothing) for name in ("step", "rows", "columns", "detector")
            )
            alone = (step, self._zero(levels, apertures), rows, columns, detector)
        return Verdict(
            metrics=(
                *alone,
                _halo(unit * brightness, self.sources, self.sky, apertures[-1]),
                _growth(apertures[0], apertures[-1]),
            ),
            apertures=apertures,
            pulls=tuple((steps / step_errors).tolist()),
            steps=_rms_without_noise(steps, step_errors)[0] if held_out.steps else np.nan,
            score=score,
            score_error=score_error,
        )

    def _offsets(self, levels: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
        """What was taken out of each exposure beyond its level, and the error, in per cent of the pixel rms.

        Of connected exposures that show no empty sky, only the differences are known.
        """
        unit, solution = 100.0 / self.survey.pixel_rms, self._held_out.solution
        offsets: dict[str, float] = {}
        errors: dict[str, float] = {}
        for group, zero in zip(solution.groups, solution.zeros, strict=True):
            known = any(self.shows_sky[name] for name in group)
            own = {name: unit * (levels[name] - solution.levels[name].value) for name in group}
            centre = 0.0 if known else float(np.median(list(own.values())))
            # Steps between sets of exposures are as uncertain as the zeros of these.
            shared = zero if known and len(solution.groups) > 1 else 0.0
            offsets |= {name: value - centre for name, value in own.items()}
            errors |= {name: unit * float(np.hypot(solution.deviations[name], shared)) for name in group}
        # In the order of the exposures.
        return {name: offsets[name] for name in self.survey.names}, {name: errors[name] for name in self.survey.names}

    def _zero(self, levels: Mapping[str, float], apertures: tuple[Apertures, ...]) -> Metric:
        """How far off the empty sky all levels together are."""
        unit, held_out = 100.0 / self.survey.pixel_rms, self._held_out
        known = [
            (group, zero)
            for group, zero in zip(held_out.solution.groups, held_out.solution.zeros, strict=True)
            if any(self.shows_sky[name] for name in group)
        ]
        if not known:
            return _unknown("zero", "not measurable", NO_EMPTY_SKY)
        # Sets of exposures that nothing connects count by what is known of them.
        off = [np.median([levels[name] - self.reference[name].value for name in group]) for group, _ in known]
        weights = np.array([zero for _, zero in known]) ** -2.0
        value, measured = unit * float(np.average(off, weights=weights)), unit * float(np.sum(weights) ** -0.5)
        names = [name for group, _ in known for name in group]
        light = self._light([name for name in names if self.shows_sky[name]])
        error = float(np.hypot(measured, unit * light))
        side = "below" if value > 0 else "above"
        message = (
            f"empty sky lies {abs(value):.1f} +- {error:.1f} % of the pixel rms {side} zero"
            f" (mean of empty apertures {apertures[0].bias:.1f} %)"
        )
        return _metric("zero", abs(value), error, "", message)

    def _light(self, names: list[str]) -> float:
        """By how much the light in what passes for empty sky may have lifted all levels together, MJy/sr."""
        light = [self.empty.left[name] for name in names]
        variance = max(float(np.mean([each.variance for each in light])), 0.0)
        variance += float(np.mean([each.error for each in light])) / np.sqrt(len(light))
        corrected = float(np.mean([self._held_out.corrections[name] for name in names]))
        return max(corrected, LIGHT_PART * float(np.sqrt(variance)))


class _HeldOut(NamedTuple):
    """What the blocks tell that no solution may use."""

    solution: Solution
    steps: list[Step]
    corrections: dict[str, float]
    """What was taken off each pedestal for the light in its sky, MJy/sr."""


def make_judge(survey: CellSurvey) -> Judge:
    """Make the judge of a set of exposures: find its sources."""
    found = find_sources(survey)
    return Judge(survey, found.sources, bright_cells(survey, found.levels), found.levels, found.empty)


def part_of(judge: Judge, window: MosaicGrid) -> Judge:
    """Cut a window of the mosaic out of what is judged; it may hold no exposures."""
    survey = judge.survey
    whole, box = box_of(survey.grid), box_of(window)
    ratio = window.pixel_scale_mas / survey.grid.pixel_scale_mas
    left, bottom = (math.floor(edge * ratio) for edge in (box.x, box.y))
    right, top = (math.ceil(edge * ratio) for edge in (box.x + box.width, box.y + box.height))
    cells = Box(left, bottom, right - left, top - bottom).intersection(whole)
    inside, part = cells.within(whole), cut(survey, cells)
    empty = look_for_light(part, judge.levels, judge.empty.deep[inside], judge.empty.shallow[inside])
    return Judge(part, judge.sources[inside], judge.cores[inside], judge.levels, empty)


def rank(survey: CellSurvey, skies: Mapping[str, Sky]) -> list[tuple[str, Verdict]]:
    """Judge the skies that several methods found, best first; a lower score wins.

    Parameters
    ----------
    survey
        The exposures.
    skies
        Levels and patterns, by method.
    """
    shared = make_judge(survey)
    verdicts = {}
    for name, sky in skies.items():
        judge = replace(shared, survey=without_patterns(survey, sky.patterns)) if sky.patterns else shared
        verdicts[name] = judge.judge(values_of(sky.levels))
    return sorted(verdicts.items(), key=lambda item: item[1].score)


def pure_noise(survey: CellSurvey, seed: int) -> CellSurvey:
    """The same exposures with nothing but the noise of their pixels, for the null test."""
    draw = np.random.default_rng(seed)
    exposures = []
    for exposure in survey.exposures:
        sigma = exposure.pixel_rms / np.sqrt(np.maximum(exposure.pixels, 1))
        noise = np.where(exposure.usable, sigma * draw.standard_normal(sigma.shape), np.nan)
        exposures.append(replace(exposure, mean=noise, variance=np.where(exposure.usable, sigma**2, np.inf)))
    return CellSurvey(survey.grid, tuple(exposures))


def empty_apertures(brightness: Floats, sources: Flags, size: int) -> Apertures:
    """Mean and scatter of square apertures that touch no source and lie side by side.

    Parameters
    ----------
    brightness
        Stack on the lattice, NaN where nothing was observed.
    sources
        Cells that hold sources, same shape.
    size
        Side of the apertures in cells.
    """
    free = np.isfinite(brightness) & ~sources
    ny, nx = (length // size for length in brightness.shape)
    cut = (slice(0, ny * size), slice(0, nx * size))
    number = free[cut].reshape(ny, size, nx, size).sum(axis=(1, 3))
    total = np.where(free, brightness, 0.0)[cut].reshape(ny, size, nx, size).sum(axis=(1, 3))
    # A quarter of an aperture may be missing: in crowded fields no large one is wholly free.
    values = (total / np.maximum(number, 1))[number >= 0.75 * size**2]
    if values.size < 2:
        return Apertures(size, int(values.size), np.nan, np.nan)
    return Apertures(size, int(values.size), float(np.mean(values)), float(np.std(values)))


class _Mirrored(CellSurvey):
    """A survey whose held-out blocks are the ones that count."""

    @cached_property
    def held_out(self) -> Flags:
        return ~CellSurvey(self.grid, self.exposures).held_out


def _residuals(survey: CellSurvey, levels: Mapping[str, float], cells: Flags) -> dict[str, Floats]:
    """Each exposure minus the stack of all others about its median, NaN where it cannot be told."""
    residuals = {}
    for exposure, excess, _, used in differences(survey, levels, cells):
        residual = np.where(used, excess, np.nan)
        residuals[exposure.name] = residual - np.nanmedian(residual) if used.any() else residual
    return residuals


def _rms_without_noise(values: Floats, errors: Floats) -> tuple[float, float]:
    """Rms of what stands behind noisy values, and its error."""
    mean_square = float(np.mean(values**2) - np.mean(errors**2))
    spread = float(np.sqrt(np.mean(2 * errors**4 + 4 * errors**2 * np.maximum(values**2 - errors**2, 0)) / values.size))
    return _root(mean_square, spread)


def _root(mean_square: float, spread: float) -> tuple[float, float]:
    """Root of a mean square that noise may have made negative, and its error."""
    rms = float(np.sqrt(max(mean_square, 0.0)))
    return rms, spread / (2 * max(rms, np.sqrt(spread) / 2, 1e-12))


def _state(name: str, value: float, error: float) -> State:
    limit, surely = LIMITS[name], value - SIGNIFICANT_SIGMA * error
    if value > limit.fail and surely > limit.warn:
        return "fail"
    if value > limit.warn and surely > 0:
        return "warn"
    return "pass" if value + PASS_SIGMA * error < limit.fail else "not measurable"


def _metric(name: str, value: float, error: float, where: str, message: str) -> Metric:
    """Judge a measured value."""
    if not np.isfinite(value + error):
        return _unknown(name, "not measurable", "too little was observed")
    state = _state(name, value, error)
    if state == "not measurable":
        message = f"{value:.1f} +- {error:.1f} % of the pixel rms tells too little ({name} not measurable)"
    return Metric(name, value, error, where, state, message)


def _unknown(name: str, state: State, reason: str) -> Metric:
    return Metric(name, np.nan, np.nan, "", state, f"{reason} ({name} {state})")


def _worst_level(offsets: Mapping[str, float], errors: Mapping[str, float]) -> Metric:
    # Relative to the typical exposure: a zero that is off for all is another metric's.
    centre = float(np.median(list(offsets.values())))

    def of(name: str) -> Metric:
        value, error = offsets[name] - centre, errors[name]
        side = "too much" if value > 0 else "too little"
        message = f"{abs(value):.1f} +- {error:.1f} % of the pixel rms {side} was taken out of {name}"
        return _metric("step", abs(value), error, name, message)

    worst = of(max(offsets, key=lambda name: abs(offsets[name] - centre) / np.hypot(errors[name], 0.2)))
    least_known = of(max(offsets, key=lambda name: abs(offsets[name] - centre) + PASS_SIGMA * errors[name]))
    return worst if worst.state != "pass" else least_known if least_known.state != "pass" else worst


def _worst_stripes(name: str, survey: CellSurvey, residuals: Mapping[str, Floats], unit: float) -> Metric:
    axis = 1 if name == "rows" else 0
    found = {
        exposure.name: _stripe_rms(exposure, unit * residuals[exposure.name], axis) for exposure in survey.exposures
    }
    worst, value, error = _worst_of(found)
    message = f"{worst} has stripes along its {name} of {value:.1f} % of the pixel rms (1/f noise)"
    return _metric(name, value, error, worst, message)


def _worst_of(found: Mapping[str, tuple[float, float]]) -> tuple[str, float, float]:
    """The largest of some values with its name and error; NaN where none is known."""
    known = {name: value for name, (value, error) in found.items() if np.isfinite(value + error)}
    if not known:
        return "", np.nan, np.nan
    worst = max(known, key=lambda name: known[name])
    return worst, *found[worst]


def _stripe_rms(exposure: Exposure, residual: Floats, axis: int) -> tuple[float, float]:
    """Rms of the means of rows (axis 1) or columns (axis 0), 16 pixels wide, without their noise."""
    used = np.isfinite(residual)
    if not used.any():
        return np.nan, np.nan
    # Rows and columns of a detector have the same number of pixels.
    position = (exposure.detector_position[axis][used] + 0.5) * exposure.detector_rows / ROW_PIXELS
    index = np.clip(position, 0, None).astype(int)
    number = np.bincount(index)
    mean = np.bincount(index, residual[used]) / np.maximum(number, 1)
    noise = float(1.4826 * np.median(np.abs(residual[used])))
    enough = number > 0.2 * number.max()
    return _rms_without_noise((mean - np.mean(mean[enough]))[enough], noise / np.sqrt(number[enough]))


def _own_light(survey: CellSurvey, residuals: Mapping[str, Floats], unit: float) -> Metric:
    by_detector = defaultdict(list)
    for exposure in survey.exposures:
        by_detector[exposure.detector].append(exposure)
    found = {detector: _fixed_light(exposures, residuals, unit) for detector, exposures in by_detector.items()}
    worst, value, error = _worst_of(found)
    message = (
        f"{worst} has light of its own of rms {value:.1f} % of the pixel rms at fixed places (wisps, or a bad flat)"
    )
    return _metric("detector", value, error, worst, message)


def _fixed_light(exposures: list[Exposure], residuals: Mapping[str, Floats], unit: float) -> tuple[float, float]:
    """Rms over a detector of the light that all its exposures have at the same places.

    Only products of different exposures are averaged, to which neither noise nor 1/f stripes contribute.
    """
    size = max(1, exposures[0].detector_rows // (PATTERN_CELLS * CELL_PIXELS))
    maps = [_detector_map(exposure, unit * residuals[exposure.name], size) for exposure in exposures]
    products = [
        float(np.nanmean(a * b)) for index, a in enumerate(maps) for b in maps[index + 1 :] if np.isfinite(a * b).any()
    ]
    if not products:
        return np.nan, np.nan
    # Through the stack, of which these exposures are a part, each sees the others' light with the opposite sign.
    value = float(np.mean(products))
    scatter = float(np.std(products) / np.sqrt(len(products))) if len(products) > 1 else abs(value)
    return _root(value, scatter)


def _detector_map(exposure: Exposure, residual: Floats, size: int) -> Floats:
    used = np.isfinite(residual)
    total, number = sums_on_detector(exposure, residual, used, size)
    return np.where(number >= 0.25 * PATTERN_CELLS**2, total / np.maximum(number, 1), np.nan)


def _halo(brightness: Floats, sources: Flags, sky: Flags, largest: Apertures) -> Metric:
    """The deepest hole around one of the largest sources; brightness in per cent of the pixel rms."""
    labels, number = ndimage.label(sources)
    sizes = ndimage.sum_labels(np.ones_like(brightness), labels, np.arange(1, number + 1))
    large = [label + 1 for label in np.argsort(sizes)[::-1][:LARGEST_SOURCES] if sizes[label] >= LARGE_CELLS]
    free = np.isfinite(brightness) & sky
    if not free.any():
        return _unknown("halo", "not measurable", NO_EMPTY_SKY)
    if not large:
        return _unknown("halo", "not applicable", "there is no large source")
    centre = float(np.median(brightness[free]))
    noise = 1.4826 * float(np.median(np.abs(brightness[free] - centre)))
    # Faint sources make the sky rougher on large scales than its pixels' noise.
    noise = float(np.nanmax([noise, largest.scatter * largest.cells]))
    worst, where, error = np.nan, "", np.nan
    for label in large:
        for depth, depth_error in _rings(brightness - centre, labels == label, free, noise):
            if not where or depth - SIGNIFICANT_SIGMA * depth_error > worst - SIGNIFICANT_SIGMA * error:
                worst, error = depth, depth_error
                row, column = ndimage.center_of_mass(labels == label)
                where = f"cell ({column:.0f}, {row:.0f})"
    message = f"the sky around the bright source at {where} is {worst:.1f} +- {error:.1f} % of the pixel rms too low"
    return _metric("halo", np.maximum(worst, 0.0), error, where, message)


def _growth(smallest: Apertures, largest: Apertures) -> Metric:
    """Scatter of large empty apertures that is not the noise of small ones."""
    if not np.isfinite(smallest.scatter * largest.scatter):
        reason = f"no two apertures of {largest.cells} by {largest.cells} cells are empty sky"
        return _unknown("growth", "not measurable", reason)
    white = smallest.scatter * smallest.cells / largest.cells
    value, error = _root(largest.scatter**2 - white**2, largest.scatter**2 * np.sqrt(2.0 / largest.number))
    message = (
        f"empty apertures of {largest.cells} by {largest.cells} cells scatter by {largest.scatter:.1f} % of the pixel"
        f" rms, {largest.scatter / max(white, 1e-9):.1f} times what sqrt(N) makes of single cells"
    )
    return _metric("growth", value, error, "", message)


def _rings(brightness: Floats, source: Flags, free: Flags, noise: float) -> list[tuple[float, float]]:
    """Depth below the sky, and its error, of rings around one source."""
    rows, columns = (np.flatnonzero(source.any(axis=axis)) for axis in (1, 0))
    margin = int(HALO_CELLS[-1]) + 1
    window = tuple(
        slice(max(0, index[0] - margin), min(size, index[-1] + margin + 1))
        for index, size in zip((rows, columns), source.shape, strict=True)
    )
    distance = ndimage.distance_transform_edt(~source[window])
    rings = []
    for inner, outer in pairwise(HALO_CELLS):
        ring = free[window] & (distance > inner) & (distance <= outer)
        if np.count_nonzero(ring) >= 20:
            rings.append((-float(np.mean(brightness[window][ring])), noise / np.sqrt(np.count_nonzero(ring))))
    return rings
