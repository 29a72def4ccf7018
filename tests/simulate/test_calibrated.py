"""A calibrated exposure made directly is what the pipelines would make of the ramps."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from jwst import datamodels
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels import ImageModel, dqflags

from cosmosaic.simulate.calibrated import simulate_calibrated, write_calibrated
from cosmosaic.simulate.geometry import exposure_shape, nominal_view, pixel_area_sr, pixel_to_sky, subarray_window
from cosmosaic.simulate.instrument import detector_maps, flux_conversion
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.simulate.ramps import least_squares_slope, linearise, simulate_ramp
from cosmosaic.simulate.truth import ExposureTruth
from cosmosaic.survey import SimulationSettings

SETTINGS = SimulationSettings(subarray="SUB160", detectors=("NRCB1",), level="cal", pedestal_rms=10.0)
SKY_MJY_SR = 100.0


@pytest.fixture(scope="module")
def frame() -> PlannedExposure:
    return plan_exposures(SETTINGS)[0]


def sky_with_star(frame: PlannedExposure) -> NDArray[np.float32]:
    sky = np.full(exposure_shape(frame), SKY_MJY_SR, dtype=np.float32)
    sky[80, 80] = 1e7
    return sky


@pytest.fixture(scope="module")
def simulated(frame: PlannedExposure) -> tuple[ImageModel, ExposureTruth]:
    return simulate_calibrated(frame, sky_with_star(frame), SETTINGS)


def test_errors_describe_the_scatter_about_sky_pedestal_and_stripes(
    frame: PlannedExposure, simulated: tuple[ImageModel, ExposureTruth]
) -> None:
    model, truth = simulated
    flat = detector_maps("NRCB1", subarray_window(frame.aperture)).flat
    clean = (model.dq == 0) & (truth.cosmic_rays == 0)
    residual = model.data - SKY_MJY_SR - truth.pedestal_mjy_sr / flat - truth.flicker_mjy_sr
    pull = residual[clean] / model.err[clean]
    assert clean.mean() > 0.9
    assert np.std(pull) == pytest.approx(1, abs=0.03)
    assert np.mean(pull) == pytest.approx(0, abs=0.03)


def test_noise_is_that_of_a_fitted_ramp(frame: PlannedExposure, simulated: tuple[ImageModel, ExposureTruth]) -> None:
    quiet = SETTINGS.model_copy(update={"flicker_noise": False, "cosmic_rays_per_s_cm2": 0.0, "pedestal_rms": 0.0})
    maps = detector_maps("NRCB1", subarray_window(frame.aperture))
    ramp, _ = simulate_ramp(frame, np.full(exposure_shape(frame), SKY_MJY_SR, dtype=np.float32), quiet)
    slope = least_squares_slope(linearise(ramp - maps.superbias, maps), quiet)
    image = (slope - maps.dark_rate) / maps.flat * flux_conversion("NRCB1", frame.filter)
    good = maps.dq == 0
    assert np.std(image[good]) == pytest.approx(np.nanmedian(simulated[0].err[good]), rel=0.05)


def test_a_star_that_saturates_in_the_first_groups_is_no_data(simulated: tuple[ImageModel, ExposureTruth]) -> None:
    model, _ = simulated
    flags = dqflags.pixel
    assert model.dq[80, 80] & (flags["SATURATED"] | flags["DO_NOT_USE"]) == flags["SATURATED"] | flags["DO_NOT_USE"]
    assert np.isnan(model.data[80, 80])


def test_what_sees_no_light_is_no_data(simulated: tuple[ImageModel, ExposureTruth]) -> None:
    model, _ = simulated
    unusable = (model.dq & dqflags.pixel["DO_NOT_USE"]) > 0
    assert unusable[:4].all()
    assert np.array_equal(unusable, np.isnan(model.data))
    assert np.array_equal(unusable, np.isnan(model.err))


def test_some_cosmic_rays_stay_in_the_image_unflagged(frame: PlannedExposure) -> None:
    settings = SETTINGS.model_copy(update={"cosmic_rays_per_s_cm2": 100.0, "readout_pattern": "MEDIUM8"})
    model, truth = simulate_calibrated(frame, sky_with_star(frame), settings)
    hit = (truth.cosmic_rays > 1) & ((model.dq & dqflags.pixel["DO_NOT_USE"]) == 0)
    flagged = (model.dq & dqflags.pixel["JUMP_DET"]) > 0
    excess = (model.data - SKY_MJY_SR - truth.pedestal_mjy_sr - truth.flicker_mjy_sr) / model.err
    assert 0.9 < flagged[hit].mean() < 1
    assert np.mean(excess[hit & ~flagged] > 5) > 0.3
    assert not np.any(flagged & ~hit & (model.dq == dqflags.pixel["JUMP_DET"]))


def test_pixels_lie_where_the_header_says(frame: PlannedExposure, simulated: tuple[ImageModel, ExposureTruth]) -> None:
    model, _ = simulated
    y, x = np.mgrid[0:160:20, 0:160:20].astype(float)
    ra, dec = pixel_to_sky(frame, nominal_view(frame), x, y)
    back = model.meta.wcs.invert(ra, dec, with_bounding_box=False)
    assert np.max(np.hypot(back[0] - x, back[1] - y)) < 1e-3
    assert model.meta.velocity_aberration.scale_factor == frame.va_scale == 1 - 5e-5
    area = model.area * model.meta.photometry.pixelarea_steradians
    np.testing.assert_allclose(area, pixel_area_sr(frame), rtol=2e-5)


def test_equal_settings_give_equal_bytes_that_jwst_opens(frame: PlannedExposure, tmp_path: Path) -> None:
    found = set()
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        path = folder / f"{frame.name}_cal.fits"
        write_calibrated(frame, sky_with_star(frame), SETTINGS, path)
        found.add(sha256(path.read_bytes()).hexdigest())
    assert len(found) == 1
    with datamodels.open(path) as model:
        assert isinstance(model, ImageModel)
        assert (model.meta.bunit_data, model.meta.cal_step.photom) == ("MJy/sr", "COMPLETE")
        assert model.meta.wcs is not None
