"""The PSF of a mosaic: read, computed, or made from the stars of the field; and images matched by it."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits
from support.scenes import SCALE, Scene, mosaic_image

from cosmosaic.catalog import sections
from cosmosaic.catalog.measure import make_psf
from cosmosaic.catalog.psf import (
    Psf,
    convolved,
    find_candidates,
    interpolated,
    matching_kernel,
    model_psf,
    read_psf,
    star_psf,
    write_psf,
)

RADII = (0.1, 0.15, 0.25, 0.5)
WHOLE = (slice(None), slice(None))


def moffat(fwhm: float, beta: float = 3.0, scale: float = SCALE) -> Psf:
    profile = galsim.Moffat(beta=beta, fwhm=fwhm)
    return Psf(profile.drawImage(nx=201, ny=201, scale=scale, dtype=float).array, scale, "file")


def test_encircled_energy_and_width_are_those_of_the_profile() -> None:
    psf = moffat(0.15)
    core = 0.15 / (2 * np.sqrt(2 ** (1 / 3.0) - 1))
    expected = 1 - (1 + (np.array(RADII) / core) ** 2) ** (1 - 3.0)
    assert psf.within(RADII) == pytest.approx(expected, abs=0.02)
    assert psf.fwhm_arcsec == pytest.approx(0.16, abs=0.01)
    assert psf.within_ellipses(0.3, 0.2, 0.4) == pytest.approx(psf.within_ellipses(0.3, 0.2, 2.0), abs=0.003)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    psf = model_psf("F277W", SCALE, 1.0)
    read = read_psf(write_psf(psf, "F277W", tmp_path / "a_psf.fits"), SCALE)
    assert read.image == pytest.approx(psf.image, abs=1e-6)
    assert read.origin == "model"
    with fits.open(tmp_path / "a_psf.fits") as hdus:
        growth = hdus["GROWTH"].data
        assert np.interp(0.25, growth["radius"], growth["encircled_energy"]) == pytest.approx(
            float(psf.within(0.25)[0]), abs=0.005
        )


def test_a_finer_image_is_brought_onto_the_mosaics_pixels(tmp_path: Path) -> None:
    fine = moffat(0.15, scale=SCALE / 2)
    psf = read_psf(write_psf(fine, "F150W", tmp_path / "fine_psf.fits"), SCALE)
    assert psf.scale_arcsec == SCALE
    assert psf.within(RADII) == pytest.approx(fine.within(RADII), abs=0.01)


def test_an_image_with_even_sides_has_its_psf_in_the_middle(tmp_path: Path) -> None:
    profile = galsim.Convolve(galsim.Moffat(beta=3.0, fwhm=0.15), galsim.Pixel(SCALE))
    even = profile.drawImage(nx=300, ny=300, scale=SCALE / 2, method="no_pixel", dtype=float).array
    fits.PrimaryHDU(even, fits.Header({"PIXSCALE": SCALE / 2})).writeto(tmp_path / "even.fits")
    psf, expected = read_psf(tmp_path / "even.fits", SCALE), moffat(0.15)
    middle = len(psf.image) // 2
    near = slice(middle - 10, middle + 11)
    own = len(expected.image) // 2
    about = slice(own - 10, own + 11)
    assert psf.image[near, near] / psf.image.max() == pytest.approx(
        expected.image[about, about] / expected.image.max(), abs=0.02
    )


@pytest.mark.parametrize(
    ("image", "keyword", "word"),
    [
        (np.ones((3, 3)) / 9, 0.03, "5 a side"),
        (np.ones((5, 5)), 0.03, "sum of"),
        (np.ones((5, 5)) / 25, 0, "pixel scale"),
    ],
)
def test_an_unusable_psf_is_refused_by_name(tmp_path: Path, image: np.ndarray, keyword: float, word: str) -> None:
    path = tmp_path / "user_psf.fits"
    fits.PrimaryHDU(image, header=fits.Header({"PIXSCALE": keyword})).writeto(path)
    with pytest.raises(ValueError, match=rf"user_psf\.fits: .*{word}"):
        read_psf(path, SCALE)


def test_what_leaves_the_detectors_pixel_out_is_no_psf_of_a_mosaic(tmp_path: Path) -> None:
    header = fits.Header({"PIXELSCL": 0.01, "EXTNAME": "OVERSAMP"})
    fits.PrimaryHDU(np.ones((60, 60)) / 3600, header).writeto(tmp_path / "stpsf.fits")
    with pytest.raises(ValueError, match=r"stpsf\.fits: OVERSAMP.*detector_psfs"):
        read_psf(tmp_path / "stpsf.fits", SCALE)


@pytest.mark.parametrize("band", ["F115W", "F444W"])
def test_the_model_is_as_wide_as_diffraction(band: str) -> None:
    psf = model_psf(band, SCALE, 1.0)
    diffraction = np.degrees(int(band[1:4]) / 100 * 1e-6 / 6.6) * 3600
    assert psf.fwhm_arcsec == pytest.approx(np.hypot(diffraction, 0.04), rel=0.35)
    assert 0.97 < psf.image.sum() < 1.00001


def test_stars_of_the_field_tell_the_psf_that_the_model_does_not_know() -> None:
    # The field's PSF is a tenth wider than the model.
    wide, model = moffat(0.165), moffat(0.15)
    sky = Scene(shape=(800, 800), psf=galsim.Moffat(beta=3.0, fwhm=0.165))
    for i in range(6):
        for j in range(5):
            sky.add_star(30000.0, 90 + 120 * i + sky.random.random(), 90 + 140 * j + sky.random.random())
    sky.add_white_noise()
    image = mosaic_image(sky)
    psf = star_psf([find_candidates(image, np.zeros_like(image.sci), model, WHOLE)], model)
    assert psf is not None
    assert (psf.origin, psf.stars) == ("stars", 30)
    ratios = psf.within(RADII) / psf.within(0.8)
    assert ratios == pytest.approx(wide.within(RADII) / wide.within(0.8), abs=0.01)
    assert psf.image.sum() == pytest.approx(model.image.sum(), abs=1e-3)


def test_galaxies_and_too_few_stars_make_no_psf() -> None:
    sky = Scene(shape=(800, 800), psf=galsim.Moffat(beta=3.0, fwhm=0.15))
    for i in range(6):
        for j in range(5):
            sky.add(galsim.Exponential(half_light_radius=0.2), 50000.0, 90 + 120 * i, 90 + 140 * j)
    for i in range(5):
        sky.add_star(30000.0, 150 + 120 * i, 160)
    sky.add_white_noise()
    image = mosaic_image(sky)
    model = moffat(0.15)
    assert star_psf([find_candidates(image, np.zeros_like(image.sci), model, WHOLE)], model) is None


def test_a_matched_star_has_the_others_psf() -> None:
    sharp, wide = model_psf("F115W", SCALE, 1.0), model_psf("F444W", SCALE, 1.0)
    kernel = matching_kernel(sharp, wide)
    assert 0.95 < kernel.sum() < 1.0
    image = np.zeros((301, 301), np.float32)
    middle = (301 - sharp.image.shape[0]) // 2
    image[middle:-middle, middle:-middle] = sharp.image
    matched = Psf(convolved(image, np.ones(image.shape, bool), kernel).astype(float), SCALE, "file")
    assert matched.within(RADII) == pytest.approx(wide.within(RADII), abs=0.01)


def test_psfs_of_different_and_small_images_are_matched(tmp_path: Path) -> None:
    sharp, wide = model_psf("F115W", SCALE, 1.0), model_psf("F444W", SCALE, 1.0)
    small = fits.PrimaryHDU(sharp.image[70:131, 60:141], header=fits.Header({"PIXSCALE": SCALE}))
    small.writeto(tmp_path / "small_psf.fits")
    cut = read_psf(tmp_path / "small_psf.fits", SCALE)
    assert cut.image.shape == (61, 61)
    kernel = matching_kernel(cut, wide)
    assert kernel.shape == (61, 61)
    assert np.unravel_index(kernel.argmax(), kernel.shape) == (30, 30)
    assert cut.within(5.0) == pytest.approx(cut.within(cut.reach_arcsec))


@pytest.mark.slow
def test_the_stars_of_sections_are_those_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sky = Scene(shape=(900, 1000), psf=interpolated(model_psf("F150W", SCALE, 1.0).image, SCALE))
    # Some of them where sections meet.
    for x in range(75, 1000, 125):
        for y in range(75, 900, 125):
            sky.add_star(30000.0, x + sky.random.random(), y + sky.random.random())
    sky.add_white_noise()
    mosaic = sky.write(tmp_path / "a_i2d.fits")
    one = make_psf(mosaic, None, 3.0, 1.0, "F150W", "one", tmp_path)
    monkeypatch.setattr(sections, "PADDED_PIXELS", 800)
    monkeypatch.setattr(sections, "MARGIN_PIXELS", 100)
    parts = make_psf(mosaic, None, 3.0, 1.0, "F150W", "parts", tmp_path)
    assert one.facts["psf_stars"] == parts.facts["psf_stars"] == 56
    images = [read_psf(made.files["psf"], SCALE).image for made in (one, parts)]
    assert images[1] == pytest.approx(images[0], abs=2e-4)
