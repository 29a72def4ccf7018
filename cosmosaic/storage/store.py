"""Object storage: list, read, fetch and publish, the same on a folder and on S3.

Objects are named by URI: an absolute path on the local disk, or ``s3://bucket/key``. An object appears under its
name when it is whole, with its sha256 kept beside it: as metadata on S3, in a hidden file on a disk. A kept checksum
counts only for the bytes it was kept for; what has none is read once and remembered in the cache.
"""

import fcntl
import hashlib
import json
import os
import re
import stat as file_status
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

from cosmosaic.records import Record, StoredObject
from cosmosaic.storage import remote
from cosmosaic.storage.remote import ObjectExistsError
from cosmosaic.storage.scratch import locked, require_space

CHUNK_BYTES = 1 << 22
FETCH_ATTEMPTS = 4
CHECKING_THREADS = 16
SHARED_BYTES = 20e9
"""Most that fetched objects may take on the local disk; the oldest go first."""
LONGEST_UPLOAD_S = 86_400.0
"""An upload in parts that was begun longer ago belongs to nobody any more."""
LONGEST_NAME = 128
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
URL = re.compile(r"[a-z][a-z0-9+.-]*://")


class ListedObject(Record):
    """An object as its store lists it."""

    uri: str
    size: int
    version: str
    """What changes when the object is written again: times of modification or ETag."""
    sha256: str = ""
    """The checksum that is kept beside the object; empty where there is none or it was not asked for."""

    @property
    def name(self) -> str:
        """The object's file name."""
        return self.uri.rsplit("/", 1)[-1]


class AlteredObjectError(OSError):
    """An object's bytes are not those that were recorded."""


def absolute_uri(uri: str) -> str:
    """Return the one spelling of a URI: an absolute path for local files, the URL otherwise."""
    if URL.match(uri) and not uri.startswith("file://"):
        return uri.rstrip("/")
    return str(Path(uri.removeprefix("file://")).expanduser().absolute())


def join(uri: str, *parts: str) -> str:
    """Append path components to a URI."""
    return "/".join([uri.rstrip("/"), *parts])


def is_remote(uri: str) -> bool:
    """Tell whether a URI names no local file."""
    return URL.match(absolute_uri(uri)) is not None


def is_plain_name(name: str) -> bool:
    """Tell whether a file name can go anywhere: into a header, a table, a folder, a message."""
    return len(name) <= LONGEST_NAME and PLAIN_NAME.fullmatch(name) is not None


def check_access(uri: str) -> None:
    """Ask a store once whether it lets us in, and say within seconds what is wrong.

    Raises
    ------
    PermissionError
        The store refuses the keys, or the folder may not be written to.
    FileNotFoundError
        There is no such bucket.
    ConnectionError
        Nobody answers.
    """
    uri = absolute_uri(uri)
    if is_remote(uri):
        remote.check_access(uri)
        return
    nearest = next(folder for folder in (Path(uri), *Path(uri).parents) if folder.exists())
    if not os.access(nearest, os.W_OK):
        raise PermissionError(f"{nearest} may not be written to; choose another store")


def list_objects(prefix: str, pattern: str = "*") -> Iterator[ListedObject]:
    """List the objects under a prefix at any depth whose file name matches a pattern, sorted by URI."""
    prefix = absolute_uri(prefix)
    found = _list_remote(prefix) if is_remote(prefix) else _list_local(Path(prefix))
    return (listed for listed in found if fnmatch(listed.name, pattern) and not listed.name.startswith("."))


def list_older(prefix: str, moment: float) -> Iterator[ListedObject]:
    """List the objects under a prefix that were last written before a moment, in seconds since the epoch."""
    prefix = absolute_uri(prefix)
    if not is_remote(prefix):
        return (found for found in list_objects(prefix) if os.stat(found.uri).st_mtime < moment)  # noqa: PTH116
    return (_listed(prefix, found) for found in remote.iterate(prefix) if found.modified < moment)


def stat(uri: str) -> ListedObject | None:
    """Describe one object; None where it does not exist."""
    uri = absolute_uri(uri)
    if not is_remote(uri):
        return _stat_local(Path(uri))
    found = remote.head(uri)
    return found and ListedObject(uri=uri, size=found.size, version=found.version, sha256=found.sha256)


