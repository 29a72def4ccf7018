"""What a raw frame is: its header, level, filter, detector and footprint; the table of frames.

Headers are read by byte range, the data never: describing a frame moves some kilobytes. The sha256 of a
frame that takes part comes from the store, which keeps it or reads the object once.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pandas as pd
from astropy.io import fits

from cosmosaic.geometry.sphere import directions, footprint_centre, median_direction, plane_to_sky, separations_deg
from cosmosaic.nircam import (
    DETECTOR_PATTERN,
    LARGEST_LONG_PIXEL_ARCSEC,
    LARGEST_SHORT_PIXEL_ARCSEC,
    is_long_wavelength_detector,
)
from cosmosaic.records import Frame, RefusedFrame, StoredObject
from cosmosaic.storage.store import LONGEST_NAME, ListedObject, checksum, is_plain_name, list_objects, open_object, stat

BLOCK_BYTES = 2880
CARD_BYTES = 80
MAX_HEADER_BLOCKS = 400
MAX_HDUS = 20
MAX_AXES = 8
BITPIX_VALUES = (8, 16, 32, 64, -32, -64)

LEVELS = ("uncal", "rate", "cal")
"""Levels a frame may enter at, lowest first."""
OTHER_PRODUCTS = {
    "ramp": "an intermediate Stage 1 product",
    "rateints": "the Stage 1 product of single integrations",
    "calints": "the Stage 2 product of single integrations",
    "trapsfilled": "a Stage 1 by-product",
    "crf": "a Stage 3 product of one exposure",
    "crfints": "a Stage 3 product of one exposure",
    "i2d": "a resampled image",
    "segm": "a segmentation map",
    "o": "an outlier-detection by-product",
    "blot": "an outlier-detection by-product",
    "median": "an outlier-detection by-product",
    "skymatch": "a Stage 3 intermediate",
    "tweakreg": "a Stage 3 intermediate",
    "whtlt": "a spectroscopic product",
    "x1d": "a spectrum",
    "s2d": "a spectrum",
}
PRIMARY_KEYWORDS = (
    "DETECTOR",
    "FILTER",
    "PUPIL",
    "SUBARRAY",
    "PROGRAM",
    "OBSERVTN",
    "VISIT",
    "VISITGRP",
    "SEQ_ID",
    "ACT_ID",
    "EXPOSURE",
    "DATE-BEG",
    "EFFEXPTM",
)
POINTING_KEYWORDS = ("CRVAL1", "CRVAL2", "RA_REF", "DEC_REF", "ROLL_REF", "V2_REF", "V3_REF", "VPARITY", "V3I_YANG")
EXTENSIONS_OF_LEVEL = {
    "uncal": (),
    "rate": ("ERR", "DQ", "VAR_POISSON", "VAR_RNOISE"),
    "cal": ("ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "ASDF"),
}
"""Extensions without which a frame cannot be processed: a file cut between two of them looks whole otherwise."""
AXES_OF_LEVEL = {"uncal": 4, "rate": 2, "cal": 2}
UNIT_OF_LEVEL = {"uncal": "DN", "rate": "DN/S", "cal": "MJY/SR"}
FILTER_PATTERN = re.compile(r"F\d{3}[WMN]2?")

LARGEST_FOOTPRINT_DEG = 0.2
FAR_DEG = 1.0
"""A frame farther than this from the median of all frames has a wrong pointing or belongs to another survey."""
FEWEST_FRAMES_FOR_FAR = 3
READING_THREADS = 16
SHOWN_REASONS = 5


class FrameError(ValueError):
    """A file that cannot take part; the reason reads on from the file's name."""

    def __init__(self, reason: str, uri: str = "") -> None:
        super().__init__(f"{uri} {reason}".strip())
        self.reason = reason


@dataclass(frozen=True)
class FrameHeaders:
    """The headers of one frame's file."""

    primary: fits.Header
    sci: fits.Header
    extensions: tuple[str, ...]
    """Names of all extensions, in their order."""


@dataclass(frozen=True)
class FoundFrames:
    """The frames of a survey and the files that cannot take part, both sorted by URI."""

    frames: tuple[Frame, ...]
    refused: tuple[RefusedFrame, ...]


