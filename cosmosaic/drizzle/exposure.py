"""One calibrated exposure for the mosaic engine: read without jwst's data models, which take seconds."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from numba import njit
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.dq import SAMPLED_PIXELS, UNUSABLE, border, implausible, is_usable, largest_brightness
from cosmosaic.drizzle.kernel import Light
from cosmosaic.exposures.footprints import Corners
from cosmosaic.exposures.headers import values_of
from cosmosaic.exposures.keywords import Times, detector_of, group_of, times_of
from cosmosaic.exposures.library import exposure_name
from cosmosaic.exposures.patterns import pattern_image
from cosmosaic.exposures.planes import Change, FloatRows, copy_changed, read_plane
from cosmosaic.exposures.wcs import read_wcs, wcs_corners, with_agreeing_wcs
from cosmosaic.statistics import gaussian_mode
from cosmosaic.survey import SkyTreatment, WeightType

LAYOUT_KEYWORDS = ("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "PCOUNT", "GCOUNT")
TEXT_KEYWORDS = ("EXTNAME", "EXTVER", "BSCALE", "BZERO", "COMMENT", "HISTORY", "")
"""Keywords that describe the file and not the exposure."""
PLANES = ("SCI", "ERR", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
WITHOUT_FLAT_ERROR = "VAR_FLAT"
"""The plane that an exposure may lack: a flat field without errors."""

LEAST_POSITIVE = 0.1
"""Fraction of usable pixels with a Poisson variance, below which that of the sky is unknown."""

DO_NOT_USE = np.uint32(pixel["DO_NOT_USE"])

NAMED_EXTENSION = re.compile(rb"source: ['\"]?fits:([ -~]+?),(\d+)\b")
"""Where an ASDF tree leaves an array to an extension of the FITS file."""

FloatImage = NDArray[np.float32]


@dataclass
class ExposurePlanes:
    """Planes of one exposure of one detector, shape ``(ny, nx)`` each."""

    name: str
    group: str
    """The same for all detectors of an exposure group."""
    detector: str
    sci: FloatImage
    """Surface brightness without the sky in MJy/sr."""
    err: FloatImage
    variances: tuple[FloatImage, FloatImage, FloatImage]
    """Poisson, read noise, flat, (MJy/sr)**2."""
    dq: NDArray[np.uint32]
    tree: bytes
    """ASDF with the WCS in it."""
    pattern: FloatImage | None
    """The pattern that was subtracted from SCI in addition to the level, MJy/sr."""
    header: fits.Header
    """Of the primary HDU."""
    sci_header: fits.Header
    times: Times
    largest: float
    """Surface brightness that no pixel can have, MJy/sr."""
    implausible: int = 0
    """Number of pixels that were not flagged in the file and have values that no detector can give."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.sci.shape[0], self.sci.shape[1]

    @cached_property
    def wcs(self) -> Any:
        """The gwcs: 0-based pixels (x, y) to (RA, Dec) in degrees."""
        return read_wcs(self.tree)

    @cached_property
    def footprint(self) -> Corners:
        """Corners (RA, Dec) in degrees of the array, by the WCS."""
        return tuple((float(ra), float(dec)) for ra, dec in wcs_corners(self.wcs, self.shape))


class ExposureError(ValueError):
    """A file is not a calibrated exposure that can be combined."""


