"""Values from the headers of an exposure; missing keywords are derived from others.

The archive's files have all keywords; files of Mirage and of users do not. Missing ones are derived here and nowhere
else, so that every step uses the same values.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

GROUP_KEYWORDS = ("PROGRAM", "OBSERVTN", "VISIT", "VISITGRP", "SEQ_ID", "ACT_ID", "EXPOSURE")
"""Keywords that the detectors of one exposure group share: jwst's ``group_id``."""
WIDTHS = (5, 3, 3, 2, 1, 2, 5)
"""Number of digits or letters of each."""
NAME_PATTERN = re.compile(r"jw(\d{5})(\d{3})(\d{3})_(\d{2})(\w)(\w{2})_(\d{5})_(nrc(?:[ab][1-4]|[ab]long))", re.ASCII)
"""Names of exposures contain all of them, and the detector."""
VISIT_PATTERN = re.compile(r"(\d{5})(\d{3})(\d{3})", re.ASCII)
EXPOSURE_SECONDS = ("EFFEXPTM", "XPOSURE", "TMEASURE", "DURATION", "TELAPSE")
DURATION_SECONDS = ("DURATION", "TELAPSE", "EFFEXPTM", "XPOSURE", "TMEASURE")
MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
LATEST_MJD = 1e5
DAY_S = 86400.0

Keywords = Mapping[str, Any]
"""Values by keyword: a FITS header, or several as one."""


class Times(NamedTuple):
    """Start, end and exposure time of an exposure."""

    exposure: float
    """Effective exposure time in seconds."""
    measurement: float | None
    """Time between the first and the last read in seconds, if known."""
    duration: float
    """From start to end in seconds."""
    start: float | None
    end: float | None
    """MJD, UTC; None if no keyword gives it."""


class KeywordError(ValueError):
    """Keywords are missing and cannot be derived from others."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__(f"lacks {', '.join(missing)}, and no other keyword can replace it")
        self.missing = missing


def group_of(keywords: Keywords, name: str) -> tuple[str, ...]:
    """Return `GROUP_KEYWORDS` of an exposure, from the header or else from VISIT_ID or the file's name.

    Parameters
    ----------
    keywords
        Keywords of the primary header.
    name
        The file's name.

    Raises
    ------
    KeywordError
        None of them gives all values.
    """
    implied = dict(zip(GROUP_KEYWORDS, _parts(NAME_PATTERN, name), strict=False))
    implied |= dict(zip(GROUP_KEYWORDS, _parts(VISIT_PATTERN, _text(keywords, "VISIT_ID")), strict=False))
    found = [_text(keywords, keyword) or implied.get(keyword, "") for keyword in GROUP_KEYWORDS]
    missing = tuple(keyword for keyword, value in zip(GROUP_KEYWORDS, found, strict=True) if not value)
    if missing:
        raise KeywordError(missing)
    return tuple(value.zfill(width) for value, width in zip(found, WIDTHS, strict=True))


def detector_of(keywords: Keywords, name: str) -> str:
    """Return the detector from the header or the file's name; empty if neither gives it."""
    named = NAME_PATTERN.match(name)
    return _text(keywords, "DETECTOR").upper() or (named.group(8).upper() if named else "")


def start_of(keywords: Keywords) -> str:
    """Return the start of the exposure, UTC, ISO 8601; empty if no keyword gives it."""
    date, time = _text(keywords, "DATE-OBS"), _text(keywords, "TIME-OBS")
    observed = f"{date}T{time}" if date and time and "T" not in date else date
    written = _text(keywords, "DATE-BEG") or observed
    if written:
        return written
    mjd = _first_number(keywords, ("EXPSTART", "MJD-BEG"))
    if mjd is None or not 0 < mjd < LATEST_MJD:
        return ""
    return iso_date(mjd)


def iso_date(mjd: float) -> str:
    """Write a time in MJD, UTC, as a FITS date: ISO 8601 to the millisecond."""
    return (MJD_EPOCH + timedelta(days=mjd)).replace(tzinfo=None).isoformat(timespec="milliseconds")


def times_of(keywords: Keywords) -> Times:
    """Return the times of an exposure.

    Parameters
    ----------
    keywords
        Keywords of the primary and the SCI header.

    Raises
    ------
    KeywordError
        No keyword gives the exposure time.
    """
    start = _first_number(keywords, ("EXPSTART", "MJD-BEG")) or instant(start_of(keywords))
    end = _first_number(keywords, ("EXPEND", "MJD-END")) or instant(_text(keywords, "DATE-END"))
    elapsed = (end - start) * DAY_S if start is not None and end is not None else None
    integrations = _product(keywords, ("EFFINTTM", "NINTS"))
    exposure = _first_positive(keywords, EXPOSURE_SECONDS, integrations, elapsed)
    duration = _first_positive(keywords, DURATION_SECONDS, elapsed, exposure)
    if exposure is None or duration is None:
        raise KeywordError(("EFFEXPTM",))
    if end is None and start is not None:
        end = start + duration / DAY_S
    return Times(exposure, _first_positive(keywords, ("TMEASURE",)), duration, start, end)


def _parts(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    found = pattern.match(text)
    return found.groups() if found else ()


def _text(keywords: Keywords, keyword: str) -> str:
    value = keywords.get(keyword)
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _number(keywords: Keywords, keyword: str) -> float | None:
    value = keywords.get(keyword)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _first_number(keywords: Keywords, names: tuple[str, ...]) -> float | None:
    numbers = (_number(keywords, name) for name in names)
    return next((number for number in numbers if number is not None), None)


def _first_positive(keywords: Keywords, names: tuple[str, ...], *others: float | None) -> float | None:
    numbers = [_number(keywords, name) for name in names] + list(others)
    return next((number for number in numbers if number is not None and number > 0), None)


def _product(keywords: Keywords, names: tuple[str, ...]) -> float | None:
    numbers = [_number(keywords, name) for name in names]
    return math.prod(number for number in numbers if number is not None) if None not in numbers else None


def instant(text: str) -> float | None:
    """Return a time, ISO 8601 in UTC, as MJD; None if the text is none."""
    try:
        return _mjd(datetime.fromisoformat(text).replace(tzinfo=UTC))
    except ValueError:
        return None


def _mjd(instant: datetime) -> float:
    return (instant - MJD_EPOCH).total_seconds() / DAY_S
