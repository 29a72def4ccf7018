"""Entries of thousands of objects are kept in few, found again by another process, and lost by nobody."""

from pathlib import Path

import pytest

from cosmosaic.storage import memo as storage_memo
from cosmosaic.storage.memo import MOST_PIECES, Memo

IDENTITY = [100, "version"]


def pieces(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl.gz"))


def test_what_is_gathered_becomes_one_piece_that_another_process_reads(tmp_path: Path) -> None:
    memo = Memo(str(tmp_path))
    with memo.gathered():
        for number in range(1000):
            memo.keep(f"/raw/{number}.fits", IDENTITY, {"number": number})
        assert pieces(tmp_path) == []
    assert len(pieces(tmp_path)) == 1
    other = Memo(str(tmp_path))
    assert [other.recall(f"/raw/{number}.fits", IDENTITY) for number in (0, 999)] == [{"number": 0}, {"number": 999}]
    assert other.recall("/raw/1000.fits", IDENTITY) is None
    assert other.recall("/raw/0.fits", [100, "another version"]) is None


def test_a_later_entry_replaces_an_earlier_one(tmp_path: Path) -> None:
    memo = Memo(str(tmp_path))
    memo.keep("/raw/0.fits", IDENTITY, "first")
    memo.keep("/raw/0.fits", [200, "new"], "second")
    for each in (memo, Memo(str(tmp_path))):
        assert each.recall("/raw/0.fits", [200, "new"]) == "second"
        assert each.recall("/raw/0.fits", IDENTITY) is None


def test_a_process_that_is_killed_while_it_gathers_loses_only_the_last_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(storage_memo.time, "monotonic", lambda: clock[0])
    memo = Memo(str(tmp_path))
    with memo.gathered():
        for number in range(200):
            clock[0] += 1.0
            memo.keep(f"/raw/{number}.fits", IDENTITY, number)
        left = Memo(str(tmp_path))  # what another process would find now
        assert left.recall("/raw/160.fits", IDENTITY) == 160
        assert len(pieces(tmp_path)) <= 200 / storage_memo.WRITE_EVERY_S


def test_what_was_found_before_an_error_is_kept(tmp_path: Path) -> None:
    memo = Memo(str(tmp_path))

    @memo.gathered()
    def read() -> None:
        memo.keep("/raw/0.fits", IDENTITY, 0)
        raise OSError("raw/1.fits cannot be read")

    with pytest.raises(OSError, match="raw"):
        read()
    assert Memo(str(tmp_path)).recall("/raw/0.fits", IDENTITY) == 0


def test_many_pieces_are_merged(tmp_path: Path) -> None:
    for number in range(MOST_PIECES + 1):
        Memo(str(tmp_path)).keep(f"/raw/{number}.fits", IDENTITY, number)
    assert len(pieces(tmp_path)) == MOST_PIECES + 1
    merging = Memo(str(tmp_path))
    for memo in (merging, Memo(str(tmp_path))):
        assert [memo.recall(f"/raw/{number}.fits", IDENTITY) for number in range(MOST_PIECES + 1)] == [
            *range(MOST_PIECES + 1)
        ]
        assert len(pieces(tmp_path)) == 1
