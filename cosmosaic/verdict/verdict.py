"""How flat a sky is: figures that need no truth, and pass, look or fail with the reason in words.

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
from cosmosaic.sky.methods import Levels, Sky, bright_cells, find_sources, values_of
from cosmosaic.sky.overlap import Step, measure_steps, solve_levels
from cosmosaic.sky.pedestal import pedestals
from cosmosaic.sky.planes import detilt
from cosmosaic.sky.stripes import destripe

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

SIGNIFICANT_SIGMA = 4.0
"""A figure must exceed its limit by this many of its errors: of dozens of figures none shall do so by chance."""
APERTURE_CELLS = (1, 2, 4, 8)
PATTERN_CELLS = 8
"""Side in cells of the blocks in which light that stays on the detector is looked for: 2 arcsec."""
ROW_PIXELS = 16
HALO_CELLS = (4.0, 8.0, 16.0)
"""Edges in cells of the rings around bright sources."""
LARGEST_SOURCES = 20


class Limit(NamedTuple):
    """From where on a figure wants a look, and from where on it fails; per cent of the pixel rms."""

    look: float
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
"""What each figure means, in words."""


class Figure(NamedTuple):
    """One measure of flatness, in per cent of the pixel rms."""

    name: str
    value: float
    error: float
    where: str
    """Exposure, detector or source that is worst."""
    state: State
    words: str


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
    """All figures of one set of levels."""

    figures: tuple[Figure, ...]
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
        """Rms over the overlaps of (step / its error); 1 is perfect."""
        return float(np.sqrt(np.mean(np.square(self.pulls)))) if self.pulls else 0.0

    @property
    def state(self) -> State:
        """The worst of the figures' states."""
        return max((figure.state for figure in self.figures), key=STATES.index)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it did not pass, in words."""
        return tuple(figure.words for figure in self.figures if figure.state != "pass")

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

    @cached_property
    def reference(self) -> Levels:
        """Levels that the held-out blocks alone give."""
        return self._held_out_solution[0]

    @cached_property
    def steps(self) -> list[Step]:
        """Steps between exposures in the held-out blocks."""
        return self._held_out_solution[1]

    @cached_property
    def _held_out_solution(self) -> tuple[Levels, list[Step]]:
        guess = pedestals(self.survey, self.sources)
        # Gradients make the means of narrow overlaps differ from their detectors': what is judged by them would share
        # that error.
        destriped, _ = destripe(self.survey, values_of(guess), ~self.cores)
        flat, _ = detilt(destriped, guess, ~self.cores & self.survey.held_out)
        mirrored = _Mirrored(flat.grid, flat.exposures)
        steps = measure_steps(mirrored, ~self.cores & self.survey.held_out)
        solution = solve_levels(steps, pedestals(mirrored, self.sources))
        structure = solution.structure
        steps = [
            step._replace(error=float(np.hypot(step.error, structure * np.sqrt(2 * (1 / step.fraction - 1)))))
            for step in steps
        ]
        return solution.levels, steps

    def judge(self, levels: Mapping[str, float]) -> Verdict:
        """Judge a set of levels.

        Parameters
        ----------
        levels
            Level that is taken out of each exposure, MJy/sr.
        """
        unit = 100.0 / self.survey.pixel_rms
        offsets = {name: unit * (levels[name] - level.value) for name, level in self.reference.items()}
        errors = {name: unit * level.error for name, level in self.reference.items()}
        steps = [unit * (step.difference - levels[step.first] + levels[step.second]) for step in self.steps]
        step_errors = [unit * step.error for step in self.steps]
        residuals = _residuals(self.survey, levels, ~self.cores)
        brightness = stack(self.survey, levels)
        apertures = tuple(empty_apertures(unit * brightness, self.sources, size) for size in APERTURE_CELLS)
        score, score_error = _rms_without_noise(np.array(list(offsets.values())), np.array(list(errors.values())))
        figures = (
            _worst_level(offsets, errors),
            _zero(offsets, errors, apertures),
            _stripe_figure("rows", self.survey, residuals, unit),
            _stripe_figure("columns", self.survey, residuals, unit),
            _detector_figure(self.survey, residuals, unit),
            _halo_figure(unit * brightness, self.sources, apertures[-1]),
            _growth_figure(apertures[0], apertures[-1]),
        )
        return Verdict(
            figures=figures,
            apertures=apertures,
            pulls=tuple(step / error for step, error in zip(steps, step_errors, strict=True)),
            steps=_rms_without_noise(np.array(steps), np.array(step_errors))[0] if steps else 0.0,
            score=score,
            score_error=score_error,
        )


def make_judge(survey: CellSurvey) -> Judge:
    """Make the judge of a set of exposures: find its sources."""
    found = find_sources(survey)
    return Judge(survey, found.sources, bright_cells(survey, found.levels))


def part_of(judge: Judge, window: MosaicGrid) -> Judge:
    """Cut a window of the mosaic out of what is judged; it may hold no exposures."""
    survey = judge.survey
    whole, box = box_of(survey.grid), box_of(window)
    ratio = window.pixel_scale_mas / survey.grid.pixel_scale_mas
    left, bottom = (math.floor(edge * ratio) for edge in (box.x, box.y))
    right, top = (math.ceil(edge * ratio) for edge in (box.x + box.width, box.y + box.height))
    cells = Box(left, bottom, right - left, top - bottom).intersection(whole)
    part = cells.within(whole)
    return Judge(cut(survey, cells), judge.sources[part], judge.cores[part])


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
    if value > limit.fail and surely > limit.look:
        return "fail"
    return "look" if value > limit.look and surely > 0 else "pass"


def _worst_level(offsets: Mapping[str, float], errors: Mapping[str, float]) -> Figure:
    # Relative to the typical exposure: a zero that is off for all is another figure's.
    centre = float(np.median(list(offsets.values())))
    name = max(offsets, key=lambda key: abs(offsets[key] - centre) / np.hypot(errors[key], 0.2))
    value, error = offsets[name] - centre, errors[name]
    side = "too much" if value > 0 else "too little"
    words = f"{abs(value):.1f} +- {error:.1f} % of the pixel rms {side} was taken out of {name}"
    return Figure("step", abs(value), error, name, _state("step", abs(value), error), words)


def _zero(offsets: Mapping[str, float], errors: Mapping[str, float], apertures: tuple[Apertures, ...]) -> Figure:
    value = float(np.median(list(offsets.values())))
    error = float(np.median(list(errors.values())))
    words = (
        f"empty sky lies {abs(value):.1f} +- {error:.1f} % of the pixel rms {'below' if value > 0 else 'above'} zero"
        f" (mean of empty apertures {apertures[0].bias:.1f} %)"
    )
    return Figure("zero", abs(value), error, "", _state("zero", abs(value), error), words)


def _stripe_figure(name: str, survey: CellSurvey, residuals: Mapping[str, Floats], unit: float) -> Figure:
    axis = 1 if name == "rows" else 0
    found = {
        exposure.name: _stripe_rms(exposure, unit * residuals[exposure.name], axis) for exposure in survey.exposures
    }
    worst = max(found, key=lambda key: found[key][0])
    value, error = found[worst]
    words = f"{worst} has stripes along its {name} of {value:.1f} % of the pixel rms (1/f noise)"
    return Figure(name, value, error, worst, _state(name, value, error), words)


def _stripe_rms(exposure: Exposure, residual: Floats, axis: int) -> tuple[float, float]:
    """Rms of the means of rows (axis 1) or columns (axis 0), 16 pixels wide, without their noise."""
    used = np.isfinite(residual)
    if not used.any():
        return 0.0, np.inf
    # Rows and columns of a detector have the same number of pixels.
    position = (exposure.detector_position[axis][used] + 0.5) * exposure.detector_rows / ROW_PIXELS
    index = np.clip(position, 0, None).astype(int)
    number = np.bincount(index)
    mean = np.bincount(index, residual[used]) / np.maximum(number, 1)
    noise = float(1.4826 * np.median(np.abs(residual[used])))
    enough = number > 0.2 * number.max()
    return _rms_without_noise((mean - np.mean(mean[enough]))[enough], noise / np.sqrt(number[enough]))


def _detector_figure(survey: CellSurvey, residuals: Mapping[str, Floats], unit: float) -> Figure:
    found = {}
    by_detector = defaultdict(list)
    for exposure in survey.exposures:
        by_detector[exposure.detector].append(exposure)
    for detector, exposures in by_detector.items():
        found[detector] = _fixed_light(exposures, residuals, unit)
    worst = max(found, key=lambda key: found[key][0])
    value, error = found[worst]
    words = f"{worst} has light of its own of rms {value:.1f} % of the pixel rms at fixed places (wisps, or a bad flat)"
    return Figure("detector", value, error, worst, _state("detector", value, error), words)


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
        return 0.0, np.inf
    # Through the stack, of which these exposures are a part, each sees the others' light with the opposite sign.
    value = float(np.mean(products))
    scatter = float(np.std(products) / np.sqrt(len(products))) if len(products) > 1 else abs(value)
    rms = float(np.sqrt(max(value, 0.0)))
    return rms, scatter / (2 * max(rms, 1e-6))


def _detector_map(exposure: Exposure, residual: Floats, size: int) -> Floats:
    used = np.isfinite(residual)
    total, number = sums_on_detector(exposure, residual, used, size)
    return np.where(number >= 0.25 * PATTERN_CELLS**2, total / np.maximum(number, 1), np.nan)


def _halo_figure(brightness: Floats, sources: Flags, largest: Apertures) -> Figure:
    """The deepest hole around one of the largest sources; brightness in per cent of the pixel rms."""
    labels, number = ndimage.label(sources)
    sizes = ndimage.sum_labels(np.ones_like(brightness), labels, np.arange(1, number + 1))
    free = np.isfinite(brightness) & ~sources
    if not free.any() or not number:
        return Figure("halo", 0.0, np.inf, "", "pass", "")
    centre = float(np.median(brightness[free]))
    noise = 1.4826 * float(np.median(np.abs(brightness[free] - centre)))
    # Faint sources make the sky rougher on large scales than its pixels' noise.
    noise = float(np.nanmax([noise, largest.scatter * largest.cells]))
    worst, where, error = 0.0, "", np.inf
    for label in np.argsort(sizes)[::-1][:LARGEST_SOURCES] + 1:
        for depth, depth_error in _rings(brightness - centre, labels == label, free, noise):
            if not where or depth - SIGNIFICANT_SIGMA * depth_error > worst - SIGNIFICANT_SIGMA * error:
                worst, error = depth, depth_error
                row, column = ndimage.center_of_mass(labels == label)
                where = f"cell ({column:.0f}, {row:.0f})"
    words = f"the sky around the bright source at {where} is {worst:.1f} +- {error:.1f} % of the pixel rms too low"
    value = max(worst, 0.0)
    return Figure("halo", value, error, where, _state("halo", value, error), words)


def _growth_figure(smallest: Apertures, largest: Apertures) -> Figure:
    """Scatter of large empty apertures that is not the noise of small ones."""
    if not np.isfinite(smallest.scatter * largest.scatter):
        return Figure("growth", 0.0, np.inf, "", "pass", "")
    white = smallest.scatter * smallest.cells / largest.cells
    value, error = _root(largest.scatter**2 - white**2, largest.scatter**2 * np.sqrt(2.0 / largest.number))
    words = (
        f"empty apertures of {largest.cells} by {largest.cells} cells scatter by {largest.scatter:.1f} % of the pixel"
        f" rms, {largest.scatter / max(white, 1e-9):.1f} times what sqrt(N) makes of single cells"
    )
    return Figure("growth", value, error, "", _state("growth", value, error), words)


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
