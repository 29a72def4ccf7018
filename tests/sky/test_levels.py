"""Levels of detectors: pedestals and overlaps."""

from itertools import combinations

import numpy as np
import pytest
from astropy.stats import mad_std
from support.skies import PIXEL_RMS, make_survey

from cosmosaic.cells.survey import NoSkyError
from cosmosaic.sky.methods import clean, find_sources, solve_overlaps
from cosmosaic.sky.overlap import OverlapStep, connected_groups, measure_steps, solve_levels
from cosmosaic.sky.pedestal import Level, pedestals, plane_of
from cosmosaic.sky.stripes import destripe
from cosmosaic.statistics import gaussian_mode

TRUE = 0.3 + PIXEL_RMS * np.array([0.0, 0.3, -0.2, 0.1, 0.25, -0.3, 0.15, -0.1])


def errors(levels) -> np.ndarray:
    return (np.array([level.value for level in levels.values()]) - TRUE) / PIXEL_RMS


def test_the_mode_of_pure_noise_is_its_mean():
    draw = np.random.default_rng(3)
    found = [gaussian_mode(draw.normal(5.0, 2.0, 4000))[0] for _ in range(40)]
    assert np.mean(found) == pytest.approx(5.0, abs=0.03)
    assert gaussian_mode(draw.normal(5.0, 2.0, 40000))[1] == pytest.approx(2.0, rel=0.03)


def test_a_tail_of_sources_moves_the_mode_less_than_the_median():
    draw = np.random.default_rng(4)
    values = draw.normal(0.0, 1.0, 40000)
    values[:12000] += draw.exponential(6.0, 12000)
    assert abs(gaussian_mode(values)[0]) < 0.15
    assert np.median(values) > 0.3


def test_a_pedestal_on_one_detector_does_not_survive():
    survey = make_survey(TRUE)
    levels = pedestals(survey, find_sources(survey).sources)
    # 7000 cells of 64 pixels: 0.15 % of the pixel rms from noise alone, twice that with the cut bright side.
    assert np.abs(errors(levels)).max() < 0.012


def test_overlaps_beat_pedestals():
    rms = {"pedestal": [], "overlap": []}
    for seed in range(4):
        survey = make_survey(TRUE, seed=seed)
        rms["pedestal"].append(errors(pedestals(survey, find_sources(survey).sources)).std())
        rms["overlap"].append(errors(solve_overlaps(clean(survey)).levels).std())
    assert np.mean(rms["overlap"]) < 0.9 * np.mean(rms["pedestal"])


def test_light_of_its_own_in_one_corner_does_not_tilt_the_solution():
    def glow(number, x, y):
        return 0.1 * PIXEL_RMS * (number == 0) * np.sin(2 * np.pi * y)

    solution = solve_overlaps(clean(make_survey(TRUE, own=glow)))
    # Its exposure is half alone: a plane fitted to what the rest sees of the glow must not be carried on there.
    assert np.abs(errors(solution.levels)).max() < 0.015


def test_planes_do_not_move_the_levels():
    def tilt(number, x, y):
        return 0.1 * PIXEL_RMS * (x * np.cos(number) + y * np.sin(number))

    found = errors(solve_overlaps(clean(make_survey(TRUE, own=tilt))).levels)
    # Taken for level differences of overlaps, they would make up to 3 % of a pixel's noise.
    assert np.abs(found).max() < 0.015


def steps_between(places, slope, noise):
    """Steps that a slope makes which stays on a detector dithered along x to some places."""
    return [
        OverlapStep(
            a, b, slope * (xb - xa), noise, 10**6, 1 - abs(xb - xa), (((xb - xa) / 2, 0.0), ((xa - xb) / 2, 0.0))
        )
        for (a, xa), (b, xb) in combinations(places.items(), 2)
    ]


def test_a_slope_that_stays_on_the_detector_is_no_level_that_grows_with_the_dither():
    slope, places = 0.05 * PIXEL_RMS, dict(zip("abcd", (0.0, 0.25, 0.5, 0.75), strict=True))
    noise = 0.002 * PIXEL_RMS
    steps = steps_between(places, slope, noise)

    def range_of_levels(slopes):
        solution = solve_levels(steps, {name: Level(0.0, noise, slopes) for name in places})
        return np.ptp([level.value for level in solution.levels.values()]) / slope

    # The overlaps agree upon a level that rises from exposure to exposure; the planes of the exposures tell why.
    assert range_of_levels(slopes=(0.0, 0.0)) > 0.6
    assert range_of_levels(slopes=(slope, 0.0)) < 0.1


def test_planes_do_not_lend_trust_to_pedestals_that_disagree():
    slope, places = 0.05 * PIXEL_RMS, dict(zip("abc", (0.0, 0.1, 0.2), strict=True))
    error = 0.003 * PIXEL_RMS
    wrong = dict(zip("abc", (-0.007, 0.013, -0.006), strict=True))
    pedestals = {name: Level(off * PIXEL_RMS, error, (slope, 0.0)) for name, off in wrong.items()}
    solution = solve_levels(steps_between(places, slope, error), pedestals)
    # The overlaps agree with each other as soon as the planes are known; the pedestals scatter by 0.009.
    assert np.std([level.value for level in solution.levels.values()]) < 0.002 * PIXEL_RMS
    assert solution.pedestal_scale > 2


