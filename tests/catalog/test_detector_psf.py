"""PSFs of detectors as STPSF writes them."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits

from cosmosaic.catalog.detector_psf import read_detector_psf

PIXEL_ARCSEC = 0.031
SAMPLES = 4
SIDE = 51
"""Pixels of the detector in an image, whose sides are thus even."""
NODES = (0.0, 2047.0)
PLACES = {"DET_YX0": "(0, 0)", "DET_YX1": "(9, 0)"}


def star(fwhm_pixels: float, *, averaged: bool) -> np.ndarray:
    """Draw a star on a detector's finer pixels, its light that of whole ones or not."""
    profile = galsim.Moffat(beta=3.0, fwhm=fwhm_pixels)
    profile = galsim.Convolve(profile, galsim.Pixel(1.0)) if averaged else profile
    side = SIDE * SAMPLES
    return profile.drawImage(nx=side, ny=side, scale=1.0 / SAMPLES, method="no_pixel", dtype=float).array


def write_grid(path: Path, normalisation: float = 1.0, version: str = "2.2.0") -> Path:
    """Write a grid as STPSF's psf_grid does: stars that are wider at the right edge, and wider still at the top.

    The header lists the places column by column. The images are in its order, or since WebbPSF 1.3 row by row.
    """
    header = fits.Header({"OVERSAMP": SAMPLES, "DET_SAMP": SAMPLES, "NUM_PSFS": 4, "DETECTOR": "NRCB1"})
    places = [(x, y) for x in NODES for y in NODES]
    for number, (x, y) in enumerate(places):
        header[f"DET_YX{number}"] = (str((y, x)), f"The #{number} PSF's (y,x) detector pixel position")
    header.update({"VERSION": version, "FILTER": "F150W"})
    in_order = places if version.startswith("1.2") else sorted(places, key=lambda place: place[::-1])
    images = [star(2.0 + (x > 0) + 2.0 * (y > 0), averaged=True) for x, y in in_order]
    fits.PrimaryHDU(np.array(images) * normalisation, header).writeto(path)
    return path


def half_light(profile: galsim.GSObject, scale: float) -> float:
    image = profile.drawImage(nx=151, ny=151, scale=scale, method="no_pixel", dtype=float)
    y, x = np.indices(image.array.shape) - 75
    assert abs(np.sum(x * image.array)) + abs(np.sum(y * image.array)) < 0.02 * image.array.sum()
    radius = scale * np.hypot(x, y)
    inside = np.cumsum(image.array.ravel()[np.argsort(radius.ravel())]) / image.array.sum()
    return float(np.sort(radius.ravel())[np.searchsorted(inside, 0.5)])


@pytest.mark.parametrize(("normalisation", "version"), [(1.0, "1.2.1"), (1.0, "1.3.0"), (SAMPLES**2, "2.2.0")])
def test_a_grid_is_read_between_its_places(tmp_path: Path, normalisation: float, version: str) -> None:
    psf = read_detector_psf(write_grid(tmp_path / "grid.fits", normalisation, version), "F150W")
    assert (psf.unit, psf.detector) == ("pixel", "NRCB1")
    widths = [half_light(psf.at(x, y), 0.25) for x, y in ((0, 0), (2047, 0), (0, 2047), (2047, 2047))]
    expected = [half_light(galsim.Convolve(galsim.Moffat(3.0, fwhm=w), galsim.Pixel(1.0)), 0.25) for w in (2, 3, 4, 5)]
    assert widths == pytest.approx(expected, abs=0.13)
    assert widths[0] < half_light(psf.at(1023.5, 0), 0.25) < widths[1]
    mean = (psf.at(0, 0).drawImage(nx=9, ny=9, scale=1.0) + psf.at(2047, 0).drawImage(nx=9, ny=9, scale=1.0)) / 2.0
    middle = psf.at(1023.5, -50.0).drawImage(nx=9, ny=9, scale=1.0)
    np.testing.assert_allclose(middle.array, mean.array, atol=1e-4)


def test_the_places_of_a_subarray_are_those_of_the_detector(tmp_path: Path) -> None:
    psf = read_detector_psf(write_grid(tmp_path / "grid.fits"), "F150W")
    part = psf.in_part(1023, 511)
    drawn = [each.drawImage(nx=9, ny=9, scale=1.0).array for each in (psf.at(1123, 611), part.at(100, 100))]
    np.testing.assert_array_equal(*drawn)


