"""Levels that were found stay when exposures are added, and new ones fit to them."""

import io
from dataclasses import replace

import numpy as np
import pytest
from support.skies import PIXEL_RMS, make_survey

from cosmosaic.cells.survey import CellSurvey
from cosmosaic.sky.methods import clean, solve_overlaps
from cosmosaic.sky.overlap import tied
from cosmosaic.sky.solution import (
    SkyRequest,
    SkySolution,
    SolvedExposure,
    keeping,
    moves,
    read_solution,
    solution_table,
)

TRUE = 0.3 + PIXEL_RMS * np.array([0.0, 0.3, -0.2, 0.1, 0.25, -0.3, 0.15, -0.1])


def text_of(solution: SkySolution) -> str:
    stream = io.StringIO()
    solution_table(solution, "a paper").write(stream, format="ascii.ecsv")
    return stream.getvalue()


def solution(levels: dict[str, float], kept: tuple[str, ...] = (), missing: tuple[str, ...] = ()) -> SkySolution:
    return SkySolution(
        asked="overlap, with slow stripes",
        method="overlap",
        missing=missing,
        exposures=tuple(
            SolvedExposure(
                name=name, sha256=f"cells of {name}", level=level, error=None, patterns="[[1.5]]", kept=name in kept
            )
            for name, level in levels.items()
        ),
    )


def request(survey: CellSurvey | None = None, **changes) -> SkyRequest:
    grid = (survey or make_survey(TRUE)).grid
    return SkyRequest(**{"method": "overlap", "slow_stripes": True, "grid": grid, **changes})


def cells(names: str) -> dict[str, str]:
    return {name: f"cells of {name}" for name in names}


def kept_names(asked: SkyRequest) -> set[str]:
    return {one.name for one in asked.kept.exposures} if asked.kept else set()


def test_new_exposures_are_level_with_those_that_are_kept():
    whole = make_survey(TRUE)
    first = CellSurvey(whole.grid, whole.exposures[:6])
    before = {name: round(level.value, 5) for name, level in solve_overlaps(clean(first)).levels.items()}
    after = tied(solve_overlaps(clean(whole)).levels, solution(before), whole)
    assert {name: after[name].value for name in before} == before
    error = (np.array([level.value for level in after.values()]) - TRUE) / PIXEL_RMS
    # As close to each other as levels that are solved all at once.
    assert np.abs(error - error.mean()).max() < 0.012


def test_new_exposures_follow_the_zero_of_those_they_overlap_with():
    whole = make_survey(TRUE)
    solved = solve_overlaps(clean(whole)).levels
    names = list(solved)
    raised = {name: solved[name].value + 0.07 for name in names[:5]}
    after = tied(solved, solution(raised), whole)
    for name in names[5:]:
        assert after[name].value - solved[name].value == pytest.approx(0.07, abs=1e-12)


def test_an_exposure_that_overlaps_with_none_takes_the_mean_shift():
    whole = make_survey(TRUE)
    solved = solve_overlaps(clean(whole)).levels
    far = whole.exposures[3]
    alone = CellSurvey(whole.grid, (*whole.exposures[:2], replace(far, origin=(5000, 5000))))
    levels = {name: solved[name] for name in alone.names}
    kept = solution({alone.names[0]: levels[alone.names[0]].value + 0.02, alone.names[1]: levels[alone.names[1]].value})
    shift = tied(levels, kept, alone)[far.name].value - levels[far.name].value
    assert shift == pytest.approx(0.01)


def test_what_is_published_is_read_bit_for_bit():
    written = solution({"a": 0.1 + 0.2, "b": -1e-5}, kept=("b",), missing=("c",))
    assert read_solution(text_of(written)) == written


def test_the_same_exposures_are_solved_as_they_were():
    earlier = solution({"a": 0.1, "b": 0.2, "c": 0.3}, kept=("a",))
    assert kept_names(keeping(request(), earlier, cells("abc"))) == {"a"}
    assert keeping(request(), solution({"a": 0.1, "b": 0.2}), cells("ab")).kept is None


def test_what_is_known_stays_when_exposures_come_go_or_are_replaced():
    earlier = solution({"a": 0.1, "b": 0.2, "c": 0.3})
    assert kept_names(keeping(request(), earlier, cells("abcd"))) == {"a", "b", "c"}
    assert kept_names(keeping(request(), earlier, cells("ab"))) == {"a", "b"}
    assert kept_names(keeping(request(), earlier, cells("ab") | {"c": "others"})) == {"a", "b"}


def test_what_was_first_solved_without_an_exposure_is_solved_again_when_it_is_back():
    earlier = solution({"a": 0.1, "b": 0.2, "c": 0.3}, kept=("a",), missing=("d",))
    assert kept_names(keeping(request(), earlier, cells("abce"))) == {"a", "b", "c"}
    assert kept_names(keeping(request(), earlier, cells("abcd"))) == {"a"}
    assert keeping(request(), solution({"a": 0.1}, missing=("d",)), cells("ad")).kept is None


def test_another_method_or_a_users_levels_start_anew():
    earlier = solution({"a": 0.1, "b": 0.2})
    assert keeping(request(slow_stripes=False), earlier, cells("abc")).kept is None
    assert keeping(request(method="pedestal"), earlier, cells("abc")).kept is None
    own = earlier.model_copy(update={"asked": request(method="user").asked})
    assert keeping(request(method="user"), own, cells("abc")).kept is None


def test_moves_of_levels_are_told():
    told = moves(solution({"a": 0.1, "b": 0.2, "gone": 1.0}), solution({"a": 0.1, "b": 0.23, "new": 5.0}))
    assert (told.exposures, told.largest) == (2, pytest.approx(0.03))
    assert told.rms == pytest.approx(0.03 / np.sqrt(2))
