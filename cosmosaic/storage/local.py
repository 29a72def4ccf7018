"""Objects in a folder on the local disk: each with its sha256 in a hidden file beside it.

An object is written under a hidden name, locked, and renamed when it is whole.
"""

import fcntl
import hashlib
import json
import os
import stat as file_status
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cosmosaic.storage.names import ListedObject

CHUNK_BYTES = 1 << 22


def list_folder(folder: Path) -> Iterator[ListedObject]:
    """List the files of a folder at any depth, sorted by path; a file counts as a folder of itself."""
    paths = [str(folder)] if folder.is_file() else sorted(_walk(folder))
    for path in paths:
        with suppress(OSError):
            status = os.stat(path)  # noqa: PTH116, a million times
            if file_status.S_ISREG(status.st_mode):
                uri = os.fsencode(path).decode(errors="backslashreplace")
                yield ListedObject(uri=uri, size=status.st_size, version=_version(status))


def remove(path: Path) -> None:
    """Remove a file and its checksum.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    """
    _sidecar(path).unlink(missing_ok=True)
    path.unlink()


def clean(folder: Path) -> list[str]:
    """Remove half-written files whose lock nobody holds; return their paths."""
    return [str(path) for path in folder.rglob(".*.part") if _remove_unlocked(path)]


def check_access(folder: Path) -> None:
    """Check that a folder, or the nearest one above it that exists, can be written to.

    Raises
    ------
    PermissionError
        It cannot.
    NotADirectoryError
        It is a file.
    """
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"{nearest} is a file, but a store must be a folder; choose another store")
    if not os.access(nearest, os.W_OK):
        raise PermissionError(f"{nearest} is not writable; choose another store")


def _walk(folder: Path) -> Iterator[str]:
    """Walk a folder, following links, each real folder once."""
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(root)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield from (f"{root}/{name}" for name in files if not name.startswith("."))


def stat(path: Path) -> ListedObject | None:
    """Describe a file; None if there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not file_status.S_ISREG(status.st_mode):
        return None
    listed = ListedObject(uri=str(path), size=status.st_size, version=_version(status))
    return listed.model_copy(update={"sha256": _kept_sha256(path, listed)})


def _version(status: os.stat_result) -> str:
    # Programs can set the content's modification time, but not the inode's change time.
    return f"{status.st_mtime_ns}-{status.st_ctime_ns}"


def _kept_sha256(path: Path, listed: ListedObject) -> str:
    try:
        kept = json.loads(_sidecar(path).read_text())
        matches = (kept["size"], kept["version"]) == (listed.size, listed.version)
        return str(kept["sha256"]) if matches else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _sidecar(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")


def publish(path: Path, target: Path, digest: str) -> None:
    """Copy a file to its final name, whole or not at all, and its sha256 into a hidden file beside it."""
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
    """Open the hidden file that becomes an object; remains of a dead writer are overwritten.

    Two writers of one object take turns. The file is locked, and the lock counts only while the file still has the
    hidden name: it loses it when the other writer renames it to the object's name.
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


def hash_file(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hash_stream(stream)


def hash_stream(stream: BinaryIO) -> str:
    """Return the sha256 of the rest of a stream."""
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