def read_exposure(
    path: Path, level: float = 0.0, patterns: Sequence[NDArray[np.floating]] = (), trim_pixels: int = 0
) -> ExposurePlanes:
    """Read a calibrated exposure, subtract its sky and flag its edges.

    Pixels without a finite value in any plane become DO_NOT_USE, as in jwst's ``match_nans_and_flags``, and so do
    pixels with values that no detector can give (`cosmosaic.dq.implausible`).

    Parameters
    ----------
    path
        ``_cal`` file, its planes in any encoding that FITS allows.
    level
        Sky in MJy/sr.
    patterns
        The part of the sky that varies over the exposure (`cosmosaic.exposures.patterns`), MJy/sr, without its level.
    trim_pixels
        Width of the border of the detector that becomes DO_NOT_USE.

    Raises
    ------
    ExposureError
        An extension, the group's keywords or the WCS is missing, planes differ in size, or no pixel can be used.
    """
    try:
        file = _read(path)
    except (OSError, ValueError, TypeError, LookupError, fits.VerifyError) as error:
        raise ExposureError(f"{path} cannot be read as a calibrated exposure: {error}") from error
    header, sci_header, planes, dq = file.header, file.sci_header, file.planes, file.dq
    largest = largest_brightness(header.get("TFRAME"), sci_header.get("PHOTMJSR"))
    implausible_pixels = _flag_implausible(planes, dq, largest)
    _check_usable(path, planes["SCI"], planes["ERR"], dq)
    pattern = pattern_image(patterns, is_usable(planes["SCI"], planes["ERR"], dq)) if len(patterns) else None
    dq[border(dq.shape, trim_pixels)] |= np.uint32(pixel["DO_NOT_USE"])
    _match_flags(planes, dq)
    if pattern is not None:
        planes["SCI"] -= pattern
    if level:
        planes["SCI"] -= np.float32(level)
    return ExposurePlanes(
        name=exposure_name(path.name),
        group=file.group,
        detector=file.detector,
        sci=planes["SCI"],
        err=planes["ERR"],
        variances=(planes["VAR_POISSON"], planes["VAR_RNOISE"], planes["VAR_FLAT"]),
        dq=dq,
        tree=file.tree,
        pattern=pattern,
        header=header,
        sci_header=sci_header,
        times=file.times,
        largest=largest,
        implausible=implausible_pixels,
    )


def light_of(exposure: ExposurePlanes, weight_type: WeightType) -> Light:
    """Return the planes of an exposure for drizzling, with the weight of each pixel: 0 for unusable pixels.

    Weights are the inverse variance of sky and read noise (``ivm-sky``), of read noise alone (``ivm``), or the time
    (``exptime``); the last two as in `stcal.resample.utils.build_driz_weight`.

    Raises
    ------
    ExposureError
        The Poisson variance of the sky, which ``ivm-sky`` needs, is unknown.
    """
    return Light(exposure.sci, *exposure.variances, _weight(exposure, weight_type))


def _weight(exposure: ExposurePlanes, weight_type: WeightType) -> FloatImage:
    if weight_type == "exptime":
        good = (exposure.dq & UNUSABLE) == 0
        # jwst weights by measurement time where it is known, otherwise by exposure time.
        return good * np.float32(exposure.times.measurement or exposure.times.exposure)
    sky = np.float32(sky_variance(exposure) if weight_type == "ivm-sky" else 0.0)
    return _inverse(exposure.variances[1], sky, exposure.dq)


@njit(cache=True, nogil=True, error_model="numpy")
def _inverse(variance: FloatImage, sky: np.float32, dq: NDArray[np.uint32]) -> FloatImage:
    """Inverse variance with that of the sky added, of usable pixels; 0 for the others, and where it is not finite."""
    weight = np.zeros(variance.shape, dtype=np.float32)
    for j in range(variance.shape[0]):
        for i in range(variance.shape[1]):
            inverse = np.float32(1.0) / (variance[j, i] + sky)
            if (dq[j, i] & UNUSABLE) == 0 and np.isfinite(inverse):
                weight[j, i] = inverse
    return weight


def sky_variance(exposure: ExposurePlanes) -> float:
    """Return the Poisson variance of an exposure's sky, (MJy/sr)**2.

    One number for the exposure: the mode of VAR_POISSON, which sources do not move. Weights must not follow the light
    of sources, nor the noise of single pixels, which VAR_POISSON shares with SCI; that the sky varies by some per cent
    over a detector costs less than a thousandth of the depth. Zeros do not count: Stage 1 writes them where noise makes
    the count rate negative, on up to half of the sky of a short exposure.

    Raises
    ------
    ExposureError
        VAR_POISSON is hardly anywhere positive.
    """
    step = max(1, int(np.sqrt(exposure.sci.size / SAMPLED_PIXELS)))
    usable = (exposure.dq[::step, ::step] & UNUSABLE) == 0
    values = exposure.variances[0][::step, ::step][usable]
    positive = values[values > 0]
    if positive.size <= LEAST_POSITIVE * values.size:
        raise ExposureError(
            f"{exposure.name}: VAR_POISSON is zero on the sky, but drizzle.weight_type = 'ivm-sky' weights by it; "
            f"calibrate the exposure again, leave it out, or set drizzle.weight_type = 'ivm'"
        )
    mode = gaussian_mode(positive)[0]
    # The mode of mostly noise may lie below zero; read noise dominates then, and a median is as good.
    return mode if mode > 0 else float(np.median(positive))


