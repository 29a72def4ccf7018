"""Exposures excluded by the user, by name and with a reason."""

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatch
from typing import NamedTuple

from cosmosaic.exposures.search import FoundExposures
from cosmosaic.records import Exposure, RefusedFile


class Excluded(NamedTuple):
    """The exposures that are left, and those that were excluded."""

    found: FoundExposures
    reasons: dict[str, str]
    """Reason by the name of each excluded exposure."""
    unused: tuple[str, ...]
    """Patterns that match no exposure."""


def exclude(found: FoundExposures, patterns: Mapping[str, str]) -> Excluded:
    """Leave out the exposures whose names match a pattern.

    Parameters
    ----------
    found
        The exposures of a survey.
    patterns
        Reason by pattern, as in a shell: ``jw01727001001_02101_00001_nrcb1``, ``*_nrca3``, or a whole file name.

    Raises
    ------
    ValueError
        No exposure is left.
    """
    matches = {exposure.name: pattern for exposure in found.exposures if (pattern := _matching(exposure, patterns))}
    kept = tuple(exposure for exposure in found.exposures if exposure.name not in matches)
    if found.exposures and not kept:
        raise ValueError(f"exclude matches all {len(found.exposures)} exposures; narrow its patterns {list(patterns)}")
    refused = tuple(
        RefusedFile(uri=exposure.object.uri, reason=f"is excluded: {patterns[matches[exposure.name]]}")
        for exposure in found.exposures
        if exposure.name in matches
    )
    unused = tuple(pattern for pattern in patterns if pattern not in matches.values())
    reasons = {name: patterns[pattern] for name, pattern in matches.items()}
    return Excluded(replace(found, exposures=kept, refused=(*found.refused, *refused)), reasons, unused)


def is_named(exposure: Exposure, pattern: str) -> bool:
    """Return whether a pattern, as in a shell, matches an exposure's name or that of its file."""
    return any(fnmatch(name, pattern) for name in (exposure.name, exposure.object.name))


def _matching(exposure: Exposure, patterns: Mapping[str, str]) -> str | None:
    return next((pattern for pattern in patterns if is_named(exposure, pattern)), None)
