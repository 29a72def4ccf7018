"""The absolute level, which overlaps do not contain, nor exposures of a field that is filled with light."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from astropy.nddata import block_reduce

from cosmosaic.cells.survey import CellSurvey, mean_of
from cosmosaic.sky.overlap import Solution
from cosmosaic.sky.pedestal import Level
from cosmosaic.survey import SkyZero

FAINTEST_PERCENT = 1.0
"""Percentile of the places of a field that counts as its faintest: the very faintest one is noise, or a defect."""
PLACE_CELLS = 4
"""Side of the squares that count as places: 1 arcsec in the short-wavelength channel."""
FULL_PLACE = 0.5
"""A place counts with at least this part of its cells."""
EMPTY_SKY = "empty sky is zero"
NO_EMPTY_SKY = "no empty sky in this field: absolute level unknown"
ANCHORS: dict[SkyZero, str] = {
    "faintest": "the faintest place is taken for zero",
    "pedestal": "the modes of the exposures are taken for zero",
    "table": "zero is that of the table of levels",
}
"""Descriptions of the zero points of fields without empty sky."""


class Zero(NamedTuple):
    """Levels with their zero point, and its description."""

    levels: dict[str, Level]
    message: str


def set_zero(
    survey: CellSurvey, solution: Solution, empty: Mapping[str, bool], asked: SkyZero, table: Mapping[str, float]
) -> Zero:
    """Set the zero point of each set of connected exposures.

    Parameters
    ----------
    survey
        Exposures on the lattice.
    solution
        Their levels, from overlaps and pedestals.
    empty
        Whether an exposure may show empty sky, by name: it is not surely full of light.
    asked
        Choice of the zero point for a set of exposures without empty sky.
    table
        The user's levels in MJy/sr, of some exposures; they count before all else.
    """
    levels = dict(solution.levels)
    messages = []
    for group in solution.groups:
        shift, message = _shift(survey, levels, group, empty, asked, table)
        messages.append(message if len(solution.groups) == 1 else f"{', '.join(group)}: {message}")
        levels |= {name: levels[name]._replace(value=levels[name].value + shift) for name in group}
    if all(message.endswith(EMPTY_SKY) for message in messages):
        return Zero(levels, EMPTY_SKY)
    return Zero(levels, "; ".join(message for message in messages if not message.endswith(EMPTY_SKY)))


def _shift(
    survey: CellSurvey,
    levels: Mapping[str, Level],
    group: list[str],
    empty: Mapping[str, bool],
    asked: SkyZero,
    table: Mapping[str, float],
) -> tuple[float, str]:
    """Shift of the levels of a group, and its reason."""
    known = [table[name] - levels[name].value for name in group if name in table]
    if known:
        return float(np.median(known)), ANCHORS["table"]
    if any(empty[name] for name in group):
        return 0.0, EMPTY_SKY
    message = f"{NO_EMPTY_SKY}, {ANCHORS['pedestal' if asked == 'pedestal' else 'faintest']}"
    return (0.0 if asked == "pedestal" else _faintest(survey, levels, group)), message


def _faintest(survey: CellSurvey, levels: Mapping[str, Level], group: list[str]) -> float:
    """Brightness of the faintest place that a group of exposures sees, MJy/sr."""
    known_levels = {name: levels[name].value for name in group}
    members = (exposure for exposure in survey.exposures if exposure.name in known_levels)
    brightness = mean_of(survey.grid, members, known_levels)
    known = np.isfinite(brightness)
    number = block_reduce(known.astype(float), PLACE_CELLS)
    means = block_reduce(np.where(known, brightness, 0.0), PLACE_CELLS)[number > 0] / number[number > 0]
    return float(np.percentile(means[number[number > 0] >= FULL_PLACE * number.max()], FAINTEST_PERCENT))