def keywords(header: fits.Header) -> dict[str, bool | int | float | str]:
    """Return the keywords that describe the exposure, without comments and the keywords of the file's layout."""
    return {
        card.keyword: card.value
        for card in header.cards
        if card.keyword not in LAYOUT_KEYWORDS + TEXT_KEYWORDS and isinstance(card.value, bool | int | float | str)
    }


def write_flagged(
    source: Path, exposure: ExposurePlanes, level: float, treatment: SkyTreatment, target: Path, outlier_step: str
) -> Path:
    """Write a ``_crf`` file: the ``_cal`` file with its sky, flags and blank pixels changed.

    Its FITS WCS agrees with its gwcs, also where an alignment of the user's changed the latter alone.

    Parameters
    ----------
    source
        The ``_cal`` file that the exposure was read from.
    exposure
        With its final flags.
    level, treatment
        Sky in MJy/sr, whether it is subtracted from SCI or only recorded, and how it was measured.
    target
        The file to write.
    outlier_step
        ``COMPLETE`` or ``SKIPPED``.
    """
    header = exposure.header.copy()
    header["FILENAME"] = target.name
    header["S_OUTLIR"] = (outlier_step, "Outlier Detection")
    header["BKGLEVEL"] = (level, "Computed constant background level")
    header["BKGSUB"] = (treatment.subtract, "Has background been subtracted from data?")
    header["BKGMETH"] = (treatment.method, "Background computation method")
    changes: dict[str, Change] = dict.fromkeys(PLANES, partial(_blanked, exposure.dq))
    changes["SCI"] = partial(_cleared, exposure, np.float32(level if treatment.subtract else 0.0))
    changes["DQ"] = lambda rows, _: exposure.dq[rows]
    headers = {"PRIMARY": header, "SCI": with_agreeing_wcs(exposure.wcs, exposure.sci_header)}
    return copy_changed(source, target, headers, changes)


def _cleared(exposure: ExposurePlanes, level: np.float32, rows: slice, values: FloatRows) -> FloatRows:
    """Subtract pattern and level, and blank unusable pixels."""
    if exposure.pattern is not None:
        values -= exposure.pattern[rows]
    if level:
        values -= level
    return _blanked(exposure.dq, rows, values)


def _blanked(dq: NDArray[np.uint32], rows: slice, values: FloatRows) -> FloatRows:
    """Blank unusable pixels."""
    blank = np.full(1, np.nan, dtype=values.dtype)
    _replace_bits(values.view(np.uint32), dq[rows], blank.view(np.uint32)[0])
    return values


@njit(cache=True, nogil=True)
def _replace_bits(bits: NDArray[np.uint32], dq: NDArray[np.uint32], blank: np.uint32) -> None:
    """Replace unusable pixels, given as bits: compiled functions know no byte order but the machine's."""
    for j in range(bits.shape[0]):
        for i in range(bits.shape[1]):
            bits[j, i] = blank if (dq[j, i] & DO_NOT_USE) > 0 else bits[j, i]


class _File(NamedTuple):
    """The contents of a file."""

    header: fits.Header
    sci_header: fits.Header
    planes: dict[str, FloatImage]
    dq: NDArray[np.uint32]
    tree: bytes
    group: str
    detector: str
    times: Times


def _read(path: Path) -> _File:
    with fits.open(path, memmap=False) as hdus:
        missing = [name for name in (*PLANES, "DQ", "ASDF") if name not in hdus and name != WITHOUT_FLAT_ERROR]
        if missing:
            raise ExposureError(f"no extension {', '.join(missing)}; give the _cal file that Stage 2 wrote")
        header, sci_header = hdus[0].header.copy(), hdus["SCI"].header.copy()
        values = values_of(header, sci_header)
        group, detector, times = "_".join(group_of(values, path.name)), detector_of(values, path.name), times_of(values)
        planes, dq = _read_planes(hdus)
        tree = bytes(hdus["ASDF"].data.tobytes())
        _check_references(tree, hdus)
        return _File(header, sci_header, planes, dq, tree, group, detector, times)


