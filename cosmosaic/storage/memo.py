"""What was found by reading objects, remembered under a prefix: thousands of entries in a few objects."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any
from uuid import uuid4

from cosmosaic.storage.names import join
from cosmosaic.storage.objects import list_objects, publish_bytes, read_bytes, remove

WRITE_EVERY_S = 30.0
"""What is gathered for so long is written: a run that is killed loses no more."""
MOST_PIECES = 16
"""More pieces than these are merged when they are read."""


class Memo:
    """Entries under a prefix, one for each URI; each holds for one identity of its object, such as size and version.

    Each writing adds a piece, named by its time, and a later entry replaces an earlier one of the same URI. A piece
    that cannot be read counts as missing.

    Parameters
    ----------
    prefix
        Where the pieces are.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._lock = threading.RLock()
        self._lines: dict[str, str] | None = None
        self._new: list[str] = []
        self._gathering = 0
        self._written = time.monotonic()

    def recall(self, uri: str, identity: list[Any]) -> Any:
        """Return what was kept of an object; None if there is nothing, or it is of another identity."""
        with self._lock:
            line = self._known().get(uri)
        _, known, value = json.loads(line) if line else (uri, None, None)
        return value if known == identity else None

    def keep(self, uri: str, identity: list[Any], value: Any) -> None:
        """Remember something of an object; identity and value are lists, dicts, strings and numbers."""
        line = json.dumps([uri, identity, value])
        with self._lock:
            self._known()[uri] = line
            self._new.append(line)
            if not self._gathering or time.monotonic() - self._written > WRITE_EVERY_S:
                self._write()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Write what is kept within this context in few pieces, at its end; then free the memory."""
        with self._lock:
            self._gathering += 1
        try:
            yield
        finally:
            with self._lock:
                self._gathering -= 1
                if not self._gathering:
                    self._write()
                    self._lines = None

    def _known(self) -> dict[str, str]:
        if self._lines is None:
            pieces = [listed.uri for listed in list_objects(self._prefix, "*.jsonl.gz")]  # in the order of their times
            self._lines = {uri: line for piece in pieces for uri, line in _read(piece)}
            if len(pieces) > MOST_PIECES:
                self._new = list(self._lines.values())
                self._write()
                for piece in pieces:
                    remove(piece)
        return self._lines

    def _write(self) -> None:
        if self._new:
            content = gzip.compress("\n".join(self._new).encode(), mtime=0)
            publish_bytes(content, join(self._prefix, f"{time.time_ns():020}-{uuid4().hex[:8]}.jsonl.gz"))
        self._new, self._written = [], time.monotonic()


def _read(piece: str) -> Iterator[tuple[str, str]]:
    """Yield the entries of a piece: URIs and lines."""
    lines: list[str] = []
    with suppress(OSError, EOFError, ValueError):  # removed by another run, or broken
        lines = gzip.decompress(read_bytes(piece)).decode().splitlines()
    for line in lines:
        with suppress(ValueError, TypeError):
            uri, _, _ = json.loads(line)
            yield str(uri), line


_MEMOS: dict[str, Memo] = {}
_OPENING = threading.Lock()


def memo_of(prefix: str, part: str) -> Memo:
    """Return this process's memo of one part of a prefix."""
    with _OPENING:
        return _MEMOS.setdefault(join(prefix, part), Memo(join(prefix, part)))


def gathered(prefix: str, part: str) -> AbstractContextManager[None]:
    """Write what is kept in a memo within this context in few pieces; without a prefix nothing is kept."""
    return memo_of(prefix, part).gathered() if prefix else nullcontext()
