"""Signs of life of runs, beside the run table, by which later runs recognise the dead ones."""

import json
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from cosmosaic.storage import store

BEAT_S = 60.0
"""Seconds between two signs of life."""
DEAD_S = 300.0
"""A run on another machine without a sign of life for this long is dead."""


@contextmanager
def showing_life(products: str, run_id: str) -> Iterator[None]:
    """Show that a run is under way, as long as the context lasts and its process lives."""
    sign, ended = _sign(products, run_id), threading.Event()
    _beat(sign)
    threading.Thread(target=_beat_until, args=(ended, sign), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        with suppress(OSError):
            store.remove(sign)


def dead_runs(products: str) -> list[str]:
    """Return the runs whose process ended without a word."""
    listed = store.list_objects(store.join(products, "runs", "underway"), "*.json")
    return [found.name.removesuffix(".json") for found in listed if _is_dead(found.uri)]


def bury(products: str, run_id: str) -> None:
    """Remove the last sign of a dead run, once it is marked."""
    store.remove(_sign(products, run_id))


def _sign(products: str, run_id: str) -> str:
    return store.join(products, "runs", "underway", f"{run_id}.json")


def _beat(sign: str) -> None:
    process = psutil.Process()
    content = {
        "host": platform.node(),
        "process": process.pid,
        "process_start": process.create_time(),
        "time": time.time(),
    }
    store.publish_bytes(json.dumps(content).encode(), sign)


def _beat_until(ended: threading.Event, sign: str) -> None:
    while not ended.wait(BEAT_S):
        with suppress(OSError):  # the next one may get through
            _beat(sign)


def _is_dead(sign: str) -> bool:
    try:
        last = json.loads(store.read_bytes(sign))
    except (FileNotFoundError, ValueError):
        return False  # it ended meanwhile
    if last["host"] == platform.node():
        return not _lives(last)
    return time.time() - float(last["time"]) > DEAD_S


def _lives(last: dict[str, Any]) -> bool:
    try:
        # Process numbers are reused; together with its start time a process is unique.
        return abs(psutil.Process(last["process"]).create_time() - last["process_start"]) < 1.0
    except psutil.NoSuchProcess:
        return False
