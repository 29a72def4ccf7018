"""Exposures that the user leaves out by name, each with a reason."""

from collections.abc import Mapping
from fnmatch import fnmatch
from typing import NamedTuple

from cosmosaic.exposures.search import FoundFrames
from cosmosaic.records import Frame, RefusedFrame


class Excluded(NamedTuple):
    """What is left after the exclusion, and what was excluded."""

    found: FoundFrames
    reasons: dict[str, str]
    """Reason by the name of each excluded exposure."""
    unused: tuple[str, ...]
    """Patterns that match no exposure."""


def exclude(found: FoundFrames, patterns: Mapping[str, str]) -> Excluded:
    """Leave out the exposures whose names match a pattern.

    Parameters
    ----------
    found
        The frames of a survey.
    patterns
        Reason by pattern, as in a shell: ``jw01727001001_02101_00001_nrcb1``, ``*_nrca3``, or a whole file name.

    Raises
    ------
    ValueError
        No frame is left.
    """
    matches = {frame.name: pattern for frame in found.frames if (pattern := _matching(frame, patterns))}
    kept = tuple(frame for frame in found.frames if frame.name not in matches)
    if found.frames and not kept:
        raise ValueError(f"exclude leaves none of {len(found.frames)} frames; narrow its patterns {list(patterns)}")
    refused = tuple(
        RefusedFrame(uri=frame.object.uri, reason=f"is excluded: {patterns[matches[frame.name]]}")
        for frame in found.frames
        if frame.name in matches
    )
    unused = tuple(pattern for pattern in patterns if pattern not in matches.values())
    reasons = {name: patterns[pattern] for name, pattern in matches.items()}
    return Excluded(FoundFrames(kept, (*found.refused, *refused)), reasons, unused)


def _matching(frame: Frame, patterns: Mapping[str, str]) -> str | None:
    names = (frame.name, frame.object.name)
    return next((pattern for pattern in patterns if any(fnmatch(name, pattern) for name in names)), None)
