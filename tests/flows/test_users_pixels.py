"""What a user gives, pixels (`grid.like`) and PSFs, and takes away (`regions`), through a whole run."""

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import map_coordinates
from support.small_survey import BAND, new_survey

pytestmark = [pytest.mark.slow, pytest.mark.server]

STEM = f"small_{BAND.lower()}"
RADIUS_ARCSEC = 0.5
SHAPE = (170, 210)
ROWS = 20


@pytest.fixture(scope="module")
def small(simulated, tmp_path_factory):
    """A survey of its own, which was run once."""
    survey = new_survey(simulated, tmp_path_factory.mktemp("pixels"))
    assert survey.run().state == "Completed"
    return survey


@pytest.fixture(scope="module")
def plain(small):
    """The mosaic of the survey's own grid."""
    return planes(small.products / f"{STEM}_30mas_full_i2d.fits")


@pytest.fixture(scope="module")
def middle(plain):
    """A place that all exposures see."""
    seen = np.argwhere(plain["NEXP"] == 3).mean(axis=0)
    return SkyCoord(*plain["wcs"].all_pix2world([seen[::-1]], 0)[0], unit="deg")


@pytest.fixture(scope="module")
def image(middle, tmp_path_factory):
    """A mosaic as of HST that covers part of the survey, its CRPIX whole numbers, its tangent point far away."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [middle.ra.deg + 0.01, middle.dec.deg - 0.008]
    turned = np.radians(25.0)
    c, s = np.cos(turned) * 40e-3 / 3600, np.sin(turned) * 40e-3 / 3600
    wcs.wcs.cd = [[-c, s], [s, c]]
    centre = wcs.all_world2pix([[middle.ra.deg, middle.dec.deg]], 0)[0]
    wcs.wcs.crpix = np.round(wcs.wcs.crpix - centre + np.array(SHAPE[::-1]) / 2)
    path = tmp_path_factory.mktemp("hst") / "hst_f814w_drz.fits"
    fits.PrimaryHDU(np.zeros(SHAPE, np.float32), wcs.to_header()).writeto(path)
    return path


@pytest.fixture(scope="module")
def on_image(small, plain, image):
    """The mosaic on the pixels of the image."""
    assert small.run(grid={"like": str(image)}).state == "Completed"
    return planes(small.products / f"{STEM}_40mas_full_i2d.fits")


def planes(path):
    with fits.open(path) as hdus:
        read = {name: np.array(hdus[name].data) for name in ("SCI", "ERR", "WHT", "NEXP")}
        return read | {"wcs": WCS(hdus["SCI"].header)}


def test_products_are_on_the_pixels_of_the_image(on_image, image, small):
    theirs = WCS(fits.getheader(image))
    corners = np.array([(0.0, 0.0), (209.0, 0.0), (104.0, 85.0), (0.0, 169.0), (209.0, 169.0)])
    assert on_image["SCI"].shape == SHAPE
    for name in (f"{STEM}_40mas_full_i2d.fits", "small_full_segm.fits"):
        sky = WCS(fits.getheader(small.products / name, 1)).all_pix2world(corners, 0)
        np.testing.assert_allclose(theirs.all_world2pix(sky, 0), corners, atol=0.01)


def test_the_sky_is_where_the_survey_has_it_on_its_own_pixels(on_image, plain):
    rows, columns = np.indices(SHAPE)
    x, y = plain["wcs"].all_world2pix(*on_image["wcs"].all_pix2world(columns, rows, 0), 0)

    def alike(dx, dy):
        other = map_coordinates(plain["SCI"], [y + dy, x + dx], order=1, cval=np.nan)
        both = np.isfinite(other) & np.isfinite(on_image["SCI"])
        assert both.sum() > 0.5 * both.size
        return np.corrcoef(other[both], on_image["SCI"][both])[0, 1]

    east, west, north, south = (alike(*shift) for shift in ((1, 0), (-1, 0), (0, 1), (0, -1)))
    assert alike(0, 0) > 0.95 > 0.8 > max(east, west, north, south)
    # A mosaic that lies a tenth of a pixel beside would be likelier on one side.
    assert east == pytest.approx(west, abs=0.02)
    assert north == pytest.approx(south, abs=0.02)


def test_nothing_in_a_region_is_used_where_all_exposures_lie_in_it(small, plain, middle, tmp_path):
    """A circle on the sky for all exposures, and rows of a single one."""
    sky, rows = tmp_path / "sky.reg", tmp_path / "rows.reg"
    sky.write_text(f'icrs\ncircle({middle.ra.deg:.9f},{middle.dec.deg:.9f},{RADIUS_ARCSEC}")\n')
    rows.write_text(f"image\nbox(80.5,20.5,160,{ROWS},0)\n")
    one = small.frames[0].name.replace("_uncal.fits", "")
    done = small.run(regions={"*": str(sky), one: str(rows)})
    assert (done.state, done.failed) == ("Completed", {})
    masked = planes(small.products / f"{STEM}_30mas_full_i2d.fits")
    assert masked["SCI"].shape == plain["SCI"].shape
    y, x = np.indices(masked["SCI"].shape)
    apart = middle.separation(SkyCoord(*masked["wcs"].all_pix2world(x, y, 0), unit="deg")).arcsec
    inside, outside = apart < RADIUS_ARCSEC - 0.1, apart > RADIUS_ARCSEC + 0.1
    assert np.isnan(masked["SCI"][inside]).all()
    assert not masked["WHT"][inside].any()
    assert not masked["NEXP"][inside].any()
    lost = (plain["NEXP"] - masked["NEXP"])[outside]
    assert set(np.unique(lost)) == {0, 1}
    assert np.count_nonzero(lost) * 0.03**2 == pytest.approx(160 * ROWS * 0.063**2, rel=0.1)
    np.testing.assert_array_equal(np.isnan(masked["SCI"]), masked["NEXP"] == 0)
    table = pd.read_parquet(small.products / "summary.parquet")
    counts = table[table["run_id"] == table["run_id"].iloc[-1]].query("kind == 'cal'")["region_pixels"]
    assert sorted(counts)[:2] == pytest.approx([np.pi * (RADIUS_ARCSEC / 0.063) ** 2] * 2, rel=0.15)
    assert counts.max() == pytest.approx(np.median(counts) + 160 * ROWS, rel=0.15)


def test_the_psf_of_a_detector_becomes_that_of_the_mosaic_and_its_catalogue(simulated, small, tmp_path):
    file = simulated / "truth" / f"{BAND.lower()}_psf.fits"
    done = small.run(catalog={"detector_psfs": {BAND: str(file)}}, products=str(tmp_path / "products"))
    assert (done.state, done.failed) == ("Completed", {})
    assert f"PSF (drizzled): {BAND}" in done.executed
    with fits.open(tmp_path / "products" / f"{STEM}_30mas_full_psf.fits") as hdus:
        assert hdus[0].header["PSFFROM"] == "detector"
        assert hdus[0].data.sum() == pytest.approx(1.0, abs=0.03)
        assert 1 <= len(hdus["PLACES"].data) == len(hdus["PSFS"].data) <= 9
    table = pd.read_parquet(tmp_path / "products" / "summary.parquet")
    assert table.query("kind == 'psf'")["psf_fwhm_arcsec"].between(0.12, 0.20).all()
