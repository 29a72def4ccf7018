"""Copies of objects whose checksums are verified: to the local disk, and to another name."""

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cosmosaic.records import StoredObject
from cosmosaic.storage import local, remote
from cosmosaic.storage.checksums import CHECKING_THREADS, check_unaltered, checksum, is_intact
from cosmosaic.storage.names import AlteredObjectError, absolute_uri, file_name, is_remote
from cosmosaic.storage.objects import list_objects, publish, stored_as
from cosmosaic.storage.remote import ObjectExistsError
from cosmosaic.storage.scratch import locked, require_space

FETCH_ATTEMPTS = 4
SHARED_BYTES = 20e9
"""Limit of the disk space for fetched objects; the least recently used are removed first."""


def fetch(stored: StoredObject, folder: Path, shared: Path | None = None) -> Path:
    """Make an object available on the local disk: the file itself if it is local, else a verified copy.

    Parameters
    ----------
    stored
        The object.
    folder
        Folder for the copy, which has the object's name.
    shared
        Folder of limited size that the processes of one machine share, so that each object is fetched once.

    Raises
    ------
    AlteredObjectError
        The object's bytes are no longer those that were recorded.
    cosmosaic.storage.scratch.ScratchError
        The disk has too little room for it.
    ValueError
        The object's name cannot be a file's.
    """
    if not is_remote(stored.uri):
        check_unaltered(stored)
        return Path(stored.uri)
    target = folder / file_name(stored.name)
    if shared is None:
        _download(stored, target)
        return target
    shared.mkdir(parents=True, exist_ok=True)
    with locked(shared / f"{stored.sha256}.lock"):
        kept = shared / stored.sha256
        if not kept.exists():
            _make_room(shared, stored.size)
            _download(stored, kept)
        os.utime(kept)
        target.hardlink_to(kept)
    return target


def publish_once(path: Path, uri: str) -> StoredObject:
    """Publish a file unless the same bytes are there: of two simultaneous writers, the first one's object stays.

    The write is conditional if the store supports it. An object with other bytes is replaced.
    """
    stored = stored_as(path, absolute_uri(uri))
    if not is_remote(stored.uri):
        return checksum(stored.uri) if is_intact(stored) else publish(path, uri)
    try:
        version = remote.upload(path, stored.uri, stored.sha256, new=True)
    except ObjectExistsError:
        return stored if is_intact(stored) else publish(path, uri)
    return dataclasses.replace(stored, version=version)


def copy(stored: StoredObject, uri: str, folder: Path) -> StoredObject:
    """Publish a stored object under another name as well; within one store the bytes do not pass through this process.

    Raises
    ------
    AlteredObjectError
        The object's bytes are no longer those that were recorded.
    """
    copied = dataclasses.replace(stored, uri=absolute_uri(uri), version="")
    if is_remote(copied.uri):
        version = remote.copy(stored.uri, copied.uri, stored.size, stored.version)
        if version is None:
            publish(fetch(stored, folder), copied.uri)
        if version is None or not stored.version:
            check_unaltered(copied)
        return dataclasses.replace(copied, version=version or "")
    source = fetch(stored, folder)
    version = local.publish(source, Path(copied.uri))
    if not is_remote(stored.uri):
        check_unaltered(stored)  # it may have been written to while it was copied
    return dataclasses.replace(copied, version=version)


def mirror(prefix: str, folder: Path) -> None:
    """Mirror the objects under a prefix into a folder: new and changed objects are fetched."""
    prefix = absolute_uri(prefix)
    listed = {found.uri.removeprefix(f"{prefix}/"): found for found in list_objects(prefix)}
    versions = folder / ".versions.json"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        known = json.loads(versions.read_text()) if versions.exists() else {}
        wanted = {name: found for name, found in listed.items() if known.get(name) != [found.size, found.version]}
        require_space(folder, sum(found.size for found in wanted.values()), f"the copy of {prefix}")
        with ThreadPoolExecutor(CHECKING_THREADS) as pool:
            list(pool.map(lambda name: _mirror_one(wanted[name].uri, folder / name), wanted))
        versions.write_text(json.dumps({name: [found.size, found.version] for name, found in listed.items()}))


def _mirror_one(uri: str, path: Path) -> None:
    if ".." in path.parts:
        raise ValueError(f"{uri} would leave the folder it is copied to")
    path.parent.mkdir(parents=True, exist_ok=True)
    _download(checksum(uri), path)


def _download(stored: StoredObject, target: Path) -> None:
    """Fetch an object under a hidden name, check it, and give it its name."""
    partial = target.with_name(f".{target.name}.part")
    try:
        for _ in range(FETCH_ATTEMPTS):
            remote.download(stored.uri, partial)
            if local.hash_file(partial) == stored.sha256:
                partial.replace(target)
                return
        raise AlteredObjectError(f"{stored.uri} did not arrive with the sha256 {stored.sha256[:16]}... of its record")
    finally:
        partial.unlink(missing_ok=True)


def _make_room(shared: Path, size: int) -> None:
    """Remove the least recently used objects until another one fits."""
    held = sorted((path for path in shared.iterdir() if len(path.name) == 64), key=lambda path: path.stat().st_mtime)
    used = sum(path.stat().st_size for path in held)
    for path in held:
        if used + size <= SHARED_BYTES:
            break
        used -= path.stat().st_size
        path.unlink()
    require_space(shared, size, "a copy of an object")
