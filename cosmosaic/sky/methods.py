"""The registry of sky methods: every one takes the exposures of one filter to a level for each of them."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from jwst import datamodels

from cosmosaic.cells.cells import CellSurvey, Flags, stack
from cosmosaic.exposures.library import exposure_name
from cosmosaic.exposures.patterns import Patterns
from cosmosaic.sky.detector_median import clipped_median
from cosmosaic.sky.overlap import Solution, measure_steps, solve_levels
from cosmosaic.sky.pedestal import Level, pedestals
from cosmosaic.sky.planes import detilt
from cosmosaic.sky.skymatch import measure_with_skymatch
from cosmosaic.sky.stripes import destripe
from cosmosaic.sky.surface import mosaic_surface
from cosmosaic.source_light import CELL_TIERS, source_mask

Levels = dict[str, Level]

MASK_PASSES = 2
"""Stacks made to find sources in: the second is free of the steps that the first guess of the levels left."""
CORE_SIGMA = 5.0
"""Cells brighter than this, in units of one cell's noise in one exposure, do not cancel in differences."""
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
    files: Mapping[str, Path] = {}
    """The file of each exposure's cells."""


class Sky(NamedTuple):
    """The sky of the exposures of one filter."""

    levels: Levels
    patterns: Patterns = {}  # noqa: RUF012
    """What varies over an exposure, where the method is for more than constants."""


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
    cosmosaic.cells.cells.NoSkyError
        An exposure has no sky to measure.
    """
    if method not in METHODS:
        raise UnknownMethodError(f"sky.method {method!r} is none of {', '.join(METHODS)}")
    return METHODS[method].measure(inputs)


def find_sources(survey: CellSurvey) -> tuple[Flags, Levels]:
    """Find the cells that hold sources, in the stack of all exposures, and the levels that the stack was made with.

    Returns
    -------
    sources
        Shape of the lattice.
    levels
        Pedestals outside of the sources.
    """
    levels = pedestals(survey, np.zeros(survey.grid.shape, dtype=bool))
    sources = np.zeros(survey.grid.shape, dtype=bool)
    for _ in range(MASK_PASSES):
        sources = source_mask(stack(survey.with_light, values_of(levels)), CELL_TIERS)
        levels = pedestals(survey, sources)
    return sources, levels


class Cleaned(NamedTuple):
    """Exposures without what makes the mean of an overlap differ from that of its detector."""

    survey: CellSurvey
    sources: Flags
    cells: Flags
    """Cells that a solution may use, shape of the lattice."""


def clean(survey: CellSurvey) -> Cleaned:
    """Take slow stripes and planes out of exposures; their mean levels stay."""
    sources, levels = find_sources(survey)
    cells = ~bright_cells(survey, levels) & ~survey.held_out
    # Stripes first: what runs along rows alone is none of a plane's, which would carry it on where nothing overlaps.
    destriped, _ = destripe(survey, values_of(levels), cells)
    flat, _ = detilt(destriped, levels, cells)
    return Cleaned(flat, sources, cells)


def solve_overlaps(cleaned: Cleaned) -> Solution:
    """Combine pedestals and overlaps."""
    return solve_levels(measure_steps(cleaned.survey, cleaned.cells), pedestals(cleaned.survey, cleaned.sources))


def bright_cells(survey: CellSurvey, levels: Levels) -> Flags:
    """Cells whose light does not cancel in differences, shape of the lattice."""
    noise = np.median([np.median(np.sqrt(exposure.variance[exposure.usable])) for exposure in survey.exposures])
    return stack(survey, values_of(levels)) > CORE_SIGMA * noise


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
    return Sky(find_sources(inputs.survey)[1])


def _overlap(inputs: SkyInputs) -> Sky:
    return Sky(solve_overlaps(clean(inputs.survey)).levels)


def _overlap_planes(inputs: SkyInputs) -> Sky:
    cleaned = clean(inputs.survey)
    levels = solve_overlaps(cleaned).levels
    _, planes = detilt(inputs.survey, levels, cleaned.cells)
    return Sky(levels, planes)


def _surface(inputs: SkyInputs) -> Sky:
    cleaned = clean(inputs.survey)
    levels = solve_overlaps(cleaned).levels
    shifts, patterns = mosaic_surface(inputs.survey, values_of(levels), cleaned.sources)
    raised = {name: Level(level.value + shifts[name], level.error) for name, level in levels.items()}
    return Sky(raised, patterns)


def _user(inputs: SkyInputs) -> Sky:
    path = inputs.table
    if path is None:
        raise ValueError("sky.method 'user' needs a table: name it in sky.levels")
    table = Table.read(path, format="ascii.csv" if path.suffix == ".csv" else "ascii.ecsv")
    if not {"exposure", "level"} <= set(table.colnames):
        raise ValueError(f"{path.name}: columns {table.colnames}; a table of levels has exposure and level in MJy/sr")
    known = {str(row["exposure"]): float(row["level"]) for row in table}
    missing = [name for name in inputs.survey.names if not np.isfinite(known.get(name, np.nan))]
    if missing:
        raise ValueError(f"{path.name}: no level for {', '.join(missing)}; add a row for each exposure")
    return Sky({name: Level(known[name], 0.0) for name in inputs.survey.names})


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
