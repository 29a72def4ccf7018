"""One object, or all objects under a prefix, in a folder or on a remote store."""

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

from cosmosaic.records import StoredObject
from cosmosaic.storage import local, remote
from cosmosaic.storage.names import ListedObject, absolute_uri, is_remote

LONGEST_UPLOAD_S = 86_400.0
"""A multipart upload that began longer ago is abandoned."""


def check_access(uri: str) -> None:
    """Send one request to a store, and report problems within seconds.

    Raises
    ------
    PermissionError
        The store refuses the keys, or the folder is not writable.
    FileNotFoundError
        There is no such bucket.
    ConnectionError
        The store does not answer.
    """
    uri = absolute_uri(uri)
    if is_remote(uri):
        remote.check_access(uri)
        return
    local.check_access(Path(uri))


def list_objects(prefix: str, pattern: str = "*") -> Iterator[ListedObject]:
    """List the objects under a prefix at any depth whose file name matches a pattern, sorted by URI."""
    prefix = absolute_uri(prefix)
    found = _list_remote(prefix) if is_remote(prefix) else local.list_folder(Path(prefix))
    return (listed for listed in found if fnmatch(listed.name, pattern) and not listed.name.startswith("."))


def list_older(prefix: str, moment: float) -> Iterator[ListedObject]:
    """List the objects under a prefix that were last written before a moment, in seconds since the epoch."""
    return (listed for listed, written in list_dated(prefix) if written < moment)


def list_dated(prefix: str) -> Iterator[tuple[ListedObject, float]]:
    """List the objects under a prefix, each with the time it was last written by the store's clock, in seconds."""
    prefix = absolute_uri(prefix)
    if not is_remote(prefix):
        return ((found, os.stat(found.uri).st_mtime) for found in list_objects(prefix))  # noqa: PTH116
    return ((_listed(prefix, found), found.modified) for found in remote.iterate(prefix))


def stat(uri: str) -> ListedObject | None:
    """Describe one object; None if it does not exist."""
    uri = absolute_uri(uri)
    if not is_remote(uri):
        return local.stat(Path(uri))
    found = remote.head(uri)
    return found and ListedObject(uri=uri, size=found.size, version=found.version, sha256=found.sha256)


def open_object(uri: str, size: int | None = None) -> BinaryIO:
    """Open an object for reading; only the bytes around each read are fetched.

    Giving the size, if it is known, saves a request to a remote store.

    Raises
    ------
    FileNotFoundError
        There is no such object.
    """
    uri = absolute_uri(uri)
    if not is_remote(uri):
        return Path(uri).open("rb")
    if size is None:
        found = remote.head(uri)
        if found is None:
            raise FileNotFoundError(f"{uri} does not exist")
        size = found.size
    return remote.open_stream(remote.RangeReader(uri, size))


def read_bytes(uri: str) -> bytes:
    """Read a small object whole."""
    uri = absolute_uri(uri)
    return remote.read(uri) if is_remote(uri) else Path(uri).read_bytes()


def publish(path: Path, uri: str) -> StoredObject:
    """Write a file to the store under its final name, whole or not at all.

    A local object is written under a hidden name first and then renamed; an upload to S3 becomes
    visible when it is complete, with its sha256 beside it.
    """
    stored = stored_as(path, absolute_uri(uri))
    if is_remote(stored.uri):
        version = remote.upload(path, stored.uri, stored.sha256)
    else:
        version = local.publish(path, Path(stored.uri))
    return dataclasses.replace(stored, version=version)


def publish_bytes(content: bytes, uri: str) -> StoredObject:
    """Publish a few bytes."""
    with tempfile.NamedTemporaryFile(prefix="cosmosaic-") as file:
        file.write(content)
        file.flush()
        return publish(Path(file.name), uri)


def remove(uri: str) -> None:
    """Remove an object, if it exists."""
    uri = absolute_uri(uri)
    with suppress(FileNotFoundError):
        if is_remote(uri):
            remote.remove(uri)
        else:
            local.remove(Path(uri))


def clean(prefix: str) -> list[str]:
    """Remove the half-written objects that dead writers left under a prefix; return their names.

    On a disk these are hidden files whose lock nobody holds; on S3, multipart uploads that began long ago.
    """
    prefix = absolute_uri(prefix)
    if is_remote(prefix):
        return remote.abort_stale_uploads(prefix, LONGEST_UPLOAD_S)
    return local.clean(Path(prefix))


def _list_remote(prefix: str) -> Iterator[ListedObject]:
    return (_listed(prefix, found) for found in remote.iterate(prefix))


def _listed(prefix: str, found: remote.RemoteObject) -> ListedObject:
    protocol = prefix.split("://", 1)[0]
    return ListedObject(uri=f"{protocol}://{found.key}", size=found.size, version=found.version)


def stored_as(path: Path, uri: str) -> StoredObject:
    """Describe the object that a local file becomes under a URI."""
    return StoredObject(uri=uri, sha256=local.hash_file(path), size=path.stat().st_size)
