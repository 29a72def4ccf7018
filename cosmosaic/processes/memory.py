"""Memory of a child process: treatment of freed memory, and the peak."""

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path
from typing import Any

KEPT_BYTES = 1 << 30
"""A process keeps freed memory up to this size while it works."""
MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_THRESHOLD, MALLOPT_MMAP_MAX, MALLOPT_ARENA_MAX = -1, -3, -4, -8
"""Options of ``mallopt`` in glibc's ``malloc.h``."""


def keep_freed_memory() -> None:
    """Let arrays reuse memory that the process has freed, until `return_freed_memory` is called.

    By default glibc returns every freed array to the system at once, and the system clears each page of the next one:
    an eighth of the CPU time of Stages 1 and 2.
    """
    tune = _libc_function("mallopt")
    if tune:
        # Older versions of glibc refuse a threshold above 32 MB, but can be told not to map arrays at all.
        _ = tune(MALLOPT_MMAP_THRESHOLD, KEPT_BYTES) or tune(MALLOPT_MMAP_MAX, 0)
        tune(MALLOPT_TRIM_THRESHOLD, KEPT_BYTES)
        # One heap: after a failed allocation glibc would use a second one, whose end is never returned.
        tune(MALLOPT_ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Return unused memory to the system, including the gaps in the heap."""
    gc.collect()
    trim = _libc_function("malloc_trim")
    if trim:
        trim(0)


def _libc_function(name: str) -> Any:
    """Find a function of glibc; None on other systems."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def reset_peak_memory() -> None:
    """Reset the peak."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Return the largest resident memory since `reset_peak_memory`, in MB."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
