"""E(B-V) at positions is that of the map, however the map is written."""

import re
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy_healpix import healpix_to_lonlat

from cosmosaic.catalog.extinction import ExtinctionMapError, reddening

NSIDE = 64
POLE, CENTRE = (192.85948, 27.12825), (266.40499, -28.93617)
"""North Galactic pole and Galactic centre, RA and Dec in degrees (Hipparcos catalogue, ESA SP-1200, 1.5.3)."""
RNG = np.random.default_rng(4)
RA, DEC = RNG.uniform(0, 360, 200), np.degrees(np.arcsin(RNG.uniform(-1, 1, 200)))
TOLERANCE = 4e-5
"""Of linear interpolation: 0.33 mag * d^2 / 8 with pixels of a ring d = 1.4 degrees apart, and rings half as much."""


def truth(lon: Any, lat: Any) -> Any:
    """A smooth sky, mag: 0.2 at longitude 0 on the equator, 0.4 at the north pole."""
    lon, lat = np.radians(lon), np.radians(lat)
    return 0.1 + 0.1 * np.cos(lat) * np.cos(lon) + 0.05 * np.cos(lat) * np.sin(lon) + 0.3 * np.sin(lat)


def true_at(frame: str) -> np.ndarray:
    place = SkyCoord(RA * u.deg, DEC * u.deg).transform_to(frame).spherical
    return truth(place.lon.deg, place.lat.deg)


def healpix(
    folder: Path,
    order: str = "NESTED",
    frame: str = "GALACTIC",
    width: int = 1,
    drop: tuple[int, ...] = (),
    **header: Any,
) -> Path:
    """A map of all pixels, or with some dropped, a partial one."""
    lon, lat = healpix_to_lonlat(np.arange(12 * NSIDE**2), NSIDE, order=order.lower())
    values = truth(lon.deg, lat.deg)
    listed = np.delete(np.arange(len(values)), drop)
    columns = [
        fits.Column("TAU353", f"{width}E", array=np.ones_like(values[listed]).reshape(-1, width)),
        fits.Column("EBV", f"{width}E", array=values[listed].reshape(-1, width), unit="mag"),
    ]
    if drop:
        columns.insert(0, fits.Column("PIXEL", "J", array=listed[::-1]))
        columns[2] = fits.Column("EBV", "E", array=values[listed][::-1], unit="mag")
    table = fits.BinTableHDU.from_columns(columns)
    known = {"PIXTYPE": "HEALPIX", "NSIDE": NSIDE, "ORDERING": order, "COORDSYS": frame}
    table.header.update(known | ({"INDXSCHM": "EXPLICIT"} if drop else {}))
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(folder / "ebv.fits", overwrite=True)
    return folder / "ebv.fits"


@pytest.mark.parametrize("order", ["NESTED", "RING"])
@pytest.mark.parametrize(("keyword", "frame"), [("GALACTIC", "galactic"), ("G", "galactic"), ("C", "icrs")])
@pytest.mark.parametrize("width", [1, 1024])
def test_a_healpix_map_gives_its_values(tmp_path: Path, order: str, keyword: str, frame: str, width: int) -> None:
    found = reddening(healpix(tmp_path, order, keyword, width), RA, DEC)
    np.testing.assert_allclose(found, true_at(frame), rtol=0, atol=TOLERANCE)


def test_galactic_maps_are_read_at_galactic_positions(tmp_path: Path) -> None:
    """By the definition of the frame, not by a transformation of this test."""
    ra, dec = np.transpose([POLE, CENTRE])
    assert reddening(healpix(tmp_path), ra, dec) == pytest.approx([0.4, 0.2], abs=5e-5)
    assert reddening(zea(tmp_path), ra, dec) == pytest.approx([0.4, np.nan], abs=5e-5, nan_ok=True)