def read_header(stream: BinaryIO) -> FrameHeaders:
    """Read the primary and the first SCI header of a FITS file, header blocks only.

    The data are stepped over by the sizes that the headers claim; nothing is allocated on a header's word.

    Parameters
    ----------
    stream
        Seekable; on an object store only the bytes around each header move.

    Raises
    ------
    FrameError
        It is not FITS, shorter than its headers claim, damaged, without SCI, or its headers are larger than any
        frame's.
    """
    size = stream.seek(0, os.SEEK_END)
    if size == 0:
        raise FrameError("is empty")
    primary: fits.Header | None = None
    sci: fits.Header | None = None
    names: list[str] = []
    position = 0
    while position < size and len(names) < MAX_HDUS:
        header, data_start = _header_at(stream, position)
        position = data_start + _data_bytes(header)
        if position > size:
            raise FrameError(f"is truncated: its headers claim {position} bytes or more, the file has {size}")
        name = "PRIMARY" if primary is None else _text(header, "EXTNAME").upper()
        primary = header if primary is None else primary
        sci = header if sci is None and name == "SCI" else sci
        names.append(name)
    if primary is None or sci is None:
        raise FrameError(f"has no SCI extension among its {len(names)} HDUs: {_shown(', '.join(names))}")
    return FrameHeaders(primary=primary, sci=sci, extensions=tuple(names[1:]))


def describe_frame(uri: str) -> Frame:
    """Describe one NIRCam image by its headers, with its checksum.

    Raises
    ------
    FrameError
        It cannot take part; the message names file, keyword and value.
    OSError
        The store cannot be read.
    """
    listed = stat(uri)
    if listed is None:
        raise FileNotFoundError(f"there is no frame {uri}")
    try:
        frame = _describe(listed)
    except FrameError as error:
        raise FrameError(error.reason, uri) from error
    return frame.model_copy(update={"object": checksum(uri)})


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
    listed = list(list_objects(prefix, "*.fits"))
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


def frame_table(frames: Iterable[Frame], refused: Iterable[RefusedFrame]) -> pd.DataFrame:
    """Tabulate all files under the raw prefix, one row each, sorted by URI.

    ``ra`` and ``dec`` are the middle of the footprint in degrees, ICRS. What is not known of a refused file is missing.
    """
    rows = [_accepted_row(frame) for frame in frames]
    rows += [{"uri": entry.uri, "status": "refused", "reason": entry.reason} for entry in refused]
    table = pd.DataFrame(rows, columns=list(TABLE_COLUMNS)).astype(TABLE_COLUMNS)
    return table.sort_values("uri", ignore_index=True)


def light_filter(frame: Frame) -> str:
    """Return the element that limits a frame's band: the filter in the pupil wheel where there is one."""
    return frame.filter if frame.pupil in ("", "CLEAR") else frame.pupil


TABLE_COLUMNS = {
    "uri": "string",
    "size": "Int64",
    "level": "string",
    "program": "string",
    "observation": "string",
    "visit": "string",
    "exposure": "string",
    "detector": "string",
    "filter": "string",
    "pupil": "string",
    "subarray": "string",
    "exposure_time_s": "Float64",
    "start": "string",
    "ra": "Float64",
    "dec": "Float64",
    "status": "string",
    "reason": "string",
    "warnings": "string",
    "sha256": "string",
}


def _header_at(stream: BinaryIO, position: int) -> tuple[fits.Header, int]:
    """Read one header block by block; return it and where its data begin."""
    stream.seek(position)
    text = bytearray()
    for _ in range(MAX_HEADER_BLOCKS):
        block = stream.read(BLOCK_BYTES)
        if not text:
            _check_magic(block, position)
        if len(block) < BLOCK_BYTES:
            raise FrameError(f"is truncated: it ends within the header at byte {position}")
        text += block
        if any(block[i : i + CARD_BYTES].rstrip() == b"END" for i in range(0, BLOCK_BYTES, CARD_BYTES)):
            return _parsed(bytes(text), position), position + len(text)
    raise FrameError(f"is damaged: the header at byte {position} has no END within {MAX_HEADER_BLOCKS} blocks")


def _check_magic(block: bytes, position: int) -> None:
    if position == 0 and not block.startswith(b"SIMPLE  ="):
        raise FrameError("is no FITS file: it does not begin with SIMPLE")
    if position > 0 and not block.startswith(b"XTENSION="[: max(1, len(block))]):
        raise FrameError(f"is damaged: no FITS extension begins at byte {position}, where the headers claim one")


def _parsed(text: bytes, position: int) -> fits.Header:
    if not text.isascii():
        raise FrameError(f"is damaged: the header at byte {position} holds bytes that are not ASCII")
    try:
        return fits.Header.fromstring(text)
    except (ValueError, TypeError, LookupError, fits.VerifyError) as error:
        raise FrameError(f"is damaged: the header at byte {position} cannot be read: {error}") from error


