"""Object storage: list, read, fetch and publish, the same on a folder and on S3.

Objects are named by URI: an absolute path on the local disk, or ``s3://bucket/key``. Credentials and
endpoint of an S3 store come from the environment or the AWS configuration (``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL``, ...), never from settings.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from cosmosaic.records import Record, StoredObject

SHA256_METADATA_KEY = "sha256"
CHUNK_BYTES = 1 << 22
HEADER_BLOCK_BYTES = 1 << 16


class ListedObject(Record):
    """An object as its store lists it."""

    uri: str
    size: int
    version: str
    """What changes when the object is written again: modification time or ETag."""

    @property
    def name(self) -> str:
        """The object's file name."""
        return self.uri.rsplit("/", 1)[-1]


def absolute_uri(uri: str) -> str:
    """Return the one spelling of a URI: an absolute path for local files, the URL otherwise."""
    if "://" in uri and not uri.startswith("file://"):
        return uri.rstrip("/")
    return str(Path(uri.removeprefix("file://")).expanduser().absolute())


def join(uri: str, *parts: str) -> str:
    """Append path components to a URI."""
    return "/".join([uri.rstrip("/"), *parts])


def list_objects(prefix: str, pattern: str = "*") -> Iterator[ListedObject]:
    """List the objects under a prefix at any depth whose file name matches a pattern, sorted by URI."""
    filesystem, root = url_to_fs(absolute_uri(prefix))
    filesystem.invalidate_cache()
    if not filesystem.exists(root):
        return
    found = filesystem.find(root, detail=True)
    for path in sorted(found):
        name = path.rsplit("/", 1)[-1]
        if fnmatch(name, pattern) and not _is_hidden(name):
            yield _listed(filesystem, found[path])


def stat(uri: str) -> ListedObject | None:
    """Describe one object; None where it does not exist."""
    filesystem, path = url_to_fs(absolute_uri(uri))
    filesystem.invalidate_cache()
    try:
        return _listed(filesystem, filesystem.info(path))
    except FileNotFoundError:
        return None


def open_object(uri: str) -> BinaryIO:
    """Open an object for reading; seeking moves only the bytes that are read."""
    filesystem, path = url_to_fs(absolute_uri(uri))
    if _is_local(filesystem):
        return Path(path).open("rb")
    return filesystem.open(path, "rb", block_size=HEADER_BLOCK_BYTES, cache_type="readahead")


def read_bytes(uri: str) -> bytes:
    """Read a small object whole."""
    filesystem, path = url_to_fs(absolute_uri(uri))
    return filesystem.cat_file(path)


def checksum(uri: str) -> StoredObject:
    """Return an object with its sha256, from what is kept beside it or by reading it once.

    Raises
    ------
    FileNotFoundError
        There is no such object.
    """
    listed = stat(uri)
    if listed is None:
        raise FileNotFoundError(f"{uri} does not exist")
    return StoredObject(uri=listed.uri, sha256=_sha256(listed), size=listed.size)


def is_intact(stored: StoredObject) -> bool:
    """Tell whether an object is still there with the size and checksum that were recorded."""
    listed = stat(stored.uri)
    return listed is not None and listed.size == stored.size and _sha256(listed) == stored.sha256


def fetch(uri: str, folder: Path) -> Path:
    """Bring an object to the local disk: the file itself where it is local, else a copy in ``folder``."""
    filesystem, path = url_to_fs(absolute_uri(uri))
    if _is_local(filesystem):
        return Path(path)
    target = folder / uri.rsplit("/", 1)[-1]
    filesystem.get_file(path, str(target))
    return target


def publish(path: Path, uri: str) -> StoredObject:
    """Write a file to the store under its final name, whole or not at all, with its sha256 beside it.

    A local object is written under a hidden name first and then renamed; an upload to S3 becomes
    visible when it is complete.
    """
    uri = absolute_uri(uri)
    digest, size = _hash_stream(path), path.stat().st_size
    filesystem, target = url_to_fs(uri)
    if _is_local(filesystem):
        _publish_local(path, Path(target), digest)
    else:
        filesystem.put_file(str(path), target, Metadata={SHA256_METADATA_KEY: digest})
    return StoredObject(uri=uri, sha256=digest, size=size)


def copy(stored: StoredObject, uri: str, folder: Path) -> StoredObject:
    """Publish a stored object under another name as well."""
    return publish(fetch(stored.uri, folder), uri)


def _is_local(filesystem: AbstractFileSystem) -> bool:
    return "file" in (filesystem.protocol if isinstance(filesystem.protocol, tuple) else (filesystem.protocol,))


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _listed(filesystem: AbstractFileSystem, info: dict) -> ListedObject:
    if _is_local(filesystem):
        modified = Path(info["name"]).stat().st_mtime_ns
        return ListedObject(uri=info["name"], size=info["size"], version=str(modified))
    version = str(info.get("ETag") or info.get("LastModified") or "")
    return ListedObject(uri=filesystem.unstrip_protocol(info["name"]), size=info["size"], version=version)


@lru_cache(maxsize=100_000)
def _sha256(listed: ListedObject) -> str:
    """Hash an object once per URI, size and version."""
    filesystem, path = url_to_fs(listed.uri)
    kept = _kept_sha256_local(Path(path), listed) if _is_local(filesystem) else _kept_sha256(filesystem, path)
    if kept:
        return kept
    with filesystem.open(path, "rb", block_size=CHUNK_BYTES) as stream:
        return _digest(stream)


def _kept_sha256(filesystem: AbstractFileSystem, path: str) -> str | None:
    return filesystem.metadata(path).get(SHA256_METADATA_KEY)


def _kept_sha256_local(path: Path, listed: ListedObject) -> str | None:
    try:
        kept = json.loads(_sidecar(path).read_text())
        matches = (kept["size"], kept["version"]) == (listed.size, listed.version)
        return str(kept["sha256"]) if matches else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sidecar(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")


def _publish_local(path: Path, target: Path, digest: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        _copy_synced(path, partial)
        status = partial.stat()
        # The old checksum goes first: a crash in between leaves an object that is hashed again, never a wrong checksum.
        _sidecar(target).unlink(missing_ok=True)
        partial.replace(target)
        _write_synced(_sidecar(target), digest, status)
    finally:
        partial.unlink(missing_ok=True)


def _write_synced(sidecar: Path, digest: str, status: os.stat_result) -> None:
    partial = sidecar.with_name(f"{sidecar.name}.{uuid.uuid4().hex}.part")
    partial.write_text(json.dumps({"sha256": digest, "size": status.st_size, "version": str(status.st_mtime_ns)}))
    partial.replace(sidecar)


def _copy_synced(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(CHUNK_BYTES):
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())


def _hash_stream(path: Path) -> str:
    with path.open("rb") as stream:
        return _digest(stream)


def _digest(stream: BinaryIO) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()
