"""The step that measures the sky of one filter, and the table it leaves."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cosmosaic.cells.survey import without_patterns
from cosmosaic.cells.units import read_cells
from cosmosaic.exposures.patterns import Patterns, patterns_text, write_exposure_sky
from cosmosaic.sky.methods import METHODS, Sky, SkyInputs, bright_cells, find_sources, measure, values_of
from cosmosaic.sky.overlap import tied
from cosmosaic.sky.pedestal import Level
from cosmosaic.sky.solution import SkyRequest, SkySolution, SolvedExposure, solution_table
from cosmosaic.sky.stripes import destripe
from cosmosaic.sky.zero import NO_EMPTY_SKY
from cosmosaic.steps.result import Made

log = logging.getLogger(__name__)

LEVEL_DIGITS = 5
"""Decimals of the levels in MJy/sr, a few ten-thousandths of a pixel's noise."""


def measure_sky(
    cells: Mapping[str, Path],
    masked: Mapping[str, Path],
    exposures: Mapping[str, Path],
    levels: Path | None,
    request: SkyRequest,
    stem: str,
    folder: Path,
) -> Made:
    """Measure the sky of each exposure of one filter.

    Parameters
    ----------
    cells
        ``_cells.npz`` files by the exposures' names: of all, or of those that are not in the kept part of an earlier
        solution and of those around them.
    masked
        ``_masked.npz`` files of the exposures that a mask of sources reaches.
    exposures
        ``_cal`` files, for methods that need pixels.
    levels
        The user's table of levels, for ``user``.
    request
        Method, and the kept part of an earlier solution.
    stem
        Name of the table without extension.
    folder
        Gets the table (ECSV; columns ``exposure``, ``level`` and ``error`` in MJy/sr, the error NaN if the method
        gives none, ``kept`` if the level is from an earlier solution, and the checksum of the cells), and
        ``<exposure>_sky.json`` of each exposure.

    Raises
    ------
    cosmosaic.sky.methods.UnknownMethodError
        There is no such method.
    cosmosaic.cells.survey.NoSkyError
        An exposure has no sky to measure.
    """
    inputs = sky_inputs(cells, masked, exposures, levels, request, folder.parent)
    return write_sky(inputs, Measured(request.method, measure(request.method, inputs)), request, stem, folder)


class Measured(NamedTuple):
    """The measured sky with its method, and the scores if the method was chosen."""

    method: str
    sky: Sky
    scores: Mapping[str, float] = {}


def sky_inputs(
    cells: Mapping[str, Path],
    masked: Mapping[str, Path],
    exposures: Mapping[str, Path],
    levels: Path | None,
    request: SkyRequest,
    scratch: Path,
) -> SkyInputs:
    """Open the data from which the sky of a filter is measured; parameters as for `measure_sky`."""
    measured = {**cells, **masked}
    survey = read_cells(list(measured.values()), request.grid, scratch)
    if masked:
        survey = replace(survey, light=read_cells(list(cells.values()), request.grid, scratch).exposures)
    return SkyInputs(survey, list(exposures.values()), levels, scratch, request.zero, measured)


def write_sky(inputs: SkyInputs, measured: Measured, request: SkyRequest, stem: str, folder: Path) -> Made:
    """Add slow stripes and the kept part of an earlier solution, and write the sky of each exposure."""
    sky = measured.sky
    patterns = _with_stripes(inputs, sky) if request.slow_stripes else sky.patterns
    texts = {name: patterns_text(nodes) for name, nodes in patterns.items()}
    levels, known = sky.levels, {one.name: one for one in request.kept.exposures} if request.kept else {}
    if request.kept:
        levels = tied(levels, request.kept, inputs.survey)
        texts |= {name: one.patterns for name, one in known.items()}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in inputs.files.items()}
    solution = SkySolution(
        asked=request.asked,
        method=measured.method,
        exposures=tuple(
            known.get(name) or _solved(name, levels[name], digests[name], texts.get(name, ""))
            for name in sorted({*levels, *known})
        ),
        missing=request.missing,
        zero=request.kept.zero if request.kept else sky.zero,
    )
    table = solution_table(solution, METHODS[measured.method].source)
    if NO_EMPTY_SKY in solution.zero:
        log.warning(f"{stem}: {solution.zero}")
    if measured.scores:
        table.meta["chosen_for"] = {"score": "rms distance from the levels of the held-out blocks, % of a pixel's rms"}
        table.meta["chosen_for"] |= dict(measured.scores)
    path = folder / f"{stem}.ecsv"
    table.write(path, format="ascii.ecsv")
    written = {
        one.name: write_exposure_sky(one.level, one.patterns, folder / f"{one.name}_sky.json")
        for one in solution.exposures
    }
    return Made(table=path, exposures=written)


def _solved(name: str, level: Level, digest: str, patterns: str) -> SolvedExposure:
    return SolvedExposure(
        name=name,
        sha256=digest,
        level=round(level.value, LEVEL_DIGITS),
        error=None if np.isnan(level.error) else round(level.error, LEVEL_DIGITS + 1),
        patterns=patterns,
        kept=False,
    )


def _with_stripes(inputs: SkyInputs, sky: Sky) -> Patterns:
    """Add to a method's patterns the slow stripes that are left without them."""
    survey = without_patterns(inputs.survey, sky.patterns)
    found = None if sky.patterns else sky.found
    levels = (found or find_sources(survey)).levels
    _, stripes = destripe(survey, values_of(levels), ~bright_cells(survey, levels))
    return {name: [*sky.patterns.get(name, ()), *stripes[name]] for name in survey.names}