def _data_bytes(header: fits.Header) -> int:
    """Size of the data unit that a header claims, with its padding (FITS standard 4.0, equation 2)."""
    axes = _size(header, "NAXIS", None)
    if axes > MAX_AXES:
        raise FrameError(f"is damaged: NAXIS is {axes}")
    bitpix = _integer(header, "BITPIX", None)
    if bitpix not in BITPIX_VALUES:
        raise FrameError(f"is damaged: BITPIX is {bitpix}")
    if axes == 0:
        return 0
    elements = 1
    for axis in range(1, axes + 1):
        elements *= _size(header, f"NAXIS{axis}", None)
    bits = abs(bitpix) * _size(header, "GCOUNT", 1) * (_size(header, "PCOUNT", 0) + elements)
    return -(-bits // (8 * BLOCK_BYTES)) * BLOCK_BYTES


def _value(header: fits.Header, keyword: str) -> object:
    """Value of a keyword; None where it is missing or has no value."""
    try:
        value = header[keyword]
    except KeyError:
        return None
    except (ValueError, TypeError, LookupError, fits.VerifyError) as error:
        raise FrameError(f"is damaged: its card {keyword} cannot be read") from error
    return None if isinstance(value, fits.card.Undefined) else value


def _text(header: fits.Header, keyword: str) -> str:
    value = _value(header, keyword)
    return "" if value is None else str(value).strip()


def _integer(header: fits.Header, keyword: str, default: int | None) -> int:
    value = _value(header, keyword)
    value = default if value is None else value
    if type(value) is not int:
        raise FrameError(f"is damaged: {keyword} is {_shown(value)}, which is no integer")
    return value


def _size(header: fits.Header, keyword: str, default: int | None) -> int:
    value = _integer(header, keyword, default)
    if not 0 <= value < 1 << 48:
        raise FrameError(f"is damaged: {keyword} is {_shown(value)}")
    return value


def _number(header: fits.Header, keyword: str) -> float:
    value = _value(header, keyword)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(float(value)):
        raise FrameError(f"has {keyword} = {_shown(value)}, which is no finite number")
    return float(value)


def _shown(value: object) -> str:
    """Write a value into a message, never at a hostile length."""
    text = repr(value)
    return text if len(text) <= CARD_BYTES else f"{text[:CARD_BYTES]}..."


def _frame_or_refusal(listed: ListedObject) -> Frame | RefusedFrame:
    try:
        return _describe(listed)
    except FrameError as error:
        return RefusedFrame(uri=listed.uri, reason=error.reason)


def _describe(listed: ListedObject) -> Frame:
    """Describe a frame without its checksum, so that files that are refused need not be read whole."""
    if not is_plain_name(listed.name):
        raise FrameError(
            "has a name that cannot be used in headers and tables: rename the object to letters, digits, '_', '-', '.' "
            f"and at most {LONGEST_NAME} characters"
        )
    suffix = listed.name.removesuffix(".fits").rsplit("_", 1)[-1].lower()
    if suffix in OTHER_PRODUCTS:
        raise FrameError(f"is no uncal, rate or cal frame but {OTHER_PRODUCTS[suffix]} (_{suffix})")
    with open_object(listed.uri, listed.size) as stream:
        headers = read_header(stream)
    primary, sci = headers.primary, headers.sci
    _check_instrument(primary)
    _check_keywords(headers)
    warnings = _check_guiding(primary)
    level = _level(listed.name, suffix, headers)
    return Frame(
        object=StoredObject(uri=listed.uri, sha256="", size=listed.size),
        level=level,
        program=_text(primary, "PROGRAM").zfill(5),
        observation=_text(primary, "OBSERVTN").zfill(3),
        visit=_text(primary, "VISIT").zfill(3),
        exposure=_exposure_identifier(primary),
        detector=_matched(primary, "DETECTOR", re.compile(DETECTOR_PATTERN), "a NIRCam detector"),
        filter=_matched(primary, "FILTER", FILTER_PATTERN, "a filter to make images with"),
        pupil=_pupil(primary),
        subarray=_text(primary, "SUBARRAY"),
        start=_text(primary, "DATE-BEG"),
        exposure_time=_exposure_time(primary),
        footprint=_footprint(primary, sci),
        calibration_version=_text(primary, "CAL_VER"),
        crds_context=_text(primary, "CRDS_CTX"),
        warnings=warnings,
    )


def _check_instrument(primary: fits.Header) -> None:
    for keyword, expected in (("TELESCOP", "JWST"), ("INSTRUME", "NIRCAM")):
        found = _text(primary, keyword)
        if found.upper() != expected:
            shown = f"{keyword} = {_shown(found)}" if found else f"no keyword {keyword}"
            raise FrameError(f"is no JWST NIRCam frame: it has {shown}, not '{expected}'")
    exposure_type = _text(primary, "EXP_TYPE")
    if exposure_type != "NRC_IMAGE":
        shown = f"EXP_TYPE = {_shown(exposure_type)}" if exposure_type else "no keyword EXP_TYPE"
        raise FrameError(f"is no image for a mosaic: it has {shown}, not 'NRC_IMAGE'")
    if _text(primary, "TARGTYPE").upper() == "MOVING":
        raise FrameError("follows a moving target (TARGTYPE = 'MOVING'); a mosaic is of the fixed sky")


def _check_keywords(headers: FrameHeaders) -> None:
    for header, where, keywords in (
        (headers.primary, "primary", PRIMARY_KEYWORDS),
        (headers.sci, "SCI", POINTING_KEYWORDS),
    ):
        missing = [keyword for keyword in keywords if _value(header, keyword) is None]
        if missing:
            raise FrameError(
                f"lacks {', '.join(missing)} in its {where} header; download it again, or set what is missing"
            )
    for keyword in POINTING_KEYWORDS:
        _number(headers.sci, keyword)


def _check_guiding(primary: fits.Header) -> tuple[str, ...]:
    """Refuse frames that were exposed without fine guiding; warn of a pointing that was not measured.

    VISITSTA is the status of the visit, PCS_MODE the mode of the pointing control system during the exposure and
    ENGQLPTG tells whether the pointing in the header was measured (CALCULATED...) or only PLANNED, which
    may be off by an arcsecond and is usual in simulations.
    """
    status, mode = _text(primary, "VISITSTA").upper(), _text(primary, "PCS_MODE").upper()
    if status not in ("", "SUCCESSFUL"):
        raise FrameError(f"is of a visit that failed: VISITSTA = {_shown(status)}, not 'SUCCESSFUL'")
    if mode in ("COARSE", "NONE"):
        raise FrameError(f"was exposed without fine guiding: PCS_MODE = '{mode}', its stars are smeared")
    warnings = []
    if _text(primary, "ENGQLPTG").upper() == "PLANNED":
        warnings.append("the pointing is the planned one, not measured (ENGQLPTG = 'PLANNED'); consider align.enabled")
    if _text(primary, "ENG_QUAL").upper() == "SUSPECT":
        warnings.append("engineering data are suspect (ENG_QUAL = 'SUSPECT')")
    return tuple(warnings)


def _level(name: str, suffix: str, headers: FrameHeaders) -> str:
    """Level by the file's name, which the header must bear out."""
    if suffix not in LEVELS or not name.endswith(f"_{suffix}.fits"):
        raise FrameError("does not tell its level by name; names end in _uncal.fits, _rate.fits or _cal.fits")
    axes, unit = _integer(headers.sci, "NAXIS", None), _text(headers.sci, "BUNIT").upper()
    if axes != AXES_OF_LEVEL[suffix]:
        raise FrameError(f"is {suffix} by name, but SCI has NAXIS = {axes}, not {AXES_OF_LEVEL[suffix]}")
    if unit not in ("", UNIT_OF_LEVEL[suffix]):
        raise FrameError(f"is {suffix} by name, but SCI has BUNIT = {_shown(unit)}, not '{UNIT_OF_LEVEL[suffix]}'")
    missing = [extension for extension in EXTENSIONS_OF_LEVEL[suffix] if extension not in headers.extensions]
    if missing:
        raise FrameError(f"lacks the extensions {', '.join(missing)} of a {suffix} file; it may be truncated")
    return suffix


def _exposure_identifier(primary: fits.Header) -> str:
    group, sequence = _text(primary, "VISITGRP").zfill(2), _text(primary, "SEQ_ID")
    activity, exposure = _text(primary, "ACT_ID").zfill(2), _text(primary, "EXPOSURE").zfill(5)
    return f"{group}{sequence}{activity}_{exposure}"


def _exposure_time(primary: fits.Header) -> float:
    seconds = _number(primary, "EFFEXPTM")
    if seconds <= 0.0:
        raise FrameError(f"has EFFEXPTM = {seconds}: no exposure time")
    return seconds


def _matched(primary: fits.Header, keyword: str, pattern: re.Pattern[str], what: str) -> str:
    value = _text(primary, keyword).upper()
    if not pattern.fullmatch(value):
        raise FrameError(f"has {keyword} = {_shown(value)}, which is not {what}")
    return value


def _pupil(primary: fits.Header) -> str:
    value = _text(primary, "PUPIL").upper()
    if value in ("", "CLEAR"):
        return value
    return _matched(primary, "PUPIL", FILTER_PATTERN, "CLEAR or a filter to make images with")


def _footprint(primary: fits.Header, sci: fits.Header) -> tuple[tuple[float, float], ...]:
    region = _text(sci, "S_REGION")
    corners = _region_corners(region) if region else _nominal_corners(primary, sci)
    reference = (_number(sci, "RA_REF"), _number(sci, "DEC_REF"))
    for direction in (reference, *corners):
        if not -90.0 <= direction[1] <= 90.0:
            raise FrameError(f"has a declination of {direction[1]:g} deg in DEC_REF or S_REGION")
    vectors = np.array([footprint_centre([direction]) for direction in (reference, *corners)])
    spread = float(separations_deg(vectors, vectors[0]).max())
    if spread > LARGEST_FOOTPRINT_DEG:
        raise FrameError(
            f"has a footprint (S_REGION) that reaches {spread:.3f} deg from RA_REF, DEC_REF = "
            f"{reference[0]:g}, {reference[1]:g}: one of them is wrong"
        )
    return corners


def _region_corners(region: str) -> tuple[tuple[float, float], ...]:
    words = region.split()
    try:
        numbers = [float(word) for word in words[2:]]
    except ValueError:
        numbers = []
    is_polygon = [word.upper() for word in words[:2]] == ["POLYGON", "ICRS"] and np.isfinite(numbers).all()
    if not is_polygon or len(numbers) < 6 or len(numbers) % 2:
        raise FrameError(f"has S_REGION = {_shown(region)}, which is no 'POLYGON ICRS  ra dec ra dec ra dec ...'")
    return tuple((ra % 360.0, dec) for ra, dec in zip(numbers[::2], numbers[1::2], strict=True))


def _nominal_corners(primary: fits.Header, sci: fits.Header) -> tuple[tuple[float, float], ...]:
    """Corners from pointing and nominal pixel size, without distortion: good to an arcsecond.

    Offsets (x, y) on the ideal frame turn to (east, north) by the angle ROLL_REF + V3I_YANG and the parity
    (JWST-STScI-001550, "Description and use of the JWST science instrument aperture file").
    """
    is_long = is_long_wavelength_detector(_text(primary, "DETECTOR"))
    pixel = LARGEST_LONG_PIXEL_ARCSEC if is_long else LARGEST_SHORT_PIXEL_ARCSEC
    columns, rows = _size(sci, "NAXIS1", None), _size(sci, "NAXIS2", None)
    reference_x = _number(sci, "CRPIX1") if _value(sci, "CRPIX1") is not None else 0.5 * (columns + 1)
    reference_y = _number(sci, "CRPIX2") if _value(sci, "CRPIX2") is not None else 0.5 * (rows + 1)
    x = (np.array([0.0, columns, columns, 0.0]) + 0.5 - reference_x) * pixel * _number(sci, "VPARITY")
    y = (np.array([0.0, 0.0, rows, rows]) + 0.5 - reference_y) * pixel
    angle = np.radians(_number(sci, "ROLL_REF") + _number(sci, "V3I_YANG"))
    plane = np.stack([x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)], axis=1)
    corners = plane_to_sky((_number(sci, "RA_REF"), _number(sci, "DEC_REF")), plane)
    return tuple((float(ra), float(dec)) for ra, dec in corners)


