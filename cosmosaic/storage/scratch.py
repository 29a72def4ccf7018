"""Temporary files: folders that go with their process, however it ends, and never fill the disk unnoticed.

A folder is alive as long as its process holds a lock on it. The lock goes with the process, killed or not,
and holds across containers that share the folder, which a process number would not.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "cosmosaic-"
LOCK_NAME = ".alive"
UNLOCKED_GRACE_S = 60.0
"""A folder without a lock that is younger than this may be about to get one."""


class ScratchError(OSError):
    """The scratch folder cannot be used; the message gives the missing space and the remedy."""


def scratch_root(scratch: str | None) -> Path:
    """Return the folder for temporary files, created if missing: the one in the settings, else the system's."""
    root = scratch_place(scratch)
    root.mkdir(parents=True, exist_ok=True)
    return root


def scratch_place(scratch: str | None) -> Path:
    """Return where temporary files go; the folder need not exist yet."""
    return Path(scratch) if scratch else Path(tempfile.gettempdir())


@contextmanager
def scratch_folder(scratch: str | None, purpose: str) -> Iterator[Path]:
    """Make a folder for temporary files and remove it at the end."""
    folder, lock = open_scratch(scratch, purpose)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def open_scratch(scratch: str | None, purpose: str) -> tuple[Path, int]:
    """Make a folder that lives until its process ends; return it and the descriptor that holds its lock."""
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-{os.getpid()}-", dir=scratch_root(scratch)))
    lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def clean_scratch(scratch: str | None) -> list[Path]:
    """Remove the folders that dead processes left behind; return them."""
    left = [folder for folder in scratch_root(scratch).glob(f"{PREFIX}*") if folder.is_dir() and _is_dead(folder)]
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return left


def require_space(folder: Path, needed_bytes: float, purpose: str) -> None:
    """Check that the disk of a folder, which need not exist yet, has room.

    Raises
    ------
    ScratchError
        It has too little, or the folder is not writable.
    """
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not os.access(nearest, os.W_OK):
        raise ScratchError(f"the scratch folder {folder} is not writable; set resources.scratch to another folder")
    free = shutil.disk_usage(nearest).free
    if free < needed_bytes:
        raise ScratchError(
            f"{purpose} needs about {needed_bytes / 1e9:.2f} GB in the scratch folder {folder}, which has "
            f"{free / 1e9:.2f} GB free: {(needed_bytes - free) / 1e9:.2f} GB are missing; "
            "set resources.scratch to a folder on a larger disk"
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, for work that two processes must not do at once."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _is_dead(folder: Path) -> bool:
    try:
        lock = os.open(folder / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        with suppress(OSError):
            return time.time() - folder.stat().st_mtime > UNLOCKED_GRACE_S
        return False
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
