"""The simulated point spread function."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cosmosaic.nircam import PASSBANDS
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.psf import effective_psf, encircled_energy, fringe_arcsec, psf_fwhm_arcsec
from cosmosaic.simulate.truth import detectors_by_band, write_psf
from cosmosaic.survey import SimulationSettings

CHANNELS = [("F115W", 0.031), ("F200W", 0.031), ("F277W", 0.063), ("F444W", 0.063)]


@pytest.mark.parametrize(("filter_name", "pixel"), CHANNELS)
def test_encircled_energy_rises_from_nothing_to_all(filter_name: str, pixel: float) -> None:
    radii = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 20.0])
    energy = encircled_energy(filter_name, radii, pixel)
    assert energy[0] == pytest.approx(0, abs=1e-9)
    assert energy[-1] == pytest.approx(1, abs=1e-6)
    assert np.all(np.diff(energy) > -1e-6)
    assert 0.9 < energy[5 if pixel < 0.05 else 6] < 0.98


def test_encircled_energy_is_what_apertures_measure() -> None:
    from photutils.aperture import CircularAperture

    psf = effective_psf("F444W", 0.063)
    centre = psf.image.shape[0] // 2
    for radius in (0.1, 0.25, 0.5):
        inside = CircularAperture((centre, centre), radius / psf.scale_arcsec).do_photometry(psf.image)[0][0]
        assert encircled_energy("F444W", radius, 0.063) == pytest.approx(inside, rel=0.01)


def test_the_psf_of_the_truth_has_the_light_of_a_star(tmp_path: Path) -> None:
    from photutils.aperture import CircularAperture

    exposures = plan_exposures(SimulationSettings(detectors=("NRCB1", "NRCBLONG")))
    detectors = detectors_by_band(exposures)
    assert detectors == {"F115W": "NRCB1", "F150W": "NRCB1", "F277W": "NRCBLONG", "F444W": "NRCBLONG"}
    write_psf("F444W", detectors["F444W"], tmp_path / "psf.fits")
    image, header = fits.getdata(tmp_path / "psf.fits", header=True)
    centre = image.shape[0] // 2
    for radius in (0.25, 0.5):
        aperture = CircularAperture((centre, centre), radius / header["PIXELSCL"])
        inside = float(aperture.do_photometry(image)[0][0])
        assert inside == pytest.approx(encircled_energy("F444W", radius, 0.063), rel=0.01)


@pytest.mark.parametrize(("filter_name", "pixel"), CHANNELS)
def test_stars_are_as_wide_as_diffraction_and_pixel_make_them(filter_name: str, pixel: float) -> None:
    fringe = fringe_arcsec(filter_name)
    assert psf_fwhm_arcsec(filter_name, 1e-4) == pytest.approx(fringe, rel=0.1)
    assert fringe < psf_fwhm_arcsec(filter_name, pixel) < np.hypot(fringe, pixel)


def test_the_psf_is_symmetric_about_its_centre() -> None:
    image, scale = effective_psf("F150W", 0.031)
    assert image.sum() == pytest.approx(1)
    offset = (np.arange(image.shape[0]) - image.shape[0] // 2) * scale
    for radius_arcsec in (0.06, 0.3, 1.5):
        inside = image * (np.hypot(offset, offset[:, None]) < radius_arcsec)
        centroid_mas = 1e3 * np.array([(inside * offset).sum(), (inside.T * offset).sum()]) / inside.sum()
        assert np.abs(centroid_mas).max() < 0.3


def test_six_bright_spikes_and_two_faint_ones() -> None:
    psf = effective_psf("F200W", 0.031)
    centre, radius = psf.image.shape[0] // 2, 150
    angle = np.radians(np.arange(0, 360, 1))
    ring = psf.image[
        np.rint(centre + radius * np.sin(angle)).astype(int), np.rint(centre + radius * np.cos(angle)).astype(int)
    ]
    for spike in (0, 30, 90, 150, 180, 210, 270, 330):
        assert ring[np.arange(spike - 4, spike + 5) % 360].max() > 3 * np.median(ring)


def test_all_filters_of_the_wheels_have_a_psf() -> None:
    assert all(0.015 < fringe_arcsec(name) < 0.16 for name in PASSBANDS)
    with pytest.raises(ValueError, match=r"F560W.*F070W"):
        effective_psf("F560W", 0.063)
