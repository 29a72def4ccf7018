"""What one raw frame is, by its headers: level, filter, detector and footprint."""

import re

import numpy as np
from astropy.io import fits

from cosmosaic.exposures.footprints import region_corners
from cosmosaic.exposures.headers import (
    FrameError,
    FrameHeaders,
    integer_of,
    number_of,
    read_header,
    shown,
    size_of,
    text_of,
    value_of,
)
from cosmosaic.geometry.grid import footprint_centre, plane_to_sky, separations_deg
from cosmosaic.records import Frame, StoredObject
from cosmosaic.storage.store import LONGEST_NAME, ListedObject, checksum, is_plain_name, open_object, stat

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
DETECTOR_PATTERN = re.compile(r"NRC([AB][1-4]|[AB]LONG)")
FILTER_PATTERN = re.compile(r"F\d{3}[WMN]2?")
PIXEL_ARCSEC_SHORT, PIXEL_ARCSEC_LONG = 0.0312, 0.0630
"""Largest nominal pixel of the short- and long-wavelength detectors (SIAF), where S_REGION is missing."""
LARGEST_FOOTPRINT_DEG = 0.2


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
        frame = describe(listed)
    except FrameError as error:
        raise FrameError(error.reason, uri) from error
    return frame.model_copy(update={"object": checksum(uri)})


def describe(listed: ListedObject) -> Frame:
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
        program=text_of(primary, "PROGRAM").zfill(5),
        observation=text_of(primary, "OBSERVTN").zfill(3),
        visit=text_of(primary, "VISIT").zfill(3),
        exposure=_exposure_identifier(primary),
        detector=_matched(primary, "DETECTOR", DETECTOR_PATTERN, "a NIRCam detector"),
        filter=_matched(primary, "FILTER", FILTER_PATTERN, "a filter to make images with"),
        pupil=_pupil(primary),
        subarray=text_of(primary, "SUBARRAY"),
        start=text_of(primary, "DATE-BEG"),
        exposure_time=_exposure_time(primary),
        footprint=_footprint(primary, sci),
        calibration_version=text_of(primary, "CAL_VER"),
        crds_context=text_of(primary, "CRDS_CTX"),
        warnings=warnings,
    )


def light_filter(frame: Frame) -> str:
    """Return the element that limits a frame's band: the filter in the pupil wheel where there is one."""
    return frame.filter if frame.pupil in ("", "CLEAR") else frame.pupil


def _check_instrument(primary: fits.Header) -> None:
    for keyword, expected in (("TELESCOP", "JWST"), ("INSTRUME", "NIRCAM")):
        found = text_of(primary, keyword)
        if found.upper() != expected:
            what = f"{keyword} = {shown(found)}" if found else f"no keyword {keyword}"
            raise FrameError(f"is no JWST NIRCam frame: it has {what}, not '{expected}'")
    exposure_type = text_of(primary, "EXP_TYPE")
    if exposure_type != "NRC_IMAGE":
        what = f"EXP_TYPE = {shown(exposure_type)}" if exposure_type else "no keyword EXP_TYPE"
        raise FrameError(f"is no image for a mosaic: it has {what}, not 'NRC_IMAGE'")
    if text_of(primary, "TARGTYPE").upper() == "MOVING":
        raise FrameError("follows a moving target (TARGTYPE = 'MOVING'); a mosaic is of the fixed sky")


def _check_keywords(headers: FrameHeaders) -> None:
    for header, where, keywords in (
        (headers.primary, "primary", PRIMARY_KEYWORDS),
        (headers.sci, "SCI", POINTING_KEYWORDS),
    ):
        missing = [keyword for keyword in keywords if value_of(header, keyword) is None]
        if missing:
            raise FrameError(
                f"lacks {', '.join(missing)} in its {where} header; download it again, or set what is missing"
            )
    for keyword in POINTING_KEYWORDS:
        number_of(headers.sci, keyword)


def _check_guiding(primary: fits.Header) -> tuple[str, ...]:
    """Refuse frames that were exposed without fine guiding; warn of a pointing that was not measured.

    VISITSTA is the status of the visit, PCS_MODE the mode of the pointing control system during the exposure and
    ENGQLPTG tells whether the pointing in the header was measured (CALCULATED...) or only PLANNED, which
    may be off by an arcsecond and is usual in simulations.
    """
    status, mode = text_of(primary, "VISITSTA").upper(), text_of(primary, "PCS_MODE").upper()
    if status not in ("", "SUCCESSFUL"):
        raise FrameError(f"is of a visit that failed: VISITSTA = {shown(status)}, not 'SUCCESSFUL'")
    if mode in ("COARSE", "NONE"):
        raise FrameError(f"was exposed without fine guiding: PCS_MODE = '{mode}', its stars are smeared")
    warnings = []
    if text_of(primary, "ENGQLPTG").upper() == "PLANNED":
        warnings.append("the pointing is the planned one, not measured (ENGQLPTG = 'PLANNED'); consider align.enabled")
    if text_of(primary, "ENG_QUAL").upper() == "SUSPECT":
        warnings.append("engineering data are suspect (ENG_QUAL = 'SUSPECT')")
    return tuple(warnings)


