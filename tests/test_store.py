"""The store promises: whole or not at all, and a checksum that holds."""

import hashlib

import pytest

from cosmosaic import store


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