def test_what_calc_psf_writes_is_averaged_over_the_detectors_pixel(tmp_path: Path) -> None:
    """Its first image has no distortion; the finer images leave the pixel out."""
    keywords = fits.Header({"PIXELSCL": PIXEL_ARCSEC / SAMPLES, "DET_SAMP": SAMPLES})
    images = {"OVERSAMP": star(9.0, averaged=False), "OVERDIST": star(2.0, averaged=False)}
    hdus = [fits.PrimaryHDU(images["OVERSAMP"], keywords), fits.ImageHDU(images["OVERDIST"], keywords, "OVERDIST")]
    hdus[0].header["EXTNAME"] = "OVERSAMP"
    fits.HDUList(hdus).writeto(tmp_path / "calc.fits")
    psf = read_detector_psf(tmp_path / "calc.fits", "F150W").at(0, 0)
    profile = galsim.Convolve(galsim.Moffat(3.0, fwhm=2.0 * PIXEL_ARCSEC), galsim.Pixel(PIXEL_ARCSEC))
    drawn = [each.drawImage(nx=21, ny=21, scale=PIXEL_ARCSEC, method="no_pixel").array for each in (psf, profile)]
    np.testing.assert_allclose(drawn[0], drawn[1], atol=0.01 * drawn[1].max())


def test_of_a_file_in_the_detectors_pixels_the_image_with_distortion_is_used(tmp_path: Path) -> None:
    keywords = fits.Header({"PIXELSCL": PIXEL_ARCSEC})
    sharp, wide = (
        galsim.Moffat(beta=3.0, fwhm=fwhm).drawImage(nx=SIDE, ny=SIDE, scale=1.0, dtype=float).array for fwhm in (2, 4)
    )
    hdus = [fits.PrimaryHDU(sharp, keywords), fits.ImageHDU(wide, keywords, "DET_DIST")]
    hdus[0].header["EXTNAME"] = "DET_SAMP"
    fits.HDUList(hdus).writeto(tmp_path / "calc.fits")
    psf = read_detector_psf(tmp_path / "calc.fits", "F150W")
    drawn = psf.at(0, 0).drawImage(nx=SIDE, ny=SIDE, scale=psf.scale, method="no_pixel").array
    np.testing.assert_allclose(drawn, wide, atol=1e-5)


def test_an_image_with_its_pixel_is_used_as_it_is(tmp_path: Path) -> None:
    image = star(2.0, averaged=True)
    fits.PrimaryHDU(image, fits.Header({"PIXELSCL": PIXEL_ARCSEC / SAMPLES})).writeto(tmp_path / "image.fits")
    psf = read_detector_psf(tmp_path / "image.fits", "F150W")
    drawn = psf.at(5, 7).drawImage(nx=image.shape[1], ny=image.shape[0], scale=psf.scale, method="no_pixel").array
    np.testing.assert_allclose(drawn, image, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "keywords", "word"),
    [
        (np.ones((2, 60, 60)), {"OVERSAMP": 4} | PLACES, "sum of"),
        (np.ones((2, 60, 60)) / 3600, {"OVERSAMP": 4, "DET_YX0": "(0, 0)", "DET_YX1": "(9, 9)"}, "no grid"),
        (np.ones((3, 60, 60)) / 3600, {"PIXELSCL": 0.01}, "psf_grid"),
        (np.ones((60, 60)) / 3600, {"PIXELSCL": 0.01, "EXTNAME": "OVERDIST"}, "DET_SAMP"),
        (np.ones((2, 60, 60)) / 3600, {"OVERSAMP": 4, "DET_YX0": "(0; 0)", "DET_YX1": "(9; 9)"}, "psf_grid"),
        (np.ones((2, 60, 60)) / 3600, {"OVERSAMP": 4, "DET_YX0": 3.0, "DET_YX1": 4.0}, "psf_grid"),
        (np.array([np.ones((8, 8)) / 64, np.zeros((8, 8))]), {"OVERSAMP": 4} | PLACES, "a sum of 0"),
        (np.ones((2, 3, 3)) / 9, {"OVERSAMP": 1} | PLACES, "5 a side"),
        (np.ones((60, 60)) / 3600, {"PIXELSCL": 0.01, "FILTER": "F770W"}, "F770W"),
        (np.ones((60, 60)) / 3600, {}, "pixel scale"),
        (np.ones((60, 60)), {"PIXELSCL": 0.01}, "sum of"),
    ],
)
def test_an_unusable_file_is_refused_by_name(tmp_path: Path, image: np.ndarray, keywords: dict, word: str) -> None:
    fits.PrimaryHDU(image, fits.Header(keywords)).writeto(tmp_path / "mine.fits")
    with pytest.raises(ValueError, match=rf"mine\.fits: .*{word}"):
        read_detector_psf(tmp_path / "mine.fits", "F150W")
