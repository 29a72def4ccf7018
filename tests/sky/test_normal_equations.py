"""Sparse solutions are those of dense matrices; only exposures that overlap are compared."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.sparse import block_diag, coo_array, csc_array, kron
from support import dense_sky
from support.skies import PIXEL_RMS, make_survey

from cosmosaic.sky import planes
from cosmosaic.sky.methods import WEAK_PEDESTAL, find_sources
from cosmosaic.sky.normal_equations import NormalEquations, Structure
from cosmosaic.sky.overlap import OverlapStep, common_window, measure_steps, solve_levels
from cosmosaic.sky.pedestal import Level

TRUE = 0.3 + PIXEL_RMS * np.array([0.0, 0.3, -0.2, 0.1, 0.25, -0.3, 0.15, -0.1])
TOLERANCE = 1e-6
"""In errors."""


def grid_of_exposures(side, seed):
    """Steps between neighbours on a square, one in thirty wrong, and pedestals."""
    draw = np.random.default_rng(seed)
    places = [(x, y) for x in range(side) for y in range(side)]
    steps = []
    for (a, (xa, ya)), (b, (xb, yb)) in combinations(enumerate(places), 2):
        if max(abs(xa - xb), abs(ya - yb)) == 1:
            fraction = draw.uniform(0.1, 0.6)
            wrong = (draw.random() < 1 / 30) * draw.normal(0, 20e-3)
            middles = tuple(draw.uniform(-0.3, 0.3, (2, 2)).tolist())
            steps.append(OverlapStep(f"e{a}", f"e{b}", draw.normal(0, 1e-3) + wrong, 1e-3, 10**5, fraction, middles))
    levels = draw.normal(0, 5e-3, (len(places), 3))
    errors = draw.uniform(1e-3, 3e-3, len(places))
    return steps, {
        f"e{number}": Level(level, error, tuple(slopes), (2e-3, 1e-3))
        for number, (error, (level, *slopes)) in enumerate(zip(errors, levels, strict=True))
    }


def fields():
    survey = make_survey(TRUE)
    steps, found = measure_steps(survey, ~survey.held_out), find_sources(survey).pedestals
    yield "skies", steps, found
    yield (
        "weak pedestals",
        steps,
        {name: Level(level.value, WEAK_PEDESTAL * PIXEL_RMS) for name, level in found.items()},
    )
    yield (
        "two sets",
        [step for step in steps if len({"exposure3", "exposure1"} & {step.first, step.second}) != 1],
        found,
    )
    yield "no steps", [], found
    for side in (2, 5, 7):
        yield f"{side**2} exposures", *grid_of_exposures(side, seed=side)


@pytest.mark.parametrize(("steps", "pedestals"), [pytest.param(*field, id=name) for name, *field in fields()])
def test_levels_and_errors_are_those_of_dense_matrices(steps, pedestals):
    sparse, dense = solve_levels(steps, pedestals), dense_sky.solve_levels(steps, pedestals)
    assert sparse.groups == dense.groups
    for name, level in dense.levels.items():
        assert sparse.levels[name].value == pytest.approx(level.value, abs=TOLERANCE * level.error)
        assert sparse.levels[name].error == pytest.approx(level.error, rel=TOLERANCE)
        assert sparse.deviations[name] == pytest.approx(dense.deviations[name], rel=TOLERANCE, abs=1e-9)
    assert sparse.zeros == pytest.approx(dense.zeros, rel=TOLERANCE)
    assert sparse.pedestal_scale == pytest.approx(dense.pedestal_scale, rel=TOLERANCE)
    assert sparse.structure == pytest.approx(dense.structure, rel=TOLERANCE, abs=1e-9 * PIXEL_RMS)


@pytest.mark.parametrize("number", [8, 4, 1])
def test_planes_are_those_of_dense_matrices(number, monkeypatch):
    survey = make_survey(TRUE[:number])
    levels, solve, compared = find_sources(survey).pedestals, planes.most_likely, []

    def both(matrix, right, given, spread):
        solution, found = solve(matrix, right, given, spread)
        expected, dense_spread, errors = dense_sky.most_likely_planes(matrix, right, given, spread)
        np.testing.assert_array_less(np.abs(solution - expected), TOLERANCE * errors)
        compared.append(found / dense_spread)
        return solution, found

    monkeypatch.setattr(planes, "most_likely", both)
    planes.detilt(survey, levels, np.ones(survey.grid.shape, dtype=bool))
    assert compared == pytest.approx([1.0] * planes.PASSES, rel=TOLERANCE)


def random_matrix(size, seed):
    draw = np.random.default_rng(seed)
    row, column = draw.integers(0, size, (2, 3 * size))
    half = coo_array((draw.normal(size=3 * size), (row, column)), shape=(size, size))
    return csc_array(half @ half.T + csc_array(np.eye(size)))


def cases():
    yield random_matrix(1, 0)
    yield random_matrix(60, 1)
    # Its factors have zeros that elimination fills in and takes away again.
    yield csc_array(kron(random_matrix(20, 2), np.ones((3, 3)) + np.eye(3)))
    yield csc_array(block_diag([random_matrix(5, 3), random_matrix(9, 4)]))


@pytest.mark.parametrize("matrix", list(cases()), ids=lambda matrix: f"{matrix.shape[0]}")
def test_solution_and_variances_are_those_of_the_inverse(matrix):
    normal, inverse = NormalEquations(matrix, Structure.of(matrix)), np.linalg.inv(matrix.toarray())
    right = np.arange(matrix.shape[0]) - 2.5
    np.testing.assert_allclose(normal.solve(right), inverse @ right, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(normal.variances(), np.diag(inverse), rtol=1e-9)


@pytest.mark.parametrize(("change", "message"), [(0.0, "no solution"), (-1.0, "not positive definite")])
def test_equations_that_do_not_determine_the_unknowns_are_an_error(change, message):
    matrix = csc_array(np.array([[1.0, 1.0], [1.0, 1.0 + change]]))
    with pytest.raises(ValueError, match=message):
        NormalEquations(matrix, Structure.of(matrix))


def test_a_structure_of_another_matrix_is_an_error():
    full = random_matrix(6, 1).toarray() + 20 * np.eye(6) + 0.1
    with pytest.raises(ValueError, match=r"lacks elements|not positive"):
        NormalEquations(csc_array(full), Structure.of(csc_array(np.diag(np.arange(1.0, 7.0))))).variances()


def test_pairs_are_those_with_common_cells():
    survey = make_survey(TRUE)
    moved = tuple(
        replace(exposure, origin=(exposure.origin[0], exposure.origin[1] + 200 * (number % 3 == 0)))
        for number, exposure in enumerate(survey.exposures)
    )
    survey = replace(survey, exposures=moved)
    share = [(a.name, b.name) for a, b in combinations(moved, 2) if list(common_window(a, b))]
    assert 0 < len(share) < len(list(combinations(moved, 2)))
    assert [(a.name, b.name) for a, b in survey.pairs if list(common_window(a, b))] == share
    assert len(replace(survey, exposures=moved[:1]).pairs) == 0
