"""Skies that light fills: overlaps tell the steps, nothing tells the zero, and the verdict says so."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from support.skies import GRID, PIXEL_RMS, make_survey

from cosmosaic.cells.survey import CellSurvey, stack
from cosmosaic.sky.methods import SkyInputs, bright_cells, find_sources, measure, values_of
from cosmosaic.sky.pedestal import Level
from cosmosaic.sky.unseen import Unseen, allow_for, shows_empty_sky, unseen_light
from cosmosaic.sky.zero import EMPTY_SKY, NO_EMPTY_SKY
from cosmosaic.verdict.verdict import make_judge

TRUE = 0.3 + PIXEL_RMS * np.array([0.0, 0.3, -0.2, 0.1, 0.25, -0.3, 0.15, -0.1])
Y, X = np.indices(GRID.shape)
NEBULA = 2.5 + np.sin(X / 23 + 1) * np.cos(Y / 31) + 0.6 * np.sin((X + 2 * Y) / 9) + 0.15 * np.sin((2 * X - Y) / 5)
GALAXY = 3.0 * np.exp(-np.hypot(X - 140, Y - 140) / 14)


def sky_of(survey, tmp_path, **settings):
    return measure("overlap", SkyInputs(survey, [], None, tmp_path)._replace(**settings))


def errors(sky) -> np.ndarray:
    return (np.array([level.value for level in sky.levels.values()]) - TRUE) / PIXEL_RMS


@pytest.fixture(scope="module")
def nebula():
    return make_survey(TRUE, light=NEBULA)


@pytest.fixture(scope="module")
def galaxy():
    return make_survey(TRUE, light=GALAXY)


@pytest.fixture(scope="module")
def nebula_sky(nebula, tmp_path_factory):
    return sky_of(nebula, tmp_path_factory.mktemp("nebula"))


def test_a_nebula_is_recovered_without_steps(nebula, nebula_sky):
    assert np.std(errors(nebula_sky)) < 0.01
    found = stack(nebula, values_of(nebula_sky.levels))
    seen = np.isfinite(found) & ~make_judge(make_survey(TRUE)).sources
    assert np.polyfit(NEBULA[seen], found[seen], 1)[0] == pytest.approx(1, abs=0.02)


def test_planes_and_stripes_of_the_nebula_are_the_skys(nebula, tmp_path):
    planes = measure("overlap-planes", SkyInputs(nebula, [], None, tmp_path)).patterns
    # It differs by more than the pixel rms, fifty times over, from side to side of one exposure.
    assert max(np.abs(nodes).max() for (nodes,) in planes.values()) < 0.02 * PIXEL_RMS


def test_a_nebula_cancels_in_differences_and_stars_in_it_do_not():
    star = 2.0 * np.exp(-np.hypot(X - 60, Y - 60))
    survey = make_survey(TRUE, galaxies=0, light=2.0 * np.sin(X / 23 + 1) * np.cos(Y / 31) + star)
    bright = bright_cells(survey, find_sources(survey).levels)
    assert bright[60, 60]
    assert bright.mean() < 0.3


def test_a_galaxy_that_fills_some_exposures_leaves_no_steps_and_its_zero(galaxy, tmp_path):
    found = sky_of(galaxy, tmp_path)
    assert np.std(errors(found)) < 0.01
    assert abs(np.mean(errors(found))) < 0.03
    assert found.zero == EMPTY_SKY


def test_without_empty_sky_the_faintest_place_is_zero_and_it_is_said(nebula, nebula_sky):
    assert NO_EMPTY_SKY in nebula_sky.zero
    brightness = stack(nebula, values_of(nebula_sky.levels))
    assert np.nanpercentile(brightness, 1) == pytest.approx(0, abs=2 * PIXEL_RMS)
    # What was taken out beyond the levels is what the faintest place has, and no more.
    assert np.mean(errors(nebula_sky)) * PIXEL_RMS == pytest.approx(np.percentile(NEBULA, 1), abs=2 * PIXEL_RMS)


def test_zero_is_set_as_asked_and_steps_stay(nebula, nebula_sky, tmp_path):
    table = tmp_path / "levels.csv"
    table.write_text(f"exposure,level\nexposure3,{TRUE[3]}\n")
    by_table = sky_of(nebula, tmp_path, zero="table", table=table)
    by_modes = sky_of(nebula, tmp_path, zero="pedestal")
    assert np.abs(errors(by_table)).max() < 0.01
    assert np.mean(errors(by_modes)) * PIXEL_RMS == pytest.approx(np.median(NEBULA), abs=1.0)
    for other in (by_table, by_modes):
        assert np.ptp(errors(other) - errors(nebula_sky)) < 1e-9


def test_a_table_sets_the_zero_of_empty_sky_too(tmp_path):
    table = tmp_path / "levels.csv"
    table.write_text(f"exposure,level\nexposure3,{TRUE[3] + PIXEL_RMS}\n")
    found = errors(sky_of(make_survey(TRUE), tmp_path, zero="table", table=table))
    assert np.mean(found) == pytest.approx(1, abs=0.02)


def test_what_exposures_have_in_common_is_the_skys_light_whatever_their_noise():
    light = 0.04 * PIXEL_RMS * np.random.default_rng(1).standard_normal(GRID.shape)
    levels = dict(zip((f"exposure{number}" for number in range(8)), TRUE, strict=True))
    nothing = np.zeros(GRID.shape, dtype=bool)

    def mean_rms(**changes):
        found = unseen_light(make_survey(TRUE, galaxies=0, **changes), levels, nothing)
        return np.sqrt(np.mean([each.variance for each in found.values()])) / PIXEL_RMS

    assert mean_rms(light=light) == pytest.approx(0.04, abs=0.01)
    assert mean_rms(light=light, noise=2.0) == pytest.approx(0.04, abs=0.02)

    def own(number, x, y):
        return 0.2 * PIXEL_RMS * np.sin(2 * np.pi * (3 * y + number / 8))

    nothing_in_common = unseen_light(make_survey(TRUE, galaxies=0, own=own), levels, nothing)
    assert all(shows_empty_sky(each, PIXEL_RMS) for each in nothing_in_common.values())


def test_a_pedestal_is_corrected_by_what_a_shallower_mask_tells():
    left, more = (Unseen((rms * PIXEL_RMS) ** 2, 0.0, 0.0) for rms in (0.03, 0.06))
    level, higher = Level(0.3, 1e-5), Level(0.3 + 0.01 * PIXEL_RMS, 1e-5)
    corrected = allow_for(level, higher, left, more, PIXEL_RMS)
    assert 0.008 < (0.3 - corrected.value) / PIXEL_RMS < 0.014
    assert corrected.error > 0.3 * (0.3 - corrected.value)
    # Where light is everywhere a mode tells next to nothing, and a slope is the sky's.
    lost = allow_for(level, higher, left._replace(variance=PIXEL_RMS**2), more, PIXEL_RMS)
    assert lost.error > 0.9 * PIXEL_RMS < lost.slope_errors[0]
    assert allow_for(level, higher, left._replace(slope=PIXEL_RMS), more, PIXEL_RMS).error > 0.2 * PIXEL_RMS
    # Noise that is not significant corrects nothing.
    assert allow_for(level, higher, left._replace(error=PIXEL_RMS**2), more, PIXEL_RMS) == level


@pytest.mark.parametrize("seed", [1, 2])
def test_the_zero_of_a_crowded_sky_is_known_as_well_as_is_said(seed):
    draw = np.random.default_rng(seed)
    points = np.where(draw.uniform(size=GRID.shape) < 0.15, draw.pareto(0.8, GRID.shape), 0.0).clip(0, 300)
    light = 0.1 * PIXEL_RMS * ndimage.gaussian_filter(points, 1.0)
    # Hardly a cell is empty: fainter than a hundredth of the pixel rms.
    assert np.mean(light < 0.01 * PIXEL_RMS) < 0.3
    survey = make_survey(TRUE, galaxies=0, light=light)
    found = find_sources(survey)
    levels = values_of(found.levels)
    off = np.mean(np.array(list(levels.values())) - TRUE) / PIXEL_RMS
    zero = next(metric for metric in make_judge(survey).judge(levels).metrics if metric.name == "zero")
    assert 100 * abs(off) < 2 * zero.error


def test_the_verdict_on_a_nebula_blames_nothing_and_does_not_pass(nebula, nebula_sky):
    verdict = make_judge(nebula).judge(values_of(nebula_sky.levels))
    states = {metric.name: metric.state for metric in verdict.metrics}
    assert states == dict.fromkeys(("step", "rows", "columns", "detector"), "pass") | dict.fromkeys(
        ("zero", "halo", "growth"), "not measurable"
    )
    assert verdict.state == "not measurable"
    assert any(NO_EMPTY_SKY in reason for reason in verdict.reasons)


def test_a_step_in_a_nebula_is_found_by_overlaps_alone(nebula, nebula_sky):
    levels = values_of(nebula_sky.levels)
    verdict = make_judge(nebula).judge(levels | {"exposure2": levels["exposure2"] + 0.05 * PIXEL_RMS})
    step = next(metric for metric in verdict.metrics if metric.name == "step")
    assert (step.state, step.where) == ("fail", "exposure2")
    assert verdict.state == "fail"
    # Wrong levels are steps, and no stripes.
    assert next(metric.state for metric in verdict.metrics if metric.name == "rows") == "pass"


def test_steps_do_not_apply_to_an_exposure_that_stands_alone():
    whole = make_survey(TRUE)
    alone = CellSurvey(whole.grid, whole.exposures[:1])
    verdict = make_judge(alone).judge({"exposure0": TRUE[0]})
    states = {metric.name: metric.state for metric in verdict.metrics}
    assert {states[name] for name in ("step", "rows", "columns", "detector")} == {"not applicable"}
    assert verdict.state == "pass" == states["zero"]


def test_an_exposure_without_pixels_of_empty_sky_is_not_judged_by_its_mode():
    whole = make_survey(TRUE[:1], light=NEBULA)
    verdict = make_judge(replace(whole, exposures=whole.exposures)).judge({"exposure0": float(np.median(NEBULA))})
    assert verdict.state == "not measurable"
