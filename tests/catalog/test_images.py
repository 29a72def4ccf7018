"""Images of other telescopes are cut and converted so that they are measured like the survey's own mosaics."""

import logging

import astropy.units as u
import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from support.scenes import NJY_PER_COUNT, PIXEL_AREA_SR, SCALE, Scene, psf_of

from cosmosaic.catalog.image import read_mosaic
from cosmosaic.catalog.images import ImageError, locate, take_image, unit_mjy_sr
from cosmosaic.catalog.measure import measure_sources
from cosmosaic.catalog.psf import write_psf
from cosmosaic.geometry.wcs import wcs_header
from cosmosaic.records import MosaicGrid
from cosmosaic.survey import CatalogSettings

ROWS, COLUMNS = 300, 360
WINDOW = MosaicGrid(
    tangent_ra=150.1163213,
    tangent_dec=2.200973097,
    rotation=20.0,
    pixel_scale_mas=1000 * SCALE,
    crpix=(COLUMNS / 2 - 0.5, ROWS / 2 - 0.5),
    shape=(ROWS, COLUMNS),
    tile="A1",
)
ACS_F814W = {"BUNIT": "ELECTRONS/S", "PHOTFLAM": 7.0332e-20, "PHOTPLAM": 8045.5}
"""Of the header of an ACS mosaic; its zero point is 25.947 (https://acszeropoints.stsci.edu, 2009)."""
IMAGES = {"F814W": {"image": "i", "weight": "w", "psf": "p", "wavelength_um": 0.814}}


def moved(shape: tuple[int, int], columns: float, rows: float, factor: int = 1) -> MosaicGrid:
    """A grid whose first pixel lies so many pixels of the window left of and below the window's first."""
    x, y = WINDOW.crpix[0] + columns, WINDOW.crpix[1] + rows
    crpix = ((x + 0.5) / factor - 0.5, (y + 0.5) / factor - 0.5)
    return WINDOW.model_copy(update={"crpix": crpix, "shape": shape, "pixel_scale_mas": 1000 * SCALE * factor})