def _level(name: str, suffix: str, headers: FrameHeaders) -> str:
    """Level by the file's name, which the header must bear out."""
    if suffix not in LEVELS or not name.endswith(f"_{suffix}.fits"):
        raise FrameError("does not tell its level by name; names end in _uncal.fits, _rate.fits or _cal.fits")
    axes, unit = integer_of(headers.sci, "NAXIS", None), text_of(headers.sci, "BUNIT").upper()
    if axes != AXES_OF_LEVEL[suffix]:
        raise FrameError(f"is {suffix} by name, but SCI has NAXIS = {axes}, not {AXES_OF_LEVEL[suffix]}")
    if unit not in ("", UNIT_OF_LEVEL[suffix]):
        raise FrameError(f"is {suffix} by name, but SCI has BUNIT = {shown(unit)}, not '{UNIT_OF_LEVEL[suffix]}'")
    missing = [extension for extension in EXTENSIONS_OF_LEVEL[suffix] if extension not in headers.extensions]
    if missing:
        raise FrameError(f"lacks the extensions {', '.join(missing)} of a {suffix} file; it may be truncated")
    return suffix


def _exposure_identifier(primary: fits.Header) -> str:
    group, sequence = text_of(primary, "VISITGRP").zfill(2), text_of(primary, "SEQ_ID")
    activity, exposure = text_of(primary, "ACT_ID").zfill(2), text_of(primary, "EXPOSURE").zfill(5)
    return f"{group}{sequence}{activity}_{exposure}"


def _exposure_time(primary: fits.Header) -> float:
    seconds = number_of(primary, "EFFEXPTM")
    if seconds <= 0.0:
        raise FrameError(f"has EFFEXPTM = {seconds}: no exposure time")
    return seconds


def _matched(primary: fits.Header, keyword: str, pattern: re.Pattern[str], what: str) -> str:
    value = text_of(primary, keyword).upper()
    if not pattern.fullmatch(value):
        raise FrameError(f"has {keyword} = {shown(value)}, which is not {what}")
    return value


def _pupil(primary: fits.Header) -> str:
    value = text_of(primary, "PUPIL").upper()
    if value in ("", "CLEAR"):
        return value
    return _matched(primary, "PUPIL", FILTER_PATTERN, "CLEAR or a filter to make images with")


def _footprint(primary: fits.Header, sci: fits.Header) -> tuple[tuple[float, float], ...]:
    region = text_of(sci, "S_REGION")
    corners = region_corners(region) if region else _nominal_corners(primary, sci)
    reference = (number_of(sci, "RA_REF"), number_of(sci, "DEC_REF"))
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


def _nominal_corners(primary: fits.Header, sci: fits.Header) -> tuple[tuple[float, float], ...]:
    """Corners from pointing and nominal pixel size, without distortion: good to an arcsecond.

    Offsets (x, y) on the ideal frame turn to (east, north) by the angle ROLL_REF + V3I_YANG and the parity
    (JWST-STScI-001550, "Description and use of the JWST science instrument aperture file").
    """
    pixel = PIXEL_ARCSEC_LONG if text_of(primary, "DETECTOR").endswith("LONG") else PIXEL_ARCSEC_SHORT
    columns, rows = size_of(sci, "NAXIS1", None), size_of(sci, "NAXIS2", None)
    reference_x = number_of(sci, "CRPIX1") if value_of(sci, "CRPIX1") is not None else 0.5 * (columns + 1)
    reference_y = number_of(sci, "CRPIX2") if value_of(sci, "CRPIX2") is not None else 0.5 * (rows + 1)
    x = (np.array([0.0, columns, columns, 0.0]) + 0.5 - reference_x) * pixel * number_of(sci, "VPARITY")
    y = (np.array([0.0, 0.0, rows, rows]) + 0.5 - reference_y) * pixel
    angle = np.radians(number_of(sci, "ROLL_REF") + number_of(sci, "V3I_YANG"))
    plane = np.stack([x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)], axis=1)
    corners = plane_to_sky((number_of(sci, "RA_REF"), number_of(sci, "DEC_REF")), plane)
    return tuple((float(ra), float(dec)) for ra, dec in corners)
