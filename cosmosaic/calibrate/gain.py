"""Checks of users' gain maps, which the jwst package would silently misuse.

The jump and ramp-fit steps accept any array as gain: a map of another detector raises no error, an inverse one (DN per
electron) gives wrong errors and weights, NaN removes pixels from the mosaic.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from cosmosaic.nircam import FULL_FRAME

PLAUSIBLE_GAIN = (0.5, 10.0)
"""Bounds of a map's mean in electrons per DN; NIRCam's detectors have about 1.8 to 2.2."""

FITS_MAGIC = b"SIMPLE"
GZIP_MAGIC = b"\x1f\x8b"
LARGEST_MAP_BYTES = 300e6
"""Largest size of an unpacked map: nine full frames of doubles."""


class GainMapError(ValueError):
    """A gain map cannot be used; the message names file, keyword, value and cure."""


def check_gain_map(path: Path, detector: str, shape: tuple[int, int] = FULL_FRAME) -> None:
    """Check that a file is a gain reference file of a detector, in electrons per DN.

    Parameters
    ----------
    path
        Local FITS file in CRDS's format: keywords in the primary header, the map in ``SCI``.
    detector
        Detector of the exposures, e.g. ``NRCB1``.
    shape
        Required rows and columns. Always the full frame: subarrays are cut from it.

    Raises
    ------
    GainMapError
        It is missing, not FITS, truncated, not of JWST's NIRCam, of another detector or reference type, of another
        shape, or has values that are not finite, not positive or implausible as electrons per DN.
    """
    if not path.is_file():
        raise GainMapError(f"gain map {path} for {detector} does not exist; check references.gain_maps")
    try:
        _refuse_bomb(path)
        with fits.open(path, memmap=False, lazy_load_hdus=False) as hdus:
            _check_keywords(path, detector, hdus[0].header)
            gain = _map_of(path, hdus, shape)
    except GainMapError:
        raise
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        EOFError,
        ArithmeticError,
        zlib.error,
        fits.VerifyError,
    ) as error:
        raise GainMapError(f"gain map {path} for {detector} cannot be read as FITS: {error}") from error
    _check_values(path, gain)


def _refuse_bomb(path: Path) -> None:
    """Unpack a compressed file once without keeping it: astropy would unpack all of it into memory."""
    with path.open("rb") as file:
        begin = file.read(len(FITS_MAGIC))
    if begin == FITS_MAGIC:
        return
    if not begin.startswith(GZIP_MAGIC):
        raise OSError("it is neither plain FITS nor gzipped FITS")
    with gzip.open(path) as unpacked:
        size = 0
        while chunk := unpacked.read(1 << 20):
            size += len(chunk)
            if size > LARGEST_MAP_BYTES:
                raise GainMapError(
                    f"gain map {path} unpacks to more than {LARGEST_MAP_BYTES / 1e6:.0f} MB, more than "
                    "a gain map can have; give the plain FITS file of the map"
                )


def _check_keywords(path: Path, detector: str, header: fits.Header) -> None:
    expected = {"TELESCOP": "JWST", "INSTRUME": "NIRCAM", "REFTYPE": "GAIN", "DETECTOR": detector}
    for keyword, value in expected.items():
        if keyword not in header:
            raise GainMapError(
                f"gain map {path} has no {keyword} in its primary header; set {keyword} = '{value}' "
                f"if it is a gain map of {detector}"
            )
        found = str(header[keyword]).strip()
        if found.upper() != value:
            raise GainMapError(
                f"gain map {path} has {keyword} = '{found}' where '{value}' is needed; "
                f"give the gain map of {detector} in references.gain_maps"
            )


def _map_of(path: Path, hdus: fits.HDUList, shape: tuple[int, int]) -> NDArray[np.float64]:
    if "SCI" not in hdus:
        names = ", ".join(hdu.name or "unnamed" for hdu in hdus)
        raise GainMapError(
            f"gain map {path} has no readable extension SCI (it has: {names}); put the map into an image extension "
            f"with EXTNAME = 'SCI', or fetch the file again if it is truncated"
        )
    hdu = hdus["SCI"]
    # The shape in the header is checked before the data are read: a wrong file may be large.
    found = tuple(hdu.shape) if getattr(hdu, "is_image", False) else ()
    if found != shape:
        raise GainMapError(
            f"gain map {path} has shape {found} (rows, columns) in SCI where {shape} is needed; "
            f"give the full frame, from which jwst cuts subarrays"
        )
    return np.asarray(hdu.data, dtype=np.float64)


def _check_values(path: Path, gain: NDArray[np.float64]) -> None:
    cure = "replace them, for example by the median of the map (reference pixels too)"
    _refuse_pixels(path, ~np.isfinite(gain), gain, f"are not finite numbers; {cure}")
    _refuse_pixels(path, gain <= 0.0, gain, f"are not positive; {cure}")
    mean, (low, high) = float(gain.mean()), PLAUSIBLE_GAIN
    if not low <= mean <= high:
        raise GainMapError(
            f"gain map {path} has a mean of {mean:.4g}, outside {low:g} to {high:g} electrons per DN; "
            f"a map in DN per electron needs to be inverted"
        )


def _refuse_pixels(path: Path, bad: NDArray[np.bool_], gain: NDArray[np.float64], fault: str) -> None:
    if not bad.any():
        return
    y, x = (int(index) for index in np.argwhere(bad)[0])
    raise GainMapError(
        f"gain map {path}: {int(bad.sum())} of its {gain.size} pixels {fault}. "
        f"The first is x = {x}, y = {y} (0-based), value {gain[y, x]:g}"
    )