def open_object(uri: str, size: int | None = None) -> BinaryIO:
    """Open an object for reading; seeking moves only the bytes around what is read.

    The size, where it is known already, saves a question to a remote store.

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
    return remote.open_stream(uri, size)


def read_bytes(uri: str) -> bytes:
    """Read a small object whole."""
    uri = absolute_uri(uri)
    return remote.read(uri) if is_remote(uri) else Path(uri).read_bytes()


def checksum(uri: str, memo: str = "") -> StoredObject:
    """Return an object with its sha256, from what is kept beside it or by reading it once.

    Parameters
    ----------
    uri
        The object.
    memo
        Prefix under which the checksums of objects that have none beside them are remembered, per URI, size and
        version; without it they are remembered as long as the process lives.

    Raises
    ------
    FileNotFoundError
        There is no such object.
    """
    listed = stat(uri)
    if listed is None:
        raise FileNotFoundError(f"{uri} does not exist")
    return StoredObject(uri=listed.uri, sha256=listed.sha256 or _remembered(listed, memo), size=listed.size)


def is_intact(stored: StoredObject) -> bool:
    """Tell whether an object is still there with the size and checksum that were recorded."""
    listed = stat(stored.uri)
    if listed is None or listed.size != stored.size:
        return False
    return (listed.sha256 or _remembered(listed, "")) == stored.sha256


def check_unaltered(stored: StoredObject) -> None:
    """Check that an object is what was recorded.

    Raises
    ------
    AlteredObjectError
        It is gone or has other bytes.
    """
    if not is_intact(stored):
        raise AlteredObjectError(
            f"{stored.uri} no longer has the sha256 {stored.sha256[:16]}... that was recorded; it was written again or "
            "removed since, and the next run will take it as it is then"
        )


def all_intact(objects: Iterable[StoredObject]) -> bool:
    """Tell whether objects are all still there, unaltered."""
    with ThreadPoolExecutor(CHECKING_THREADS) as pool:
        return all(pool.map(is_intact, objects))


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
    target = folder / _file_name(stored.name)
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


def publish(path: Path, uri: str) -> StoredObject:
    """Write a file to the store under its final name, whole or not at all, with its sha256 beside it.

    A local object is written under a hidden name first and then renamed; an upload to S3 becomes
    visible when it is complete.
    """
    stored = _stored(path, absolute_uri(uri))
    if is_remote(stored.uri):
        remote.upload(path, stored.uri, stored.sha256)
    else:
        _publish_local(path, Path(stored.uri), stored.sha256)
    return stored


def publish_once(path: Path, uri: str) -> StoredObject:
    """Publish a file unless the same bytes are there: two who make one thing at once leave the first one's alone.

    The write is conditional where the store can do that. What is there in other bytes is replaced.
    """
    stored = _stored(path, absolute_uri(uri))
    if not is_remote(stored.uri):
        return stored if is_intact(stored) else publish(path, uri)
    try:
        remote.upload(path, stored.uri, stored.sha256, new=True)
    except ObjectExistsError:
        return stored if is_intact(stored) else publish(path, uri)
    return stored


def publish_bytes(content: bytes, uri: str) -> StoredObject:
    """Publish a few bytes."""
    with tempfile.NamedTemporaryFile(prefix="cosmosaic-") as file:
        file.write(content)
        file.flush()
        return publish(Path(file.name), uri)


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


def remove(uri: str) -> None:
    """Remove an object; one that is not there is no error."""
    uri = absolute_uri(uri)
    with suppress(FileNotFoundError):
        if is_remote(uri):
            remote.remove(uri)
        else:
            _sidecar(Path(uri)).unlink(missing_ok=True)
            Path(uri).unlink()


def clean(prefix: str) -> list[str]:
    """Remove what dead writers left half written under a prefix; return what was removed.

    On a disk a hidden file that nobody holds the lock of; on S3 an upload in parts that was begun long ago.
    """
    prefix = absolute_uri(prefix)
    if is_remote(prefix):
        return remote.abort_stale_uploads(prefix, LONGEST_UPLOAD_S)
    return [str(path) for path in Path(prefix).rglob(".*.part") if _remove_unlocked(path)]


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


def _list_remote(prefix: str) -> Iterator[ListedObject]:
    return (_listed(prefix, found) for found in remote.iterate(prefix))


def _listed(prefix: str, found: remote.RemoteObject) -> ListedObject:
    protocol = prefix.split("://", 1)[0]
    return ListedObject(uri=f"{protocol}://{found.key}", size=found.size, version=found.version)


def _list_local(folder: Path) -> Iterator[ListedObject]:
    paths = [str(folder)] if folder.is_file() else sorted(_walk(folder))
    for path in paths:
        with suppress(OSError):
            status = os.stat(path)  # noqa: PTH116, a million times
            if file_status.S_ISREG(status.st_mode):
                uri = os.fsencode(path).decode(errors="backslashreplace")
                yield ListedObject(uri=uri, size=status.st_size, version=_version(status))


def _walk(folder: Path) -> Iterator[str]:
    """Walk a folder and what is linked into it, each real folder once."""
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(root)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield from (f"{root}/{name}" for name in files if not name.startswith("."))


def _stat_local(path: Path) -> ListedObject | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not file_status.S_ISREG(status.st_mode):
        return None
    listed = ListedObject(uri=str(path), size=status.st_size, version=_version(status))
    return listed.model_copy(update={"sha256": _kept_sha256(path, listed)})


def _version(status: os.stat_result) -> str:
    # The time of the last change of the inode, which no program can set, beside that of the content, which many do.
    return f"{status.st_mtime_ns}-{status.st_ctime_ns}"


def _kept_sha256(path: Path, listed: ListedObject) -> str:
    try:
        kept = json.loads(_sidecar(path).read_text())
        matches = (kept["size"], kept["version"]) == (listed.size, listed.version)
        return str(kept["sha256"]) if matches else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


_HASHED: dict[ListedObject, str] = {}
"""Checksums that this process found by reading."""


def _remembered(listed: ListedObject, memo: str) -> str:
    """Hash an object once per URI, size and version."""
    if listed in _HASHED:
        return _HASHED[listed]
    record = _memo_uri(listed, memo) if memo else ""
    digest = _recall(record, listed) or _hash_object(listed)
    _HASHED[listed] = digest
    if record:
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
    is_far = is_remote(listed.uri)
    with remote.open_stream(listed.uri, listed.size, CHUNK_BYTES) if is_far else open_object(listed.uri) as stream:
        digest = _digest(stream)
    now = stat(listed.uri)
    if now is None or (now.size, now.version) != (listed.size, listed.version):
        raise AlteredObjectError(f"{listed.uri} was written again while it was read")
    return digest


def _file_name(name: str) -> str:
    if name in ("", ".", "..") or len(name.encode()) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"the name {name[:LONGEST_NAME]!r} of an object cannot be a file's; rename the object")
    return name


def _download(stored: StoredObject, target: Path) -> None:
    """Fetch an object under a hidden name, check it, and give it its name."""
    partial = target.with_name(f".{target.name}.part")
    try:
        for _ in range(FETCH_ATTEMPTS):
            remote.download(stored.uri, partial)
            if _hash_stream(partial) == stored.sha256:
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


def _stored(path: Path, uri: str) -> StoredObject:
    return StoredObject(uri=uri, sha256=_hash_stream(path), size=path.stat().st_size)


def _sidecar(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")


def _publish_local(path: Path, target: Path, digest: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _partial(target.with_name(f".{target.name}.part")) as (partial, writer):
        with path.open("rb") as reader:
            while chunk := reader.read(CHUNK_BYTES):
                writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
        # The old checksum goes first: a crash in between leaves an object that is hashed again, never a wrong checksum.
        _sidecar(target).unlink(missing_ok=True)
        partial.replace(target)
        written = os.fstat(writer.fileno())
    _write_sidecar(_sidecar(target), digest, written)


@contextmanager
def _partial(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open the hidden file that becomes an object; what a dead writer left there is overwritten.

    Two who write one object at once take turns: the name is locked, and a lock counts only while the name is that of
    the locked file, which it ceases to be when the other one gives it its final name.
    """
    while True:
        with path.open("ab") as writer:
            fcntl.flock(writer, fcntl.LOCK_EX)
            if not _is_same_file(path, writer):
                continue
            writer.truncate(0)
            try:
                yield path, writer
            finally:
                if _is_same_file(path, writer):
                    path.unlink()
            return


def _remove_unlocked(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as left:
        fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    return False


def _is_same_file(path: Path, opened: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(opened.fileno()))
    except FileNotFoundError:
        return False


def _write_sidecar(sidecar: Path, digest: str, written: os.stat_result) -> None:
    content = json.dumps({"sha256": digest, "size": written.st_size, "version": _version(written)})
    with _partial(sidecar.with_name(f"{sidecar.name}.part")) as (partial, writer):
        writer.write(content.encode())
        writer.flush()
        partial.replace(sidecar)


def _hash_stream(path: Path) -> str:
    with path.open("rb") as stream:
        return _digest(stream)


def _digest(stream: BinaryIO) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
