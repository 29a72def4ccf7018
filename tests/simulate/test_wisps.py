"""Wisps of synthetic surveys lie on the detectors that have them, at one place, in changing strength."""

import numpy as np
import pytest

from cosmosaic.simulate.calibrated import simulate_calibrated
from cosmosaic.simulate.geometry import exposure_shape
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.ramps import simulate_ramp
from cosmosaic.simulate.wisps import draw_wisps
from cosmosaic.survey import SimulationSettings

QUIET = SimulationSettings(
    subarray="SUB160",
    detectors=("NRCB1", "NRCB4"),
    flicker_noise=False,
    cosmic_rays_per_s_cm2=0,
    pedestal_rms=0,
    wisp_mjy_sr=10.0,
)


def frames_of(detector: str) -> list:
    return [frame for frame in plan_exposures(QUIET) if frame.detector == detector]


def test_exposures_of_a_detector_share_the_shape_and_not_the_strength() -> None:
    first, second, *_ = (draw_wisps(frame, (160, 160), QUIET) for frame in frames_of("NRCB4"))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9999
    assert abs(first.max() / second.max() - 1) > 0.01
    assert first.max() == pytest.approx(10, rel=0.6)
    assert not draw_wisps(frames_of("NRCB1")[0], (160, 160), QUIET).any()


def test_a_wisp_is_light_in_ramps_and_calibrated_exposures_and_told_in_the_truth() -> None:
    frame = frames_of("NRCB4")[0]
    sky = np.full(exposure_shape(frame), 4.0, dtype=np.float32)
    model, truth = simulate_calibrated(frame, sky, QUIET)
    seen = np.where(model.dq == 0, model.data - sky, np.nan)
    bright, dark = truth.wisps_mjy_sr > 5, truth.wisps_mjy_sr < 0.2
    assert np.nanmean(seen[bright]) == pytest.approx(truth.wisps_mjy_sr[bright].mean(), rel=0.02)
    assert np.nanmean(seen[dark]) == pytest.approx(truth.wisps_mjy_sr[dark].mean(), abs=0.1)
    ramp, told = simulate_ramp(frame, sky, QUIET)
    np.testing.assert_array_equal(told.wisps_mjy_sr, truth.wisps_mjy_sr)
    rise = ramp[-1].astype(float) - ramp[0]
    # Over a sky of 4 MJy/sr a ridge of 10 makes ramps that are some three times steeper.
    assert np.median(rise[bright]) > 2 * np.median(rise[dark])