def test_pixels_without_data_give_none(tmp_path: Path) -> None:
    path = healpix(tmp_path)
    with fits.open(path, mode="update") as hdus:
        hdus[1].data["EBV"][: len(hdus[1].data) // 4] = -1.6375e30
        hdus[1].data["EBV"][len(hdus[1].data) // 2 :] = np.nan
    found = reddening(path, RA, DEC)
    assert 0.2 < np.isfinite(found).mean() < 0.3
    known = np.isfinite(found)
    np.testing.assert_allclose(found[known], true_at("galactic")[known], rtol=0, atol=TOLERANCE)


def test_a_partial_map_gives_none_where_it_lists_no_pixels(tmp_path: Path) -> None:
    found = reddening(healpix(tmp_path, "RING", "C", drop=tuple(range(6 * NSIDE**2))), RA, DEC)
    assert np.isnan(found[DEC > 1.5]).all()
    south = DEC < -1.5
    np.testing.assert_allclose(found[south], true_at("icrs")[south], rtol=0, atol=TOLERANCE)


def image(folder: Path, wcs: WCS, shape: tuple[int, int], **header: Any) -> Path:
    y, x = np.indices(shape)
    lon, lat = wcs.wcs_pix2world(x.ravel(), y.ravel(), 0)
    hdu = fits.PrimaryHDU(truth(lon, lat).reshape(shape).astype(np.float32), header=wcs.to_header())
    hdu.header.update({"BUNIT": "mag"} | header)
    hdu.writeto(folder / "ebv.fits", overwrite=True)
    return folder / "ebv.fits"


def zea(folder: Path) -> Path:
    """The northern Galactic hemisphere in the projection of the maps of Schlegel et al."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["GLON-ZEA", "GLAT-ZEA"], [0.0, 90.0]
    wcs.wcs.cd, wcs.wcs.crpix = [[-0.4, 0.0], [0.0, -0.4]], [200.5, 200.5]
    wcs.wcs.lonpole = 180.0
    return image(folder, wcs, (400, 400))


def test_an_image_in_galactic_coordinates_gives_its_values(tmp_path: Path) -> None:
    latitude = SkyCoord(RA * u.deg, DEC * u.deg).galactic.b.deg
    found = reddening(zea(tmp_path), RA, DEC)
    # The corners of the square reach beyond the equator, in pixels that are stretched.
    assert np.isnan(found[latitude < -60]).all()
    north = latitude > 1
    np.testing.assert_allclose(found[north], true_at("galactic")[north], rtol=0, atol=TOLERANCE)


def test_an_image_covers_its_pixels_to_their_borders(tmp_path: Path) -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
    wcs.wcs.cdelt, wcs.wcs.crpix = [-0.05, 0.05], [6.0, 3.0]
    path = image(tmp_path, wcs, (5, 11))
    ra, dec = wcs.wcs_pix2world([3.3, -0.49, 10.49, -0.51, 10.51, 2, 2], [1.8, 2, 4.49, 2, 2, -0.51, 4.51], 0)
    found = reddening(path, ra, dec)
    assert found[0] == pytest.approx(truth(ra[0], dec[0]), abs=1e-6)
    # Half a pixel beyond the centres of the last ones, their values stay.
    assert found[1:3] == pytest.approx(truth(ra[1:3], dec[1:3]), abs=0.3 * np.radians(0.05))
    assert np.isnan(found[3:]).all()


def test_an_image_of_all_longitudes_is_read_on_both_sides_of_its_middle(tmp_path: Path) -> None:
    """Longitudes from 0 to 360 degrees: those above 180 lie at negative columns by the WCS."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["GLON-CAR", "GLAT-CAR"], [0.0, 0.0]
    wcs.wcs.cdelt, wcs.wcs.crpix = [0.5, 0.5], [0.5, 180.5]
    wcs.wcs.bounds_check(False, False)
    found = reddening(image(tmp_path, wcs, (360, 720)), RA, DEC)
    np.testing.assert_allclose(found, true_at("galactic"), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("blank", [None, -32768])
def test_an_image_of_scaled_integers_gives_its_values(tmp_path: Path, blank: int | None) -> None:
    path = zea(tmp_path)
    with fits.open(path, mode="update") as hdus:
        hdus[0].scale("int16", bscale=2e-5, bzero=0.3)
        if blank is not None:
            hdus[0].header["BLANK"] = blank
    north = SkyCoord(RA * u.deg, DEC * u.deg).galactic.b.deg > 1
    np.testing.assert_allclose(
        reddening(path, RA, DEC)[north], true_at("galactic")[north], rtol=0, atol=TOLERANCE + 1e-5
    )


def test_without_positions_there_are_no_values(tmp_path: Path) -> None:
    none = np.zeros(0)
    assert reddening(zea(tmp_path), none, none).shape == (0,)
    assert reddening(healpix(tmp_path), none, none).shape == (0,)


def refusal(path: Path) -> str:
    with pytest.raises(ExtinctionMapError) as refused:
        reddening(path, RA, DEC)
    assert str(refused.value).startswith("ebv.fits")
    return str(refused.value)


def test_files_that_are_no_such_maps_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "ebv.fits"
    path.write_text("l,b,ebv\n")
    assert "cannot be read as FITS" in refusal(path)
    fits.PrimaryHDU().writeto(path, overwrite=True)
    assert "neither a HEALPix table" in refusal(path)
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(path, overwrite=True)
    assert "no celestial WCS" in refusal(path)
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])
    table.writeto(path, overwrite=True)
    assert "neither a HEALPix table" in refusal(path)


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_a_map_that_was_not_fetched_to_its_end_is_refused_by_name(tmp_path: Path) -> None:
    for path in (zea(tmp_path), healpix(tmp_path)):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert "takes complete FITS maps" in refusal(path)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({"NSIDE": "many"}, "NSIDE is 'many'"),
        ({"NSIDE": 32}, "49152 pixels, but a map with NSIDE = 32 has 12288"),
        ({"COORDSYS": "E"}, "COORDSYS is E; it must be one of"),
        ({"COORDSYS": ""}, "there is no COORDSYS"),
        ({"ORDERING": "NUNIQ"}, "ORDERING is NUNIQ"),
        ({"TTYPE2": "RADIANCE"}, "which of its columns is E.B-V.. It has TAU353, RADIANCE"),
        ({"TUNIT2": "uK_CMB"}, "the unit of column EBV is uK_CMB, but E.B-V. is in mag"),
        ({"TUNIT2": "mmag"}, "the unit of column EBV is mmag, but E.B-V. is in mag"),
        ({"NSIDE": 48, "NAXIS2": 12 * 48**2}, "nside must be a power of two"),
    ],
)
def test_a_healpix_map_that_does_not_tell_what_it_is_is_refused(tmp_path: Path, header: dict, told: str) -> None:
    path = healpix(tmp_path)
    for keyword, value in header.items():
        fits.setval(path, keyword, value=value, ext=1)
    assert re.search(told, refusal(path))


def test_an_image_of_something_else_is_refused(tmp_path: Path) -> None:
    fits.setval(zea(tmp_path), "BUNIT", value="MJy/sr")
    assert "BUNIT is MJy/sr" in refusal(tmp_path / "ebv.fits")
