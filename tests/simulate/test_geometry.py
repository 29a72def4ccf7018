"""Where the simulator puts the sky on the detectors, and what its headers say of it."""

import numpy as np
import pytest

from cosmosaic.simulate.geometry import (
    SR_PER_ARCSEC2,
    attitude_matrix,
    footprint,
    frame_shape,
    local_jacobian,
    nominal_attitude,
    nominal_wcs_keywords,
    pixel_area_sr,
    pixel_to_sky,
    sky_to_pixel,
    subarray_window,
    true_attitude,
    v3_position_angle,
)
from cosmosaic.simulate.plan import PlannedFrame, plan_frames
from cosmosaic.simulate.siaf import nircam_apertures
from cosmosaic.survey import FilterPair, Pointing, SimulationSettings

DETECTORS = ("NRCA1", "NRCA2", "NRCA3", "NRCA4", "NRCALONG", "NRCB1", "NRCB2", "NRCB3", "NRCB4", "NRCBLONG")


def _frame(detector: str = "NRCB1", subarray: str = "SUB640", pointing: Pointing | None = None) -> PlannedFrame:
    settings = SimulationSettings(
        detectors=(detector,),
        subarray=subarray,
        dithers_arcsec=((3.0, -2.0),),
        filter_pairs=(FilterPair(short="F115W", long="F277W"),),
        pointings=(pointing or Pointing(ra=150.1, dec=2.2, position_angle=20.0),),
    )
    return plan_frames(settings)[0]


@pytest.mark.parametrize("detector", DETECTORS)
def test_sky_and_pixels_are_each_others_inverse_on_every_detector(detector: str) -> None:
    frame = _frame(detector, "FULL")
    x, y = np.random.default_rng(1).uniform(-300, 2348, (2, 200))
    attitude = true_attitude(frame)
    there_and_back = sky_to_pixel(frame, attitude, *pixel_to_sky(frame, attitude, x, y))
    np.testing.assert_allclose(there_and_back, (x, y), atol=1e-6)


@pytest.mark.parametrize("detector", DETECTORS)
def test_full_frames_lie_where_siaf_has_them(detector: str) -> None:
    frame = _frame(detector, "FULL")
    aperture = nircam_apertures()[frame.aperture]
    aperture.set_attitude_matrix(nominal_attitude(frame))
    x, y = np.random.default_rng(2).uniform(0, 2047, (2, 50))
    expected = aperture.sci_to_sky(x + 1, y + 1)
    offset_mas = 3.6e6 * (np.array(pixel_to_sky(frame, nominal_attitude(frame), x, y)) - expected)
    assert np.abs(offset_mas).max() < 1e-4


@pytest.mark.parametrize("subarray", ["SUB640", "SUB320", "SUB160"])
@pytest.mark.parametrize("detector", DETECTORS[5:])
def test_a_subarray_is_the_full_frame_cut_where_siaf_says(detector: str, subarray: str) -> None:
    frame = _frame(detector, subarray)
    keywords = nominal_wcs_keywords(frame)
    aperture = nircam_apertures()[frame.aperture]
    x, y = pixel_to_sky(frame, nominal_attitude(frame), aperture.XSciRef - 1, aperture.YSciRef - 1)
    # SIAF's subarrays of NRCB1 and NRCB3 miss their full frames by up to 0.3 mas.
    assert abs(x - keywords["ra_ref"]) * 3.6e6 < 0.5
    assert abs(y - keywords["dec_ref"]) * 3.6e6 < 0.5


@pytest.mark.parametrize(
    ("aperture", "corner"),
    [
        ("NRCB1_SUB640", (1, 1)),
        ("NRCB2_SUB640", (1, 1409)),
        ("NRCB3_SUB640", (1409, 1)),
        ("NRCB4_SUB640", (1409, 1409)),
        ("NRCB5_SUB640", (693, 701)),
        ("NRCB1_FULL", (1, 1)),
        ("NRCA4_FULL", (1, 1)),
    ],
)
def test_subarrays_start_at_the_pixels_of_jwst_headers(aperture: str, corner: tuple[int, int]) -> None:
    window = subarray_window(aperture)
    assert (window.xstart, window.ystart) == corner


def test_attitude_is_that_of_pysiaf() -> None:
    from pysiaf.utils.rotations import attitude

    place = (-88.6, -491.6, 150.1, 2.2, 20.0)
    np.testing.assert_allclose(attitude_matrix(*place), attitude(*place), atol=1e-15)


