"""Remembered descriptions of exposures: reading a WCS costs a twelfth of a second, and raw objects do not change."""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cosmosaic.exposures.exposure import describe
from cosmosaic.exposures.headers import RefusalError
from cosmosaic.records import Exposure, RefusedFile
from cosmosaic.storage.memo import memo_of
from cosmosaic.storage.store import AlteredObjectError, ListedObject, stat

LIBRARIES = ("asdf", "astropy", "gwcs")
"""Software that reads headers and WCS."""
DESCRIPTIONS = "exposures"
"""Part of a memo in which descriptions are."""
GONE = "was rewritten or removed after it had been listed; the next run will use the current file"


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
    remembered, identity = memo_of(memo, DESCRIPTIONS), [listed.size, listed.version, rules()]
    known = _recalled(remembered.recall(listed.uri, identity))
    if known is not None:
        return known
    described = _described(listed)
    if not (isinstance(described, RefusedFile) and described.reason == GONE):
        remembered.keep(listed.uri, identity, {type(described).__name__: described.model_dump(mode="json")})
    return described


def _described(listed: ListedObject) -> Exposure | RefusedFile:
    try:
        return _described_now(listed)
    except RefusalError as error:
        return RefusedFile(uri=listed.uri, reason=error.reason)
    except AlteredObjectError:
        return RefusedFile(uri=listed.uri, reason=GONE)
    except FileNotFoundError:
        if stat(listed.uri) is not None:
            raise
        return RefusedFile(uri=listed.uri, reason=GONE)


def _described_now(listed: ListedObject) -> Exposure:
    try:
        return describe(listed)
    except AlteredObjectError:
        # It was rewritten, or its store lists other versions than it answers with.
        current = stat(listed.uri)
        if current is None:
            raise
        return describe(current)


def _recalled(value: Any) -> Exposure | RefusedFile | None:
    try:
        ((kind, content),) = value.items()
        return Exposure.model_validate(content) if kind == "Exposure" else RefusedFile.model_validate(content)
    except (ValueError, TypeError, AttributeError):
        return None


@cache
def rules() -> str:
    """Return a digest of the code that describes exposures: records of other code are not used."""
    folder = Path(__file__).parent
    sources = [*sorted(folder.glob("*.py")), *sorted((folder.parent / "geometry").glob("*.py"))]
    digest = hashlib.sha256(" ".join(version(name) for name in LIBRARIES).encode())
    for path in (*sources, folder.parent / "nircam.py", folder.parent / "records.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()
