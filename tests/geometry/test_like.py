"""The grid of an image that exists is met to a hundredth of a pixel, or refused with what is in the way."""

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from pydantic import ValidationError
from support.exposure_files import put

from cosmosaic.exposures.search import find_exposures
from cosmosaic.exposures.windows import exposures_in_tiles, named_tiles, on_grid_of_image, survey_windows, window_like
from cosmosaic.geometry.grid import pixel_to_sky
from cosmosaic.geometry.sphere import GridError
from cosmosaic.geometry.wcs import grid_wcs, wcs_header
from cosmosaic.geometry.windows import box_of, in_larger_pixels, lattice, window_of
from cosmosaic.survey import GridSettings, Survey

RA, DEC = 150.1, 2.2


def hst_header(**cards: object) -> fits.Header:
    """As drizzlepac writes the header of a mosaic of 60 mas pixels: CD, and CRPIX on the corner of four pixels."""
    header = fits.Header()
    known = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": RA, "CRVAL2": DEC, "CRPIX1": 1500.5, "CRPIX2": -1999.5,
        "CD1_1": -1.6666666666667e-05, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1.6666666666667e-05, "RADESYS": "ICRS",
    }  # fmt: skip
    header.update(known | {name: value for name, value in cards.items() if value is not None})
    for name, value in cards.items():
        if value is None:
            header.remove(name, ignore_missing=True)
    return header


def turned(angle: float, scale: float = 1.6666666666667e-05) -> dict[str, object]:
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    return {"CD1_1": -c, "CD1_2": s, "CD2_1": s, "CD2_2": c}


def image(folder: Path, shape: tuple[int, int] = (60, 90), in_primary: bool = True, **cards: object) -> str:
    header, path = hst_header(**cards), folder / "hst_drz.fits"
    data = np.zeros(shape, np.float32)
    first = fits.PrimaryHDU(data, header) if in_primary else fits.PrimaryHDU()
    others = [] if in_primary else [fits.ImageHDU(np.zeros(5)), fits.ImageHDU(data, header, name="SCI")]
    fits.HDUList([first, *others]).writeto(path, overwrite=True)
    return str(path)


def survey_like(source: str, **grid: object) -> Survey:
    return Survey(raw="raw", grid=GridSettings(like=source, **grid))


@pytest.mark.parametrize("in_primary", [True, False])
@pytest.mark.parametrize(
    ("angle", "crpix"),
    [(0.0, (1500.5, -1999.5)), (33.3, (1500.0, -2000.0)), (-120.0, (7.25, 1e4 / 3)), (180.0, (0.0, 1.0))],
)
def test_every_pixel_is_where_the_image_has_it(
    tmp_path: Path, angle: float, crpix: tuple[float, float], in_primary: bool
) -> None:
    cards = turned(angle) | dict(zip(("CRPIX1", "CRPIX2"), crpix, strict=True))
    source = image(tmp_path, in_primary=in_primary, **cards)
    survey = on_grid_of_image(survey_like(source))
    window = window_like(survey)
    assert window is not None
    assert window.shape == (60, 90)
    assert survey.grid.pixel_scale_mas == window.pixel_scale_mas == pytest.approx(60.0, abs=1e-6)
    assert (survey.grid.tangent_ra, survey.grid.tangent_dec) == (RA, DEC)
    theirs = WCS(hst_header(**cards))
    pixels = np.array([(-0.5, -0.5), (89.5, -0.5), (44.0, 30.0), (-0.5, 59.5), (89.5, 59.5)])
    for sky in (np.stack(grid_wcs(window)(*pixels.T), -1), WCS(wcs_header(window)).all_pix2world(pixels, 0)):
        np.testing.assert_allclose(theirs.all_world2pix(sky, 0), pixels, atol=0.01)