def test_the_header_describes_the_nominal_attitude() -> None:
    frame = _frame("NRCB4", pointing=Pointing(ra=3.0, dec=-72.0, position_angle=123.0))
    keywords = nominal_wcs_keywords(frame)
    from_header = attitude_matrix(*(keywords[name] for name in ("v2_ref", "v3_ref", "ra_ref", "dec_ref", "roll_ref")))
    np.testing.assert_allclose(from_header, nominal_attitude(frame), atol=1e-12)
    from_axes = attitude_matrix(0, 0, keywords["ra_v1"], keywords["dec_v1"], keywords["pa_v3"])
    np.testing.assert_allclose(from_axes, nominal_attitude(frame), atol=1e-12)


def test_true_pointing_is_off_by_the_planned_error() -> None:
    frame = _frame(pointing=Pointing(ra=10.0, dec=60.0)).model_copy(
        update={"ra_error_mas": 40.0, "dec_error_mas": -25.0}
    )
    ra, dec = pixel_to_sky(frame, nominal_attitude(frame), 320, 320)
    true_ra, true_dec = pixel_to_sky(frame, true_attitude(frame), 320, 320)
    assert (true_ra - ra) * np.cos(np.radians(dec)) * 3.6e6 == pytest.approx(40, abs=0.1)
    assert (true_dec - dec) * 3.6e6 == pytest.approx(-25, abs=0.1)


def test_the_target_moves_by_the_dither_along_the_ideal_axes() -> None:
    frame = _frame("NRCBLONG")
    x, y = sky_to_pixel(frame, nominal_attitude(frame), frame.ra, frame.dec)
    aperture = nircam_apertures()["NRCB5_SUB640"]
    moved = aperture.sci_to_idl(x + 1, y + 1)
    np.testing.assert_allclose(moved, (3.0, -2.0), atol=2e-3)


def test_points_far_from_the_detector_have_no_pixel() -> None:
    frame = _frame()
    ra, dec = np.array([frame.ra, frame.ra + 1, frame.ra + 180]), np.array([frame.dec, frame.dec, -frame.dec])
    x, _ = sky_to_pixel(frame, nominal_attitude(frame), ra, dec)
    np.testing.assert_array_equal(np.isfinite(x), [True, False, False])


@pytest.mark.parametrize("detector", ["NRCB1", "NRCBLONG"])
def test_pixels_share_the_sky_among_them(detector: str) -> None:
    frame = _frame(detector, "SUB160")
    ra, dec = footprint(frame, nominal_attitude(frame))
    u, v = (ra - ra[0]) * np.cos(np.radians(dec.mean())), dec - dec[0]
    polygon_deg2 = 0.5 * abs(np.dot(u, np.roll(v, -1)) - np.dot(v, np.roll(u, -1)))
    areas = pixel_area_sr(frame)
    assert areas.shape == frame_shape(frame)
    assert areas.sum() == pytest.approx(np.radians(1) ** 2 * polygon_deg2, rel=3e-5)


def test_the_jacobian_has_the_pixels_area_and_sense() -> None:
    frame = _frame("NRCB2")
    y, x = np.mgrid[0:640:91, 0:640:77]
    (dudx, dudy), (dvdx, dvdy) = local_jacobian(frame, x, y)
    np.testing.assert_allclose((dudx * dvdy - dudy * dvdx) * SR_PER_ARCSEC2, pixel_area_sr(frame)[y, x], rtol=1e-9)
    attitude = attitude_matrix(frame.v2, frame.v3, frame.ra, frame.dec, 0.0)
    ra, dec = pixel_to_sky(frame, attitude, np.array([320, 321]), np.array([320, 320]))
    east, north = np.diff(ra)[0] * np.cos(np.radians(dec[0])) * 3600, np.diff(dec)[0] * 3600
    jacobian = local_jacobian(frame, 320.5, 320)
    np.testing.assert_allclose([-east, north], jacobian[:, 0], atol=3e-6)


def test_v3_points_where_the_pointing_asks() -> None:
    frame = _frame(pointing=Pointing(ra=200.0, dec=40.0, position_angle=77.0))
    assert v3_position_angle(nominal_attitude(frame), frame.ra, frame.dec) == pytest.approx(77.0)
