"""Footprints of exposures on the sky."""

from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from astropy.io import fits

from cosmosaic.exposures.headers import (
    FileHeaders,
    RefusalError,
    number_of,
    read_header,
    shown,
    size_of,
    text_of,
    value_of,
)
from cosmosaic.geometry.grid import (
    PADDING_ARCSEC,
    directions,
    footprint_centre,
    plane_to_sky,
    separations_deg,
    sky_to_plane,
    unit_vectors,
)

PIXEL_ARCSEC_SHORT, PIXEL_ARCSEC_LONG = 0.0312, 0.0630
"""Largest nominal pixel of the short- and long-wavelength detectors (SIAF), where S_REGION is missing."""
LARGEST_FOOTPRINT_DEG = 0.2
LARGEST_TREE_BYTES = 1 << 24
STATED_ERROR_ARCSEC = PADDING_ARCSEC
"""Differences between the archive's own keywords; the plan of a mosaic allows for them."""
NOMINAL_ERROR_ARCSEC = 1.5
"""Corners without distortion are off by up to 1.24 arcsec."""

Corners = tuple[tuple[float, float], ...]
"""(RA, Dec) in degrees, ICRS, right ascensions from 0 to 360."""


def region_corners(region: str) -> Corners:
    """Read the corners from the value of S_REGION.

    Raises
    ------
    RefusalError
        It is not a polygon in ICRS.
    """
    words = region.split()
    try:
        numbers = [float(word) for word in words[2:]]
    except ValueError:
        numbers = []
    is_polygon = [word.upper() for word in words[:2]] == ["POLYGON", "ICRS"] and np.isfinite(numbers).all()
    if not is_polygon or len(numbers) < 6 or len(numbers) % 2:
        raise RefusalError(f"has S_REGION = {shown(region)}, which is not 'POLYGON ICRS  ra dec ra dec ra dec ...'")
    return tuple((ra % 360.0, dec) for ra, dec in zip(numbers[::2], numbers[1::2], strict=True))


class Outline(NamedTuple):
    """Footprint of an exposure."""

    corners: Corners
    warnings: tuple[str, ...] = ()
    """Contradictions in the file's headers."""


def outline_of(headers: FileHeaders, stream: BinaryIO, level: str) -> Outline:
    """Find the footprint of an exposure: from its WCS (gwcs) if it has one, else from S_REGION or the pointing.

    FITS WCS, S_REGION, NAXIS and SUBSIZE repeat the same information. The gwcs, or the pointing from which it will be
    made, decides; other statements that differ by more than 0.5 arcsec give a warning.

    Parameters
    ----------
    headers, stream
        Headers of the file, and the file itself; the ASDF extension of calibrated exposures is read from it.
    level
        ``uncal``, ``rate`` or ``cal``.

    Raises
    ------
    RefusalError
        Its WCS cannot be read or belongs to an array of another size, S_REGION is not a polygon, or S_REGION and
        pointing are degrees apart.
    """
    return _calibrated(headers, stream) if level == "cal" else _uncalibrated(headers)


def read_footprint(path: Path) -> Corners:
    """Read the corners of an exposure from its file.

    Raises
    ------
    RefusalError
        See `outline_of`.
    """
    level = next((level for level in ("uncal", "rate") if path.name.endswith(f"_{level}.fits")), "cal")
    with path.open("rb") as stream:
        try:
            return outline_of(read_header(stream), stream, level).corners
        except RefusalError as error:
            raise RefusalError(error.reason, str(path)) from error


def region_text(corners: Corners) -> str:
    """Write corners as the value of S_REGION."""
    return "POLYGON ICRS  " + " ".join(f"{number:.9f}" for corner in corners for number in corner)


def _calibrated(headers: FileHeaders, stream: BinaryIO) -> Outline:
    # A second to import, and only calibrated exposures have a WCS.
    from cosmosaic.exposures.wcs import WcsError, read_geometry

    if headers.asdf is None or headers.asdf[1] > LARGEST_TREE_BYTES:
        raise RefusalError("has no WCS (no ASDF extension of a plausible size); run assign_wcs again (Stage 2)")
    sci, (start, length) = headers.sci, headers.asdf
    size = size_of(sci, "NAXIS1", None), size_of(sci, "NAXIS2", None)
    stream.seek(start)
    try:
        found = read_geometry(stream.read(length), sci)
    except WcsError as error:
        raise RefusalError(str(error)) from error
    _check_size(size, found.size, _subarray_size(headers.primary))
    corners = tuple((float(ra), float(dec)) for ra, dec in found.corners)
    spread = separations_deg(unit_vectors(corners), footprint_centre(corners)).max()
    if spread > LARGEST_FOOTPRINT_DEG:
        raise RefusalError(f"has an implausible WCS, {spread:.3f} deg across; run assign_wcs again (Stage 2)")
    warnings = []
    if found.fits_error_arcsec > STATED_ERROR_ARCSEC:
        warnings.append(
            f"the FITS WCS of its header differs by {found.fits_error_arcsec:.1f} arcsec from its gwcs, which is used"
        )
    return Outline(corners, (*warnings, *_region_warnings(sci, corners)))


def _check_size(size: tuple[int, int], of_wcs: tuple[int, int] | None, of_subarray: tuple[int, int] | None) -> None:
    """Refuse a cutout of an exposure that still has the WCS of the whole."""
    stated = of_wcs or of_subarray
    if stated is None or max(abs(one - other) for one, other in zip(stated, size, strict=True)) < 1:
        return
    what = "its WCS (gwcs) is" if of_wcs else "its SUBSIZE1, SUBSIZE2 are"
    raise RefusalError(
        f"has {size[0]} x {size[1]} pixels, but {what} for {stated[0]} x {stated[1]}: it is an unknown part of the "
        f"detector; use the whole exposure, and flag pixels that are not to be used"
    )


