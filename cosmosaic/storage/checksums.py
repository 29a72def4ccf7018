"""Checksums of objects: recorded with a version, kept beside them on S3, or found by reading once and remembered."""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, BinaryIO

from cosmosaic.records import StoredObject
from cosmosaic.storage import local, remote
from cosmosaic.storage.memo import memo_of
from cosmosaic.storage.names import AlteredObjectError, ListedObject, is_remote
from cosmosaic.storage.objects import open_object, stat

CHECKING_THREADS = 16
OBJECTS = "objects"
"""Part of a memo in which checksums are."""


def checksum(uri: str, memo: str = "") -> StoredObject:
    """Return an object with its sha256, kept beside it or found by reading it once.

    Parameters
    ----------
    uri
        The object.
    memo
        Prefix under which checksums are remembered by URI, size and version, for objects that have none beside them;
        without it, they are remembered until the process ends.

    Raises
    ------
    FileNotFoundError
        There is no such object.
    """
    listed = stat(uri)
    if listed is None:
        raise FileNotFoundError(f"{uri} does not exist")
    sha256 = listed.sha256 or _remembered(listed, memo)
    return StoredObject(uri=listed.uri, sha256=sha256, size=listed.size, version=listed.version)


def checksum_of(described: StoredObject, memo: str) -> StoredObject:
    """Return an object with its sha256; if it is known for the object's version, nothing is asked of the store.

    Parameters
    ----------
    described
        The object with its version, as the store listed it.
    memo
        As for `checksum`.

    Raises
    ------
    FileNotFoundError
        There is no such object any more.
    AlteredObjectError
        It has another version.
    """
    if not (memo and described.version):
        return checksum(described.uri, memo)
    listed = ListedObject(uri=described.uri, size=described.size, version=described.version)
    known, identity = memo_of(memo, OBJECTS), [listed.size, listed.version]
    remembered = known.recall(listed.uri, identity)
    if _is_sha256(remembered):
        return dataclasses.replace(described, sha256=str(remembered))
    if listed not in _HASHED:
        found = checksum(described.uri)
        if (found.size, found.version) != (described.size, described.version):
            raise AlteredObjectError(f"{listed.uri} was rewritten after it had been listed")
        _HASHED[listed] = found.sha256
    known.keep(listed.uri, identity, _HASHED[listed])
    return dataclasses.replace(described, sha256=_HASHED[listed])


@contextmanager
def opened(listed: ListedObject) -> Iterator[BinaryIO]:
    """Open an object to read parts of it, in the version that was listed.

    If its store tells its checksum with the first answer, or a small object was fetched whole, the checksum is known
    to this process from then on.

    Raises
    ------
    AlteredObjectError
        On S3: it has another version. Raised when it is read.
    """
    if not is_remote(listed.uri):
        with open_object(listed.uri) as stream:
            yield stream
        return
    reader = remote.RangeReader(listed.uri, listed.size, listed.version)
    with remote.open_stream(reader) as stream:
        yield stream
    if listed.version and reader.sha256:
        _HASHED[ListedObject(uri=listed.uri, size=listed.size, version=listed.version)] = reader.sha256


def is_intact(stored: StoredObject) -> bool:
    """Return whether an object is still there with the size and checksum that were recorded.

    It is read only if it no longer has the recorded version and no checksum is kept beside it.
    """
    listed = stat(stored.uri)
    if listed is None or listed.size != stored.size:
        return False
    if stored.version and listed.version == stored.version:
        return True
    return (listed.sha256 or _remembered(listed, "")) == stored.sha256


def check_unaltered(stored: StoredObject) -> None:
    """Check that an object still has its recorded checksum.

    Raises
    ------
    AlteredObjectError
        It is missing or has other bytes.
    """
    if not is_intact(stored):
        raise AlteredObjectError(
            f"{stored.uri} no longer has the recorded sha256 {stored.sha256[:16]}...; it was rewritten or removed "
            "meanwhile, and the next run will use the current file"
        )


def all_intact(objects: Iterable[StoredObject]) -> bool:
    """Return whether objects are all still there, unaltered."""
    objects = list(objects)
    if not any(is_remote(stored.uri) for stored in objects):
        return all(map(is_intact, objects))  # threads would take longer to start than a disk to answer
    with ThreadPoolExecutor(CHECKING_THREADS) as pool:
        return all(pool.map(is_intact, objects))


_HASHED: dict[ListedObject, str] = {}
"""Checksums that this process learnt."""


def _remembered(listed: ListedObject, memo: str) -> str:
    """Hash an object once per URI, size and version."""
    if listed not in _HASHED:
        _HASHED[listed] = _hash_once(listed, memo) if memo else _hash_object(listed)
    return _HASHED[listed]


def _hash_once(listed: ListedObject, memo: str) -> str:
    known, identity = memo_of(memo, OBJECTS), [listed.size, listed.version]
    digest = known.recall(listed.uri, identity)
    if not _is_sha256(digest):
        digest = _hash_object(listed)
        known.keep(listed.uri, identity, digest)
    return str(digest)


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _hash_object(listed: ListedObject) -> str:
    with _stream(listed) as stream:
        digest = local.hash_stream(stream)
    if listed.uri.startswith("s3://") and listed.version:
        return digest  # each of its parts was asked for in this version
    now = stat(listed.uri)
    if now is None or (now.size, now.version) != (listed.size, listed.version):
        raise AlteredObjectError(f"{listed.uri} was rewritten while it was read")
    return digest


def _stream(listed: ListedObject) -> BinaryIO:
    """Open an object to be read from its beginning to its end."""
    if is_remote(listed.uri):
        reader = remote.RangeReader(listed.uri, listed.size, listed.version, local.CHUNK_BYTES)
        return remote.open_stream(reader)
    return open_object(listed.uri)
