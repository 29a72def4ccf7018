"""However FITS holds the planes of an exposure, they are read, and published, as what they are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from jwst import datamodels
from real import real
from support.exposure_files import asdf_hdu

from cosmosaic.cells.binning import usable_pixels
from cosmosaic.drizzle.exposure import PLANES, ExposureError, read_exposure, write_flagged
from cosmosaic.survey import SkySettings

LEVEL = 0.25


@pytest.fixture(scope="module")
def cal() -> Path:
    return real("cal/*_cal.fits")


def scaled(hdu: fits.ImageHDU) -> fits.ImageHDU:
    """Integers of 16 bits with a scale, as the FITS standard has them; their steps are far below the noise."""
    image = fits.ImageHDU(np.nan_to_num(hdu.data), hdu.header)
    image.scale("int16", "minmax")
    return image


def compressed(kind: str) -> Callable[[fits.ImageHDU], fits.CompImageHDU]:
    lossless = {"quantize_level": 0.0} if kind.startswith("GZIP") else {"quantize_level": 1e4}
    return lambda hdu: fits.CompImageHDU(hdu.data, hdu.header, compression_type=kind, **lossless)


def in_type(dtype: str) -> Callable[[fits.ImageHDU], fits.ImageHDU]:
    return lambda hdu: fits.ImageHDU(hdu.data.astype(dtype), plain_header(hdu))


def plain_header(hdu: fits.ImageHDU) -> fits.Header:
    header = hdu.header.copy()
    for keyword in ("BZERO", "BSCALE"):
        header.remove(keyword, ignore_missing=True)
    return header


ENCODINGS = {
    "float64 science": ({"SCI": in_type("f8")}, 0.0),
    "float64 in all planes": (dict.fromkeys(PLANES, in_type("f8")), 0.0),
    "signed flags": ({"DQ": in_type("i4")}, 0.0),
    "flags of 64 bits": ({"DQ": in_type("i8")}, 0.0),
    "flags of 16 bits": ({"DQ": in_type("u2")}, 0.0),
    "flags in floating point": ({"DQ": in_type("f8")}, 0.0),
    "scaled integers": ({"SCI": scaled}, 1e-2),
    "RICE": (dict.fromkeys(PLANES, compressed("RICE_1")), 1e-3),
    "GZIP": (dict.fromkeys(PLANES, compressed("GZIP_2")), 0.0),
    "compressed flags": ({"DQ": lambda hdu: fits.CompImageHDU(hdu.data, hdu.header, compression_type="RICE_1")}, 0.0),
}


def written(cal: Path, folder: Path, change: dict[str, Callable[[fits.ImageHDU], fits.ImageHDU]]) -> Path:
    """The exposure with some extensions in another encoding."""
    path = folder / cal.name
    with fits.open(cal, memmap=False) as hdus:
        # Some 16-bit types hold no higher flags than these.
        hdus["DQ"].data &= 0x7FFF
        made = [change[hdu.name](hdu) if hdu.name in change else hdu for hdu in hdus]
        for hdu, old in zip(made, hdus, strict=True):
            hdu.name = old.name
        fits.HDUList(made).writeto(path)
    return path


def usable_pixels_of(path: Path) -> int:
    with datamodels.open(path) as model:
        return int(usable_pixels(model).sum())


def published(source: Path, folder: Path) -> Path:
    target = folder / source.name.replace("_cal", "_crf")
    return write_flagged(source, read_exposure(source, LEVEL), LEVEL, SkySettings(), target, "COMPLETE")


@pytest.mark.parametrize("name", ENCODINGS)
def test_an_exposure_in_any_encoding_is_read_and_published_alike(cal: Path, tmp_path: Path, name: str) -> None:
    change, tolerance = ENCODINGS[name]
    for folder in ("plain", "other"):
        (tmp_path / folder).mkdir()
    plain, other = written(cal, tmp_path / "plain", {}), written(cal, tmp_path / "other", change)
    expected, found = read_exposure(plain), read_exposure(other)
    unflagged = (expected.dq & 1) == 0
    assert unflagged.sum() > 9000
    np.testing.assert_array_equal(found.dq[unflagged], expected.dq[unflagged])
    np.testing.assert_allclose(found.sci[unflagged], expected.sci[unflagged], atol=tolerance, rtol=0)
    # The sky is measured on what jwst reads.
    with datamodels.open(other) as model:
        np.testing.assert_array_equal(model.dq[unflagged], expected.dq[unflagged])
        np.testing.assert_allclose(model.data[unflagged], expected.sci[unflagged], atol=tolerance, rtol=0)
        assert usable_pixels(model).sum() >= usable_pixels_of(plain)
    ours, theirs = published(other, tmp_path / "other"), published(plain, tmp_path / "plain")
    with fits.open(ours) as hdus, fits.open(theirs) as truth:
        assert [hdu.name for hdu in hdus] == [hdu.name for hdu in truth]
        assert hdus["DQ"].data.dtype == np.uint32
        np.testing.assert_array_equal(hdus["DQ"].data[unflagged], truth["DQ"].data[unflagged])
        for plane in PLANES:
            np.testing.assert_allclose(hdus[plane].data[unflagged], truth[plane].data[unflagged], atol=tolerance)
        assert np.nanmedian(hdus["SCI"].data) == pytest.approx(np.nanmedian(expected.sci) - LEVEL, abs=1e-3 + tolerance)
    with datamodels.open(ours) as model:
        assert (model.dq[unflagged] == expected.dq[unflagged]).all()
        assert model.meta.wcs(50, 50) == expected.wcs(50, 50)


def test_of_two_science_extensions_the_first_counts_everywhere(cal: Path, tmp_path: Path) -> None:
    path = tmp_path / cal.name
    with fits.open(cal, memmap=False) as hdus:
        second = fits.ImageHDU(hdus["SCI"].data + 100, hdus["SCI"].header, ver=2)
        fits.HDUList([*hdus, second]).writeto(path)
    expected = read_exposure(cal).sci
    np.testing.assert_array_equal(read_exposure(path).sci, expected)
    with fits.open(published(path, tmp_path)) as hdus:
        assert [hdu.name for hdu in hdus].count("SCI") == 1
        np.testing.assert_array_equal(hdus["SCI"].data, expected - np.float32(LEVEL))


def test_an_ordinary_file_is_copied_byte_for_byte_but_for_what_changes(cal: Path, tmp_path: Path) -> None:
    crf = published(cal, tmp_path)
    with fits.open(cal) as before, fits.open(crf) as after:
        for old, new in zip(before[1:], after[1:], strict=True):
            assert old.name == "SCI" or old.header.tostring() == new.header.tostring()
        for name in ("AREA", "ASDF"):
            assert before[name].data.tobytes() == after[name].data.tobytes()


def test_flags_that_are_no_whole_numbers_are_refused(cal: Path, tmp_path: Path) -> None:
    path = written(cal, tmp_path, {"DQ": lambda hdu: fits.ImageHDU(hdu.data + 0.5, plain_header(hdu))})
    with pytest.raises(ExposureError, match=rf"{path}.*DQ holds numbers that are not flags"):
        read_exposure(path)


def test_planes_of_different_sizes_are_refused(cal: Path, tmp_path: Path) -> None:
    path = written(cal, tmp_path, {"ERR": lambda hdu: fits.ImageHDU(hdu.data[:50], hdu.header)})
    with pytest.raises(ExposureError, match=r"differ in size: SCI 100 x 100, ERR 100 x 50"):
        read_exposure(path)


@pytest.mark.parametrize("name", ["VAR_FLAT", "AREA"])
def test_an_extension_that_the_asdf_tree_names_and_the_file_lacks_is_told(cal: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / cal.name
    with fits.open(cal, memmap=False) as hdus:
        del hdus[name]
        hdus.writeto(path)
    with pytest.raises(KeyError, match=name):
        datamodels.open(path)
    with pytest.raises(ExposureError, match=rf"its ASDF extension names {name} \(EXTVER 1\), which the file lacks"):
        read_exposure(path)


def test_errors_of_the_flat_field_may_be_missing(cal: Path, tmp_path: Path) -> None:
    path, wcs = tmp_path / cal.name, read_exposure(cal).wcs
    with fits.open(cal, memmap=False) as hdus:
        del hdus["VAR_FLAT"]
        hdus["ASDF"] = asdf_hdu({"meta": {"wcs": wcs}})
        hdus.writeto(path)
    exposure = read_exposure(path)
    assert not np.nan_to_num(exposure.variances[2]).any()
    with fits.open(published(path, tmp_path)) as hdus:
        assert "VAR_FLAT" not in hdus
        assert np.isfinite(hdus["SCI"].data).sum() == np.isfinite(exposure.sci).sum()