def _check_references(tree: bytes, hdus: fits.HDUList) -> None:
    """Check that the extensions that an ASDF tree names are there: jwst's data models cannot open the file else."""
    named = {(name.decode(), int(version)) for name, version in NAMED_EXTENSION.findall(tree)}
    lost = sorted(f"{name} (EXTVER {version})" for name, version in named if (name, version) not in hdus)
    if lost:
        raise ExposureError(
            f"its ASDF extension names {', '.join(lost)}, which the file lacks; put it back (for VAR_FLAT an image of "
            f"zeros will do), or calibrate the exposure again"
        )


def _read_planes(hdus: fits.HDUList) -> tuple[dict[str, FloatImage], NDArray[np.uint32]]:
    """Read all planes; errors of the flat field are zero where the file has none."""
    planes = {name: read_plane(hdus, name) for name in PLANES if name in hdus}
    dq = read_plane(hdus, "DQ")
    planes.setdefault(WITHOUT_FLAT_ERROR, np.zeros_like(planes["SCI"]))
    shapes = {name: plane.shape for name, plane in (planes | {"DQ": dq}).items()}
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{name} {columns} x {rows}" for name, (rows, columns) in shapes.items())
        raise ExposureError(f"its planes differ in size: {sizes}; calibrate the exposure again")
    return planes, dq


def _flag_implausible(planes: dict[str, FloatImage], dq: NDArray[np.uint32], largest: float) -> int:
    """Flag values that no detector can give; return the number of newly flagged pixels."""
    variances = [planes[name] for name in ("VAR_RNOISE", "VAR_POISSON", "VAR_FLAT")]
    found = implausible(planes["SCI"], planes["ERR"], variances, largest)
    found &= (dq & pixel["DO_NOT_USE"]) == 0
    dq[found] |= np.uint32(pixel["DO_NOT_USE"])
    return int(np.count_nonzero(found))


def _check_usable(path: Path, sci: FloatImage, err: FloatImage, dq: NDArray[np.uint32]) -> None:
    first, other = _two_usable_values(sci, err, dq)
    if math.isnan(first):
        raise ExposureError(
            f"{path}: no usable pixel: all are flagged, without a value, or without a plausible error; leave the "
            f"exposure out, or calibrate it again"
        )
    if math.isnan(other):
        raise ExposureError(f"{path}: all usable pixels are {first:g}, without sky and noise; leave the exposure out")


@njit(cache=True, nogil=True)
def _two_usable_values(sci: FloatImage, err: FloatImage, dq: NDArray[np.uint32]) -> tuple[float, float]:
    """Return the value of the first usable pixel (`cosmosaic.dq.is_usable`) and the first other one; else NaN."""
    first = np.nan
    for j in range(sci.shape[0]):
        for i in range(sci.shape[1]):
            value, error = sci[j, i], err[j, i]
            if not (np.isfinite(value) and np.isfinite(error) and error > 0 and (dq[j, i] & UNUSABLE) == 0):
                continue
            if math.isnan(first):
                first = value
            elif value != first:
                return first, value
    return first, np.nan


def _match_flags(planes: dict[str, FloatImage], dq: NDArray[np.uint32]) -> None:
    _blank_together(tuple(planes.values()), dq)


@njit(cache=True, nogil=True)
def _blank_together(planes: tuple[FloatImage, ...], dq: NDArray[np.uint32]) -> None:
    """Make pixels NaN in all planes and DO_NOT_USE if they are either."""
    for j in range(dq.shape[0]):
        flags = dq[j]
        for plane in planes:
            row = plane[j]
            for i in range(row.size):
                flags[i] |= DO_NOT_USE if math.isnan(row[i]) else np.uint32(0)
        for plane in planes:
            row = plane[j]
            for i in range(row.size):
                row[i] = np.float32(np.nan) if (flags[i] & DO_NOT_USE) > 0 else row[i]
