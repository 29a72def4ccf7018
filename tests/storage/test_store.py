"""The store promises: whole or not at all, and a checksum that holds."""

import errno
import fcntl
import gzip
import hashlib
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from support.programs import missing, require_program

from cosmosaic.records import StoredObject
from cosmosaic.storage import checksums, local, store
from cosmosaic.storage import memo as storage_memo

RECORDED = TypeAdapter(StoredObject)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "work" / "frame.fits"
    path.parent.mkdir()
    path.write_bytes(b"photons" * 1000)
    return path


def test_published_object_has_the_checksum_of_its_bytes(file, tmp_path):
    stored = store.publish(file, str(tmp_path / "store" / "a" / "frame.fits"))
    assert stored.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert stored.size == file.stat().st_size
    assert store.is_intact(stored)
    assert store.checksum(stored.uri) == stored


def test_publication_leaves_one_file(file, tmp_path):
    store.publish(file, str(tmp_path / "store" / "frame.fits"))
    store.publish_once(file, str(tmp_path / "store" / "frame.fits"))
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["frame.fits"]


@pytest.fixture
def unread(monkeypatch):
    """Another process, which may read no object to find its checksum."""

    def forbidden(listed):
        raise AssertionError(f"{listed.uri} was read")

    checksums._HASHED.clear()
    monkeypatch.setattr(checksums, "_hash_object", forbidden)


def test_what_is_unaltered_is_believed_by_its_record_without_being_read(file, tmp_path, unread):
    stored = store.publish(file, str(tmp_path / "store" / "frame.fits"))
    copied = store.copy(stored, str(tmp_path / "products" / "frame.fits"), tmp_path)
    for each in (stored, copied):
        recorded = RECORDED.validate_json(RECORDED.dump_json(each))
        assert store.is_intact(recorded)
        assert store.fetch(recorded, tmp_path) == Path(each.uri)


@pytest.mark.parametrize("writer", [store.publish_once, store.publish])
def test_what_was_written_again_in_the_same_bytes_is_the_same_object(file, tmp_path, writer):
    stored = store.publish(file, str(tmp_path / "store" / "frame.fits"))
    again = writer(file, stored.uri)
    assert store.is_intact(stored)
    assert store.is_intact(again)
    assert again == stored


def test_a_checksum_that_was_found_by_reading_need_not_be_found_again(file, monkeypatch):
    stored = store.checksum(str(file))
    checksums._HASHED.clear()
    with monkeypatch.context() as patch:
        patch.setattr(checksums, "_hash_object", None)
        assert store.is_intact(stored)
    os.utime(file)
    assert store.is_intact(stored)
    file.write_bytes(b"Photons" * 1000)
    assert not store.is_intact(stored)


def test_altered_object_is_noticed_even_with_the_same_size(file, tmp_path):
    stored = store.publish(file, str(tmp_path / "store" / "frame.fits"))
    (tmp_path / "store" / "frame.fits").write_bytes(b"Photons" * 1000)
    assert not store.is_intact(stored)
    assert store.checksum(stored.uri).sha256 != stored.sha256


def test_deleted_object_is_noticed(file, tmp_path):
    stored = store.publish(file, str(tmp_path / "store" / "frame.fits"))
    (tmp_path / "store" / "frame.fits").unlink()
    assert not store.is_intact(stored)
    with pytest.raises(FileNotFoundError, match=r"frame\.fits"):
        store.checksum(stored.uri)


