"""Objects in a folder on the local disk.

An object is written under a hidden name, locked, and renamed when it is whole. Its version tells whether it was written
to since.
"""

import fcntl
import hashlib
import os
import shutil
import stat as file_status
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cosmosaic.storage.names import ListedObject

CHUNK_BYTES = 1 << 22
LARGEST_COPY_BYTES = 1 << 30
"""What the kernel is asked to copy at once."""


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
    """Remove a file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    """
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
    return ListedObject(uri=str(path), size=status.st_size, version=_version(status))


def _version(status: os.stat_result) -> str:
    # Programs can set the content's modification time, but not the inode's change time.
    return f"{status.st_mtime_ns}-{status.st_ctime_ns}"


def publish(path: Path, target: Path) -> str:
    """Copy a file to its final name, whole or not at all; return the copy's version.

    On a file system that can (XFS, Btrfs), the copy shares the blocks of its source until one of them is written to.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _partial(target.with_name(f".{target.name}.part")) as (partial, writer):
        with path.open("rb") as reader:
            _copy(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())
        partial.replace(target)
        return _version(os.fstat(writer.fileno()))


def _copy(reader: BinaryIO, writer: BinaryIO) -> None:
    """Copy a file within the kernel, which shares blocks where it can; what it leaves goes through this process."""
    copied = 0
    with suppress(OSError):  # another file system, or one that cannot
        while count := os.copy_file_range(reader.fileno(), writer.fileno(), LARGEST_COPY_BYTES, copied, copied):
            copied += count
    reader.seek(copied)
    writer.seek(copied)
    shutil.copyfileobj(reader, writer, CHUNK_BYTES)


@contextmanager
def _partial(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open the hidden file that becomes an object; remains of a dead writer are overwritten.

    Two writers of one object take turns. The file is locked, and the lock counts only while the file still has the
    hidden name: it loses it when the other writer renames it to the object's name.
    """
    while True:
        with open(path, "wb", opener=_open_as_it_is) as writer:
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


def _open_as_it_is(path: str, flags: int) -> int:
    """Open a file to write to it without emptying it, for another writer may be at work."""
    return os.open(path, flags & ~os.O_TRUNC, 0o666)


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


def hash_file(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hash_stream(stream)


def hash_stream(stream: BinaryIO) -> str:
    """Return the sha256 of the rest of a stream."""
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
