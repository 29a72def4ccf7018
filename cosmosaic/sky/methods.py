"""The registry of sky methods: every one takes the exposures of one filter to a level for each of them."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from jwst import datamodels

from cosmosaic.cells.survey import CellSurvey, Flags, stack
from cosmosaic.exposures.library import exposure_name
from cosmosaic.exposures.patterns import Patterns
from cosmosaic.sky.detector_median import clipped_median
from cosmosaic.sky.overlap import Solution, measure_steps, solve_levels
from cosmosaic.sky.pedestal import Level, pedestals
from cosmosaic.sky.planes import detilt
from cosmosaic.sky.skymatch import measure_with_skymatch
from cosmosaic.sky.stripes import destripe
from cosmosaic.sky.surface import mosaic_surface
from cosmosaic.sky.unseen import Unseen, allow_for, is_full_of_light, unseen_light
from cosmosaic.sky.zero import ANCHORS, NO_EMPTY_SKY, set_zero
from cosmosaic.source_light import CELL_TIERS, smooth_background, source_mask
from cosmosaic.survey import SkyZero

Levels = dict[str, Level]

MASK_PASSES = 2
"""Stacks made to find sources in: the second is free of the steps that the first guess of the levels left."""
WEAK_PEDESTAL = 10.0
"""Error of a mode during the search for sources, in units of the pixel rms: steps are measured from overlaps alone,
whatever fills the exposures."""
DEPTHS = (1.5, 4.0)
"""Thresholds of the masks for pedestals, in units of that for sources: with the sources' own, the remaining cells are
selected by their noise, and too faint."""
CORE_SIGMA = 5.0
"""Cells brighter than all around them by this, in units of one cell's noise in one exposure, do not cancel in
differences."""
AROUND_CELLS = 8
"""Side of the boxes whose means are the surroundings of a cell: 2 arcsec in the short-wavelength channel."""
LEAST_ERROR = 0.0003
"""Smallest error of a level from overlaps, in units of the pixel rms."""
SKYMATCH_METHODS = ("local", "global", "match", "global+match")
PER_DETECTOR = "-per-detector"


class SkyInputs(NamedTuple):
    """Data from which the sky of one filter's exposures is measured."""

    survey: CellSurvey
    exposures: list[Path]
    """Their ``_cal`` files, for methods that need pixels (`cosmosaic.survey.PixelMethod`)."""
    table: Path | None
    """The user's levels."""
    scratch: Path
    """Folder for temporary files."""
    zero: SkyZero = "faintest"
    """Zero point of a field without empty sky."""
    files: Mapping[str, Path] = {}
    """The file of each exposure's cells."""


class Sky(NamedTuple):
    """The sky of the exposures of one filter."""

    levels: Levels
    patterns: Patterns = {}  # noqa: RUF012
    """Variations over an exposure, if the method fits more than constants."""
    zero: str = ""
    """Zero point, if the method searches for empty sky."""
    found: "Found | None" = None
    """First search in the exposures, if the method makes one."""


class Method(NamedTuple):
    """One way to find the sky of each exposure."""

    measure: Callable[[SkyInputs], Sky]
    source: str
    """Reference for the method."""


class UnknownMethodError(ValueError):
    """There is no sky method of that name."""


def measure(method: str, inputs: SkyInputs) -> Sky:
    """Measure the sky of each exposure of one filter.

    Raises
    ------
    UnknownMethodError
        There is no such method.
    cosmosaic.cells.survey.NoSkyError
        An exposure has no sky to measure.
    """
    if method not in METHODS:
        raise UnknownMethodError(f"there is no sky.method {method!r}; choose one of {', '.join(METHODS)}")
    return METHODS[method].measure(inputs)


class EmptySky(NamedTuple):
    """Apparently empty sky, and the residual light in it."""

    deep: Flags
    """Cells with sources, or noise that looks like them, shape of the lattice."""
    shallow: Flags
    """The same for brighter sources."""
    left: Mapping[str, Unseen]
    """Light of each exposure outside of the deep mask."""
    more: Mapping[str, Unseen]
    """Light of each exposure outside of the shallow mask."""


class Found(NamedTuple):
    """Result of the first search in the exposures of one filter."""

    sources: Flags
    """Cells that hold sources, shape of the lattice."""
    levels: Levels
    """First guess of each exposure's level, by overlaps."""
    pedestals: Levels
    """Levels outside of the sources."""
    empty: EmptySky


