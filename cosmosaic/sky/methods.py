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
"""Error of a mode while sources are looked for, in units of the pixel rms: overlaps alone tell the steps, whatever
fills the exposures."""
DEPTHS = (1.5, 4.0)
"""Thresholds of the masks that pedestals are measured outside of, in units of the sources': at the sources' own, what
is left is chosen by its noise, and too faint."""
CORE_SIGMA = 5.0
"""Cells brighter than all around them by this, in units of one cell's noise in one exposure, do not cancel in
differences."""
AROUND_CELLS = 8
"""Side of the boxes whose means tell what is around a cell: 2 arcsec in the short-wavelength channel."""
LEAST_ERROR = 0.0003
"""Of a level that overlaps tell, in units of the pixel rms."""
SKYMATCH_METHODS = ("local", "global", "match", "global+match")
PER_DETECTOR = "-per-detector"


class SkyInputs(NamedTuple):
    """What the exposures of one filter can be measured on."""

    survey: CellSurvey
    exposures: list[Path]
    """Their ``_cal`` files, for the methods that look at pixels (`cosmosaic.survey.PixelMethod`)."""
    table: Path | None
    """Levels that the user gives."""
    scratch: Path
    """Folder for temporary files."""
    zero: SkyZero = "faintest"
    """What sets the absolute level where there is no empty sky."""
    files: Mapping[str, Path] = {}
    """The file of each exposure's cells."""


class Sky(NamedTuple):
    """The sky of the exposures of one filter."""

    levels: Levels
    patterns: Patterns = {}  # noqa: RUF012
    """What varies over an exposure, where the method is for more than constants."""
    zero: str = ""
    """What is taken for zero, where the method knows of empty sky."""


class Method(NamedTuple):
    """One way to find the sky of each exposure."""

    measure: Callable[[SkyInputs], Sky]
    source: str
    """Where the method is described."""


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
        raise UnknownMethodError(f"sky.method {method!r} is none of {', '.join(METHODS)}")
    return METHODS[method].measure(inputs)


class EmptySky(NamedTuple):
    """What passes for empty sky, and what light is left in it."""

    deep: Flags
    """Cells that hold sources or noise that passes for them, shape of the lattice."""
    shallow: Flags
    """The same of brighter sources."""
    left: Mapping[str, Unseen]
    """Light of each exposure outside of the deep mask."""
    more: Mapping[str, Unseen]
    """Light of each exposure outside of the shallow mask."""


class Found(NamedTuple):
    """What a first look at the exposures of one filter tells."""

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
    deep, shallow = pedestals(survey, empty.deep), pedestals(survey, empty.shallow)
    return {
        name: allow_for(level, shallow[name], empty.left[name], empty.more[name], survey.pixel_rms)
        for name, level in deep.items()
    }


class Cleaned(NamedTuple):
    """Exposures without what makes the mean of an overlap differ from that of its detector."""

    survey: CellSurvey
    sources: Flags
    cells: Flags
    """Cells that a solution may use, shape of the lattice."""
    empty: EmptySky
    """As it was found before: what stripes and planes are shared out to other exposures is none of the sky's light."""


def clean(survey: CellSurvey) -> Cleaned:
    """Take slow stripes and planes out of exposures; their mean levels stay."""
    found = find_sources(survey)
    cells = ~bright_cells(survey.with_light, found.levels) & ~survey.held_out
    # Stripes first: what runs along rows alone is none of a plane's, which would carry it on where nothing overlaps.
    destriped, _ = destripe(survey, values_of(found.levels), cells)
    flat, _ = detilt(destriped, found.pedestals, cells)
    return Cleaned(flat, found.sources, cells, found.empty)


def solve_overlaps(cleaned: Cleaned) -> Solution:
    """Combine pedestals and overlaps.

    A mask of sources is for pedestals. In differences sources cancel, and what a mask hides of an overlap is missed:
    rows differ by more than their errors where 1/f noise is left in them.
    """
    steps = measure_steps(cleaned.survey.with_light, cleaned.cells)
    return solve_levels(steps, honest_pedestals(cleaned.survey, cleaned.empty))


def bright_cells(survey: CellSurvey, levels: Levels) -> Flags:
    """Cells whose light does not cancel in differences, shape of the lattice: brighter than all around them.

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
    # What is not known of the zero is no freedom of single exposures to lie higher, and to slope for it.
    floor = LEAST_ERROR * inputs.survey.pixel_rms
    held = {name: Level(level.value, max(solution.deviations[name], floor)) for name, level in solution.levels.items()}
    _, planes = detilt(inputs.survey, held, cleaned.cells)
    return _with_zero(inputs, cleaned, solution)._replace(patterns=planes)


def _surface(inputs: SkyInputs) -> Sky:
    cleaned = clean(inputs.survey)
    sky = _with_zero(inputs, cleaned, solve_overlaps(cleaned))
    if NO_EMPTY_SKY in sky.zero:
        # A background is what is left between sources; here it would be the light itself.
        return sky
    shifts, patterns = mosaic_surface(inputs.survey, values_of(sky.levels), cleaned.sources)
    raised = {name: Level(level.value + shifts[name], level.error) for name, level in sky.levels.items()}
    return Sky(raised, patterns, sky.zero)


def _with_zero(inputs: SkyInputs, cleaned: Cleaned, solution: Solution) -> Sky:
    pixel_rms = inputs.survey.pixel_rms
    empty = {name: not is_full_of_light(unseen, pixel_rms) for name, unseen in cleaned.empty.left.items()}
    table = _table_of(inputs.table) if inputs.zero == "table" else {}
    levels, message = set_zero(inputs.survey, solution, empty, inputs.zero, table)
    return Sky(levels, zero=message)


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
        There is no table, or it is none of levels.
    """
    if path is None:
        raise ValueError("sky.method 'user' and sky.zero 'table' need a table of levels: name it in sky.levels")
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
