"""The sky on an exposure's pixels."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.wcs import WCS
from numpy.typing import NDArray

from cosmosaic.simulate.geometry import (
    exposure_shape,
    nominal_view,
    pixel_area_sr,
    pixel_to_sky,
    sky_to_pixel,
    true_view,
)
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.simulate.psf import encircled_energy
from cosmosaic.simulate.render import render_flux, sample_image, sky_level, surface_brightness
from cosmosaic.simulate.scene import draw_scene
from cosmosaic.survey import Pointing, SimulationSettings


def _frame(detector: str = "NRCB1", subarray: str = "SUB320", position_angle: float = 20.0) -> PlannedExposure:
    settings = SimulationSettings(
        detectors=(detector,),
        subarray=subarray,
        pointings=(Pointing(ra=150.1, dec=2.2, position_angle=position_angle),),
        pointing_error_mas=500,
    )
    return plan_exposures(settings)[0]


def _source(frame: PlannedExposure, x: float, y: float, magnitude: float, **shape: float) -> Table:
    """A star, or the galaxy whose shape is given, that falls on a pixel of an exposure."""
    ra, dec = pixel_to_sky(frame, true_view(frame), x, y)
    row = {"sersic_n": np.nan, "half_light_radius": np.nan, "axis_ratio": np.nan, "position_angle": np.nan} | shape
    flux = (magnitude * u.ABmag).to_value(u.nJy)
    kind = "galaxy" if shape else "star"
    columns = {"ra": ra, "dec": dec, "kind": kind, **row, f"flux_{frame.filter}": flux}
    return Table({name: [value] for name, value in columns.items()})


def _centroid(image: NDArray, x: float, y: float, radius: float) -> tuple[float, float]:
    rows, columns = np.indices(image.shape)
    weight = image * (np.hypot(columns - x, rows - y) < radius)
    return (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()


@pytest.mark.parametrize("detector", ["NRCB1", "NRCB2", "NRCBLONG"])
@pytest.mark.parametrize("magnitude", [19.0, 23.0])
def test_all_of_a_stars_light_is_on_the_detector(detector: str, magnitude: float) -> None:
    frame = _frame(detector)
    image = render_flux(frame, _source(frame, 150.3, 170.6, magnitude))
    assert image.sum() == pytest.approx((magnitude * u.ABmag).to_value(u.nJy), rel=1e-3)


@pytest.mark.parametrize("index", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("detector", ["NRCB1", "NRCBLONG"])
def test_all_of_a_galaxys_light_is_on_the_detector(detector: str, index: float) -> None:
    frame = _frame(detector)
    shape = {"sersic_n": index, "half_light_radius": 0.3, "axis_ratio": 0.5, "position_angle": 30.0}
    image = render_flux(frame, _source(frame, 150.3, 170.6, 21.0, **shape))
    assert image.sum() == pytest.approx((21.0 * u.ABmag).to_value(u.nJy), rel=3e-3)


def test_half_of_a_galaxys_light_is_within_its_half_light_radius() -> None:
    frame = _frame()
    shape = {"sersic_n": 1.0, "half_light_radius": 0.8, "axis_ratio": 1.0, "position_angle": 0.0}
    image = render_flux(frame, _source(frame, 160, 160, 20.0, **shape))
    y, x = np.indices(image.shape)
    inside = np.hypot(x - 160, y - 160) < 0.8 / 0.0309
    assert image[inside].sum() / image.sum() == pytest.approx(0.5, abs=0.02)


def test_stars_have_the_encircled_energy_that_the_psf_promises() -> None:
    frame = _frame()
    image = render_flux(frame, _source(frame, 160, 160, 20.0))
    y, x = np.indices(image.shape)
    for radius in (0.25, 0.5):
        inside = image[np.hypot(x - 160, y - 160) < radius / 0.0309].sum() / image.sum()
        assert inside == pytest.approx(encircled_energy("F115W", radius, 0.031), abs=0.005)


@pytest.mark.parametrize("shape", [{}, {"sersic_n": 1.0, "half_light_radius": 0.2, "axis_ratio": 0.4}])
@pytest.mark.parametrize("detector", ["NRCB1", "NRCB4", "NRCBLONG"])
def test_sources_are_where_the_true_view_puts_them(detector: str, shape: dict[str, float]) -> None:
    frame = _frame(detector)
    source = _source(frame, 150.3, 170.6, 20.0, **(shape | {"position_angle": 10.0} if shape else {}))
    x, y = _centroid(render_flux(frame, source), 150.3, 170.6, 20)
    assert (x, y) == pytest.approx((150.3, 170.6), abs=0.02)
    nominal = sky_to_pixel(frame, nominal_view(frame), source["ra"], source["dec"])
    assert np.hypot(nominal[0][0] - x, nominal[1][0] - y) > 0.1


@pytest.mark.parametrize("roll", [0.0, 70.0, 200.0])
def test_position_angles_are_measured_on_the_sky(roll: float) -> None:
    frame = _frame("NRCB2", position_angle=roll)
    shape = {"sersic_n": 1.0, "half_light_radius": 0.5, "axis_ratio": 0.3, "position_angle": 35.0}
    image = render_flux(frame, _source(frame, 160, 160, 20.0, **shape))
    ra, dec = pixel_to_sky(frame, true_view(frame), *np.indices(image.shape)[::-1])
    weight = np.where(image > 0.02 * image.max(), image, 0)
    east = (ra - np.average(ra, weights=weight)) * np.cos(np.radians(dec))
    north = dec - np.average(dec, weights=weight)
    ee, nn, en = ((weight * moment).sum() for moment in (east**2, north**2, east * north))
    assert np.degrees(0.5 * np.arctan2(2 * en, nn - ee)) % 180 == pytest.approx(35, abs=0.5)


def test_wings_of_a_star_beyond_the_edge_reach_in() -> None:
    frame = _frame()
    alone = render_flux(frame, _source(frame, -20, 100, 18.0))
    assert alone[100, 0] > 3 * alone[100, 30] > 0
    assert alone.sum() < 0.05 * (18.0 * u.ABmag).to_value(u.nJy)


def test_every_exposure_shows_the_same_star_at_its_own_place() -> None:
    settings = SimulationSettings(detectors=("NRCBLONG",), subarray="SUB320", dithers_arcsec=((0, 0), (2.0, -1.5)))
    first, second = (frame for frame in plan_exposures(settings) if frame.filter == "F277W")
    star = _source(first, 150, 170, 20.0)
    x, y = (float(p[0]) for p in sky_to_pixel(second, true_view(second), star["ra"], star["dec"]))
    assert _centroid(render_flux(second, star), x, y, 15) == pytest.approx((x, y), abs=0.02)


def test_scenes_add_up() -> None:
    frame = _frame("NRCBLONG", "SUB160")
    star = _source(frame, 50, 60, 21.0)
    galaxy = _source(frame, 90, 70, 21.0, sersic_n=2.0, half_light_radius=0.3, axis_ratio=0.6, position_angle=80.0)
    both = render_flux(frame, vstack([star, galaxy]))
    np.testing.assert_allclose(both, render_flux(frame, star) + render_flux(frame, galaxy), rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(both, render_flux(frame, vstack([star, galaxy])))


def test_surface_brightness_is_flux_over_solid_angle_on_a_uniform_sky() -> None:
    frame = _frame("NRCB1", "SUB160")
    scene = _source(frame, 80, 80, 20.0)
    brightness = surface_brightness(frame, scene, sky_mjy_sr=0.3)
    assert brightness.dtype == np.float32
    flux_jy = ((brightness - 0.3) * pixel_area_sr(frame)).sum() * 1e6
    assert flux_jy * 1e9 == pytest.approx((20.0 * u.ABmag).to_value(u.nJy), rel=2e-3)
    assert brightness[0, 0] == pytest.approx(0.3, abs=0.01)


def test_the_sky_is_darkest_near_three_micrometres() -> None:
    levels = [sky_level(name, 0.25) for name in ("F090W", "F115W", "F277W", "F480M")]
    assert levels[1] == pytest.approx(0.25, rel=0.01)
    assert levels[2] < levels[1] < levels[0] < levels[3]


def test_a_drawn_scene_lights_the_demo() -> None:
    settings = SimulationSettings(subarray="SUB160", galaxies_per_arcmin2=2000)
    frames = plan_exposures(settings)
    image = surface_brightness(frames[2], draw_scene(settings, frames), 0.25)
    assert image.shape == exposure_shape(frames[2])
    assert np.mean(image > 0.3) > 0.02
    assert image.min() > 0.24


def _sky_image(
    path: Path, frame: PlannedExposure, scale_arcsec: float, unit: str = "MJy/sr", side: float = 14.0
) -> Path:
    """A tangent-plane image of a smooth wave on the sky, centred on the exposure."""
    wcs = WCS(naxis=2)
    size = round(side / scale_arcsec)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [float(c) for c in pixel_to_sky(frame, true_view(frame), 80, 80)]
    wcs.wcs.crpix = [size / 2, size / 2]
    wcs.wcs.cdelt = [-scale_arcsec / 3600, scale_arcsec / 3600]
    rows, columns = np.indices((size, size))
    data = _wave(*wcs.wcs_pix2world(columns, rows, 0))
    header = wcs.to_header()
    header["BUNIT"] = unit
    fits.PrimaryHDU(data.astype(np.float32), header).writeto(path)
    return path


def _wave(ra: NDArray, dec: NDArray) -> NDArray:
    return 2 + np.sin((ra - 150.1) * 3600 * 2 * np.pi / 1.5) + 0.5 * np.cos((dec - 2.2) * 3600 * 2 * np.pi / 2.2)


@pytest.mark.parametrize(("detector", "scale"), [("NRCB1", 0.05), ("NRCB1", 0.02), ("NRCBLONG", 0.03)])
def test_a_users_image_keeps_its_surface_brightness_and_place(detector: str, scale: float, tmp_path: Path) -> None:
    frame = _frame(detector, "SUB160")
    path = _sky_image(tmp_path / "sky.fits", frame, scale)
    sampled = sample_image(frame, path)
    y, x = np.mgrid[0:160, 0:160]
    expected = _wave(*pixel_to_sky(frame, true_view(frame), x, y))
    np.testing.assert_allclose(sampled, expected, atol=0.01)


def test_a_users_image_lies_under_the_sources_and_ends_in_dark_sky(tmp_path: Path) -> None:
    frame = _frame("NRCB1", "SUB160")
    path = _sky_image(tmp_path / "sky.fits", frame, 0.05, side=3.0)
    star = _source(frame, 80, 80, 20.0)
    image = surface_brightness(frame, star, 0.3, path)
    np.testing.assert_allclose(image, surface_brightness(frame, star, 0.3) + sample_image(frame, path), rtol=1e-5)
    assert sample_image(frame, path)[0, 0] == 0
    assert sample_image(frame, path)[80, 80] > 0.4


def test_pixels_without_data_are_dark(tmp_path: Path) -> None:
    frame = _frame("NRCB1", "SUB160")
    path = _sky_image(tmp_path / "sky.fits", frame, 0.05)
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[:, :140] = np.nan
    sampled = sample_image(frame, path)
    assert np.isfinite(sampled).all()
    assert np.mean(np.abs(sampled) < 1e-3) > 0.3


def test_unusable_images_are_refused_with_the_reason(tmp_path: Path) -> None:
    frame = _frame("NRCB1", "SUB160")
    wrong_unit = _sky_image(tmp_path / "unit.fits", frame, 0.1, unit="electron/s")
    with pytest.raises(ValueError, match=r"unit.fits: BUNIT is 'electron/s'.*MJy/sr"):
        sample_image(frame, wrong_unit)
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    with pytest.raises(ValueError, match=r"empty.fits: there is no two-dimensional image"):
        sample_image(frame, tmp_path / "empty.fits")
    fits.PrimaryHDU(np.ones((5, 5)), fits.Header({"BUNIT": "MJy/sr"})).writeto(tmp_path / "nowhere.fits")
    with pytest.raises(ValueError, match=r"nowhere.fits.*not a celestial WCS"):
        sample_image(frame, tmp_path / "nowhere.fits")
    elsewhere = _sky_image(tmp_path / "elsewhere.fits", frame, 0.1)
    fits.setval(elsewhere, "CRVAL1", value=151.0)
    with pytest.raises(
        ValueError, match=r"elsewhere.fits.*does not overlap with exposure jw01727001001_02101_00001_nrcb1"
    ):
        sample_image(frame, elsewhere)
    distorted = _sky_image(tmp_path / "sip.fits", frame, 0.1)
    with fits.open(distorted, mode="update") as hdus:
        hdus[0].header.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2})
        hdus[0].header.update({"A_2_0": 1e-5, "B_0_2": 1e-5})
    with pytest.raises(ValueError, match=r"sip.fits.*distortion; resample"):
        sample_image(frame, distorted)
