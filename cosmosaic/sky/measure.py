"""The step that measures the sky of one filter, and the table it leaves."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from cosmosaic.cells.cells import read_cells, without_patterns
from cosmosaic.comparison.comparison import choose_method
from cosmosaic.exposures.patterns import Patterns, patterns_text, write_patterns
from cosmosaic.records import Made
from cosmosaic.sky.methods import METHODS, Sky, SkyInputs, bright_cells, find_sources, measure, values_of
from cosmosaic.sky.overlap import tied
from cosmosaic.sky.pedestal import Level
from cosmosaic.sky.solution import (
    CELLS_SUFFIX,
    MASKED_SUFFIX,
    SkyRequest,
    SkySolution,
    SolvedExposure,
    exposure_of_cells,
    solution_table,
)
from cosmosaic.sky.stripes import destripe
from cosmosaic.sky.zero import NO_EMPTY_SKY

log = logging.getLogger(__name__)

AUTO = "auto"
LEVEL_DIGITS = 5
"""Decimals of the levels in MJy/sr, a few ten-thousandths of a pixel's noise."""


def measure_sky(paths: list[Path], request: SkyRequest, stem: str, folder: Path) -> Made:
    """Measure the sky of each exposure of one filter.

    Parameters
    ----------
    paths
        ``_cells.npz`` files of all exposures, and ``_masked.npz`` files of those that a mask of sources reaches; their
        ``_cal`` files, for the methods that look at pixels; for ``user`` the table of levels.
    request
        How, and what is known already.
    stem
        Name of the table without extension.
    folder
        Where the table goes (ECSV; columns ``exposure``, ``level`` and ``error`` in MJy/sr, the error NaN where the
        method gives none, ``kept`` where the level is an earlier solution's, and what to recognise it by), and
        ``<exposure>_patterns.json`` of each exposure that has any.

    Raises
    ------
    cosmosaic.sky.methods.UnknownMethodError
        There is no such method.
    cosmosaic.cells.cells.NoSkyError
        An exposure has no sky to measure.
    """
    cells, masked = ([path for path in paths if path.name.endswith(suffix)] for suffix in (CELLS_SUFFIX, MASKED_SUFFIX))
    exposures = [path for path in paths if path.suffix == ".fits"]
    tables = [path for path in paths if path not in (*cells, *masked, *exposures)]
    measured = {exposure_of_cells(path.name): path for path in (*cells, *masked)}
    survey = read_cells(list(measured.values()), request.grid)
    if masked:
        survey = replace(survey, light=read_cells(cells, request.grid).exposures)
    inputs = SkyInputs(survey, exposures, tables[0] if tables else None, folder.parent, request.zero)
    chosen, sky, scores = _measured(inputs, request)
    patterns = _with_stripes(inputs, sky) if request.slow_stripes else sky.patterns
    texts = {name: patterns_text(nodes) for name, nodes in patterns.items()}
    levels, known = sky.levels, {one.name: one for one in request.kept.exposures} if request.kept else {}
    if request.kept:
        levels = tied(levels, request.kept, inputs.survey)
        texts |= {name: one.patterns for name, one in known.items()}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in measured.items()}
    solution = SkySolution(
        asked=request.asked,
        method=chosen,
        exposures=tuple(
            known.get(name) or _solved(name, level, digests[name], texts.get(name, ""))
            for name, level in levels.items()
        ),
        missing=request.missing,
    )
    table = solution_table(solution, METHODS[chosen].source)
    table.meta["zero"] = sky.zero
    if NO_EMPTY_SKY in sky.zero:
        log.warning(f"{stem}: {sky.zero}")
    if scores:
        table.meta["chosen_for"] = {"score": "rms distance from the levels of the held-out blocks, % of a pixel's rms"}
        table.meta["chosen_for"] |= scores
    path = folder / f"{stem}.ecsv"
    table.write(path, format="ascii.ecsv")
    written = [write_patterns(text, name, folder) for name, text in sorted(texts.items()) if text]
    return Made([path, *written], {one.name: one.level for one in solution.exposures})


def _measured(inputs: SkyInputs, request: SkyRequest) -> tuple[str, Sky, dict[str, float]]:
    """Return the method that is taken, what it finds, and for what it was chosen."""
    if request.method != AUTO:
        return request.method, measure(request.method, inputs), {}
    if request.kept:
        return request.kept.method, measure(request.kept.method, inputs), {}
    return choose_method(inputs)


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
    levels = find_sources(survey).levels
    _, stripes = destripe(survey, values_of(levels), ~bright_cells(survey, levels))
    return {name: [*sky.patterns.get(name, ()), *stripes[name]] for name in survey.names}
