"""Where an exposure lies is where its WCS puts its pixels; what contradicts that is refused or told by name."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import asdf
import numpy as np
import pytest
from astropy.io import fits
from real import FOLDER, real
from support.exposure_files import asdf_hdu

from cosmosaic.drizzle.exposure import read_exposure
from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.exposures.footprints import outline_of, outside_arcsec, read_footprint, region_corners, region_text
from cosmosaic.exposures.headers import FileHeaders, RefusalError
from cosmosaic.exposures.wcs import wcs_corners
from cosmosaic.records import Exposure


@pytest.fixture(scope="module")
def cal() -> Path:
    return real("cal/*_cal.fits")


def changed(cal: Path, folder: Path, change: Callable[[fits.HDUList], None]) -> Path:
    path = folder / cal.name
    with fits.open(cal, memmap=False) as hdus:
        change(hdus)
        hdus.writeto(path)
    return path


def described(cal: Path, folder: Path, change: Callable[[fits.HDUList], None]) -> Exposure:
    return describe_exposure(str(changed(cal, folder, change)))


def test_a_real_exposure_lies_where_its_wcs_puts_its_pixels(cal: Path) -> None:
    exposure = describe_exposure(str(cal))
    assert exposure.warnings == ()
    wcs = read_exposure(cal).wcs
    for corner, (x, y) in zip(
        exposure.footprint, [(-0.5, -0.5), (99.5, -0.5), (99.5, 99.5), (-0.5, 99.5)], strict=True
    ):
        np.testing.assert_allclose(corner, wcs(x, y, with_bounding_box=False), atol=1e-10)
    assert exposure.footprint == read_footprint(cal) == read_exposure(cal).footprint
    stated = region_corners(fits.getval(cal, "S_REGION", "SCI"))
    assert max(outside_arcsec(stated, exposure.footprint), outside_arcsec(exposure.footprint, stated)) < 0.1


def test_without_s_region_it_lies_there_too(cal: Path, tmp_path: Path) -> None:
    exposure = described(cal, tmp_path, lambda hdus: hdus["SCI"].header.remove("S_REGION"))
    assert exposure.footprint == describe_exposure(str(cal)).footprint


def test_an_s_region_that_is_left_behind_is_told_and_not_used(cal: Path, tmp_path: Path) -> None:
    def shift(hdus: fits.HDUList) -> None:
        header = hdus["SCI"].header
        header["S_REGION"] = region_text(tuple((ra, dec + 2 / 3600) for ra, dec in region_corners(header["S_REGION"])))

    exposure = described(cal, tmp_path, shift)
    assert exposure.footprint == describe_exposure(str(cal)).footprint
    (warning,) = exposure.warnings
    assert "S_REGION differs by 2.0 arcsec from its WCS" in warning


def test_a_fits_wcs_that_was_corrected_alone_is_told(cal: Path, tmp_path: Path) -> None:
    def correct(hdus: fits.HDUList) -> None:
        hdus["SCI"].header["CRVAL2"] += 1 / 3600

    (warning,) = described(cal, tmp_path, correct).warnings
    assert "FITS WCS of its header differs by 1.0 arcsec from its gwcs" in warning


def test_a_window_that_was_cut_out_of_an_exposure_is_refused(cal: Path, tmp_path: Path) -> None:
    def cut(hdus: fits.HDUList) -> None:
        for hdu in hdus:
            if hdu.is_image and hdu.data is not None:
                hdu.data = hdu.data[20:80, 30:90]

    with pytest.raises(RefusalError, match=r"has 60 x 60 pixels, but its WCS \(gwcs\) is for 100 x 100"):
        described(cal, tmp_path, cut)


def test_a_window_whose_wcs_tells_no_size_is_judged_by_its_subarray(cal: Path, tmp_path: Path) -> None:
    wcs = read_exposure(cal).wcs
    wcs.bounding_box = None

    def put(hdus: fits.HDUList, size: int) -> None:
        hdus["ASDF"] = asdf_hdu({"meta": {"wcs": wcs}})
        hdus[0].header["SUBSIZE1"] = hdus[0].header["SUBSIZE2"] = size

    (tmp_path / "a").mkdir()
    assert (
        described(cal, tmp_path / "a", lambda hdus: put(hdus, 100)).footprint == describe_exposure(str(cal)).footprint
    )
    with pytest.raises(RefusalError, match=r"SUBSIZE1, SUBSIZE2 are for 2048 x 2048"):
        described(cal, tmp_path, lambda hdus: put(hdus, 2048))


@pytest.mark.parametrize("damage", [b"\0" * 200, b"\nmeta: [", b"#ASDF 1.0.0\n", b"!core/x-9 {"])
@pytest.mark.parametrize("place", [0, 300, 20_000])
def test_a_damaged_tree_is_refused_by_name(cal: Path, tmp_path: Path, damage: bytes, place: int) -> None:
    path = tmp_path / cal.name
    content = bytearray(cal.read_bytes())
    with fits.open(cal) as hdus:
        start = hdus["ASDF"].fileinfo()["datLoc"] + place
    content[start : start + len(damage)] = damage
    path.write_bytes(content)
    assert footprint_or_reason(path) in ("no WCS", describe_exposure(str(cal)).footprint)


def footprint_or_reason(path: Path) -> object:
    try:
        return describe_exposure(str(path)).footprint
    except RefusalError as error:
        return "no WCS" if error.reason.startswith("has no WCS") else str(error)


def test_a_calibrated_exposure_without_wcs_is_refused(cal: Path, tmp_path: Path) -> None:
    def strip(hdus: fits.HDUList) -> None:
        hdus["ASDF"] = asdf_hdu({"meta": {}})

    with pytest.raises(RefusalError, match="has no WCS: its ASDF extension holds none; run assign_wcs again"):
        described(cal, tmp_path, strip)


POINTING = {
    "RA_REF": "ra_ref",
    "DEC_REF": "dec_ref",
    "ROLL_REF": "roll_ref",
    "VPARITY": "vparity",
    "V3I_YANG": "v3yangle",
}


@pytest.mark.slow
def test_the_nominal_footprint_holds_every_real_exposure() -> None:
    real("wcs/*.asdf")
    warnings.simplefilter("ignore", asdf.exceptions.AsdfPackageVersionWarning)
    for path in sorted(FOLDER.glob("wcs/*.asdf")):
        with asdf.open(path) as tree:
            info, corners = tree["wcsinfo"], wcs_corners(tree["wcs"], (2048, 2048))
        primary = fits.Header({"DETECTOR": path.name.split("_")[3].upper()})
        pointing = {keyword: info[name] for keyword, name in POINTING.items()}
        sci = fits.Header(pointing | {"NAXIS1": 2048, "NAXIS2": 2048})
        headers = FileHeaders(primary, sci, ("SCI",))
        # Where S_REGION is missing, is right, and is that of another place.
        for north, told in ((None, False), (0, False), (10, True)):
            if north is not None:
                sci["S_REGION"] = region_text(tuple((ra, dec + north / 3600) for ra, dec in corners))
            outline = outline_of(headers, io.BytesIO(), "rate")
            assert outside_arcsec(outline.corners, corners) < 1e-5
            assert outside_arcsec(corners, outline.corners) < 4.0
            assert bool(outline.warnings) == told
