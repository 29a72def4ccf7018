"""One calibrated exposure as the mosaic engine needs it: read without jwst's data models, which take seconds."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import asdf
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.dq import UNUSABLE, border, is_usable
from cosmosaic.drizzle.kernel import Light
from cosmosaic.exposures.library import exposure_name
from cosmosaic.exposures.patterns import pattern_image
from cosmosaic.exposures.planes import Change, FloatRows, copy_changed
from cosmosaic.survey import SkyTreatment

GROUP_KEYWORDS = ("PROGRAM", "OBSERVTN", "VISIT", "VISITGRP", "SEQ_ID", "ACT_ID", "EXPOSURE")
"""What the detectors of one exposure share: jwst's ``group_id``."""
LAYOUT_KEYWORDS = ("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "PCOUNT", "GCOUNT")
TEXT_KEYWORDS = ("EXTNAME", "EXTVER", "BSCALE", "BZERO", "COMMENT", "HISTORY", "")
"""What a header says of its file and not of the exposure."""
PLANES = ("SCI", "ERR", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")

FloatImage = NDArray[np.float32]
Number = TypeVar("Number", np.float32, np.uint32)


@dataclass
class Exposure:
    """Planes of one exposure of one detector, shape ``(ny, nx)`` each."""

    name: str
    group: str
    """The same for all detectors of an exposure."""
    sci: FloatImage
    """Surface brightness without the sky in MJy/sr."""
    err: FloatImage
    variances: tuple[FloatImage, FloatImage, FloatImage]
    """Poisson, read noise, flat, (MJy/sr)**2."""
    dq: NDArray[np.uint32]
    tree: bytes
    """ASDF with the WCS in it."""
    pattern: FloatImage | None
    """What was taken out of SCI besides the level, MJy/sr."""
    header: fits.Header
    """Of the primary HDU."""
    sci_header: fits.Header

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.sci.shape[0], self.sci.shape[1]

    @cached_property
    def wcs(self) -> Any:
        """The gwcs: 0-based pixels (x, y) to (RA, Dec) in degrees."""
        # The planes are outside this tree and must not be looked for; what the WCS holds is read before it is closed.
        with asdf.config_context() as config:
            config.validate_on_read = False
            with asdf.open(io.BytesIO(self.tree), lazy_load=True, memmap=False) as file:
                return file.tree["meta"]["wcs"]


class ExposureError(ValueError):
    """A file is no calibrated exposure that can be combined."""


def read_exposure(
    path: Path, level: float = 0.0, patterns: Sequence[NDArray[np.floating]] = (), trim_pixels: int = 0
) -> Exposure:
    """Read a calibrated exposure, subtract its sky and flag its edges.

    Pixels without a finite value in any plane become DO_NOT_USE, as jwst's ``match_nans_and_flags`` has it.

    Parameters
    ----------
    path
        ``_cal`` file.
    level
        Sky in MJy/sr.
    patterns
        What varies over the exposure (`cosmosaic.exposures.patterns`), MJy/sr; the level stays what it is.
    trim_pixels
        Width of the border of the detector that becomes DO_NOT_USE.

    Raises
    ------
    ExposureError
        An extension, the group's keywords or the WCS is missing.
    """
    with fits.open(path, memmap=False) as hdus:
        _check(path, hdus)
        planes = {name: _taken(hdus[name], np.float32) for name in PLANES}
        dq = _taken(hdus["DQ"], np.uint32)
        header, sci_header = hdus[0].header.copy(), hdus["SCI"].header.copy()
        tree = bytes(hdus["ASDF"].data.tobytes())
    pattern = pattern_image(patterns, is_usable(planes["SCI"], planes["ERR"], dq)) if len(patterns) else None
    dq[border(dq.shape, trim_pixels)] |= np.uint32(pixel["DO_NOT_USE"])
    _match_flags(planes, dq)
    if pattern is not None:
        planes["SCI"] -= pattern
    if level:
        planes["SCI"] -= np.float32(level)
    return Exposure(
        name=exposure_name(path.name),
        group="_".join(str(header[keyword]) for keyword in GROUP_KEYWORDS),
        sci=planes["SCI"],
        err=planes["ERR"],
        variances=(planes["VAR_POISSON"], planes["VAR_RNOISE"], planes["VAR_FLAT"]),
        dq=dq,
        tree=tree,
        pattern=pattern,
        header=header,
        sci_header=sci_header,
    )


def light_of(exposure: Exposure, weight_type: Literal["ivm", "exptime"]) -> Light:
    """Return what of an exposure is drizzled, with weights as `stcal.resample.utils.build_driz_weight` has them.

    Inverse read-noise variance (``ivm``) or time (``exptime``), and 0 for pixels that are not to be used.
    """
    return Light(exposure.sci, *exposure.variances, _weight(exposure, weight_type))


def _weight(exposure: Exposure, weight_type: Literal["ivm", "exptime"]) -> FloatImage:
    good = (exposure.dq & UNUSABLE) == 0
    if weight_type == "exptime":
        return good * np.float32(measurement_time(exposure.header))
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.float32(1.0) / exposure.variances[1]
    return np.where(good & np.isfinite(weight), weight, np.float32(0.0))


def keywords(header: fits.Header) -> dict[str, bool | int | float | str]:
    """Return what a header says of the exposure, without comments and what describes the file's layout."""
    return {
        card.keyword: card.value
        for card in header.cards
        if card.keyword not in LAYOUT_KEYWORDS + TEXT_KEYWORDS and isinstance(card.value, bool | int | float | str)
    }


def measurement_time(header: fits.Header) -> float:
    """Return the time that jwst weights by: measurement time where it is known, else exposure time."""
    return float(header.get("TMEASURE") or header["EFFEXPTM"])


def write_flagged(
    source: Path, exposure: Exposure, level: float, treatment: SkyTreatment, target: Path, outlier_step: str
) -> Path:
    """Write a ``_crf`` file: the ``_cal`` file with other sky, flags and blanked pixels.

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
    # FITS holds unsigned integers as signed ones with an offset of 2**31.
    changes["DQ"] = lambda rows, _: (exposure.dq[rows] ^ np.uint32(1 << 31)).astype(">u4")
    return copy_changed(source, target, header, changes)


def _cleared(exposure: Exposure, level: np.float32, rows: slice, values: FloatRows) -> FloatRows:
    """Take pattern and level out, and blank unusable pixels."""
    if exposure.pattern is not None:
        values -= exposure.pattern[rows]
    if level:
        values -= level
    return _blanked(exposure.dq, rows, values)


def _blanked(dq: NDArray[np.uint32], rows: slice, values: FloatRows) -> FloatRows:
    """Blank unusable pixels."""
    values[(dq[rows] & pixel["DO_NOT_USE"]) > 0] = np.nan
    return values


def _check(path: Path, hdus: fits.HDUList) -> None:
    missing = [name for name in (*PLANES, "DQ", "ASDF") if name not in hdus]
    if missing:
        raise ExposureError(f"{path}: no extension {', '.join(missing)}; give the _cal file that Stage 2 wrote")
    absent = [keyword for keyword in GROUP_KEYWORDS if keyword not in hdus[0].header]
    if absent:
        raise ExposureError(f"{path}: no keyword {', '.join(absent)} tells which exposure it belongs to")


def _taken(hdu: fits.ImageHDU, kind: type[Number]) -> NDArray[Number]:
    """Take a plane in the machine's own byte order; what was read of the file is let go before the next."""
    plane = np.ascontiguousarray(hdu.data, dtype=kind)
    del hdu.data
    return plane


def _match_flags(planes: dict[str, FloatImage], dq: NDArray[np.uint32]) -> None:
    invalid = (dq & pixel["DO_NOT_USE"]) > 0
    for plane in planes.values():
        invalid |= np.isnan(plane)
    dq[invalid] |= np.uint32(pixel["DO_NOT_USE"])
    for plane in planes.values():
        np.copyto(plane, np.float32(np.nan), where=invalid)
