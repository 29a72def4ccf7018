"""Where the simulator puts the sky on the detectors, and what its headers say of it."""

import numpy as np
import pytest

from cosmosaic.geometry.attitude import attitude_matrix
from cosmosaic.geometry.siaf import nircam_apertures
from cosmosaic.geometry.sphere import ARCSEC_PER_RADIAN, unit_vectors
from cosmosaic.simulate.geometry import (
    SR_PER_ARCSEC2,
    View,
    exposure_shape,
    footprint,
    header_error_mas,
    local_jacobian,
    nominal_view,
    nominal_wcs_keywords,
    pixel_area_sr,
    pixel_to_sky,
    sky_to_pixel,
    subarray_window,
    true_view,
    v3_position_angle,
)
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.survey import FilterPair, Pointing, SimulationSettings

DETECTORS = ("NRCA1", "NRCA2", "NRCA3", "NRCA4", "NRCALONG", "NRCB1", "NRCB2", "NRCB3", "NRCB4", "NRCBLONG")


NO_ERRORS = {
    "pointing_error_mas": 0.0,
    "roll_error_arcsec": 0.0,
    "aberration": 0.0,
    "placement_error_mas": 0.0,
    "filter_offset_mas": 0.0,
}


def _frame(
    detector: str = "NRCB1", subarray: str = "SUB640", pointing: Pointing | None = None, **errors: float
) -> PlannedExposure:
    settings = SimulationSettings(
        detectors=(detector,),
        subarray=subarray,
        dithers_arcsec=((3.0, -2.0),),
        filter_pairs=(FilterPair(short="F115W", long="F277W"),),
        pointings=(pointing or Pointing(ra=150.1, dec=2.2, position_angle=20.0),),
        **(NO_ERRORS | errors),
    )
    return plan_exposures(settings)[0]


@pytest.mark.parametrize("detector", DETECTORS)
def test_sky_and_pixels_are_each_others_inverse_on_every_detector(detector: str) -> None:
    frame = _frame(detector, "FULL")
    x, y = np.random.default_rng(1).uniform(-300, 2348, (2, 200))
    view = true_view(frame)
    there_and_back = sky_to_pixel(frame, view, *pixel_to_sky(frame, view, x, y))
    np.testing.assert_allclose(there_and_back, (x, y), atol=1e-6)


def _error_mas(frame: PlannedExposure, x: float = 1023.5, y: float = 1023.5) -> np.ndarray:
    """True minus nominal (V2, V3) direction of a pixel, seen from the nominal attitude without roll."""
    attitude = nominal_view(frame).attitude
    vectors = (unit_vectors(np.transpose(pixel_to_sky(frame, of(frame), x, y))) for of in (nominal_view, true_view))
    nominal, true = (vector[0] @ attitude for vector in vectors)
    return (true - nominal)[1:] * ARCSEC_PER_RADIAN * 1000


@pytest.mark.parametrize("detector", ["NRCA1", "NRCA3", "NRCALONG", "NRCB2", "NRCB4"])
def test_photons_come_with_their_separations_from_the_target_aberrated(detector: str) -> None:
    both = SimulationSettings(detectors=("NRCA1", "NRCB4"), subarray="FULL", **(NO_ERRORS | {"aberration": 9e-5}))
    target = plan_exposures(both)[0]
    frame = _frame(detector, "FULL", aberration=9e-5).model_copy(update={"v2": target.v2, "v3": target.v3})
    aperture = nircam_apertures()[frame.aperture]
    lever = np.array([aperture.V2Ref - frame.v2, aperture.V3Ref - frame.v3])
    # What the header's aberration about the detector's own point leaves: a rigid shift, the same at each pixel.
    for place in ((1023.5, 1023.5), (0, 0), (2047, 100)):
        np.testing.assert_allclose(_error_mas(frame, *place), -9e-5 * lever * 1000, atol=0.01)


