"""Description of one raw exposure from its headers: level, filter, detector, time and footprint."""

import re
from typing import Any

from astropy.io import fits

from cosmosaic.exposures.footprints import outline_of
from cosmosaic.exposures.headers import (
    FileHeaders,
    RefusalError,
    integer_of,
    number_of,
    read_header,
    shown,
    size_of,
    text_of,
    value_of,
    values_of,
)
from cosmosaic.exposures.keywords import KeywordError, detector_of, group_of, start_of, times_of
from cosmosaic.nircam import BLOCKING_FILTERS
from cosmosaic.records import Exposure, StoredObject
from cosmosaic.storage.store import LONGEST_NAME, ListedObject, checksum, is_plain_name, opened, stat

LEVELS = ("uncal", "rate", "cal")
"""Levels at which an exposure may enter, lowest first."""
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
POINTING_KEYWORDS = ("RA_REF", "DEC_REF", "ROLL_REF", "V2_REF", "V3_REF", "VPARITY", "V3I_YANG")
EXTENSIONS_OF_LEVEL = {
    "uncal": (),
    "rate": ("ERR", "DQ", "VAR_POISSON", "VAR_RNOISE"),
    "cal": ("ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "ASDF"),
}
"""Required extensions: without this check, a file that is truncated between two of them would look complete."""
AXES_OF_LEVEL = {"uncal": 4, "rate": 2, "cal": 2}
UNIT_OF_LEVEL = {"uncal": "DN", "rate": "DN/S", "cal": "MJY/SR"}
DETECTOR_PATTERN = re.compile(r"NRC([AB][1-4]|[AB]LONG)")
FILTER_PATTERN = re.compile(r"F\d{3}[WMN]2?")
COMPRESSED_NAME = re.compile(r".+\.fits\.(gz|bz2|xz|zip|z|fz|zst)", re.IGNORECASE)


def describe_exposure(uri: str) -> Exposure:
    """Describe one NIRCam image by its headers, with its checksum.

    Raises
    ------
    RefusalError
        It cannot take part; the message names file, keyword and value.
    OSError
        The store cannot be read.
    """
    listed = stat(uri)
    if listed is None:
        raise FileNotFoundError(f"there is no file {uri}")
    try:
        exposure = describe(listed)
    except RefusalError as error:
        raise RefusalError(error.reason, uri) from error
    return exposure.model_copy(update={"object": checksum(uri)})


def describe(listed: ListedObject) -> Exposure:
    """Describe an exposure without its checksum, so that refused files are not read completely."""
    suffix = _suffix(listed.name)
    with opened(listed) as stream:
        headers = read_header(stream)
        primary = headers.primary
        _check_instrument(primary)
        level = _level(listed.name, suffix, headers)
        facts = _facts(headers, level, listed.name)
        pointing_warnings = _pointing_warnings(headers.sci, level)
        outline = outline_of(headers, stream, level)
    warnings = [*_guiding_warnings(primary), *_extension_warnings(headers, level), *pointing_warnings]
    return Exposure(
        object=StoredObject(uri=listed.uri, sha256="", size=listed.size, version=listed.version),
        level=level,
        filter=_matched("FILTER", text_of(primary, "FILTER"), FILTER_PATTERN, "an imaging filter"),
        pupil=_pupil(primary),
        subarray=text_of(primary, "SUBARRAY"),
        ramp=tuple(size_of(headers.sci, f"NAXIS{axis}", None) for axis in (4, 3, 2, 1)) if level == "uncal" else (),
        footprint=outline.corners,
        calibration_version=text_of(primary, "CAL_VER"),
        crds_context=text_of(primary, "CRDS_CTX"),
        flicker_removed=text_of(primary, "S_CLNFNS").upper() == "COMPLETE",
        warnings=(*warnings, *outline.warnings),
        **facts,
    )


def _suffix(name: str) -> str:
    """Return the last word of a file's name, which gives its level; refuse names that no exposure can have."""
    if not is_plain_name(name):
        raise RefusalError(
            "has a name that cannot be used in headers and tables: rename it, with letters, digits, '_', '-', '.' "
            f"and at most {LONGEST_NAME} characters"
        )
    if COMPRESSED_NAME.fullmatch(name):
        raise RefusalError(
            "is compressed as a whole, so that its headers cannot be read alone; unpack it, e.g. with gunzip"
        )
    if not name.endswith(".fits"):
        raise RefusalError("has a name that does not end in .fits in lower case; rename it")
    suffix = name.removesuffix(".fits").rsplit("_", 1)[-1].lower()
    if suffix in OTHER_PRODUCTS:
        raise RefusalError(f"is not an uncal, rate or cal file but {OTHER_PRODUCTS[suffix]} (_{suffix})")
    return suffix


def _check_instrument(primary: fits.Header) -> None:
    for keyword, expected in (("TELESCOP", "JWST"), ("INSTRUME", "NIRCAM")):
        found = text_of(primary, keyword)
        if found.upper() != expected:
            what = f"{keyword} = {shown(found)}" if found else f"no keyword {keyword}"
            raise RefusalError(f"is not a JWST NIRCam exposure: it has {what}, not '{expected}'")
    exposure_type = text_of(primary, "EXP_TYPE")
    if exposure_type != "NRC_IMAGE":
        what = f"EXP_TYPE = {shown(exposure_type)}" if exposure_type else "no keyword EXP_TYPE"
        raise RefusalError(f"is not an image for a mosaic: it has {what}, not 'NRC_IMAGE'")
    if text_of(primary, "TARGTYPE").upper() == "MOVING":
        raise RefusalError("follows a moving target (TARGTYPE = 'MOVING'); mosaics are of the fixed sky")


def _facts(headers: FileHeaders, level: str, name: str) -> dict[str, Any]:
    """Return identity, detector, start and exposure time; one error names all missing keywords."""
    values, missing = values_of(headers.primary, headers.sci), []
    # References are chosen by detector, subarray and date of the header; a calibrated exposure needs none.
    needed = ("FILTER", "PUPIL") if level == "cal" else ("DETECTOR", "FILTER", "PUPIL", "SUBARRAY")
    missing += [keyword for keyword in needed if not text_of(headers.primary, keyword)]
    facts: dict[str, Any] = {"start": start_of(values), "detector": detector_of(values, name)}
    if not facts["detector"] and "DETECTOR" not in missing:
        missing.append("DETECTOR")
    if not facts["start"] and level != "cal":
        missing.append("DATE-BEG")
    try:
        program, observation, visit, group, sequence, activity, exposure = group_of(values, name)
        facts |= {"program": program, "observation": observation, "visit": visit}
        facts["exposure"] = f"{group}{sequence}{activity}_{exposure}"
    except KeywordError as error:
        missing += error.missing
    try:
        facts["exposure_time"] = times_of(values).exposure
    except KeywordError as error:
        missing += error.missing
    if missing:
        raise RefusalError(
            f"lacks {', '.join(missing)} in its primary header, and no other keyword can replace it; download the file "
            f"again, or set the keyword"
        )
    _matched("DETECTOR", facts["detector"], DETECTOR_PATTERN, "a NIRCam detector")
    return facts


def _guiding_warnings(primary: fits.Header) -> list[str]:
    """Refuse exposures without fine guiding; warn of a visit that failed and of a planned pointing.

    VISITSTA is the status of the visit: one that was cut short (PARTIAL, UNSUCCESSFUL) has complete exposures too.
    PCS_MODE is the mode of the pointing control system during the exposure. ENGQLPTG tells whether the pointing in the
    header was measured (CALCULATED...) or only PLANNED, which may be off by an arcsecond and is usual in simulations.
    """
    status, mode = text_of(primary, "VISITSTA").upper(), text_of(primary, "PCS_MODE").upper()
    if mode in ("COARSE", "NONE"):
        raise RefusalError(f"was exposed without fine guiding (PCS_MODE = '{mode}'): its stars are smeared")
    warnings = []
    if status not in ("", "SUCCESSFUL"):
        warnings.append(f"its visit was not successful (VISITSTA = {shown(status)}); look at the exposure")
    if text_of(primary, "ENGQLPTG").upper() == "PLANNED":
        warnings.append("the pointing is planned, not measured (ENGQLPTG = 'PLANNED'); consider align.enabled")
    if text_of(primary, "ENG_QUAL").upper() == "SUSPECT":
        warnings.append("engineering data are suspect (ENG_QUAL = 'SUSPECT')")
    return warnings


def _extension_warnings(headers: FileHeaders, level: str) -> list[str]:
    warnings = []
    science = headers.extensions.count("SCI")
    if science > 1:
        warnings.append(f"it has {science} extensions SCI; the first is used, as in jwst")
    if level == "cal" and "VAR_FLAT" not in headers.extensions:
        warnings.append("it lacks the extension VAR_FLAT; errors of the flat field are set to zero")
    return warnings


def _pointing_warnings(sci: fits.Header, level: str) -> list[str]:
    """Refuse an exposure without the pointing for its WCS; a calibrated one needs it only for its alignment."""
    missing = [keyword for keyword in POINTING_KEYWORDS if value_of(sci, keyword) is None]
    for keyword in POINTING_KEYWORDS:
        if keyword not in missing:
            number_of(sci, keyword)
    if missing and level != "cal":
        raise RefusalError(f"lacks {', '.join(missing)} in its SCI header; download the file again, or set the keyword")
    return [f"it lacks {', '.join(missing)} in its SCI header, which its alignment needs"] if missing else []


def _level(name: str, suffix: str, headers: FileHeaders) -> str:
    """Return the level by the file's name, which the header must confirm."""
    if suffix not in LEVELS or not name.endswith(f"_{suffix}.fits"):
        raise RefusalError("has a name without a level; names end in _uncal.fits, _rate.fits or _cal.fits")
    axes, unit = integer_of(headers.sci, "NAXIS", None), text_of(headers.sci, "BUNIT").upper()
    if axes != AXES_OF_LEVEL[suffix]:
        raise RefusalError(f"is {suffix} by name, but SCI has NAXIS = {axes}, not {AXES_OF_LEVEL[suffix]}")
    if unit not in ("", UNIT_OF_LEVEL[suffix]):
        raise RefusalError(f"is {suffix} by name, but SCI has BUNIT = {shown(unit)}, not '{UNIT_OF_LEVEL[suffix]}'")
    missing = [extension for extension in EXTENSIONS_OF_LEVEL[suffix] if extension not in headers.extensions]
    if missing:
        raise RefusalError(f"lacks the extensions {', '.join(missing)} of a {suffix} file; it may be truncated")
    return suffix


def _matched(keyword: str, value: str, pattern: re.Pattern[str], what: str) -> str:
    if not pattern.fullmatch(value.upper()):
        raise RefusalError(f"has {keyword} = {shown(value)}, which is not {what}")
    return value.upper()


def _pupil(primary: fits.Header) -> str:
    """Return the element in the pupil wheel; refuse it if it takes no images with the one in the filter wheel."""
    name, blocking = text_of(primary, "FILTER").upper(), text_of(primary, "PUPIL").upper()
    if blocking == "CLEAR" or BLOCKING_FILTERS.get(name) == blocking:
        return blocking
    if blocking not in BLOCKING_FILTERS:
        raise RefusalError(f"has PUPIL = {shown(blocking)}, which is neither CLEAR nor an imaging filter")
    if BLOCKING_FILTERS[blocking] != name:
        raise RefusalError(
            f"has PUPIL = '{blocking}' with FILTER = {shown(name)}, not with '{BLOCKING_FILTERS[blocking]}' as NIRCam "
            f"observes; there is no calibration for such a pair"
        )
    return blocking
