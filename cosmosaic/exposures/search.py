"""Which files under a prefix take part: each exposure once, of the filters asked for, near the others.

The sha256 of a frame that takes part comes from the store, which keeps it or reads the object once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cosmosaic.exposures.exposure import LEVELS, describe
from cosmosaic.exposures.headers import FrameError
from cosmosaic.geometry.grid import footprint_centre, median_direction, separations_deg
from cosmosaic.records import Frame, RefusedFrame
from cosmosaic.storage.store import ListedObject, checksum, list_objects

FITS_NAMES = "*.[fF][iI][tT]*"
"""Files that are FITS by name, also those that are refused for it (compressed, in capitals)."""
FAR_DEG = 1.0
"""A frame farther than this from the median of all frames has a wrong pointing or belongs to another survey."""
FEWEST_FRAMES_FOR_FAR = 3
READING_THREADS = 16
SHOWN_REASONS = 5


@dataclass(frozen=True)
class FoundFrames:
    """The frames of a survey and the files that cannot take part, both sorted by URI."""

    frames: tuple[Frame, ...]
    refused: tuple[RefusedFrame, ...]


def find_frames(prefix: str, filters: Sequence[str] = (), memo: str = "") -> FoundFrames:
    """Describe every FITS file under a prefix, at any depth, and choose those that take part.

    An exposure that is there at several levels enters at the lowest: the raw ramps are what all settings of
    Stage 1 and 2 act on, while a calibrated copy would pass them by in silence. To use the calibrated frames,
    keep them under a prefix without the ramps.

    A frame more than 1 deg from the median of all frames is refused while most of three or more frames are
    nearer. Fields that are all far apart are left to the grid, which refuses absurd sizes.

    Parameters
    ----------
    prefix
        Folder or URL.
    filters
        Filters to work on, by the element that limits the band: a frame with F470N in the pupil wheel
        is F470N, whatever the filter wheel holds. Empty for all.
    memo
        Prefix under which the checksums of the frames are remembered, see `cosmosaic.storage.store.checksum`.

    Raises
    ------
    FileNotFoundError
        No FITS file lies under the prefix.
    ValueError
        A filter that was asked for is in no frame, or no file can take part.
    OSError
        The store cannot be read.
    """
    listed = list(list_objects(prefix, FITS_NAMES))
    if not listed:
        raise FileNotFoundError(
            f"looked for raw frames (*_uncal.fits, *_rate.fits, *_cal.fits) at any depth under {prefix} and found "
            f"no FITS file; check raw (and the store's credentials, where it is on S3)"
        )
    with ThreadPoolExecutor(READING_THREADS) as pool:
        described = list(pool.map(_frame_or_refusal, listed))
        refused = [entry for entry in described if isinstance(entry, RefusedFrame)]
        frames = [entry for entry in described if isinstance(entry, Frame)]
        frames, repeated = _once_each(frames, memo)
        _check_filters(frames, filters, prefix)
        frames, unwanted = _of_filters(frames, filters)
        frames, far = _near_the_others(frames)
        refused += repeated + unwanted + far
        if not frames:
            raise ValueError(_nothing_left(prefix, refused))
        frames = list(pool.map(lambda frame: _with_checksum(frame, memo), frames))
    return FoundFrames(
        frames=tuple(sorted(_with_version_warnings(frames), key=lambda frame: frame.object.uri)),
        refused=tuple(sorted(refused, key=lambda entry: entry.uri)),
    )


def _frame_or_refusal(listed: ListedObject) -> Frame | RefusedFrame:
    try:
        return describe(listed)
    except FrameError as error:
        return RefusedFrame(uri=listed.uri, reason=error.reason)


def _check_filters(frames: Sequence[Frame], filters: Sequence[str], prefix: str) -> None:
    observed = Counter(frame.band for frame in frames)
    absent = sorted(set(filters) - set(observed))
    if absent:
        there = ", ".join(f"{name} ({count} frames)" for name, count in sorted(observed.items())) or "none"
        raise ValueError(f"filters: {', '.join(absent)} is in no frame under {prefix}; observed are: {there}")


def _of_filters(frames: list[Frame], filters: Sequence[str]) -> tuple[list[Frame], list[RefusedFrame]]:
    if not filters:
        return frames, []
    reason = f"is of a filter that was not asked for (filters: {', '.join(filters)})"
    return _parted(frames, lambda frame: None if frame.band in filters else f"{reason}: {frame.band}")


def _once_each(frames: list[Frame], memo: str) -> tuple[list[Frame], list[RefusedFrame]]:
    """Keep one file per exposure and detector, and one exposure per name (products are named after it)."""
    kept: dict[tuple[str, ...], Frame] = {}
    names: dict[str, Frame] = {}
    refused = []
    for frame in sorted(frames, key=lambda frame: (LEVELS.index(frame.level), frame.object.uri)):
        earlier = kept.get(_identity(frame)) or names.get(frame.name)
        if earlier is not None:
            refused.append(RefusedFrame(uri=frame.object.uri, reason=_repetition(frame, earlier, memo)))
            continue
        kept[_identity(frame)] = names[frame.name] = frame
    return list(kept.values()), refused


def _identity(frame: Frame) -> tuple[str, ...]:
    return (frame.program, frame.observation, frame.visit, frame.exposure, frame.detector)


def _repetition(frame: Frame, earlier: Frame, memo: str) -> str:
    if _identity(frame) != _identity(earlier):
        return f"has the same name as {earlier.object.uri}, but is another exposure; rename one of them"
    if frame.level != earlier.level:
        return (
            f"is the same exposure as {earlier.object.uri}, which is taken because it is {earlier.level} and all "
            f"settings act on it; to use this {frame.level} file, keep it under a prefix without the other"
        )
    same_size = frame.object.size == earlier.object.size
    if same_size and checksum(frame.object.uri, memo).sha256 == checksum(earlier.object.uri, memo).sha256:
        return f"is a duplicate of {earlier.object.uri} (the same bytes)"
    return f"is the same exposure as {earlier.object.uri}, in other bytes; keep one of them"


def _near_the_others(frames: list[Frame]) -> tuple[list[Frame], list[RefusedFrame]]:
    if len(frames) < FEWEST_FRAMES_FOR_FAR:
        return frames, []
    centres = np.array([footprint_centre(frame.footprint) for frame in frames])
    distances = separations_deg(centres, median_direction(centres))
    if np.count_nonzero(distances <= FAR_DEG) <= len(frames) / 2:
        return frames, []
    far = {
        frame.object.uri: f"lies {distance:.2f} deg from the median of all frames: {frame.name} has a wrong pointing "
        f"(RA_REF, DEC_REF, S_REGION) or belongs to another survey"
        for frame, distance in zip(frames, distances, strict=True)
        if distance > FAR_DEG
    }
    return _parted(frames, lambda frame: far.get(frame.object.uri))


def _parted(
    frames: list[Frame], reason_against: Callable[[Frame], str | None]
) -> tuple[list[Frame], list[RefusedFrame]]:
    """Part the frames into those without and those with a reason against them."""
    kept, refused = [], []
    for frame in frames:
        reason = reason_against(frame)
        if reason is None:
            kept.append(frame)
        else:
            refused.append(RefusedFrame(uri=frame.object.uri, reason=reason))
    return kept, refused


def _nothing_left(prefix: str, refused: Sequence[RefusedFrame]) -> str:
    reasons = "; ".join(f"{entry.uri} {entry.reason}" for entry in refused[:SHOWN_REASONS])
    more = f"; and {len(refused) - SHOWN_REASONS} more" if len(refused) > SHOWN_REASONS else ""
    return f"none of the {len(refused)} files under {prefix} can take part: {reasons}{more}"


def _with_checksum(frame: Frame, memo: str) -> Frame:
    return frame.model_copy(update={"object": checksum(frame.object.uri, memo)})


def _with_version_warnings(frames: Iterable[Frame]) -> list[Frame]:
    """Warn of calibrated frames whose software or references differ from those of most others at their level."""
    frames = list(frames)
    usual: dict[str, tuple[str, str]] = {}
    for level in ("rate", "cal"):
        versions = Counter(frame.calibration_version for frame in frames if frame.level == level)
        contexts = Counter(frame.crds_context for frame in frames if frame.level == level)
        if versions:
            usual[level] = (_commonest(versions), _commonest(contexts))
    return [_warned(frame, *usual[frame.level]) if frame.level in usual else frame for frame in frames]


def _commonest(counts: Counter[str]) -> str:
    return max(sorted(counts), key=lambda value: counts[value])


def _warned(frame: Frame, usual_version: str, usual_context: str) -> Frame:
    warnings = list(frame.warnings)
    for keyword, found, usual in (
        ("CAL_VER", frame.calibration_version, usual_version),
        ("CRDS_CTX", frame.crds_context, usual_context),
    ):
        if found != usual:
            warnings.append(
                f"{frame.object.name} has {keyword} = '{found}', most {frame.level} frames have '{usual}'; "
                f"calibrate all frames alike, best from uncal"
            )
    return frame.model_copy(update={"warnings": tuple(warnings)})
