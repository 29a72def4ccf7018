"""The verdict on a sky: its metrics together, before and after, and a ranking of skies by them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosmosaic.cells.survey import (
    FOLDS,
    CellExposure,
    CellSurvey,
    Difference,
    changed,
    cut,
    differences,
    stack,
    without_patterns,
)
from cosmosaic.geometry.windows import Box, box_of
from cosmosaic.records import STATES, MosaicGrid, State
from cosmosaic.sky.methods import (
    EmptySky,
    Found,
    Levels,
    Sky,
    bright_cells,
    corrected_pedestals,
    find_sources,
    honest_pedestals,
    look_for_light,
    values_of,
)
from cosmosaic.sky.overlap import OverlapStep, Solution, measure_steps, solve_levels
from cosmosaic.sky.pedestal import pedestals
from cosmosaic.sky.planes import detilt
from cosmosaic.sky.stripes import destripe
from cosmosaic.sky.unseen import shows_empty_sky
from cosmosaic.sky.zero import NO_EMPTY_SKY
from cosmosaic.verdict.metrics import (
    APERTURE_CELLS,
    DECISIVE,
    LIGHT_PART,
    Apertures,
    Flags,
    Floats,
    Metric,
    Residual,
    empty_apertures,
    growth,
    halo,
    judged_metric,
    own_light,
    residual_of,
    rms_without_noise,
    unknown_metric,
    worst_level,
    worst_stripes,
)

LARGEST_EXCESS_SIGMA = 4.5
"""Cells in which an exposure differs from the others by more do not count: a source that varies, or moved."""


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
    """Rms distance of the levels from those of the held-out blocks, noise subtracted, in per cent of the pixel rms,
    by which methods are ranked."""
    score_error: float

    @property
    def steps_in_errors(self) -> float:
        """Rms over the overlaps of (step / its error); 1 is perfect, NaN is none."""
        return float(np.sqrt(np.mean(np.square(self.pulls)))) if self.pulls else np.nan

    @property
    def state(self) -> State:
        """The worst of the metrics' states; of the metrics that are not measurable, only step and zero count."""
        counting = [
            metric.state for metric in self.metrics if metric.name in DECISIVE or metric.state != "not measurable"
        ]
        return max(counting, key=STATES.index)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Messages of the metrics that did not pass."""
        return tuple(metric.message for metric in self.metrics if metric.state not in ("pass", "not applicable"))

    @property
    def growth(self) -> float:
        """Scatter of the largest apertures over that expected from the smallest by sqrt(N)."""
        first, last = self.apertures[0], self.apertures[-1]
        return last.scatter / (first.scatter * first.cells / last.cells) if first.scatter else np.nan


@dataclass(frozen=True)
class Judge:
    """Judge of the levels of one set of exposures; made once, used for every method."""

    survey: CellSurvey
    sources: Flags
    """Cells that hold sources, shape of the lattice."""
    cores: Flags
    """Cells too bright to cancel in differences."""
    levels: Levels
    """First guess of each exposure's level."""
    empty: EmptySky
    """Apparently empty sky."""
    pedestals: Levels | None = None
    """Levels outside of the sources; measured when they are needed, if they are not known."""

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
        guess = self.pedestals or honest_pedestals(self.survey, self.empty)
        # Gradients make the means of narrow overlaps differ from their detectors': levels judged by them would share
        # that error.
        destriped, _ = destripe(self.survey, values_of(self.levels), ~self.cores)
        flat, _ = detilt(destriped, guess, ~self.cores & self.survey.held_out)
        mirrored = _Mirrored(flat.grid, flat.exposures)
        steps = measure_steps(mirrored, ~self.cores & self.survey.held_out)
        plain = pedestals(mirrored, self.empty.deep)
        corrected = corrected_pedestals(mirrored, self.empty, plain)
        solution = solve_levels(steps, corrected)
        structure = solution.structure
        steps = [
            step._replace(error=float(np.hypot(step.error, structure * np.sqrt(2 * (1 / step.fraction - 1)))))
            for step in steps
        ]
        return _HeldOut(solution, steps, {name: plain[name].value - corrected[name].value for name in plain})

    @cached_property
    def _unlikeness(self) -> float:
        """Rms by which the held-out blocks of an exposure differ from its others beyond noise, MJy/sr.

        Residual stripes and wisps are not the same in both, and would pass for a wrong level. The scatter of all parts
        tells it, of which the held-out blocks are one.
        """
        scatters = [
            _scatter_of_parts(each, self.survey.folds(each.exposure.window))
            for each in differences(self.survey, values_of(self.levels), ~self.cores)
        ]
        known = np.array([pair for pair in scatters if np.isfinite(sum(pair))])
        if not known.size:
            return 0.0
        excess, spread = known.T
        # Few exposures cannot tell it from nothing: what may hide below their noise counts as well.
        hidden = math.sqrt(float(np.mean(spread**2)) / len(known))
        part = max(float(np.mean(excess)), 0.0) + hidden
        return math.sqrt(part * (1 + 1 / (FOLDS - 1)))

    @cached_property
    def _residuals(self) -> list[Residual]:
        # Wrong levels of the others would pass for stripes: so whatever is judged, with the levels that are known.
        unit, levels = 100.0 / self.survey.pixel_rms, values_of(self.reference)
        # The first exposure of a detector tells the blocks of all.
        rows = {outline.detector: outline.detector_rows for outline in reversed(self.survey.outlines)}
        return [
            residual_of(each.exposure, unit * _residual(each), rows[each.exposure.detector])
            for each in differences(self.survey, levels, ~self.cores)
        ]

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
        brightness *= unit
        apertures = tuple(empty_apertures(brightness, ~self.sky, size) for size in APERTURE_CELLS)
        score, score_error = rms_without_noise(np.array(list(offsets.values())), np.array(list(errors.values())))
        if held_out.steps:
            alone = (
                worst_level(offsets, errors),
                self._zero(levels, apertures),
                worst_stripes("rows", self._residuals),
                worst_stripes("columns", self._residuals),
                own_light(self._residuals),
            )
        else:
            nothing = "no two exposures see the same sky"
            step, rows, columns, detector = (
                unknown_metric(name, "not applicable", nothing) for name in ("step", "rows", "columns", "detector")
            )
            alone = (step, self._zero(levels, apertures), rows, columns, detector)
        return Verdict(
            metrics=(
                *alone,
                halo(brightness, self.sources, self.sky, apertures[-1]),
                growth(apertures[0], apertures[-1]),
            ),
            apertures=apertures,
            pulls=tuple((steps / step_errors).tolist()),
            steps=rms_without_noise(steps, step_errors)[0] if held_out.steps else np.nan,
            score=score,
            score_error=score_error,
        )

    def _offsets(self, levels: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
        """Offset of each subtracted level from its reference, and the error, in per cent of the pixel rms.

        Only the differences of connected exposures without empty sky are known.
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
            common = np.hypot(shared, self._unlikeness)
            errors |= {name: unit * float(np.hypot(solution.deviations[name], common)) for name in group}
        # In the order of the exposures.
        return {name: offsets[name] for name in self.survey.names}, {name: errors[name] for name in self.survey.names}

    def _zero(self, levels: Mapping[str, float], apertures: tuple[Apertures, ...]) -> Metric:
        """Offset of all levels together from the empty sky."""
        unit, held_out = 100.0 / self.survey.pixel_rms, self._held_out
        known = [
            (group, zero)
            for group, zero in zip(held_out.solution.groups, held_out.solution.zeros, strict=True)
            if any(self.shows_sky[name] for name in group)
        ]
        if not known:
            return unknown_metric("zero", "not measurable", NO_EMPTY_SKY)
        # Unconnected sets of exposures count with their own accuracy.
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
        return judged_metric("zero", abs(value), error, "", message)

    def _light(self, names: list[str]) -> float:
        """Possible offset of all levels together by light in apparently empty sky, MJy/sr."""
        light = [self.empty.left[name] for name in names]
        variance = max(float(np.mean([each.variance for each in light])), 0.0)
        variance += float(np.mean([each.error for each in light])) / np.sqrt(len(light))
        corrected = float(np.mean([self._held_out.corrections[name] for name in names]))
        return max(corrected, LIGHT_PART * float(np.sqrt(variance)))


class _HeldOut(NamedTuple):
    """Solution from the held-out blocks, which no method may use."""

    solution: Solution
    steps: list[OverlapStep]
    corrections: dict[str, float]
    """Correction of each pedestal for the light in its sky, MJy/sr."""


def make_judge(survey: CellSurvey) -> Judge:
    """Make the judge of a set of exposures: find its sources."""
    return judge_knowing(survey, find_sources(survey))


def judge_knowing(survey: CellSurvey, found: Found) -> Judge:
    """Make the judge of a set of exposures in which sources were searched."""
    return Judge(survey, found.sources, bright_cells(survey, found.levels), found.levels, found.empty, found.pedestals)


def part_of(judge: Judge, window: MosaicGrid) -> Judge:
    """Restrict a judge to a window of the mosaic, which may hold no exposures."""
    survey = judge.survey
    whole, (rows, columns) = box_of(survey.grid), window.shape
    ratio = window.pixel_scale_mas / survey.grid.pixel_scale_mas
    x, y = (-(value + 0.5) for value in window.crpix)
    left, bottom = (math.floor(edge * ratio) for edge in (x, y))
    right, top = (math.ceil(edge * ratio) for edge in (x + columns, y + rows))
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
        judge = shared
        if sky.patterns:
            judge = replace(shared, survey=without_patterns(survey, sky.patterns), pedestals=None)
        verdicts[name] = judge.judge(values_of(sky.levels))
    return sorted(verdicts.items(), key=lambda item: item[1].score)


def pure_noise(survey: CellSurvey, seed: int) -> CellSurvey:
    """The same exposures with nothing but the noise of their pixels, for the null test."""
    draw = np.random.default_rng(seed)

    def noise_of(exposure: CellExposure) -> dict[str, Floats]:
        sigma = exposure.pixel_rms / np.sqrt(np.maximum(exposure.pixels, 1))
        noise = np.where(exposure.usable, sigma * draw.standard_normal(sigma.shape), np.nan)
        return {"mean": noise, "variance": np.where(exposure.usable, sigma**2, np.inf)}

    return CellSurvey(survey.grid, changed(survey.exposures, noise_of))


class _Mirrored(CellSurvey):
    """A survey whose held-out blocks are the ones that count."""

    @cached_property
    def held_out(self) -> Flags:
        return ~CellSurvey(self.grid, self.exposures).held_out


def _scatter_of_parts(difference: Difference, folds: NDArray[np.int8]) -> tuple[float, float]:
    """Return the variance of the parts' means of one exposure beyond their noise, and its error; NaN if unknown."""
    used = difference.used & (np.abs(difference.excess) < LARGEST_EXCESS_SIGMA * difference.noise)
    parts = [used & (folds == number) for number in range(FOLDS)]
    if not all(part.any() for part in parts):
        return np.nan, np.nan
    means = [np.mean(difference.excess[part]) for part in parts]
    noise = np.mean([np.sum(difference.noise[part] ** 2) / np.count_nonzero(part) ** 2 for part in parts])
    return float(np.var(means, ddof=1) - noise), float(noise * np.sqrt(2 / (FOLDS - 1)))


def _residual(difference: Difference) -> Floats:
    """An exposure minus the stack of all others about its median, NaN where it is unknown."""
    residual = np.where(difference.used, difference.excess, np.nan)
    return residual - np.nanmedian(residual) if difference.used.any() else residual