def test_detectors_filters_and_visits_have_errors_of_their_own() -> None:
    settings = SimulationSettings(
        detectors=DETECTORS,
        subarray="FULL",
        pointings=(Pointing(ra=150.1, dec=2.2), Pointing(ra=150.2, dec=2.2)),
        **(NO_ERRORS | {"placement_error_mas": 2.0, "filter_offset_mas": 1.0, "roll_error_arcsec": 10.0}),
    )
    frames = plan_exposures(settings)
    assert len({frame.placement_mas for frame in frames}) == len({frame.detector for frame in frames}) == 10
    assert len({frame.filter_offset_mas for frame in frames}) == len({(f.detector, f.band) for f in frames}) == 20
    assert len({frame.roll_error_arcsec for frame in frames}) == len({frame.observation for frame in frames}) == 2
    assert 1.0 < np.std([frame.placement_mas for frame in frames]) < 3.5
    assert 0.5 < np.std([frame.filter_offset_mas for frame in frames]) < 1.5
    still = frames[0].model_copy(update={"roll_error_arcsec": 0.0, "placement_rotation_arcsec": 0.0})
    expected = np.add(still.placement_mas, still.filter_offset_mas)
    np.testing.assert_allclose(_error_mas(still), expected, atol=1e-3)


def test_a_roll_error_turns_the_sky_about_the_target() -> None:
    frame = _frame("NRCB3", "FULL").model_copy(update={"roll_error_arcsec": 10.0})
    aperture = nircam_apertures()[frame.aperture]
    lever = np.array([aperture.V2Ref - frame.v2, aperture.V3Ref - frame.v3])
    expected = 1000 * np.radians(10 / 3600) * np.hypot(*lever)
    assert np.hypot(*_error_mas(frame)) == pytest.approx(expected, rel=0.01)
    ra, dec = frame.ra, frame.dec
    true, nominal = (sky_to_pixel(frame, of(frame), ra, dec) for of in (true_view, nominal_view))
    np.testing.assert_allclose(true, nominal, atol=1e-6)


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_rotated_detector_turns_about_its_reference_point(detector: str) -> None:
    frame = _frame(detector, "FULL").model_copy(update={"placement_rotation_arcsec": 20.0})
    np.testing.assert_allclose(_error_mas(frame), 0, atol=0.1)
    assert np.hypot(*_error_mas(frame, 0, 1023.5)) > 2.5


def test_the_truth_has_what_the_header_is_off_by() -> None:
    errors = {"aberration": 9e-5, "placement_error_mas": 5.0, "filter_offset_mas": 5.0}
    frame = _frame(pointing=Pointing(ra=359.9999, dec=60.0), pointing_error_mas=20.0, roll_error_arcsec=5.0, **errors)
    east, north = header_error_mas(frame)
    assert np.hypot(east, north) == pytest.approx(np.hypot(*_error_mas(frame, 319.5, 319.5)), abs=0.01)
    assert 5 < np.hypot(east, north) < 100


@pytest.mark.parametrize("detector", DETECTORS)
def test_full_frames_lie_where_siaf_has_them(detector: str) -> None:
    frame = _frame(detector, "FULL")
    aperture = nircam_apertures()[frame.aperture]
    aperture.set_attitude_matrix(nominal_view(frame).attitude)
    x, y = np.random.default_rng(2).uniform(0, 2047, (2, 50))
    expected = aperture.sci_to_sky(x + 1, y + 1)
    offset_mas = 3.6e6 * (np.array(pixel_to_sky(frame, nominal_view(frame), x, y)) - expected)
    assert np.abs(offset_mas).max() < 1e-4


@pytest.mark.parametrize("subarray", ["SUB640", "SUB320", "SUB160"])
@pytest.mark.parametrize("detector", DETECTORS[5:])
def test_a_subarray_is_the_full_frame_cut_where_siaf_says(detector: str, subarray: str) -> None:
    frame = _frame(detector, subarray)
    keywords = nominal_wcs_keywords(frame)
    aperture = nircam_apertures()[frame.aperture]
    x, y = pixel_to_sky(frame, nominal_view(frame), aperture.XSciRef - 1, aperture.YSciRef - 1)
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


