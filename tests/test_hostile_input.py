"""Whatever lies under the raw prefix is taken or refused with a reason; it harms nothing."""

import gzip
import io
import os
import tracemalloc

import pytest
from astropy.io import fits
from support.exposure_files import exposure_bytes, put

from cosmosaic.exposures.search import find_exposures
from cosmosaic.storage import store

LONGEST_REASON = 600


def refusal(folder, name, content):
    """Put a hostile file beside a good exposure and return why it was refused."""
    put(folder, 1)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    tracemalloc.start()
    try:
        found = find_exposures(str(folder))
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert len(found.exposures) == 1
    (refused,) = found.refused
    assert len(refused.reason) < LONGEST_REASON
    return refused.reason


@pytest.mark.parametrize(
    "name",
    ["it's_uncal.fits", 'say "x"_uncal.fits', "two\nlines_uncal.fits", "ünï_uncal.fits", "$(reboot)_uncal.fits",
     "-rf _uncal.fits", "x" * 140 + "_uncal.fits", ";ls_uncal.fits", "<script>_uncal.fits"],
)  # fmt: skip
def test_names_that_mean_something_elsewhere_are_refused(tmp_path, name):
    assert "rename" in refusal(tmp_path, name, exposure_bytes(EXPOSURE="00002"))


@pytest.mark.parametrize("folder", ["a b", "it's", "..x", "two\nlines", "ünï", "a::b", "s3:"])
def test_folders_may_have_any_name(tmp_path, folder):
    put(tmp_path / folder)
    assert len(find_exposures(str(tmp_path)).exposures) == 1


def test_a_name_in_no_encoding_is_refused(tmp_path):
    put(tmp_path, 1)
    path = os.fsencode(tmp_path) + b"/\xff\xfe_uncal.fits"
    with open(path, "wb") as stream:  # noqa: PTH123
        stream.write(exposure_bytes(EXPOSURE="00002"))
    (refused,) = find_exposures(str(tmp_path)).refused
    assert "rename" in refused.reason


@pytest.mark.parametrize("axes", [(1_000_000, 1_000_000), (10**12,), (2**47, 2**47, 2**47), (999,) * 8])
def test_pixels_that_a_header_claims_are_not_believed(tmp_path, axes):
    header = fits.Header([("SIMPLE", True), ("BITPIX", -64), ("NAXIS", len(axes))])
    header.update({f"NAXIS{number}": axis for number, axis in enumerate(axes, 1)})
    assert "claim" in refusal(tmp_path, "jw1_uncal.fits", header.tostring().encode())


def test_a_bomb_in_a_compressed_file_is_not_opened(tmp_path):
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb") as bomb:
        for _ in range(64):
            bomb.write(bytes(1 << 20))
    assert "not a FITS file" in refusal(tmp_path / "a", "jw1_uncal.fits", stream.getvalue())
    assert "compressed" in refusal(tmp_path / "b", "jw1_uncal.fits.gz", stream.getvalue())


@pytest.mark.parametrize("value", ["<script>alert(1)</script>", "| --- | ![x](http://x) ", "'; DROP TABLE run; --"])
def test_markup_in_headers_goes_into_no_reason_unquoted(tmp_path, value):
    reason = refusal(tmp_path, "jw1_uncal.fits", exposure_bytes(EXPOSURE="00002", DETECTOR=value))
    assert repr(value.strip().upper()) in reason


def test_gigantic_values_are_shortened(tmp_path):
    primary = fits.PrimaryHDU()
    primary.header["TELESCOP"] = "J" * 20_000
    stream = io.BytesIO()
    fits.HDUList([primary, fits.ImageHDU(name="SCI")]).writeto(stream)
    assert "..." in refusal(tmp_path, "jw1_uncal.fits", stream.getvalue())


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    put(tmp_path, 1)
    os.mkfifo(tmp_path / "jw1_uncal.fits")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "nowhere_uncal.fits").symlink_to(tmp_path / "missing")
    assert [found.name for found in store.list_objects(str(tmp_path))] == [put(tmp_path, 1).name]
