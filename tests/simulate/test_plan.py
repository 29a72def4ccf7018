"""What a synthetic survey observes."""

from datetime import datetime, timedelta

import numpy as np
import pytest

from cosmosaic.nircam import BLOCKING_FILTERS
from cosmosaic.simulate.geometry import nominal_view, sky_to_pixel
from cosmosaic.simulate.plan import exposure_duration_s, plan_exposures
from cosmosaic.survey import FilterPair, Pointing, SimulationSettings


def test_the_demo_is_eighteen_exposures_of_three_dithers_in_four_filters() -> None:
    frames = plan_exposures(SimulationSettings())
    assert len(frames) == 18
    assert len({frame.name for frame in frames}) == 18
    assert frames[0].name == "jw01727001001_02101_00001_nrcb1"
    assert {(frame.detector, frame.filter) for frame in frames} == {
        ("NRCB1", "F115W"),
        ("NRCB2", "F115W"),
        ("NRCBLONG", "F277W"),
        ("NRCB1", "F150W"),
        ("NRCB2", "F150W"),
        ("NRCBLONG", "F444W"),
    }


def test_the_middle_of_each_detector_is_seen_by_every_dither() -> None:
    frames = [frame for frame in plan_exposures(SimulationSettings()) if frame.filter == "F277W"]
    for frame in frames:
        x, y = sky_to_pixel(frame, nominal_view(frame), frame.ra, frame.dec)
        assert 0 < x < 639
        assert 0 < y < 639


def test_equal_settings_give_equal_plans_and_another_seed_another() -> None:
    assert plan_exposures(SimulationSettings(seed=7)) == plan_exposures(SimulationSettings(seed=7))
    first, second = (plan_exposures(SimulationSettings(seed=seed))[0] for seed in (7, 8))
    assert first.seed != second.seed
    assert first.ra_error_mas != second.ra_error_mas


def test_an_exposure_is_the_same_whatever_else_is_observed() -> None:
    few = plan_exposures(SimulationSettings(detectors=("NRCB2",)))
    many = {frame.name: frame for frame in plan_exposures(SimulationSettings())}
    assert all(many[frame.name] == frame for frame in few)


def test_detectors_of_an_exposure_share_attitude_error_and_start() -> None:
    frames = plan_exposures(SimulationSettings())
    shared = {(f.v2, f.v3, f.ra, f.dec, f.roll, f.ra_error_mas, f.dec_error_mas, f.start) for f in frames}
    assert len(shared) == 6
    assert len({frame.seed for frame in frames}) == 18


def test_pointing_errors_have_the_rms_that_was_asked_for() -> None:
    settings = SimulationSettings(
        detectors=("NRCBLONG",), dithers_arcsec=tuple((0.0, 0.01 * i) for i in range(300)), pointing_error_mas=5.0
    )
    errors = [(frame.ra_error_mas, frame.dec_error_mas) for frame in plan_exposures(settings)]
    assert np.std(errors, axis=0) == pytest.approx([5.0, 5.0], rel=0.15)


def test_exposures_follow_one_another() -> None:
    settings = SimulationSettings(detectors=("NRCB1",))
    starts = [datetime.fromisoformat(frame.start) for frame in plan_exposures(settings)]
    gaps = np.diff(starts)
    assert min(gaps) > timedelta(seconds=exposure_duration_s(settings))


def test_both_modules_are_pointed_between_them() -> None:
    settings = SimulationSettings(subarray="FULL", detectors=("NRCALONG", "NRCBLONG"), dithers_arcsec=((0.0, 0.0),))
    frame = plan_exposures(settings)[0]
    assert (frame.v2, frame.v3) == pytest.approx((-1.957302, -492.89529))


def test_every_pointing_is_an_observation() -> None:
    settings = SimulationSettings(pointings=(Pointing(ra=1, dec=2), Pointing(ra=3, dec=4)))
    frames = plan_exposures(settings)
    assert len({frame.name for frame in frames}) == 36
    assert {(frame.observation, frame.ra) for frame in frames} == {("001", 1.0), ("002", 3.0)}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"detectors": ("NRCB1", "NRCB1")}, "twice"),
        ({"detectors": ("NRCA1", "NRCB1")}, "SUB640 exists only on module B.*NRCA1"),
        ({"filter_pairs": (FilterPair(short="F277W", long="F444W"),)}, "short filter F277W.*F115W"),
        ({"filter_pairs": (FilterPair(short="F115W", long="F164N"),)}, "long filter F164N.*F444W"),
        ({"pointings": (Pointing(ra=1, dec=1),) * 1000}, "1000 pointings"),
    ],
)
def test_impossible_plans_are_refused_with_the_reason(changes: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        plan_exposures(SimulationSettings(**changes))


@pytest.mark.parametrize("band", BLOCKING_FILTERS)
def test_filters_of_the_pupil_wheel_are_observed_through_both_wheels(band: str) -> None:
    short, long = (band, "F444W") if band < "F200W" else ("F115W", band)
    pairs = (FilterPair(short=short, long=long),)
    frames = plan_exposures(SimulationSettings(detectors=("NRCB1", "NRCBLONG"), filter_pairs=pairs))
    (wheels,) = {(frame.filter, frame.pupil) for frame in frames if frame.band == band}
    assert wheels == (BLOCKING_FILTERS[band], band)
