"""New raw exposures: files that have appeared under a prefix, or changed, since the last look."""

import hashlib
import json
from typing import NamedTuple

from cosmosaic.storage import store


class Arrivals(NamedTuple):
    """Result of one look at a prefix."""

    new: tuple[str, ...]
    """URIs of the exposures that are new, or were written again, since the last look, sorted."""
    seen: dict[str, str]
    """Version of every exposure under the prefix, by URI."""


def find_arrivals(prefix: str, memory: str) -> Arrivals:
    """Look for new exposures.

    Parameters
    ----------
    prefix
        Folder or URL under which raw exposures arrive, at any depth.
    memory
        URI of the record that `remember` writes; if it does not exist, every exposure is new.
    """
    seen = {found.uri: found.version for found in store.list_objects(prefix, "*.fits")}
    known = _recall(memory)
    return Arrivals(tuple(uri for uri, version in seen.items() if known.get(uri) != version), seen)


def remember(arrivals: Arrivals, memory: str) -> None:
    """Record the exposures that were seen, so that the next look does not report them again."""
    store.publish_bytes(json.dumps(arrivals.seen, sort_keys=True).encode(), memory)


def memory_uri(cache: str, prefix: str) -> str:
    """URI of the record of the exposures seen under a prefix."""
    return store.join(cache, "arrivals", f"{hashlib.sha256(prefix.encode()).hexdigest()[:16]}.json")


def _recall(memory: str) -> dict[str, str]:
    try:
        return dict(json.loads(store.read_bytes(memory)))
    except (FileNotFoundError, ValueError):
        return {}