def test_failed_publication_leaves_the_old_object_and_no_scraps(file, tmp_path, monkeypatch):
    target = tmp_path / "store" / "frame.fits"
    old = store.publish(file, str(target))
    new = tmp_path / "new.fits"
    new.write_bytes(b"other")

    def broken_disk(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", broken_disk)
    with pytest.raises(OSError, match="no space"):
        store.publish(new, str(target))
    assert store.is_intact(old)
    assert [path.name for path in target.parent.iterdir() if path.suffix == ".part"] == []


def test_listing_is_sorted_deep_and_leaves_hidden_files_out(file, tmp_path):
    for name in ("b/x_rate.fits", "a/y_uncal.fits", "a/deep/er/z_uncal.fits", "a/readme.txt"):
        store.publish(file, str(tmp_path / "store" / name))
    listed = [found.uri for found in store.list_objects(str(tmp_path / "store"), "*.fits")]
    names = ["a/deep/er/z_uncal.fits", "a/y_uncal.fits", "b/x_rate.fits"]
    assert listed == [str(tmp_path / "store" / name) for name in names]
    everything = [found.name for found in store.list_objects(str(tmp_path / "store"))]
    assert not any(name.startswith(".") for name in everything)


def test_listing_nothing_is_empty(tmp_path):
    assert list(store.list_objects(str(tmp_path / "nowhere"))) == []


def test_one_object_has_one_spelling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store.absolute_uri("demo/raw") == store.absolute_uri(f"file://{tmp_path}/demo/raw") == f"{tmp_path}/demo/raw"
    assert store.absolute_uri("s3://bucket/prefix/") == "s3://bucket/prefix"


def test_copy_is_the_same_object_elsewhere(file, tmp_path):
    stored = store.publish(file, str(tmp_path / "cache" / "frame.fits"))
    copied = store.copy(stored, str(tmp_path / "products" / "frame.fits"), tmp_path)
    assert (copied.sha256, copied.size) == (stored.sha256, stored.size)
    assert store.is_intact(copied)


def test_an_object_that_is_altered_while_it_is_copied_is_noticed(file, tmp_path, monkeypatch):
    stored = store.publish(file, str(tmp_path / "cache" / "frame.fits"))
    copy = local._copy

    def altered(reader, writer):
        Path(stored.uri).write_bytes(b"Photons" * 1000)
        copy(reader, writer)

    monkeypatch.setattr(local, "_copy", altered)
    with pytest.raises(store.AlteredObjectError, match=r"cache/frame\.fits"):
        store.copy(stored, str(tmp_path / "products" / "frame.fits"), tmp_path)


@pytest.mark.parametrize("copied_by_the_kernel", [0, 3000, None])
def test_a_file_arrives_whole_whatever_the_kernel_copies_of_it(file, tmp_path, monkeypatch, copied_by_the_kernel):
    real = os.copy_file_range

    def limited(source, target, count, begin, end):
        if copied_by_the_kernel is None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real(source, target, min(count, copied_by_the_kernel - begin), begin, end)

    monkeypatch.setattr(os, "copy_file_range", limited)
    stored = store.publish(file, str(tmp_path / "store" / "frame.fits"))
    assert Path(stored.uri).read_bytes() == file.read_bytes()


@pytest.fixture
def sharing(tmp_path):
    """A file system on which files can share blocks."""
    image, folder = tmp_path / "xfs.img", tmp_path / "xfs"
    folder.mkdir()
    with image.open("wb") as stream:
        stream.truncate(400 << 20)
    subprocess.run(
        [require_program("mkfs.xfs", Path("/usr/sbin")), "-q", "-m", "reflink=1", image],
        check=True,
        capture_output=True,
    )
    try:
        subprocess.run(["mount", "-o", "loop", image, folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        missing(f"no XFS can be mounted here: {error}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_product_takes_no_room_where_files_can_share_blocks_and_stays_a_file_of_its_own(sharing):
    size = 50_000_001
    (sharing / "made.fits").write_bytes(os.urandom(size))
    stored = store.publish(sharing / "made.fits", str(sharing / "cache" / "frame.fits"))
    before = used_bytes(sharing)
    copied = store.copy(stored, str(sharing / "products" / "frame.fits"), sharing)
    assert used_bytes(sharing) - before < size / 50
    with Path(copied.uri).open("r+b") as stream:
        stream.write(b"edited")
    assert not store.is_intact(copied)
    assert store.is_intact(stored)
    assert hashlib.sha256(Path(stored.uri).read_bytes()).hexdigest() == stored.sha256


def used_bytes(folder):
    os.sync()
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def test_a_changed_object_is_noticed_though_size_and_time_are_put_back(file, tmp_path):
    stored = store.publish(file, str(tmp_path / "store" / "frame.fits"))
    path = tmp_path / "store" / "frame.fits"
    status = path.stat()
    path.write_bytes(b"Photons" * 1000)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not store.is_intact(stored)
    with pytest.raises(store.AlteredObjectError, match=r"frame\.fits no longer has the recorded sha256"):
        store.fetch(stored, tmp_path)


def test_what_a_killed_writer_left_is_written_over(file, tmp_path):
    target = tmp_path / "store" / "frame.fits"
    target.parent.mkdir()
    (target.parent / ".frame.fits.part").write_bytes(b"half of something that was longer" * 1000)
    stored = store.publish(file, str(target))
    assert store.is_intact(stored)
    assert target.read_bytes() == file.read_bytes()
    assert list(target.parent.glob("*.part")) == []


def test_writers_of_one_object_take_turns(tmp_path):
    target = tmp_path / "store" / "x.fits"
    sources = []
    for number in range(8):
        sources.append(tmp_path / f"{number}.fits")
        sources[-1].write_bytes(bytes([number]) * 200_000)
    with ThreadPoolExecutor(8) as pool:
        published = list(pool.map(lambda source: store.publish(source, str(target)), sources * 5))
    assert hashlib.sha256(target.read_bytes()).hexdigest() in {stored.sha256 for stored in published}
    assert sum(store.is_intact(stored) for stored in set(published)) == 1
    assert list(target.parent.glob(".*.part")) == []


def test_the_same_bytes_are_not_written_twice(file, tmp_path):
    target = tmp_path / "store" / "frame.fits"
    store.publish_once(file, str(target))
    written = target.stat().st_mtime_ns
    store.publish_once(file, str(target))
    assert target.stat().st_mtime_ns == written
    target.write_bytes(b"corrupted")
    assert store.is_intact(store.publish_once(file, str(target)))


def forget():
    """Leave what was found in this process, as another one would not know it."""
    checksums._HASHED.clear()
    storage_memo._MEMOS.clear()


def test_checksum_of_a_raw_file_is_remembered_across_processes(file, tmp_path, monkeypatch):
    memo = str(tmp_path / "cache" / "checksums")
    first = store.checksum(str(file), memo)
    forget()

    def forbidden(listed):
        raise AssertionError(f"{listed.uri} was read again")

    (record,) = Path(memo).rglob("*.gz")
    written = record.stat()
    with monkeypatch.context() as patch:
        patch.setattr(checksums, "_hash_object", forbidden)
        assert store.checksum(str(file), memo) == first
    assert (record.stat().st_ino, record.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    file.write_bytes(b"replaced")
    assert store.checksum(str(file), memo).sha256 == hashlib.sha256(b"replaced").hexdigest()


def test_a_forged_or_broken_record_of_a_checksum_is_not_believed(file, tmp_path):
    memo = tmp_path / "cache" / "checksums"
    first = store.checksum(str(file), str(memo))
    (record,) = memo.rglob("*.gz")
    line = gzip.decompress(record.read_bytes())
    assert b"frame" in line
    other = line.replace(first.sha256.encode(), b"5").replace(b'"5"', b"5")
    for content in (b"", b"{}", b"[1]", b"[1, 2, 3]", b"\xff", other, line.replace(b"frame", b"other")):
        for written in (content, gzip.compress(content)):
            record.write_bytes(written)
            forget()
            assert store.checksum(str(file), str(memo)) == first


def test_listing_ten_thousand_objects_takes_seconds(tmp_path):
    for number in range(10_000):
        (tmp_path / f"{number:05d}_uncal.fits").touch()
    start = time.monotonic()
    assert sum(1 for _ in store.list_objects(str(tmp_path), "*_uncal.fits")) == 10_000
    assert time.monotonic() - start < 10


def test_a_folder_that_may_not_be_written_to_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="is not writable"):
        store.check_access(str(tmp_path / "not" / "there"))


def test_what_a_dead_writer_left_half_written_is_removed_and_a_living_one_is_left_alone(file, tmp_path):
    root = tmp_path / "store"
    stored = store.publish(file, str(root / "cache" / "frame.fits"))
    left, growing = root / "cache" / ".left.fits.part", root / "cache" / ".growing.fits.part"
    left.write_bytes(b"half")
    with growing.open("wb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert store.clean(str(root)) == [str(left)]
    assert not left.exists()
    assert growing.exists()
    assert store.is_intact(stored)
