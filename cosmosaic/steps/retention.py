"""The unused part of the cache: each run records the steps it used, and results without recent use can be removed."""

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from cosmosaic.steps.execution import KEY_LENGTH
from cosmosaic.steps.manifest import RESULTS
from cosmosaic.steps.result import StepResult
from cosmosaic.storage import store
from cosmosaic.storage.store import ListedObject

USES = "uses"
"""Part of the cache in which the runs' lists are kept."""

DAY_S = 86400.0
SETTLED_DAYS = 1.0
"""Unused results that are younger may be those of a run under way."""
STARTING_S = 0.5
"""CPU time of any step besides its own work."""

KEY = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")


class Use(NamedTuple):
    """The steps that one run used, executed or looked up."""

    survey: str
    time: float
    """End of the run, seconds since the epoch."""
    keys: frozenset[str]


class Unused(NamedTuple):
    """Objects of the cache that can be removed."""

    uris: tuple[str, ...]
    size: int
    """Bytes, all together."""


def record_use(cache: str, run_id: str, survey: str, keys: set[str]) -> None:
    """Record which steps a run used."""
    content = json.dumps({"survey": survey, "time": time.time(), "keys": sorted(keys)})
    store.publish_bytes(content.encode(), store.join(cache, USES, f"{run_id}.json"))


def find_unused(cache: str, older_than_days: float) -> Unused:
    """Find the results of steps that no run used for some days.

    Results that the last run of each survey used are kept, and so are results written within these days: a run may be
    about to use them.
    """
    moment = time.time() - older_than_days * DAY_S
    kept = _used_since(cache, moment)
    # Prefect's records first, then the objects they point to: a record without its objects would be invalid.
    old = [found for found in store.list_older(cache, moment) if (key := _key(found.uri, cache)) and key not in kept]
    old.sort(key=lambda found: (not found.uri.startswith(store.join(cache, RESULTS, "")), found.uri))
    return Unused(tuple(found.uri for found in old), sum(found.size for found in old))


def shrink(cache: str, largest_gb: float, used: Iterable[StepResult]) -> Unused:
    """Remove results until the cache is no larger than allowed; what is removed is made again when it is needed.

    First go results that no last run of a survey used and that are older than a day, then those of this run, the ones
    that take the least CPU time for their size first.

    Parameters
    ----------
    cache
        Prefix of the cache.
    largest_gb
        Size that is allowed, 1e9 bytes.
    used
        What this run's steps made or found.

    Returns
    -------
    removed : Unused
        What was removed.
    """
    found = list(store.list_objects(cache))
    excess = sum(one.size for one in found) - 1e9 * largest_gb
    if excess <= 0:
        return Unused((), 0)
    of_step = defaultdict[str, list[ListedObject]](list)
    for one in found:
        of_step[_key(one.uri, cache) or ""].append(one)
    own = {result.key: result.cpu_s for result in used if result.key in of_step}
    cheapest = sorted(own, key=lambda key: (own[key] + STARTING_S) / _size(of_step[key]))
    unused = {_key(uri, cache) or "" for uri in find_unused(cache, SETTLED_DAYS).uris}
    removed: list[ListedObject] = []
    for key in (*sorted(unused - own.keys()), *cheapest):
        if _size(removed) >= excess:
            break
        # The record first: a record without its objects would be invalid.
        removed += sorted(of_step[key], key=lambda one: not one.uri.startswith(store.join(cache, RESULTS, "")))
    for one in removed:
        store.remove(one.uri)
    return Unused(tuple(one.uri for one in removed), _size(removed))


def _size(objects: Iterable[ListedObject]) -> int:
    return sum(one.size for one in objects)


def _used_since(cache: str, moment: float) -> frozenset[str]:
    uses = [_read_use(found.uri) for found in store.list_objects(store.join(cache, USES), "*.json")]
    last = {use.survey: use for use in sorted(uses, key=lambda use: use.time)}
    return frozenset().union(*(use.keys for use in uses if use.time >= moment or use is last[use.survey]))


def _read_use(uri: str) -> Use:
    content = json.loads(store.read_bytes(uri))
    return Use(content["survey"], content["time"], frozenset(content["keys"]))


def _key(uri: str, cache: str) -> str | None:
    """Return the key of the step that an object in the cache belongs to: ``results/<key>`` or ``<step>/<key>/...``."""
    parts = uri.removeprefix(f"{cache}/").split("/")
    return parts[1] if len(parts) > 1 and KEY.fullmatch(parts[1]) else None