def test_held_out_blocks_do_not_count():
    survey = make_survey(TRUE)
    before = solve_overlaps(clean(survey)).levels
    for exposure in survey.exposures:
        exposure.mean[survey.held_out[exposure.window]] += 0.5 * PIXEL_RMS * np.random.default_rng(1).random()
    sources = np.zeros(survey.grid.shape, dtype=bool)
    assert measure_steps(survey, ~survey.held_out) == measure_steps(make_survey(TRUE), ~survey.held_out)
    assert pedestals(survey, sources) == pedestals(make_survey(TRUE), sources)
    assert before.keys() == set(survey.names)


def test_exposures_that_overlap_with_nothing_keep_their_pedestals():
    survey = make_survey(TRUE)
    levels = find_sources(survey).pedestals
    steps = [step for step in measure_steps(survey, ~survey.held_out) if "exposure3" not in step]
    assert ["exposure3"] in connected_groups(survey.names, steps)
    solution = solve_levels(steps, levels)
    assert solution.levels["exposure3"].value == pytest.approx(levels["exposure3"].value, abs=1e-9)


def test_one_bad_pedestal_loses_against_the_overlaps():
    survey = make_survey(TRUE)
    levels = find_sources(survey).pedestals
    levels["exposure1"] = Level(levels["exposure1"].value + 0.2 * PIXEL_RMS, levels["exposure1"].error)
    solved = solve_levels(measure_steps(survey, ~survey.held_out), levels).levels
    assert abs(errors(solved)[1]) < 0.03


def test_slow_stripes_go_and_levels_stay():
    stripe = 0.1 * PIXEL_RMS

    def drift(number, x, y):
        return stripe * np.sin(2 * np.pi * (3 * y + number / 5))

    survey = make_survey(TRUE, own=drift, galaxies=0)
    cleaned, _ = destripe(survey, dict(zip(survey.names, TRUE, strict=True)), np.ones(survey.grid.shape, dtype=bool))
    rows = [np.std(exposure.mean.mean(axis=1)) for exposure in cleaned.exposures]
    assert np.mean(rows) < 0.6 * stripe / np.sqrt(2)
    for before, after in zip(survey.exposures, cleaned.exposures, strict=True):
        assert after.mean.mean() == pytest.approx(before.mean.mean(), abs=1e-12)


def test_a_detector_full_of_light_gets_its_level_from_the_overlaps():
    survey = make_survey(TRUE)
    sources = find_sources(survey).sources
    levels = pedestals(survey, sources)
    levels |= {"exposure1": pedestals(survey, np.ones_like(sources))["exposure1"]}
    assert levels["exposure1"].error > 5 * levels["exposure0"].error
    solved = solve_levels(measure_steps(survey, ~survey.held_out), levels).levels
    assert abs(errors(solved)[1]) < 0.02


def test_an_exposure_without_data_is_an_error_that_names_it():
    survey = make_survey(TRUE[:1])
    survey.exposures[0].mean[:] = np.nan
    with pytest.raises(NoSkyError, match="exposure0"):
        pedestals(survey, np.zeros(survey.grid.shape, dtype=bool))


def test_where_there_are_no_planes_the_noise_of_slopes_moves_no_level():
    found = [errors(solve_overlaps(clean(make_survey(TRUE, seed=seed, galaxies=0))).levels) for seed in range(8)]
    # Taken as they are measured, slopes would make it 0.21 % of a pixel's noise.
    assert np.mean([each.std() for each in found]) < 0.0018


def plane_by_lstsq(values, x, y):
    design, kept = np.stack([x, y, np.ones_like(x)], axis=1), np.full(values.shape, True)
    for _ in range(8):
        plane = np.linalg.lstsq(design[kept], values[kept], rcond=None)[0]
        residual = values - design @ plane
        kept = np.abs(residual - np.median(residual[kept])) < 2.5 * mad_std(residual[kept])
    return plane[:2]


@pytest.mark.parametrize("number", [50, 1000, 60_000])
@pytest.mark.parametrize(("width", "height"), [(1.0, 1.0), (1.0, 0.03), (0.03, 0.03), (1.0, 0.0)])
def test_planes_are_those_of_least_squares_without_outliers(number, width, height):
    draw = np.random.default_rng(number)
    x, y = draw.uniform(-0.5, 0.5, (2, number)) * [[width], [height]] + 0.1
    values = 0.3 + 0.02 * x - 0.01 * y + 0.005 * draw.standard_normal(number) + 0.01 * draw.pareto(1.5, number)
    error = 0.005 / np.sqrt(number)
    np.testing.assert_allclose(plane_of(values, x, y), plane_by_lstsq(values, x, y), atol=1e-6 * error)
