"""The unused part of the cache: each run records the steps it used, and results without recent use can be removed."""

import json
import re
import time
from typing import NamedTuple

from cosmosaic.steps.execution import KEY_LENGTH
from cosmosaic.storage import store

USES = "uses"
"""Part of the cache in which the runs' lists are kept."""

DAY_S = 86400.0

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
    old.sort(key=lambda found: (not found.uri.startswith(store.join(cache, "results", "")), found.uri))
    return Unused(tuple(found.uri for found in old), sum(found.size for found in old))


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
