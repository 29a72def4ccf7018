"""Remembered descriptions of exposures: reading a WCS costs a twelfth of a second, and raw objects do not change."""

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path

from cosmosaic.exposures.exposure import describe
from cosmosaic.exposures.headers import RefusalError
from cosmosaic.records import Exposure, RefusedFile
from cosmosaic.storage.names import join
from cosmosaic.storage.objects import publish_bytes, read_bytes
from cosmosaic.storage.store import ListedObject

LIBRARIES = ("asdf", "astropy", "gwcs")
"""Software that reads headers and WCS."""


def describe_once(listed: ListedObject, memo: str) -> Exposure | RefusedFile:
    """Describe an exposure, or give the reason of its refusal, once per URI, size and version of the object.

    Parameters
    ----------
    listed
        The object.
    memo
        Prefix under which descriptions are remembered. If it is empty, or the code that describes exposures has
        changed, the exposure is described anew.
    """
    if not memo:
        return _described(listed)
    record = _record(listed, memo)
    known = _recalled(record)
    if known is None:
        known = _described(listed)
        publish_bytes(json.dumps({type(known).__name__: known.model_dump(mode="json")}).encode(), record)
    return known


def _described(listed: ListedObject) -> Exposure | RefusedFile:
    try:
        return describe(listed)
    except RefusalError as error:
        return RefusedFile(uri=listed.uri, reason=error.reason)


def _recalled(record: str) -> Exposure | RefusedFile | None:
    try:
        ((kind, content),) = json.loads(read_bytes(record)).items()
        return Exposure.model_validate(content) if kind == "Exposure" else RefusedFile.model_validate(content)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _record(listed: ListedObject, memo: str) -> str:
    identity = json.dumps([listed.uri, listed.size, listed.version, rules()])
    digest = hashlib.sha256(identity.encode()).hexdigest()
    return join(memo, "exposures", digest[:2], f"{digest}.json")


@cache
def rules() -> str:
    """Return a digest of the code that describes exposures: records of other code are not used."""
    folder = Path(__file__).parent
    sources = [*sorted(folder.glob("*.py")), *sorted((folder.parent / "geometry").glob("*.py"))]
    digest = hashlib.sha256(" ".join(version(name) for name in LIBRARIES).encode())
    for path in (*sources, folder.parent / "nircam.py", folder.parent / "records.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()
