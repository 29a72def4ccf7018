"""The exposures of the null test: few, neighbours, and the same when others are added."""

import numpy as np

from cosmosaic.geometry.sphere import Footprint
from cosmosaic.verdict.steps import NULL_EXPOSURES, null_sample

SIDE = 0.02
"""Degrees."""


def field(columns: int, rows: int) -> dict[str, Footprint]:
    """Exposures side by side, by names in the order of their columns."""
    corners = ((0, 0), (1, 0), (1, 1), (0, 1))
    return {
        f"x{column:03}y{row:03}": tuple((150 + SIDE * (column + x), 2 + SIDE * (row + y)) for x, y in corners)
        for column in range(columns)
        for row in range(rows)
    }


def test_all_exposures_of_a_small_survey_count() -> None:
    assert null_sample(field(5, 4)) == sorted(field(5, 4))


def test_of_a_large_survey_neighbours_count() -> None:
    exposures = field(40, 40)
    chosen = null_sample(exposures)
    assert len(chosen) == NULL_EXPOSURES
    assert chosen[0] == "x000y000"
    away = {name: np.hypot(int(name[1:4]), int(name[5:])) for name in exposures}
    # A degree of right ascension is a thousandth shorter than one of declination.
    assert max(away[name] for name in chosen) < 1.002 * min(away[name] for name in exposures.keys() - chosen)


def test_exposures_that_are_added_elsewhere_change_nothing() -> None:
    assert null_sample(field(60, 40)) == null_sample(field(40, 40))
