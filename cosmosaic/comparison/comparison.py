"""All sky methods on the same exposures: ranked by the verdict, drawn side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from cosmosaic.cells.survey import CellSurvey, stack, without_patterns
from cosmosaic.cells.units import read_cells
from cosmosaic.records import Lattice
from cosmosaic.sky.measure import Measured, sky_inputs, write_sky
from cosmosaic.sky.methods import Sky, SkyInputs, measure, values_of
from cosmosaic.sky.solution import SkyRequest
from cosmosaic.steps.result import Made
from cosmosaic.verdict.pictures import draw_skies
from cosmosaic.verdict.verdict import Verdict, rank

CANDIDATES = ("overlap", "pedestal", "median")
"""Methods that `choose_method` compares: a level for each detector, without patterns that could remove light."""
DIGITS = 4


def choose_method(inputs: SkyInputs) -> tuple[str, Sky, dict[str, float]]:
    """Measure the sky by several methods and take the one that the verdict ranks first.

    Returns
    -------
    method
        Its name.
    sky
        Its result.
    scores
        Scores of all candidates, see `cosmosaic.verdict.verdict.Verdict.score`.
    """
    skies = _measured(CANDIDATES, inputs)
    ranking = rank(inputs.survey, skies)
    winner = ranking[0][0]
    return winner, skies[winner], {method: round(verdict.score, DIGITS) for method, verdict in ranking}


def _measured(methods: Sequence[str], inputs: SkyInputs) -> dict[str, Sky]:
    """Measure the sky by several methods, and keep none of the masks that each finds."""
    return {method: measure(method, inputs)._replace(found=None) for method in methods}


def choose_sky(
    cells: Mapping[str, Path],
    masked: Mapping[str, Path],
    exposures: Mapping[str, Path],
    levels: Path | None,
    request: SkyRequest,
    stem: str,
    folder: Path,
) -> Made:
    """Measure the sky by the method that the verdict ranks first, or by that of the solution that is kept.

    Parameters as for `cosmosaic.sky.measure.measure_sky`.
    """
    inputs = sky_inputs(cells, masked, exposures, levels, request, folder.parent)
    if request.kept:
        method = request.kept.method
        return write_sky(inputs, Measured(method, measure(method, inputs)), request, stem, folder)
    return write_sky(inputs, Measured(*choose_method(inputs)), request, stem, folder)


def compare_methods(
    cells: Mapping[str, Path],
    exposures: Mapping[str, Path],
    methods: tuple[str, ...],
    grid: Lattice,
    stem: str,
    folder: Path,
) -> Made:
    """Measure the sky of some exposures by all methods and rank these.

    Parameters
    ----------
    cells, exposures
        ``_cells.npz`` and ``_cal`` files of exposures of one filter by name.
    methods
        Keys of `cosmosaic.sky.methods.METHODS`.
    grid
        The lattice that the cells lie on.
    stem
        Name of the products without ending.
    folder
        Gets ``_compare.ecsv``, a row for each method, best first, and ``_compare.png``, their skies at one stretch.
    """
    survey = read_cells(list(cells.values()), grid, folder.parent)
    inputs = SkyInputs(survey, list(exposures.values()), None, folder.parent)
    skies = _measured(methods, inputs)
    ranking = rank(survey, skies)
    table = folder / f"{stem}_compare.ecsv"
    comparison_table(ranking).write(table, format="ascii.ecsv")
    picture = folder / f"{stem}_compare.png"
    draw_skies({method: _sky(survey, skies[method]) for method, _ in ranking}, picture)
    return Made(table=table, picture=picture, facts={method: verdict.score for method, verdict in ranking})


def comparison_table(ranking: list[tuple[str, Verdict]]) -> Table:
    """Write a ranking as a table, best first; metrics in per cent of the rms of one pixel in one exposure."""
    verdicts = [verdict for _, verdict in ranking]
    columns = {
        "method": [method for method, _ in ranking],
        "state": [verdict.state for verdict in verdicts],
        "levels": [round(verdict.score, DIGITS) for verdict in verdicts],
        "levels_error": [round(verdict.score_error, DIGITS) for verdict in verdicts],
        "steps": [round(verdict.steps, DIGITS) for verdict in verdicts],
        "steps_in_errors": [round(verdict.steps_in_errors, DIGITS) for verdict in verdicts],
        "aperture_growth": [round(verdict.growth, DIGITS) for verdict in verdicts],
    }
    for place, metric in enumerate(verdicts[0].metrics):
        columns[metric.name] = [round(verdict.metrics[place].value, DIGITS) for verdict in verdicts]
    columns["message"] = ["; ".join(verdict.reasons) for verdict in verdicts]
    return Table(columns)


def _sky(survey: CellSurvey, sky: Sky) -> NDArray[np.floating]:
    """Residual of a method about its median, because some keep a common offset, which the metric zero measures."""
    brightness = stack(without_patterns(survey, sky.patterns), values_of(sky.levels))
    return 100.0 / survey.pixel_rms * (brightness - np.nanmedian(brightness))