def test_the_header_describes_the_nominal_view() -> None:
    frame = _frame("NRCB4", pointing=Pointing(ra=3.0, dec=-72.0, position_angle=123.0))
    keywords = nominal_wcs_keywords(frame)
    from_header = attitude_matrix(*(keywords[name] for name in ("v2_ref", "v3_ref", "ra_ref", "dec_ref", "roll_ref")))
    np.testing.assert_allclose(from_header, nominal_view(frame).attitude, atol=1e-12)
    from_axes = attitude_matrix(0, 0, keywords["ra_v1"], keywords["dec_v1"], keywords["pa_v3"])
    np.testing.assert_allclose(from_axes, nominal_view(frame).attitude, atol=1e-12)


def test_true_pointing_is_off_by_the_planned_error() -> None:
    frame = _frame(pointing=Pointing(ra=10.0, dec=60.0)).model_copy(
        update={"ra_error_mas": 40.0, "dec_error_mas": -25.0}
    )
    ra, dec = pixel_to_sky(frame, nominal_view(frame), 320, 320)
    true_ra, true_dec = pixel_to_sky(frame, true_view(frame), 320, 320)
    assert (true_ra - ra) * np.cos(np.radians(dec)) * 3.6e6 == pytest.approx(40, abs=0.1)
    assert (true_dec - dec) * 3.6e6 == pytest.approx(-25, abs=0.1)


def test_the_target_moves_by_the_dither_along_the_ideal_axes() -> None:
    frame = _frame("NRCBLONG")
    x, y = sky_to_pixel(frame, nominal_view(frame), frame.ra, frame.dec)
    aperture = nircam_apertures()["NRCB5_SUB640"]
    moved = aperture.sci_to_idl(x + 1, y + 1)
    np.testing.assert_allclose(moved, (3.0, -2.0), atol=2e-3)


def test_points_far_from_the_detector_have_no_pixel() -> None:
    frame = _frame()
    ra, dec = np.array([frame.ra, frame.ra + 1, frame.ra + 180]), np.array([frame.dec, frame.dec, -frame.dec])
    x, _ = sky_to_pixel(frame, nominal_view(frame), ra, dec)
    np.testing.assert_array_equal(np.isfinite(x), [True, False, False])


@pytest.mark.parametrize("detector", ["NRCB1", "NRCBLONG"])
def test_pixels_share_the_sky_among_them(detector: str) -> None:
    frame = _frame(detector, "SUB160")
    ra, dec = footprint(frame, nominal_view(frame))
    u, v = (ra - ra[0]) * np.cos(np.radians(dec.mean())), dec - dec[0]
    polygon_deg2 = 0.5 * abs(np.dot(u, np.roll(v, -1)) - np.dot(v, np.roll(u, -1)))
    areas = pixel_area_sr(frame)
    assert areas.shape == exposure_shape(frame)
    assert areas.sum() == pytest.approx(np.radians(1) ** 2 * polygon_deg2, rel=3e-5)


def test_the_jacobian_has_the_pixels_area_and_sense() -> None:
    frame = _frame("NRCB2")
    y, x = np.mgrid[0:640:91, 0:640:77]
    (dudx, dudy), (dvdx, dvdy) = local_jacobian(frame, x, y)
    np.testing.assert_allclose((dudx * dvdy - dudy * dvdx) * SR_PER_ARCSEC2, pixel_area_sr(frame)[y, x], rtol=1e-9)
    attitude = attitude_matrix(frame.v2, frame.v3, frame.ra, frame.dec, 0.0)
    ra, dec = pixel_to_sky(frame, View(attitude), np.array([320, 321]), np.array([320, 320]))
    east, north = np.diff(ra)[0] * np.cos(np.radians(dec[0])) * 3600, np.diff(dec)[0] * 3600
    jacobian = local_jacobian(frame, 320.5, 320)
    np.testing.assert_allclose([-east, north], jacobian[:, 0], atol=3e-6)


def test_v3_points_where_the_pointing_asks() -> None:
    frame = _frame(pointing=Pointing(ra=200.0, dec=40.0, position_angle=77.0))
    assert v3_position_angle(nominal_view(frame).attitude, frame.ra, frame.dec) == pytest.approx(77.0)