def test_the_whole_window_is_the_images(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    put(raw, 1)
    put(raw, 2, ra=RA + 2)
    survey = on_grid_of_image(survey_like(image(tmp_path, shape=(6000, 9000), CRPIX1=4500.5, CRPIX2=3000.5)))
    window = window_like(survey)
    assert window is not None
    inside = exposures_in_tiles(find_exposures(str(raw)).exposures, (window,))
    assert [exposure.exposure for exposure in inside] == ["02101_00001"]
    (windows,) = survey_windows(inside, survey, ()).values()
    assert windows.whole == window
    assert box_of(windows.whole).pixels == 6000 * 9000


@pytest.mark.parametrize("crpix", [(1500.5, -1999.5), (1500.0, -2000.0), (31.3, 4.0)])
@pytest.mark.parametrize("factor", [2, 3])
def test_larger_pixels_and_named_tiles_nest_in_the_images(
    tmp_path: Path, crpix: tuple[float, float], factor: int
) -> None:
    source, table = image(tmp_path, CRPIX1=crpix[0], CRPIX2=crpix[1]), tmp_path / "tiles.csv"
    heading, corner = "name,crpix_x,crpix_y,nx,ny\n", (crpix[0] - 1 - 6, crpix[1] - 1 - 12)
    survey = survey_like(source, long_wavelength_factor=factor, tiles=str(table))
    table.write_text(f"{heading}a,{corner[0]!r},{corner[1]!r},30,36\n")
    window = window_like(survey)
    assert window is not None
    (tile,) = named_tiles(survey)
    large, part = in_larger_pixels(window, factor), in_larger_pixels(tile, factor)
    assert box_of(part).within(box_of(large)) == (
        slice(12 // factor, 48 // factor), slice(6 // factor, 36 // factor)
    )  # fmt: skip
    assert lattice(part) == lattice(large)
    np.testing.assert_allclose(pixel_to_sky(part, [(-0.5, -0.5)]), pixel_to_sky(window, [(5.5, 11.5)]), atol=1e-9)
    assert window_of(large, box_of(part), "a") == part
    for beside, told in ((0.5, "by whole pixels"), (1.0, "does not nest")):
        table.write_text(f"{heading}a,{corner[0] + beside!r},{corner[1]!r},30,36\n")
        with pytest.raises(GridError, match=rf"tiles\.csv: tile a.* {told}" if beside == 0.5 else told):
            named_tiles(survey)


def test_a_field_that_no_exposure_reaches_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    put(raw, 1)
    window = window_like(survey_like(image(tmp_path)))
    assert window is not None
    far = window.model_copy(update={"tangent_ra": 20.0})
    with pytest.raises(GridError, match=r"none of 1 exposures reaches the image of grid\.like"):
        exposures_in_tiles(find_exposures(str(raw)).exposures, (far,))


def test_a_frame_of_fk5_is_turned_to_icrs(tmp_path: Path) -> None:
    window = window_like(survey_like(image(tmp_path, RADESYS="FK5", EQUINOX=2000.0)))
    assert window is not None
    place = SkyCoord(RA, DEC, unit="deg", frame="fk5").icrs
    assert (window.tangent_ra, window.tangent_dec) == pytest.approx((place.ra.deg, place.dec.deg), abs=1e-9)


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"}, "projection RA---SIN"),
        ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5}, "projection"),
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "projection GLON-TAN"),
        ({"CTYPE1": None, "CTYPE2": None}, "no celestial WCS"),
        ({"CD1_1": 1.6666666666667e-05}, "not square, or run eastward"),
        ({"CD1_1": -1.67e-05}, "not square"),
        ({"CD1_2": 1e-6}, "not square"),
        (turned(0.0, 1e-3), "pixels of 3600 mas"),
    ],
)
def test_a_grid_that_cannot_be_met_is_refused_by_name(tmp_path: Path, cards: dict[str, object], words: str) -> None:
    with pytest.raises(GridError, match=rf"grid\.like: .*hst_drz\.fits .*{words}"):
        window_like(survey_like(image(tmp_path, **cards)))


def test_what_does_not_nest_or_is_too_large_is_refused(tmp_path: Path) -> None:
    source = image(tmp_path, shape=(60, 91))
    with pytest.raises(GridError, match=r"not nest in pixels 2 times larger; set grid\.long_wavelength_factor"):
        window_like(survey_like(source, long_wavelength_factor=2))
    with pytest.raises(GridError, match=r"0 megapixels, more than grid\.largest_mpix = 0\.001"):
        window_like(survey_like(source, largest_mpix=0.001))
    other = tmp_path / "no.fits"
    other.write_bytes(b"not FITS")
    with pytest.raises(GridError, match=r"no\.fits cannot be read as FITS"):
        window_like(survey_like(str(other)))
    fits.PrimaryHDU().writeto(other, overwrite=True)
    with pytest.raises(GridError, match=r"no\.fits has no two-dimensional image"):
        window_like(survey_like(str(other)))
    with pytest.raises(FileNotFoundError):
        window_like(survey_like(str(tmp_path / "none.fits")))


def test_the_image_and_the_settings_that_it_replaces_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match=r"grid\.like or pixel_scale_mas"):
        GridSettings(like="hst.fits", pixel_scale_mas=60.0)
    # A form sends every setting, including those left unchanged.
    assert GridSettings(like="hst.fits", pixel_scale_mas=30.0, rotation=0.0).like == "hst.fits"


def test_without_an_image_the_settings_stay() -> None:
    survey = Survey(raw="raw", grid=GridSettings(rotation=12.0))
    assert on_grid_of_image(survey) is survey
    assert window_like(survey) is None
