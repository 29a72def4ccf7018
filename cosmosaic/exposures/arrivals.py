"""New raw frames: what lies under a prefix now and did not when it was looked at last."""

import hashlib
import json
from typing import NamedTuple

from cosmosaic.storage import store


class Arrivals(NamedTuple):
    """What one look at a prefix found."""

    new: tuple[str, ...]
    """URIs of the frames that are new or were written again since the last look, sorted."""
    seen: dict[str, str]
    """Version of every frame under the prefix, by URI."""


def find_arrivals(prefix: str, memory: str) -> Arrivals:
    """Look for new frames.

    Parameters
    ----------
    prefix
        Where raw frames arrive, at any depth.
    memory
        URI under which `remember` keeps what was seen; without it every frame is new.
    """
    seen = {found.uri: found.version for found in store.list_objects(prefix, "*.fits")}
    known = _recall(memory)
    return Arrivals(tuple(uri for uri, version in seen.items() if known.get(uri) != version), seen)


def remember(arrivals: Arrivals, memory: str) -> None:
    """Keep what was seen, so that the next look does not tell of it again."""
    store.publish_bytes(json.dumps(arrivals.seen, sort_keys=True).encode(), memory)


def memory_uri(cache: str, prefix: str) -> str:
    """Where what was seen under a prefix is kept."""
    return store.join(cache, "arrivals", f"{hashlib.sha256(prefix.encode()).hexdigest()[:16]}.json")


def _recall(memory: str) -> dict[str, str]:
    try:
        return dict(json.loads(store.read_bytes(memory)))
    except (FileNotFoundError, ValueError):
        return {}