def field(seed: int = 3) -> Scene:
    """Nine stars on noise, in the window."""
    scene = Scene(shape=(ROWS, COLUMNS), sigma=0.01, psf=galsim.Gaussian(fwhm=0.1), rotation=20.0, seed=seed)
    for number in range(9):
        scene.add_star(200.0 * 1.5**number, 60 + 115.3 * (number % 3), 50 + 98.6 * (number // 3))
    scene.add_white_noise()
    return scene


def write(path, plane, grid, **cards):
    header = wcs_header(grid)
    header.update(cards)
    fits.PrimaryHDU(np.asarray(plane, np.float32), header=header).writeto(path)
    return path


@pytest.fixture
def as_from_hst(tmp_path):
    """The field as HST's mosaics have it: counts and inverse variances on a larger canvas."""
    scene = field()
    unit = unit_mjy_sr(fits.Header(ACS_F814W), None, PIXEL_AREA_SR, "acs")
    canvas, weight = np.zeros((400, 420)), np.zeros((400, 420))
    canvas[40 : 40 + ROWS, 25 : 25 + COLUMNS] = scene.sci / unit
    weight[40 : 40 + ROWS, 25 : 25 + COLUMNS] = (unit / scene.sigma) ** 2
    grid = moved(canvas.shape, 25, 40)
    return {
        "image": write(tmp_path / "acs_sci.fits", canvas, grid, **ACS_F814W),
        "weight": write(tmp_path / "acs_wht.fits", weight, grid),
        "psf": write_psf(psf_of(scene), "F814W", tmp_path / "acs_psf.fits"),
    }


def take(files, folder, window=WINDOW, zero_point_ab=None):
    folder.mkdir()
    return take_image(files, window, zero_point_ab, "F814W", "x_f814w_A1", folder).files


def test_an_image_in_counts_is_measured_as_the_mosaic_that_it_was_made_of(as_from_hst, tmp_path):
    made = take(as_from_hst, tmp_path / "made")
    own = field().write(tmp_path / "own_i2d.fits")
    psfs = {"F150W": as_from_hst["psf"], "F814W": made["psf"]}
    settings = CatalogSettings(images=IMAGES, threshold_sigma=6.0)
    catalog = measure_sources({"F150W": own, "F814W": made["mosaic"]}, psfs, settings, "both", tmp_path).files[
        "catalog"
    ]
    table = Table.read(catalog)
    assert len(table) == 9
    for column in ("aper_flux_0p30", "aper_flux_err_0p30"):
        np.testing.assert_allclose(table[f"f814w_{column}"], table[f"f150w_{column}"], rtol=1e-3, err_msg=column)
    # One of the two passes through the filter that matches PSFs, which smooths the noise even where they are equal.
    for column in ("flux", "kron_flux"):
        assert np.all(np.abs(table[f"f814w_{column}"] - table[f"f150w_{column}"]) < table[f"f150w_{column}_err"])


def test_sources_are_not_detected_in_it(as_from_hst, tmp_path):
    made = take(as_from_hst, tmp_path / "made")
    dark = Scene(shape=(ROWS, COLUMNS), psf=galsim.Gaussian(fwhm=0.1), rotation=20.0, seed=8)
    dark.add_star(3000.0, 175.3, 148.6)
    dark.add_white_noise()
    psfs = {"F150W": as_from_hst["psf"], "F814W": made["psf"]}
    mosaics = {"F150W": dark.write(tmp_path / "dark_i2d.fits"), "F814W": made["mosaic"]}
    alone, both = (
        Table.read(measure_sources(given, psfs, CatalogSettings(images=IMAGES), name, tmp_path).files["catalog"])
        for name, given in (("alone", {"F150W": mosaics["F150W"]}), ("both", mosaics))
    )
    assert list(alone["x"]) == list(both["x"])


def test_where_the_image_ends_it_covers_nothing(as_from_hst, tmp_path):
    window = moved((ROWS, COLUMNS), -100, -80)
    image = read_mosaic(take(as_from_hst, tmp_path / "made", window)["mosaic"])
    assert not image.valid[ROWS - 80 + 1 :].any()
    assert not image.valid[:, COLUMNS - 100 + 1 :].any()
    assert image.valid[: ROWS - 80, : COLUMNS - 100].all()
    np.testing.assert_allclose(image.sci[:-80, :-100], field().sci[80:, 100:], atol=1e-6)


def test_a_window_without_data_has_no_image(as_from_hst, tmp_path):
    assert take(as_from_hst, tmp_path / "made", moved((ROWS, COLUMNS), -600, 0)) == {"mosaic": None, "psf": None}


def test_larger_pixels_that_nest_in_the_window_are_cut_as_they_are(as_from_hst, tmp_path):
    plane = np.arange(150 * 190, dtype=float).reshape(150, 190)
    files = as_from_hst | {
        "image": write(tmp_path / "wfc3.fits", plane, moved(plane.shape, 20, 0, 2), BUNIT="nJy"),
        "error": write(tmp_path / "wfc3_err.fits", np.full(plane.shape, 8000.0), moved(plane.shape, 20, 0, 2)),
    }
    del files["weight"]
    image = read_mosaic(take(files, tmp_path / "made")["mosaic"])
    assert image.pixel_scale_arcsec == pytest.approx(2 * SCALE)
    np.testing.assert_allclose(image.sci * image.to_njy, plane[:, 10:], rtol=1e-5)
    np.testing.assert_allclose(image.err * image.to_njy, 8000.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (moved((400, 420), 20.3, 30), r"up to 0\.3 pixels off the survey's grid .* A1; resample .* grid\.like"),
        (moved((400, 420), 25, 40).model_copy(update={"rotation": 21.0}), "pixels off the survey's grid"),
        (moved((200, 210), 21, 40, 2), "pixels 2 times larger.* does not nest"),
        (moved((400, 420), 25, 40).model_copy(update={"pixel_scale_mas": 500 * SCALE}), "pixels off the survey's grid"),
    ],
)
def test_pixels_that_are_not_those_of_the_grid_are_refused(grid, message):
    with pytest.raises(ImageError, match=f"acs.fits .*{message}"):
        locate(wcs_header(grid), WINDOW, "acs.fits")


def test_units_of_pixels():
    count = 1e-15 / PIXEL_AREA_SR
    assert NJY_PER_COUNT * count == pytest.approx(1.0)
    for cards, zero_point, njy in (
        ({"BUNIT": "nJy"}, None, 1.0),
        ({"BUNIT": "10.0*nJy"}, None, 10.0),
        ({"BUNIT": "uJy"}, None, 1000.0),
        ({"BUNIT": "MJy/sr"}, None, NJY_PER_COUNT),
        ({"BUNIT": "counts"}, 31.4, 1.0),
        ({"BUNIT": "nJy"}, 28.9, 10.0),
        (ACS_F814W, None, (25.947 * u.ABmag).to_value(u.nJy)),
    ):
        assert unit_mjy_sr(fits.Header(cards), zero_point, PIXEL_AREA_SR, "a") == pytest.approx(njy * count, rel=2e-3)
    for cards in ({"BUNIT": "ELECTRONS"}, {"BUNIT": "COUNTS", **dict(list(ACS_F814W.items())[1:])}, {}):
        with pytest.raises(ImageError, match=r"a\.fits has BUNIT .*give zero_point_ab"):
            unit_mjy_sr(fits.Header(cards), None, PIXEL_AREA_SR, "a.fits")


def test_weights_that_are_exposure_times_are_told(as_from_hst, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        take(as_from_hst, tmp_path / "right")
    assert caplog.text == ""
    with fits.open(as_from_hst["weight"], mode="update") as hdus:
        hdus[0].data[hdus[0].data > 0] = 2028.0
    with caplog.at_level(logging.WARNING):
        take(as_from_hst, tmp_path / "wrong")
    assert "acs_sci.fits: its pixels scatter by" in caplog.text
    assert "does acs_wht.fits hold its inverse variances (and not exposure times)?" in caplog.text


def test_files_that_do_not_belong_together_are_refused(as_from_hst, tmp_path):
    other = write(tmp_path / "small_wht.fits", np.ones((10, 20)), WINDOW)
    with pytest.raises(ImageError, match=r"small_wht\.fits has 20 x 10 pixels, the image 420 x 400"):
        take(as_from_hst | {"weight": other}, tmp_path / "made")
    empty = tmp_path / "empty.fits"
    fits.PrimaryHDU().writeto(empty)
    with pytest.raises(ImageError, match=r"empty\.fits has no two-dimensional image"):
        take(as_from_hst | {"image": empty}, tmp_path / "more")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("F150W", {}, "F150W is a filter of NIRCam"),
        ("F814W", {"error": "e"}, "one of the two"),
        ("F814W", {"weight": None}, "one of the two"),
        ("f814w", {}, "pattern"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        CatalogSettings(images={name: IMAGES["F814W"] | changes})


def test_filters_are_matched_to_one_that_there_is():
    assert CatalogSettings(images=IMAGES, match_to="F814W").match_to == "F814W"
    assert CatalogSettings(match_to="f444w").match_to == "F444W"
    with pytest.raises(ValueError, match="NIRCam has no filter 'F814W'"):
        CatalogSettings(match_to="F814W")
