"""Exposures are described once; a changed object, other rules or a broken record are described anew."""

import gzip
import shutil
from pathlib import Path

import pytest
from support.exposure_files import put

from cosmosaic.exposures import exposure, remembered
from cosmosaic.exposures.remembered import DESCRIPTIONS
from cosmosaic.exposures.search import find_exposures
from cosmosaic.storage.memo import _MEMOS
from cosmosaic.storage.store import AlteredObjectError, ListedObject


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the objects whose headers are read."""
    names: list[str] = []
    read = exposure.opened

    def watched(listed: ListedObject) -> object:
        names.append(listed.name)
        return read(listed)

    monkeypatch.setattr(exposure, "opened", watched)
    return names


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for number in (1, 2):
        put(tmp_path / "raw", number, "cal")
    put(tmp_path / "raw", 3, "cal", PUPIL="GRISMR")
    return tmp_path / "raw"


def test_what_was_described_is_not_read_again(raw: Path, tmp_path: Path, opened: list[str]) -> None:
    memo = str(tmp_path / "memo")
    first = find_exposures(str(raw), memo=memo)
    assert len(opened) == 3
    opened.clear()
    assert find_exposures(str(raw), memo=memo) == first
    assert opened == []
    assert (len(first.exposures), len(first.refused)) == (2, 1)


def test_an_exposure_that_was_away_for_a_moment_is_described_by_the_next_run(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(listed: ListedObject) -> object:
        raise AlteredObjectError(listed.uri)

    memo = str(tmp_path / "memo")
    with monkeypatch.context() as patch:
        patch.setattr(exposure, "opened", gone)
        with pytest.raises(ValueError, match=r"was rewritten or removed"):
            find_exposures(str(raw), memo=memo)
    assert len(find_exposures(str(raw), memo=memo).exposures) == 2


def test_without_a_memo_all_is_read(raw: Path, opened: list[str]) -> None:
    find_exposures(str(raw))
    find_exposures(str(raw))
    assert len(opened) == 6


def test_a_changed_object_is_described_anew(raw: Path, tmp_path: Path, opened: list[str]) -> None:
    memo = str(tmp_path / "memo")
    find_exposures(str(raw), memo=memo)
    opened.clear()
    changed = put(raw, 2, "cal", FILTER="F150W")
    found = find_exposures(str(raw), memo=memo)
    assert opened == [changed.name]
    assert sorted(one.filter for one in found.exposures) == ["F115W", "F150W"]


def test_other_rules_describe_anew(
    raw: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memo = str(tmp_path / "memo")
    find_exposures(str(raw), memo=memo)
    opened.clear()
    monkeypatch.setattr(remembered, "rules", lambda: "others")
    find_exposures(str(raw), memo=memo)
    assert len(opened) == 3


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"Exposure": {}}', b'{"Other": {}}', b"\xff"])
def test_a_broken_record_is_no_harm(raw: Path, tmp_path: Path, content: bytes) -> None:
    memo = tmp_path / "memo"
    first = find_exposures(str(raw), memo=str(memo))
    (piece,) = (memo / DESCRIPTIONS).iterdir()
    entries = gzip.decompress(piece.read_bytes()).splitlines()
    assert len(entries) == 3
    heads = [line[: line.index(b'{"')] for line in entries]
    for written in (
        content,
        gzip.compress(content),
        gzip.compress(b"\n".join(head + content + b"]" for head in heads)),
    ):
        piece.write_bytes(written)
        _MEMOS.clear()
        assert find_exposures(str(raw), memo=str(memo)) == first
    shutil.rmtree(memo)
    assert find_exposures(str(raw), memo=str(memo)) == first
