"""The registry of sky methods: every one takes the exposures of one filter to a level for each of them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from jwst import datamodels

from cosmosaic.exposures import exposure_name
from cosmosaic.sky.cells import CellSurvey, Flags, bin_exposures, stack
from cosmosaic.sky.detector_median import clipped_median
from cosmosaic.sky.masks import CELL_TIERS, source_mask
from cosmosaic.sky.overlap import Solution, measure_steps, solve_levels
from cosmosaic.sky.pedestal import Level, pedestals
from cosmosaic.sky.skymatch import measure_with_skymatch
from cosmosaic.sky.stripes import destripe

Levels = dict[str, Level]

MASK_PASSES = 2
"""Stacks made to find sources in: the second is free of the steps that the first guess of the levels left."""
CORE_SIGMA = 5.0
"""Cells brighter than this, in units of one cell's noise in one exposure, do not cancel in differences."""
SKYMATCH_METHODS = ("local", "global", "match", "global+match")
PER_DETECTOR = "-per-detector"


class Method(NamedTuple):
    """One way to find the sky level of each exposure."""

    measure: Callable[[list[Path], Path], Levels]
    """Takes the files of one filter and a folder for scratch."""
    source: str
    """Where the method is described."""


class UnknownMethodError(ValueError):
    """There is no sky method of that name."""


def measure_levels(paths: list[Path], method: str, scratch: Path) -> Levels:
    """Measure the sky level of each exposure of one filter.

    Parameters
    ----------
    paths
        ``_cal`` files; for ``user`` the table of levels as well.
    method
        A key of `METHODS`.
    scratch
        Folder for temporary files.

    Raises
    ------
    UnknownMethodError
        There is no such method.
    cosmosaic.sky.cells.NoSkyError
        An exposure has no sky to measure.
    """
    if method not in METHODS:
        raise UnknownMethodError(f"sky.method {method!r} is none of {', '.join(METHODS)}")
    return METHODS[method].measure(paths, scratch)


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
        sources = source_mask(stack(survey, values_of(levels)), CELL_TIERS)
        levels = pedestals(survey, sources)
    return sources, levels


def solve_overlaps(survey: CellSurvey) -> Solution:
    """Combine pedestals and overlaps of exposures whose slow stripes were taken out."""
    sources, levels = find_sources(survey)
    cells = ~bright_cells(survey, levels) & ~survey.held_out
    destriped, _ = destripe(survey, values_of(levels), cells)
    levels = pedestals(destriped, sources)
    return solve_levels(measure_steps(destriped, cells), levels)


def bright_cells(survey: CellSurvey, levels: Levels) -> Flags:
    """Cells whose light does not cancel in differences, shape of the lattice."""
    noise = np.median([np.median(np.sqrt(exposure.variance[exposure.usable])) for exposure in survey.exposures])
    return stack(survey, values_of(levels)) > CORE_SIGMA * noise


def values_of(levels: Levels) -> dict[str, float]:
    """Return the levels without their errors."""
    return {name: level.value for name, level in levels.items()}


def _none(paths: list[Path], _scratch: Path) -> Levels:
    return {exposure_name(path.name): Level(0.0, 0.0) for path in paths}


def _skymatch(method: str, per_detector: bool, paths: list[Path], scratch: Path) -> Levels:
    levels = measure_with_skymatch(paths, method, scratch, per_detector=per_detector)
    return {name: Level(value, np.nan) for name, value in levels.items()}


def _median(paths: list[Path], _scratch: Path) -> Levels:
    levels = {}
    for path in paths:
        with datamodels.open(path) as model:
            levels[exposure_name(path.name)] = Level(clipped_median(model.data, model.dq), np.nan)
    return levels


def _pedestal(paths: list[Path], _scratch: Path) -> Levels:
    return find_sources(bin_exposures(paths))[1]


def _overlap(paths: list[Path], _scratch: Path) -> Levels:
    return solve_overlaps(bin_exposures(paths)).levels


def _user(paths: list[Path], _scratch: Path) -> Levels:
    tables = [path for path in paths if path.suffix != ".fits"]
    if len(tables) != 1:
        raise ValueError(f"sky.method 'user' needs one table of levels, {len(tables)} given")
    table = Table.read(tables[0], format="ascii.csv" if tables[0].suffix == ".csv" else "ascii.ecsv")
    if not {"exposure", "level"} <= set(table.colnames):
        raise ValueError(f"{tables[0]}: columns {table.colnames}; a table of levels has exposure and level in MJy/sr")
    known = {str(row["exposure"]): float(row["level"]) for row in table}
    names = [exposure_name(path.name) for path in paths if path.suffix == ".fits"]
    missing = [name for name in names if not np.isfinite(known.get(name, np.nan))]
    if missing:
        raise ValueError(f"{tables[0]}: no level for {', '.join(missing)}; add a row for each exposure")
    return {name: Level(known[name], 0.0) for name in names}


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
    "user": Method(_user, "a table of the user's"),
}
"""All methods by name."""