def _region_warnings(sci: fits.Header, corners: Corners) -> list[str]:
    """Warn of an S_REGION that was not updated with the WCS."""
    try:
        stated = region_corners(text_of(sci, "S_REGION"))
    except RefusalError:
        return []
    beside = max(outside_arcsec(stated, corners), outside_arcsec(corners, stated))
    if beside <= STATED_ERROR_ARCSEC:
        return []
    return [f"its S_REGION differs by {beside:.1f} arcsec from its WCS (gwcs), which is used"]


def _uncalibrated(headers: FileHeaders) -> Outline:
    """Use S_REGION if it agrees with the pointing, from which the WCS will be made."""
    primary, sci = headers.primary, headers.sci
    stated = _subarray_size(primary)
    size = size_of(sci, "NAXIS1", None), size_of(sci, "NAXIS2", None)
    if stated is not None and stated != size:
        raise RefusalError(
            f"has {size[0]} x {size[1]} pixels, but SUBSIZE1, SUBSIZE2 = {stated[0]}, {stated[1]}: reference files "
            f"will not fit; use the exposure as delivered by the archive"
        )
    nominal = _nominal_corners(primary, sci, NOMINAL_ERROR_ARCSEC)
    region = text_of(sci, "S_REGION")
    corners = region_corners(region) if region else nominal
    _check_apart(sci, corners)
    beside = outside_arcsec(corners, _nominal_corners(primary, sci, 0.0))
    if beside <= NOMINAL_ERROR_ARCSEC + STATED_ERROR_ARCSEC:
        return Outline(corners)
    return Outline(
        nominal, (f"its S_REGION differs by {beside:.1f} arcsec from its pointing (RA_REF, DEC_REF), which is used",)
    )


def _check_apart(sci: fits.Header, corners: Corners) -> None:
    reference = (number_of(sci, "RA_REF"), number_of(sci, "DEC_REF"))
    for direction in (reference, *corners):
        if not -90.0 <= direction[1] <= 90.0:
            raise RefusalError(f"has a declination of {direction[1]:g} deg in DEC_REF or S_REGION")
    vectors = np.array([footprint_centre([direction]) for direction in (reference, *corners)])
    spread = float(separations_deg(vectors, vectors[0]).max())
    if spread > LARGEST_FOOTPRINT_DEG:
        raise RefusalError(
            f"has a footprint (S_REGION) that reaches {spread:.3f} deg from RA_REF, DEC_REF = "
            f"{reference[0]:g}, {reference[1]:g}: one of them is wrong"
        )


def outside_arcsec(polygon: Corners, points: Corners) -> float:
    """Return the largest distance of points outside of a convex polygon; 0 if all are inside."""
    centre = directions(footprint_centre(polygon))[0]
    tangent = (float(centre[0]), float(centre[1]))
    edges, places = sky_to_plane(tangent, polygon), sky_to_plane(tangent, points)
    along = np.roll(edges, -1, axis=0) - edges
    outward = np.stack([along[:, 1], -along[:, 0]], axis=1) / np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    # Whichever way its corners go round, the polygon's middle is inside.
    outward *= np.where(np.sum(outward * (edges.mean(axis=0) - edges), axis=1) > 0, -1.0, 1.0)[:, None]
    beyond = np.einsum("ek,pek->pe", outward, places[:, None] - edges)
    return float(np.nan_to_num(beyond, nan=np.inf).max(initial=0.0))


def _subarray_size(primary: fits.Header) -> tuple[int, int] | None:
    sizes = [value_of(primary, keyword) for keyword in ("SUBSIZE1", "SUBSIZE2")]
    return (sizes[0], sizes[1]) if all(type(size) is int for size in sizes) else None  # type: ignore[return-value]


def _nominal_corners(primary: fits.Header, sci: fits.Header, padding: float) -> Corners:
    """Corners from pointing and nominal pixel size, without distortion, with a padding in arcsec.

    Offsets (x, y) in the ideal frame turn to (east, north) by the angle ROLL_REF + V3I_YANG and the parity
    (JWST-STScI-001550, "Description and use of the JWST science instrument aperture file").
    """
    pixel = PIXEL_ARCSEC_LONG if text_of(primary, "DETECTOR").endswith("LONG") else PIXEL_ARCSEC_SHORT
    columns, rows = size_of(sci, "NAXIS1", None), size_of(sci, "NAXIS2", None)
    reference_x = number_of(sci, "CRPIX1") if value_of(sci, "CRPIX1") is not None else 0.5 * (columns + 1)
    reference_y = number_of(sci, "CRPIX2") if value_of(sci, "CRPIX2") is not None else 0.5 * (rows + 1)
    left, right = 0.5 - padding / pixel, columns + 0.5 + padding / pixel
    bottom, top = 0.5 - padding / pixel, rows + 0.5 + padding / pixel
    x = (np.array([left, right, right, left]) - reference_x) * pixel * number_of(sci, "VPARITY")
    y = (np.array([bottom, bottom, top, top]) - reference_y) * pixel
    angle = np.radians(number_of(sci, "ROLL_REF") + number_of(sci, "V3I_YANG"))
    plane = np.stack([x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)], axis=1)
    corners = plane_to_sky((number_of(sci, "RA_REF"), number_of(sci, "DEC_REF")), plane)
    return tuple((float(ra), float(dec)) for ra, dec in corners)
