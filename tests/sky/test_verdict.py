"""The verdict finds what was left in, and passes pure noise."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from support.skies import GRID, PIXEL_RMS, make_survey

from cosmosaic.cells.survey import CellSurvey, without_patterns
from cosmosaic.sky.methods import Sky, clean, solve_overlaps, values_of
from cosmosaic.sky.pedestal import Level
from cosmosaic.verdict.metrics import Residual, empty_apertures, own_light
from cosmosaic.verdict.pictures import draw_plots
from cosmosaic.verdict.verdict import make_judge, pure_noise, rank

TRUE = 0.3 + PIXEL_RMS * np.array([0.0, 0.3, -0.2, 0.1, 0.25, -0.3, 0.15, -0.1])


def metric(verdict, name):
    return next(metric for metric in verdict.metrics if metric.name == name)


@pytest.fixture(scope="module")
def survey():
    return make_survey(TRUE)


@pytest.fixture(scope="module")
def judge(survey):
    return make_judge(survey)


@pytest.fixture(scope="module")
def levels(survey):
    return values_of(solve_overlaps(clean(survey)).levels)


def test_a_flat_sky_passes(judge, levels):
    assert judge.judge(levels).state == "pass", judge.judge(levels).reasons


@pytest.mark.parametrize(("factor", "side"), [(0.0, "too little"), (2.0, "too much")])
def test_an_exposure_not_subtracted_or_subtracted_twice_is_named(judge, levels, factor, side):
    verdict = judge.judge(levels | {"exposure4": factor * levels["exposure4"]})
    assert verdict.state == "fail"
    assert metric(verdict, "step").where == "exposure4"
    assert side in verdict.reasons[0]


def test_a_step_of_5_percent_is_found(judge, levels):
    verdict = judge.judge(levels | {"exposure2": levels["exposure2"] - 0.05 * PIXEL_RMS})
    assert metric(verdict, "step").state == "fail"
    assert metric(verdict, "step").value == pytest.approx(5, abs=1.5)


def test_a_zero_that_is_off_for_all_is_no_step(judge, levels):
    verdict = judge.judge({name: level + 0.06 * PIXEL_RMS for name, level in levels.items()})
    assert metric(verdict, "step").state == "pass"
    assert metric(verdict, "zero").state == "fail"
    assert "below zero" in metric(verdict, "zero").message


def test_stripes_and_light_of_a_detectors_own_are_told_apart(survey, levels):
    def stripes(number, x, y):
        return 0.4 * PIXEL_RMS * (number == 1) * np.sin(30 * y)

    def wisp(number, x, y):
        return 0.3 * PIXEL_RMS * (number % 2) * np.exp(-(((x - 0.1) / 0.15) ** 2) - ((y + 0.2) / 0.1) ** 2)

    for light, guilty, where in ((stripes, "rows", "exposure1"), (wisp, "detector", "NRCB2")):
        spoilt = make_survey(TRUE, own=light)
        verdict = make_judge(spoilt).judge(levels)
        assert metric(verdict, guilty).state in ("warn", "fail")
        assert metric(verdict, guilty).where == where
    assert metric(verdict, "rows").state == "pass"


def test_a_hole_around_a_galaxy_is_found(survey, levels):
    y, x = np.indices(GRID.shape)
    hole = 0.15 * PIXEL_RMS * (np.hypot(x - 60, y - 60) < 34)
    spoilt = CellSurvey(
        survey.grid,
        tuple(replace(exposure, mean=exposure.mean - hole[exposure.window]) for exposure in survey.exposures),
    )
    assert metric(make_judge(spoilt).judge(levels), "halo").state in ("warn", "fail")


def test_stripes_that_all_share_make_the_scatter_of_apertures_grow(judge, survey, levels):
    y = np.indices(GRID.shape)[0]
    waves = 0.08 * PIXEL_RMS * np.sin(2 * np.pi * y / 40)
    spoilt = CellSurvey(
        survey.grid,
        tuple(replace(exposure, mean=exposure.mean + waves[exposure.window]) for exposure in survey.exposures),
    )
    before, after = metric(judge.judge(levels), "growth"), metric(make_judge(spoilt).judge(levels), "growth")
    assert before.state == "pass"
    assert after.state in ("warn", "fail")
    # Rms of the waves, of which apertures of 8 cells take out a fifteenth.
    assert np.hypot(after.value, -before.value) == pytest.approx(8 / np.sqrt(2), rel=0.2)
    assert "times that expected from single cells by sqrt(N)" in after.message


def test_pure_noise_passes(survey):
    states = []
    for seed in range(8):
        noise = pure_noise(survey, seed)
        states.append(make_judge(noise).judge(values_of(solve_overlaps(clean(noise)).levels)).state)
    assert states.count("pass") >= 7


def test_methods_are_ranked_by_what_they_leave(survey, levels):
    worse = {name: level + 0.02 * PIXEL_RMS * (-1) ** i for i, (name, level) in enumerate(levels.items())}
    worst = dict.fromkeys(levels, 0.3)
    skies = {"worse": worse, "worst": worst, "best": levels}
    ranking = rank(
        survey,
        {name: Sky({key: Level(value, 0.0) for key, value in found.items()}) for name, found in skies.items()},
    )
    assert [name for name, _ in ranking] == ["best", "worse", "worst"]


def test_scatter_of_apertures_in_white_noise_falls_with_their_side():
    noise = np.random.default_rng(2).standard_normal((512, 512))
    small, large = (empty_apertures(noise, np.zeros(noise.shape, dtype=bool), size) for size in (1, 8))
    assert large.scatter == pytest.approx(small.scatter / 8, rel=0.05)
    assert abs(large.bias) < 0.01


def test_a_verdict_without_empty_apertures_is_drawn(judge, levels, tmp_path):
    verdict = judge.judge(levels)
    crowded = replace(verdict, apertures=tuple(each._replace(scatter=np.nan) for each in verdict.apertures))
    for name, shown in (("open", verdict), ("crowded", crowded)):
        draw_plots({"before": shown, "after": shown}, tmp_path / f"{name}.png")
    assert (tmp_path / "open.png").read_bytes() != (tmp_path / "crowded.png").read_bytes()


@pytest.mark.parametrize("seed", range(6))
def test_what_one_over_f_noise_leaves_along_rows_is_no_step(seed):
    """Bands of rows of 128 pixels that are off by 3 % of the pixel rms: held-out blocks see them as the others do."""

    def bands(number, x, y):
        drift = np.random.default_rng([seed, number]).normal(0, 0.03 * PIXEL_RMS, 6)
        return (drift - drift.mean())[np.clip((6 * (y + 0.5)).astype(int), 0, 5)]

    survey = make_survey(TRUE, seed=seed, own=bands)
    step = metric(make_judge(survey).judge(dict(zip(survey.names, TRUE, strict=True))), "step")
    assert step.state == "pass"


@pytest.mark.parametrize("number", [2, 3, 70, 150])
def test_light_at_fixed_places_is_the_mean_product_of_all_pairs(number):
    draw = np.random.default_rng(number)
    maps = 0.5 * np.eye(4) + draw.normal(0.0, 1.0, (number, 4, 4))
    maps[draw.random(maps.shape) < 0.3] = np.nan
    maps[0, 2:], maps[1, :2] = np.nan, np.nan
    pairs = [a * b for a, b in combinations(maps, 2) if np.isfinite(a * b).any()]
    products = np.array([np.nanmean(pair) for pair in pairs])
    nothing = (np.nan, np.nan)
    found = own_light(Residual(str(place), "NRCB1", nothing, nothing, light) for place, light in enumerate(maps))
    if number == 2:
        assert not pairs
        assert np.isnan(found.value)
        return
    square, error = products.mean(), products.std() / np.sqrt(len(products)) if len(pairs) > 1 else abs(products.mean())
    rms = np.sqrt(max(square, 0.0))
    assert found.value == pytest.approx(rms, rel=1e-9, abs=1e-9)
    assert found.error == pytest.approx(error / (2 * max(rms, np.sqrt(error) / 2)), rel=1e-9)


def test_a_judge_measures_pedestals_that_it_is_not_given(survey, judge, levels):
    assert judge.pedestals
    assert replace(judge, pedestals=None).judge(levels) == judge.judge(levels)
    planes = {name: [np.array([[-0.05, 0.0], [0.0, 0.05]]) * PIXEL_RMS] for name in survey.names}
    ((_, ranked),) = rank(survey, {"planes": Sky({name: Level(level, 0.0) for name, level in levels.items()}, planes)})
    alone = replace(judge, survey=without_patterns(survey, planes), pedestals=None)
    assert ranked == alone.judge(levels)