def find_sources(survey: CellSurvey) -> Found:
    """Find the cells that hold sources, in the stack of all exposures.

    The levels that the stack is made with come from the overlaps: where light fills the field, pedestals follow it, and
    leave steps in the stack that look like sources, stripes and planes.
    """
    steps = measure_steps(survey.with_light, ~survey.held_out)
    sources = np.zeros(survey.grid.shape, dtype=bool)
    for _ in range(MASK_PASSES):
        weak = {
            name: Level(level.value, WEAK_PEDESTAL * survey.pixel_rms)
            for name, level in pedestals(survey, sources).items()
        }
        levels = solve_levels(steps, weak).levels
        brightness = stack(survey.with_light, values_of(levels))
        sources = source_mask(brightness, CELL_TIERS)
    masks = [
        source_mask(brightness, [tier._replace(threshold=depth * tier.threshold) for tier in CELL_TIERS])
        for depth in DEPTHS
    ]
    empty = look_for_light(survey, levels, masks[0], masks[1])
    found = honest_pedestals(survey, empty)
    return Found(sources, solve_levels(steps, found).levels, found, empty)


def look_for_light(survey: CellSurvey, levels: Levels, deep: Flags, shallow: Flags) -> EmptySky:
    """Measure the light that is left outside of a deep and a shallow mask of sources."""
    left, more = (unseen_light(survey, values_of(levels), mask) for mask in (deep, shallow))
    return EmptySky(deep, shallow, left, more)


def honest_pedestals(survey: CellSurvey, empty: EmptySky) -> Levels:
    """Measure pedestals, corrected for the light that is left in their sky, with errors that know of it."""
    return corrected_pedestals(survey, empty, pedestals(survey, empty.deep))


def corrected_pedestals(survey: CellSurvey, empty: EmptySky, deep: Levels) -> Levels:
    """Correct pedestals outside of the deep mask for the light that is left in their sky."""
    shallow = pedestals(survey, empty.shallow)
    return {
        name: allow_for(level, shallow[name], empty.left[name], empty.more[name], survey.pixel_rms)
        for name, level in deep.items()
    }


class Cleaned(NamedTuple):
    """Exposures without the patterns that make the mean of an overlap differ from that of its detector."""

    survey: CellSurvey
    found: Found
    """As found before: light that the corrections of stripes and planes transfer to other exposures is not sky."""
    cells: Flags
    """Cells that a solution may use, shape of the lattice."""


def clean(survey: CellSurvey) -> Cleaned:
    """Find sources, and subtract slow stripes and planes from exposures without changing their mean levels."""
    found = find_sources(survey)
    return without_stripes_and_planes(survey, found, bright_cells(survey.with_light, found.levels))


def without_stripes_and_planes(survey: CellSurvey, found: Found, cores: Flags) -> Cleaned:
    """Subtract slow stripes and planes from exposures without changing their mean levels.

    Parameters
    ----------
    survey
        Exposures on the lattice.
    found
        From `find_sources`.
    cores
        From `bright_cells`.
    """
    cells = ~cores & ~survey.held_out
    # Stripes first: a plane fitted to a stripe along rows would be extrapolated to parts without overlaps.
    destriped, _ = destripe(survey, values_of(found.levels), cells)
    flat, _ = detilt(destriped, found.pedestals, cells)
    return Cleaned(flat, found, cells)


def solve_overlaps(cleaned: Cleaned) -> Solution:
    """Combine pedestals and overlaps.

    A mask of sources is only for pedestals. In differences sources cancel, and masked parts of an overlap would be
    missed: rows with residual 1/f noise differ by more than their errors.
    """
    steps = measure_steps(cleaned.survey.with_light, cleaned.cells)
    return solve_levels(steps, honest_pedestals(cleaned.survey, cleaned.found.empty))


def bright_cells(survey: CellSurvey, levels: Levels) -> Flags:
    """Cells whose light does not cancel in differences, shape of the lattice: brighter than their surroundings.

    Light that varies over some arcseconds cancels, however bright it is.
    """
    noise = np.median([np.median(np.sqrt(exposure.variance[exposure.usable])) for exposure in survey.exposures])
    brightness = stack(survey, values_of(levels))
    around = smooth_background(brightness, ~np.isfinite(brightness), AROUND_CELLS)
    return brightness - around > CORE_SIGMA * noise


def values_of(levels: Levels) -> dict[str, float]:
    """Return the levels without their errors."""
    return {name: level.value for name, level in levels.items()}


def _none(inputs: SkyInputs) -> Sky:
    return Sky({name: Level(0.0, 0.0) for name in inputs.survey.names})


def _skymatch(method: str, per_detector: bool, inputs: SkyInputs) -> Sky:
    levels = measure_with_skymatch(inputs.exposures, method, inputs.scratch, per_detector=per_detector)
    return Sky({name: Level(value, np.nan) for name, value in levels.items()})


