"""Checksums of objects: recorded with a version, kept beside them on S3, or found by reading once and remembered."""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

from cosmosaic.records import StoredObject
from cosmosaic.storage import local, remote
from cosmosaic.storage.names import AlteredObjectError, ListedObject, is_remote, join
from cosmosaic.storage.objects import open_object, publish_bytes, read_bytes, stat

CHECKING_THREADS = 16


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
"""Checksums that this process found by reading."""


def _remembered(listed: ListedObject, memo: str) -> str:
    """Hash an object once per URI, size and version."""
    if listed in _HASHED:
        return _HASHED[listed]
    record = _memo_uri(listed, memo) if memo else ""
    recalled = _recall(record, listed)
    _HASHED[listed] = digest = recalled or _hash_object(listed)
    if record and not recalled:
        publish_bytes(json.dumps({**listed.model_dump(), "sha256": digest}, sort_keys=True).encode(), record)
    return digest


def _memo_uri(listed: ListedObject, memo: str) -> str:
    identity = hashlib.sha256(json.dumps([listed.uri, listed.size, listed.version]).encode()).hexdigest()
    return join(memo, identity[:2], f"{identity}.json")


def _recall(record: str, listed: ListedObject) -> str:
    if not record:
        return ""
    try:
        known = json.loads(read_bytes(record))
        matches = all(known[name] == value for name, value in listed.model_dump(exclude={"sha256"}).items())
        return str(known["sha256"]) if matches and len(known["sha256"]) == 64 else ""
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""


def _hash_object(listed: ListedObject) -> str:
    with _opened(listed) as stream:
        digest = local.hash_stream(stream)
    now = stat(listed.uri)
    if now is None or (now.size, now.version) != (listed.size, listed.version):
        raise AlteredObjectError(f"{listed.uri} was rewritten while it was read")
    return digest


def _opened(listed: ListedObject) -> BinaryIO:
    """Open an object to be read from its beginning to its end."""
    if is_remote(listed.uri):
        return remote.open_stream(listed.uri, listed.size, local.CHUNK_BYTES)
    return open_object(listed.uri)
