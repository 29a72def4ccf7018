"""Copies of objects whose checksums are verified: to the local disk, and to another name."""

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
"""Most that fetched objects may take on the local disk; the oldest go first."""


def fetch(stored: StoredObject, folder: Path, shared: Path | None = None) -> Path:
    """Bring an object to the local disk: the file itself where it is local, else a copy whose checksum is right.

    Parameters
    ----------
    stored
        What is wanted.
    folder
        Where the copy goes, under the object's own name.
    shared
        Folder for what is fetched, bounded, which the processes of one machine share: one object is fetched once.

    Raises
    ------
    AlteredObjectError
        The object's bytes are no longer those that were recorded.
    cosmosaic.storage.scratch.ScratchError
        The disk has no room for it.
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
    """Publish a file unless the same bytes are there: two who make one thing at once leave the first one's alone.

    The write is conditional where the store can do that. What is there in other bytes is replaced.
    """
    stored = stored_as(path, absolute_uri(uri))
    if not is_remote(stored.uri):
        return stored if is_intact(stored) else publish(path, uri)
    try:
        remote.upload(path, stored.uri, stored.sha256, new=True)
    except ObjectExistsError:
        return stored if is_intact(stored) else publish(path, uri)
    return stored


def copy(stored: StoredObject, uri: str, folder: Path) -> StoredObject:
    """Publish a stored object under another name as well; within one store on S3 the bytes stay there.

    Raises
    ------
    AlteredObjectError
        The object's bytes are no longer those that were recorded.
    """
    uri = absolute_uri(uri)
    if not remote.copy(stored.uri, uri, stored.size):
        publish(fetch(stored, folder), uri)
    copied = stored.model_copy(update={"uri": uri})
    check_unaltered(copied)
    return copied


def mirror(prefix: str, folder: Path) -> None:
    """Make a folder hold what lies under a prefix: what is new or was written again is fetched."""
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
    """Remove the objects that were used longest ago until one more fits."""
    held = sorted((path for path in shared.iterdir() if len(path.name) == 64), key=lambda path: path.stat().st_mtime)
    used = sum(path.stat().st_size for path in held)
    for path in held:
        if used + size <= SHARED_BYTES:
            break
        used -= path.stat().st_size
        path.unlink()
    require_space(shared, size, "a copy of an object")
