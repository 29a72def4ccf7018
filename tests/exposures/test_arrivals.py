"""An exposure is new once: when it arrives, and again when it is written again."""

import pytest

from cosmosaic.exposures.arrivals import find_arrivals, memory_uri, remember


@pytest.fixture
def look(tmp_path):
    raw, memory = tmp_path / "raw", memory_uri(str(tmp_path / "cache"), str(tmp_path / "raw"))
    raw.mkdir()

    def names():
        found = find_arrivals(str(raw), memory)
        remember(found, memory)
        return [uri.rsplit("/", 1)[-1] for uri in found.new]

    return raw, names


def test_an_exposure_is_new_at_the_first_look_alone(look):
    raw, names = look
    (raw / "one_uncal.fits").write_bytes(b"1")
    assert names() == ["one_uncal.fits"]
    assert names() == []
    (raw / "night2").mkdir()
    (raw / "night2" / "two_uncal.fits").write_bytes(b"2")
    (raw / "notes.txt").write_text("no frame")
    assert names() == ["two_uncal.fits"]


def test_an_exposure_that_is_written_again_is_new_again(look):
    raw, names = look
    (raw / "one_uncal.fits").write_bytes(b"1")
    names()
    (raw / "one_uncal.fits").write_bytes(b"2")
    assert names() == ["one_uncal.fits"]


def test_an_exposure_is_told_of_again_until_it_was_remembered(tmp_path):
    (tmp_path / "one_uncal.fits").write_bytes(b"1")
    memory = str(tmp_path / "memory.json")
    assert find_arrivals(str(tmp_path), memory).new == find_arrivals(str(tmp_path), memory).new != ()


def test_a_memory_that_was_cut_in_half_is_no_memory(look, tmp_path):
    raw, names = look
    (raw / "one_uncal.fits").write_bytes(b"1")
    names()
    (memory,) = (tmp_path / "cache" / "arrivals").glob("[!.]*.json")
    memory.write_text(memory.read_text()[:10])
    assert names() == ["one_uncal.fits"]
