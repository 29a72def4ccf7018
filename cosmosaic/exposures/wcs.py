"""The gwcs of a calibrated exposure, read from its ASDF extension without jwst's data models, which take seconds."""

import io
import math
import re
import threading
from pathlib import Path
from typing import Any, NamedTuple

import asdf
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from cosmosaic.exposures.footprints import region_text
from cosmosaic.geometry.grid import separations_deg, unit_vectors
from cosmosaic.nircam import DETECTOR_PIXELS

BOX_TOLERANCE_PIXELS = 1.0
LARGEST_FITS_ERROR_PIXELS = 0.01
COMPARED_ALONG_AXIS, FITTED_ALONG_AXIS = 9, 32
"""Places along each axis where a FITS WCS is compared with the gwcs, and where one is fitted to it."""
SIP_DEGREES = range(1, 6)
LINEAR_OR_SIP = re.compile(r"(CD|PC)\d_\d|CDELT\d|[AB]P?_(ORDER|DMAX|\d_\d)")

Points = NDArray[np.float64]

_ONE_AT_A_TIME = threading.Lock()
"""astropy's polynomials change a dictionary of their class while another thread may read it."""


class WcsError(ValueError):
    """An exposure has no usable WCS; the reason continues a sentence that begins with the file's name."""


class Geometry(NamedTuple):
    """Position of an exposure on the sky by its WCS."""

    corners: Points
    """(RA, Dec) in degrees of the array's outer corners, shape ``(4, 2)``."""
    size: tuple[int, int] | None
    """Columns and rows that the WCS was made for, where it tells."""
    fits_error_arcsec: float
    """Largest distance between the WCS and its approximation in the FITS header; 0 where the header has none."""


def read_wcs(tree: bytes) -> Any:
    """Read the gwcs from the content of an ASDF extension: 0-based pixels (x, y) to (RA, Dec) in degrees.

    Raises
    ------
    WcsError
        The tree cannot be read, or holds no WCS.
    """
    # Searched on the disk once for the process, and not for each exposure: half of the cost of reading a tree.
    _ = asdf.get_config().extensions, asdf.get_config().resource_manager
    # The planes are outside this tree and must not be searched; the content of the WCS is read before it is closed.
    try:
        with asdf.config_context() as config:
            config.validate_on_read = False
            config.warn_on_failed_conversion = False
            with _ONE_AT_A_TIME, asdf.open(io.BytesIO(tree), lazy_load=True, memmap=False) as file:
                wcs = file.tree["meta"]["wcs"]
    except Exception as error:
        reason = "holds none" if isinstance(error, KeyError) else f"cannot be read ({type(error).__name__})"
        raise WcsError(f"has no WCS: its ASDF extension {reason}; run assign_wcs again (Stage 2)") from error
    if not callable(wcs):
        raise WcsError("has no WCS: the one in its ASDF extension is not a gwcs; run assign_wcs again (Stage 2)")
    return wcs


def read_geometry(tree: bytes, sci: fits.Header) -> Geometry:
    """Return the position of an exposure, by its gwcs over its own array.

    Parameters
    ----------
    tree
        Content of its ASDF extension.
    sci
        Its SCI header.

    Raises
    ------
    WcsError
        It has no WCS, or one without positions on the sky.
    """
    wcs = read_wcs(tree)
    corners = wcs_corners(wcs, (sci["NAXIS2"], sci["NAXIS1"]))
    if not np.isfinite(corners).all() or np.abs(corners[:, 1]).max() > 90.0:
        raise WcsError("has a WCS that leads to no place on the sky; run assign_wcs again (Stage 2)")
    return Geometry(corners, _size(wcs), _fits_error_arcsec(wcs, sci))


def wcs_corners(wcs: Any, shape: tuple[int, int]) -> Points:
    """Return (RA, Dec) in degrees of the outer corners of an array of the given shape, shape ``(4, 2)``."""
    rows, columns = shape
    x, y = np.array([0, columns, columns, 0]) - 0.5, np.array([0, 0, rows, rows]) - 0.5
    return _on_the_sky(wcs, x, y)


def _on_the_sky(wcs: Any, x: Points, y: Points) -> Points:
    try:
        ra, dec = wcs(x, y, with_bounding_box=False)
    except Exception as error:
        raise WcsError(f"has a WCS that cannot be evaluated ({type(error).__name__}); run assign_wcs again") from error
    return np.stack([np.asarray(ra, dtype=float) % 360.0, np.asarray(dec, dtype=float)], axis=-1)