def _check_filters(frames: Sequence[Frame], filters: Sequence[str], prefix: str) -> None:
    observed = Counter(light_filter(frame) for frame in frames)
    absent = sorted(set(filters) - set(observed))
    if absent:
        there = ", ".join(f"{name} ({count} frames)" for name, count in sorted(observed.items())) or "none"
        raise ValueError(f"filters: {', '.join(absent)} is in no frame under {prefix}; observed are: {there}")


def _of_filters(frames: list[Frame], filters: Sequence[str]) -> tuple[list[Frame], list[RefusedFrame]]:
    if not filters:
        return frames, []
    reason = f"is of a filter that was not asked for (filters: {', '.join(filters)})"
    return _parted(frames, lambda frame: None if light_filter(frame) in filters else f"{reason}: {light_filter(frame)}")


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


def _accepted_row(frame: Frame) -> dict[str, object]:
    ra, dec = directions(footprint_centre(frame.footprint))[0]
    same_name = frame.model_dump(include=set(TABLE_COLUMNS) - {"warnings"})
    return same_name | {
        "uri": frame.object.uri,
        "size": frame.object.size,
        "sha256": frame.object.sha256,
        "exposure_time_s": frame.exposure_time,
        "ra": float(ra),
        "dec": float(dec),
        "status": "accepted",
        "warnings": "; ".join(frame.warnings),
    }
