"""Search for exposures under a prefix: each once, of the requested filters, near the others.

The sha256 of an exposure that takes part comes from the store, which keeps it or reads the object once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from cosmosaic.exposures.exposure import LEVELS
from cosmosaic.exposures.remembered import DESCRIPTIONS, GONE, describe_once
from cosmosaic.geometry.grid import footprint_centre, median_direction, separations_deg
from cosmosaic.records import Exposure, RefusedFile
from cosmosaic.storage.checksums import OBJECTS
from cosmosaic.storage.memo import gathered
from cosmosaic.storage.store import AlteredObjectError, checksum, checksum_of, list_objects

FITS_NAMES = "*.[fF][iI][tT]*"
"""Files that are FITS by name, including those refused for their name (compressed, in capitals)."""
FAR_DEG = 1.0
"""An exposure farther than this from the median of all exposures has a wrong pointing or belongs to another survey."""
FEWEST_EXPOSURES_FOR_FAR = 3
READING_THREADS = 16
SHOWN_REASONS = 5


@dataclass(frozen=True)
class FoundExposures:
    """The exposures of a survey, the files that cannot take part, and those of other filters, all sorted by URI."""

    exposures: tuple[Exposure, ...]
    refused: tuple[RefusedFile, ...]
    unasked: tuple[RefusedFile, ...] = ()
    """Exposures of filters that were not asked for."""


def find_exposures(prefix: str, filters: Sequence[str] = (), memo: str = "") -> FoundExposures:
    """Describe every FITS file under a prefix, at any depth, and choose the exposures that take part.

    An exposure that is present at several levels enters at the lowest, since all settings of Stage 1 and 2 act on raw
    ramps and a calibrated copy would silently bypass them. To use the calibrated exposures, keep them under a prefix
    without the ramps.

    An exposure more than 1 deg from the median of all exposures is refused while most of three or more exposures are
    nearer. Fields that are all far apart are left to the grid, which refuses absurd sizes.

    Parameters
    ----------
    prefix
        Folder or URL.
    filters
        Filters to work on, by the element that limits the band: an exposure with F470N in the pupil wheel
        is F470N, whatever is in the filter wheel. Empty for all.
    memo
        Prefix under which descriptions and checksums of the exposures are remembered, see
        `cosmosaic.exposures.remembered` and `cosmosaic.storage.store.checksum`.

    Raises
    ------
    FileNotFoundError
        No FITS file lies under the prefix.
    ValueError
        A requested filter was not observed, or no file can take part.
    OSError
        The store cannot be read.
    """
    found = choose_exposures(prefix, filters, memo)
    with gathered(memo, OBJECTS), ThreadPoolExecutor(READING_THREADS) as pool:
        entries = list(pool.map(lambda exposure: _with_checksum(exposure, memo), found.exposures))
    exposures = tuple(entry for entry in entries if isinstance(entry, Exposure))
    gone = [entry for entry in entries if isinstance(entry, RefusedFile)]
    if not exposures:
        raise ValueError(_nothing_left(prefix, [*found.refused, *gone]))
    refused = sorted([*found.refused, *gone], key=lambda entry: entry.uri)
    return replace(found, exposures=exposures, refused=tuple(refused))


def choose_exposures(prefix: str, filters: Sequence[str] = (), memo: str = "") -> FoundExposures:
    """Find the exposures as `find_exposures` does, but from headers alone: their sha256 are left empty."""
    require_files(prefix)
    listed = list(list_objects(prefix, FITS_NAMES))
    with gathered(memo, DESCRIPTIONS), ThreadPoolExecutor(READING_THREADS) as pool:
        described = list(pool.map(lambda one: describe_once(one, memo), listed))
    refused = [entry for entry in described if isinstance(entry, RefusedFile)]
    exposures = [entry for entry in described if isinstance(entry, Exposure)]
    exposures, repeated = _once_each(exposures, memo)
    _check_filters(exposures, filters, prefix)
    exposures, unasked = _of_filters(exposures, filters)
    exposures, far = _near_the_others(exposures)
    refused += repeated + far
    if not exposures:
        raise ValueError(_nothing_left(prefix, refused))
    return FoundExposures(
        exposures=tuple(sorted(_with_version_warnings(exposures), key=lambda exposure: exposure.object.uri)),
        refused=tuple(sorted(refused, key=lambda entry: entry.uri)),
        unasked=tuple(sorted(unasked, key=lambda entry: entry.uri)),
    )


def require_files(prefix: str) -> None:
    """Check that there is a FITS file under a prefix.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    """
    if next(iter(list_objects(prefix, FITS_NAMES)), None) is None:
        raise FileNotFoundError(
            f"found no FITS file under {prefix}, where raw exposures (*_uncal.fits, *_rate.fits, *_cal.fits) are "
            f"searched at any depth; check raw (and the store's credentials, if it is on S3)"
        )


def _check_filters(exposures: Sequence[Exposure], filters: Sequence[str], prefix: str) -> None:
    observed = Counter(exposure.band for exposure in exposures)
    absent = sorted(set(filters) - set(observed))
    if absent:
        there = ", ".join(f"{name} ({count} exposures)" for name, count in sorted(observed.items())) or "none"
        raise ValueError(f"filters: there is no exposure in {', '.join(absent)} under {prefix}; observed are: {there}")


def _of_filters(exposures: list[Exposure], filters: Sequence[str]) -> tuple[list[Exposure], list[RefusedFile]]:
    if not filters:
        return exposures, []
    reason = f"is of a filter that was not asked for (filters: {', '.join(filters)})"
    return _parted(exposures, lambda exposure: None if exposure.band in filters else f"{reason}: {exposure.band}")


def _once_each(exposures: list[Exposure], memo: str) -> tuple[list[Exposure], list[RefusedFile]]:
    """Keep one file per exposure and detector, and one exposure per name (products are named after it)."""
    kept: dict[tuple[str, ...], Exposure] = {}
    names: dict[str, Exposure] = {}
    refused = []
    for exposure in sorted(exposures, key=lambda exposure: (LEVELS.index(exposure.level), exposure.object.uri)):
        earlier = kept.get(_identity(exposure)) or names.get(exposure.name)
        if earlier is not None:
            refused.append(RefusedFile(uri=exposure.object.uri, reason=_repetition(exposure, earlier, memo)))
            continue
        kept[_identity(exposure)] = names[exposure.name] = exposure
    return list(kept.values()), refused


def _identity(exposure: Exposure) -> tuple[str, ...]:
    return (exposure.program, exposure.observation, exposure.visit, exposure.exposure, exposure.detector)


def _repetition(exposure: Exposure, earlier: Exposure, memo: str) -> str:
    if _identity(exposure) != _identity(earlier):
        return f"has the same name as {earlier.object.uri}, but is a different exposure; rename one of them"
    if exposure.level != earlier.level:
        return (
            f"is the same exposure as {earlier.object.uri}, which is used because it is {earlier.level} and all "
            f"settings act on it; to use this {exposure.level} file, keep it under a prefix without the other"
        )
    same_size = exposure.object.size == earlier.object.size
    if same_size and checksum(exposure.object.uri, memo).sha256 == checksum(earlier.object.uri, memo).sha256:
        return f"is a duplicate of {earlier.object.uri} (the same bytes)"
    return f"is the same exposure as {earlier.object.uri}, with different bytes; keep one of them"


def _near_the_others(exposures: list[Exposure]) -> tuple[list[Exposure], list[RefusedFile]]:
    if len(exposures) < FEWEST_EXPOSURES_FOR_FAR:
        return exposures, []
    centres = np.array([footprint_centre(exposure.footprint) for exposure in exposures])
    distances = separations_deg(centres, median_direction(centres))
    if np.count_nonzero(distances <= FAR_DEG) <= len(exposures) / 2:
        return exposures, []
    far = {
        exposure.object.uri: f"lies {distance:.2f} deg from the median of all exposures: {exposure.name} has a wrong "
        f"pointing (RA_REF, DEC_REF, S_REGION) or belongs to another survey"
        for exposure, distance in zip(exposures, distances, strict=True)
        if distance > FAR_DEG
    }
    return _parted(exposures, lambda exposure: far.get(exposure.object.uri))


def _parted(
    exposures: list[Exposure], reason_against: Callable[[Exposure], str | None]
) -> tuple[list[Exposure], list[RefusedFile]]:
    """Split the exposures into accepted and refused ones."""
    kept, refused = [], []
    for exposure in exposures:
        reason = reason_against(exposure)
        if reason is None:
            kept.append(exposure)
        else:
            refused.append(RefusedFile(uri=exposure.object.uri, reason=reason))
    return kept, refused


def _nothing_left(prefix: str, refused: Sequence[RefusedFile]) -> str:
    reasons = "; ".join(f"{entry.uri} {entry.reason}" for entry in refused[:SHOWN_REASONS])
    more = f"; and {len(refused) - SHOWN_REASONS} more" if len(refused) > SHOWN_REASONS else ""
    return f"none of the {len(refused)} files under {prefix} can take part: {reasons}{more}"


def _with_checksum(exposure: Exposure, memo: str) -> Exposure | RefusedFile:
    try:
        return exposure.model_copy(update={"object": checksum_of(exposure.object, memo)})
    except (AlteredObjectError, FileNotFoundError):
        return RefusedFile(uri=exposure.object.uri, reason=GONE)


def _with_version_warnings(exposures: Iterable[Exposure]) -> list[Exposure]:
    """Warn of calibrated exposures whose software or CRDS context differs from that of most others at their level."""
    exposures = list(exposures)
    usual: dict[str, tuple[str, str]] = {}
    for level in ("rate", "cal"):
        versions = Counter(exposure.calibration_version for exposure in exposures if exposure.level == level)
        contexts = Counter(exposure.crds_context for exposure in exposures if exposure.level == level)
        if versions:
            usual[level] = (_commonest(versions), _commonest(contexts))
    return [
        _warned(exposure, *usual[exposure.level]) if exposure.level in usual else exposure for exposure in exposures
    ]


def _commonest(counts: Counter[str]) -> str:
    return max(sorted(counts), key=lambda value: counts[value])


def _warned(exposure: Exposure, usual_version: str, usual_context: str) -> Exposure:
    warnings = list(exposure.warnings)
    for keyword, found, usual in (
        ("CAL_VER", exposure.calibration_version, usual_version),
        ("CRDS_CTX", exposure.crds_context, usual_context),
    ):
        if found != usual:
            warnings.append(
                f"{exposure.object.name} has {keyword} = '{found}', most {exposure.level} exposures have '{usual}'; "
                f"calibrate all exposures alike, best from uncal"
            )
    return exposure.model_copy(update={"warnings": tuple(warnings)})