def _size(wcs: Any) -> tuple[int, int] | None:
    box = wcs.bounding_box
    if box is None:
        return None
    (left, right), (bottom, top) = box.bounding_box(order="F")
    sizes = [float(high) + 0.5 for high in (right, top)]
    starts_at_zero = max(abs(float(low) + 0.5) for low in (left, bottom)) <= BOX_TOLERANCE_PIXELS
    return (round(sizes[0]), round(sizes[1])) if starts_at_zero else None


def _fits_error_arcsec(wcs: Any, sci: fits.Header) -> float:
    """Compare where both are good: at the reference pixel, and with distortion (SIP) at the corners too."""
    reference = _reference_pixel(sci)
    if reference is None or "CRVAL1" not in sci:
        return 0.0
    columns, rows = sci["NAXIS1"] - 1, sci["NAXIS2"] - 1
    corners = [(0, 0), (columns, 0), (columns, rows), (0, rows)] if "A_ORDER" in sci else []
    apart = _apart_arcsec(wcs, sci, np.array([reference, *corners]))
    return apart if np.isfinite(apart) else 0.0


def _reference_pixel(sci: fits.Header) -> tuple[float, float] | None:
    """The reference pixel (x, y), from 0, of a header's WCS; none if the header does not give it."""
    try:
        x, y = float(sci["CRPIX1"]) - 1.0, float(sci["CRPIX2"]) - 1.0
    except (KeyError, ValueError, TypeError, fits.VerifyError):
        return None
    return (x, y) if math.isfinite(x + y) else None


def _is_near(reference: tuple[float, float], shape: tuple[int, int]) -> bool:
    """Return whether a reference pixel can lie on the detector of an array of the given shape."""
    return max(abs(value) for value in reference) <= DETECTOR_PIXELS + max(shape)


def _apart_arcsec(wcs: Any, sci: fits.Header, places: Points) -> float:
    """Largest distance between the WCS and that of a header at some pixels; infinite where the header has none."""
    try:
        theirs = WCS(sci, fix=False).celestial.all_pix2world(places, 0)
    except Exception:
        return math.inf
    ours = _on_the_sky(wcs, places[:, 0], places[:, 1])
    if not np.isfinite(theirs).all():
        return math.inf
    return float(3600.0 * separations_deg(unit_vectors(ours), unit_vectors(theirs)).max())


def with_agreeing_wcs(wcs: Any, sci: fits.Header) -> fits.Header:
    """Return an exposure's SCI header with the S_REGION of its gwcs, and a FITS WCS that agrees with it to 0.01 pixels.

    A FITS WCS that does so stays. Otherwise the gwcs is approximated anew (SIP), as jwst's assign_wcs does; SIPMXERR
    and SIPIVERR state how well, in pixels, forward and back.

    Parameters
    ----------
    wcs
        The gwcs.
    sci
        With the size of the array.
    """
    shape = sci["NAXIS2"], sci["NAXIS1"]
    x, y = (np.linspace(-0.5, length - 0.5, COMPARED_ALONG_AXIS) for length in shape[::-1])
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    corners = wcs_corners(wcs, shape)
    pixel_arcsec = 3600.0 * float(separations_deg(unit_vectors(corners[:1]), unit_vectors(corners[1:2]))[0]) / shape[1]
    header = sci.copy()
    header["S_REGION"] = region_text(tuple((float(ra), float(dec)) for ra, dec in corners))
    reference = _reference_pixel(sci)
    if reference and _apart_arcsec(wcs, sci, places) <= LARGEST_FITS_ERROR_PIXELS * pixel_arcsec:
        return header
    approximated = wcs.to_fits_sip(
        bounding_box=((-0.5, shape[1] - 0.5), (-0.5, shape[0] - 0.5)),
        max_pix_error=LARGEST_FITS_ERROR_PIXELS,
        degree=SIP_DEGREES,
        max_inv_pix_error=LARGEST_FITS_ERROR_PIXELS,
        inv_degree=SIP_DEGREES,
        npoints=FITTED_ALONG_AXIS,
        crpix=[value + 1.0 for value in reference] if reference and _is_near(reference, shape) else None,
    )
    for keyword in [keyword for keyword in header if LINEAR_OR_SIP.fullmatch(keyword)]:
        header.remove(keyword, ignore_missing=True, remove_all=True)
    header.update(approximated[3:])
    return header


def make_fits_wcs_agree(path: Path) -> None:
    """Give a FITS file of an exposure the header that `with_agreeing_wcs` makes."""
    with fits.open(path, mode="update", memmap=False) as hdus:
        wcs = read_wcs(hdus["ASDF"].data.tobytes())
        hdus["SCI"].header = with_agreeing_wcs(wcs, hdus["SCI"].header)