def _median(inputs: SkyInputs) -> Sky:
    levels = {}
    for path in inputs.exposures:
        with datamodels.open(path) as model:
            levels[exposure_name(path.name)] = Level(clipped_median(model.data, model.dq), np.nan)
    return Sky(levels)


def _pedestal(inputs: SkyInputs) -> Sky:
    return Sky(pedestals(inputs.survey, find_sources(inputs.survey).sources))


def _overlap(inputs: SkyInputs) -> Sky:
    cleaned = clean(inputs.survey)
    return _with_zero(inputs, cleaned, solve_overlaps(cleaned))


def _overlap_planes(inputs: SkyInputs) -> Sky:
    cleaned = clean(inputs.survey)
    solution = solve_overlaps(cleaned)
    # The uncertainty of the zero point must not let single exposures move up and slope instead.
    floor = LEAST_ERROR * inputs.survey.pixel_rms
    held = {name: Level(level.value, max(solution.deviations[name], floor)) for name, level in solution.levels.items()}
    _, planes = detilt(inputs.survey, held, cleaned.cells)
    return _with_zero(inputs, cleaned, solution)._replace(patterns=planes)


def _surface(inputs: SkyInputs) -> Sky:
    cleaned = clean(inputs.survey)
    sky = _with_zero(inputs, cleaned, solve_overlaps(cleaned))
    if NO_EMPTY_SKY in sky.zero:
        # A background is the light between sources; here it would be the emission itself.
        return sky
    shifts, patterns = mosaic_surface(inputs.survey, values_of(sky.levels), cleaned.found.sources)
    raised = {name: Level(level.value + shifts[name], level.error) for name, level in sky.levels.items()}
    return Sky(raised, patterns, sky.zero, sky.found)


def _with_zero(inputs: SkyInputs, cleaned: Cleaned, solution: Solution) -> Sky:
    pixel_rms = inputs.survey.pixel_rms
    empty = {name: not is_full_of_light(unseen, pixel_rms) for name, unseen in cleaned.found.empty.left.items()}
    table = _table_of(inputs.table) if inputs.zero == "table" else {}
    levels, message = set_zero(inputs.survey, solution, empty, inputs.zero, table)
    return Sky(levels, zero=message, found=cleaned.found)


def _user(inputs: SkyInputs) -> Sky:
    known = _table_of(inputs.table)
    missing = [name for name in inputs.survey.names if name not in known]
    if inputs.table and missing:
        raise ValueError(f"{inputs.table.name}: no level for {', '.join(missing)}; add a row for each exposure")
    return Sky({name: Level(known[name], 0.0) for name in inputs.survey.names}, zero=ANCHORS["table"])


def _table_of(path: Path | None) -> dict[str, float]:
    """Read a user's levels in MJy/sr, by exposure.

    Raises
    ------
    ValueError
        There is no table, or it is not a table of levels.
    """
    if path is None:
        raise ValueError("sky.method 'user' and sky.zero 'table' need a table of levels; set sky.levels")
    table = Table.read(path, format="ascii.csv" if path.suffix == ".csv" else "ascii.ecsv")
    if not {"exposure", "level"} <= set(table.colnames):
        raise ValueError(f"{path.name}: columns {table.colnames}; a table of levels has exposure and level in MJy/sr")
    levels = {str(row["exposure"]): float(row["level"]) for row in table}
    return {name: level for name, level in levels.items() if np.isfinite(level)}


_SKYMATCH_SOURCE = "jwst.skymatch of the jwst package"

METHODS: dict[str, Method] = {
    "none": Method(_none, "the sky stays in"),
    **{
        name + suffix: Method(partial(_skymatch, name, bool(suffix)), _SKYMATCH_SOURCE)
        for suffix in ("", PER_DETECTOR)
        for name in SKYMATCH_METHODS
    },
    "median": Method(_median, "sigma-clipped median of each detector's pixels"),
    "pedestal": Method(_pedestal, "Bagley et al. 2023, ApJL 946, L12, on means of 8 by 8 pixels"),
    "overlap": Method(_overlap, "least squares of overlaps and pedestals; Delabrouille 1998, A&AS 127, 555"),
    "overlap-planes": Method(_overlap_planes, "as overlap, with a plane for each exposure"),
    "surface": Method(_surface, "as overlap, then the background of the mosaic; Bagley et al. 2023, ApJL 946, L12"),
    "user": Method(_user, "a table of the user's"),
}
"""All methods by name."""
