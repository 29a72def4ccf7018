"""A user's gain map is checked before it can spoil errors and weights."""

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cosmosaic.calibrate import gain
from cosmosaic.calibrate.gain import GainMapError, check_gain_map

SHAPE = (16, 16)


def write_gain(path: Path, values: np.ndarray | None = None, extension: str = "SCI", **cards: object) -> Path:
    """A gain reference file of NRCB1; a card given as None is left out."""
    keywords = {"TELESCOP": "JWST", "INSTRUME": "NIRCAM", "DETECTOR": "NRCB1", "REFTYPE": "GAIN"} | cards
    data = np.full(SHAPE, 2.0, np.float32) if values is None else values
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data, name=extension)])
    hdus[0].header.update({keyword: value for keyword, value in keywords.items() if value is not None})
    hdus.writeto(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(GainMapError) as caught:
        check_gain_map(path, "NRCB1", SHAPE)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_right_map_passes(tmp_path: Path) -> None:
    check_gain_map(write_gain(tmp_path / "gain.fits"), "NRCB1", SHAPE)


def test_a_full_frame_map_passes(tmp_path: Path) -> None:
    check_gain_map(write_gain(tmp_path / "gain.fits", np.full((2048, 2048), 2.0, np.float32)), "NRCB1")


def test_a_compressed_map_passes(tmp_path: Path) -> None:
    path = write_gain(tmp_path / "gain.fits")
    path.write_bytes(gzip.compress(path.read_bytes()))
    check_gain_map(path, "NRCB1", SHAPE)


def test_a_bomb_in_a_compressed_map_is_not_unpacked_into_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(gain, "LARGEST_MAP_BYTES", 20e6)
    path = tmp_path / "gain.fits.gz"
    with gzip.open(path, "wb") as packed:
        packed.write(write_gain(tmp_path / "gain.fits").read_bytes())
        for _ in range(64):
            packed.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        assert "unpacks to more than 20 MB" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("DETECTOR", "NRCB2", ["DETECTOR = 'NRCB2'", "'NRCB1'"]),
        ("DETECTOR", None, ["no DETECTOR"]),
        ("INSTRUME", None, ["no INSTRUME", "set INSTRUME = 'NIRCAM'"]),
        ("INSTRUME", "MIRI", ["INSTRUME = 'MIRI'"]),
        ("TELESCOP", "HST", ["TELESCOP = 'HST'"]),
        ("REFTYPE", "READNOISE", ["REFTYPE = 'READNOISE'", "'GAIN'"]),
    ],
)
def test_a_map_for_something_else_is_refused_by_keyword(
    tmp_path: Path, keyword: str, value: str | None, words: list[str]
) -> None:
    message = refusal(write_gain(tmp_path / "gain.fits", **{keyword: value}))
    assert all(word in message for word in words), message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_the_first_is_located(tmp_path: Path, bad: float) -> None:
    values = np.full(SHAPE, 2.0, np.float32)
    values[3, 5] = values[7, 1] = bad
    message = refusal(write_gain(tmp_path / "gain.fits", values))
    assert "2 of its 256 pixels are not finite" in message
    assert "x = 5, y = 3" in message


@pytest.mark.parametrize("bad", [0.0, -1.8])
def test_values_that_are_not_positive_are_refused(tmp_path: Path, bad: float) -> None:
    values = np.full(SHAPE, 2.0, np.float32)
    values[0, 0] = bad
    assert "1 of its 256 pixels are not positive" in refusal(write_gain(tmp_path / "gain.fits", values))


@pytest.mark.parametrize("scale", [1 / 2.2, 50.0])
def test_a_map_in_the_wrong_unit_is_refused(tmp_path: Path, scale: float) -> None:
    message = refusal(write_gain(tmp_path / "gain.fits", np.full(SHAPE, scale, np.float32)))
    assert "electrons per DN" in message


def test_a_map_of_another_shape_is_refused(tmp_path: Path) -> None:
    message = refusal(write_gain(tmp_path / "gain.fits", np.full((16, 15), 2.0, np.float32)))
    assert "(16, 15)" in message
    assert "(16, 16)" in message


def test_a_map_without_sci_is_refused(tmp_path: Path) -> None:
    assert "EXTNAME = 'SCI'" in refusal(write_gain(tmp_path / "gain.fits", extension="GAIN"))


def test_bare_fits_is_refused_by_the_first_missing_keyword(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.full(SHAPE, 2.0, np.float32)).writeto(tmp_path / "bare.fits")
    assert "TELESCOP" in refusal(tmp_path / "bare.fits")


def test_a_table_named_sci_is_refused(tmp_path: Path) -> None:
    path = write_gain(tmp_path / "gain.fits")
    with fits.open(path) as hdus:
        header = hdus[0].copy()
    table = fits.BinTableHDU.from_columns([fits.Column("gain", "D", array=np.ones(3))], name="SCI")
    fits.HDUList([header, table]).writeto(path, overwrite=True)
    assert "shape" in refusal(path)


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "missing.fits")
    (tmp_path / "text.fits").write_text("no FITS")
    assert "cannot be read" in refusal(tmp_path / "text.fits")
    path = write_gain(tmp_path / "cut.fits")
    path.write_bytes(path.read_bytes()[:6000])
    assert "cannot be read" in refusal(path)
    path = write_gain(tmp_path / "cut_gz.fits")
    path.write_bytes(gzip.compress(path.read_bytes())[:-50])
    assert "ended before the end" in refusal(path)
