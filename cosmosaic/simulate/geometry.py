"""The map between sky and detectors: NIRCam's SIAF geometry, pixel by pixel.

Pixels are 0-based positions (x, y) in the subarray as stored in JWST's files (DMS or "science" orientation), integers
at pixel centres. Every detector's geometry is the *forward* polynomial (pixel to
ideal plane) of its full-frame SIAF aperture, as in the distortion reference files of the jwst package; SIAF's own
inverse polynomials, and the polynomials of its subarrays, deviate by up to 0.13 pixels.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import ArrayLike, NDArray

from cosmosaic.geometry.attitude import attitude_matrix, rotation
from cosmosaic.geometry.siaf import aperture_name, nircam_apertures
from cosmosaic.nircam import DETECTOR_PIXELS
from cosmosaic.simulate.instrument import Window
from cosmosaic.simulate.plan import PlannedExposure

Floats = NDArray[np.floating]

ARCSEC_PER_RADIAN = 180 * 3600 / np.pi
SR_PER_ARCSEC2 = ARCSEC_PER_RADIAN**-2


class DetectorGeometry(NamedTuple):
    """The map from full-frame pixels to (V2, V3) in arcsec: two polynomials about the reference pixel."""

    x_reference: float
    y_reference: float
    """0-based full-frame pixel about which the polynomials are developed."""
    v2: Floats
    v3: Floats
    """Coefficients ``c[i, j]`` of ``dx**i * dy**j``, in arcsec."""


class View(NamedTuple):
    """An exposure's view of the sky: the directions at its pixels."""

    attitude: Floats
    """Rotation from the telescope's axes to the sky, shape (3, 3)."""
    matrix: Floats = np.eye(2)
    offset: Floats = np.zeros(2)
    """Linear map from the (V2, V3) of the distortion polynomials to those of the attitude, arcsec."""


@cache
def subarray_window(aperture: str) -> Window:
    """The position of a SIAF aperture on the full frame.

    SIAF's corners are in detector (readout) orientation; DMS orientation flips one axis of each NIRCam detector.
    """
    siaf_aperture = nircam_apertures()[aperture]
    column, row = (int(start) for start in siaf_aperture.dms_corner())
    nx, ny = int(siaf_aperture.XSciSize), int(siaf_aperture.YSciSize)
    y_kept = np.cos(np.radians(siaf_aperture.DetSciYAngle)) > 0
    x_kept = y_kept == (siaf_aperture.DetSciParity > 0)
    return Window(
        xstart=column if x_kept else DETECTOR_PIXELS + 2 - column - nx,
        ystart=row if y_kept else DETECTOR_PIXELS + 2 - row - ny,
        nx=nx,
        ny=ny,
    )


@cache
def detector_geometry(detector: str) -> DetectorGeometry:
    """The forward map of a detector, from the polynomials of its full-frame SIAF aperture.

    Ideal plane to (V2, V3) is the planar rotation of JWST-STScI-001550, as in the jwst package.
    """
    aperture = nircam_apertures()[aperture_name(detector, "FULL")]
    degree = int(aperture.Sci2IdlDeg)
    ideal_x, ideal_y = np.zeros((2, degree + 1, degree + 1))
    for order in range(degree + 1):
        for j in range(order + 1):
            ideal_x[order - j, j] = getattr(aperture, f"Sci2IdlX{order}{j}")
            ideal_y[order - j, j] = getattr(aperture, f"Sci2IdlY{order}{j}")
    angle = np.radians(aperture.V3IdlYAngle)
    v2 = aperture.VIdlParity * np.cos(angle) * ideal_x + np.sin(angle) * ideal_y
    v3 = -aperture.VIdlParity * np.sin(angle) * ideal_x + np.cos(angle) * ideal_y
    v2[0, 0] += aperture.V2Ref
    v3[0, 0] += aperture.V3Ref
    return DetectorGeometry(float(aperture.XSciRef) - 1, float(aperture.YSciRef) - 1, v2, v3)


def exposure_shape(exposure: PlannedExposure) -> tuple[int, int]:
    """Rows and columns (ny, nx) that the exposure reads out."""
    window = subarray_window(exposure.aperture)
    return window.ny, window.nx


def nominal_view(exposure: PlannedExposure) -> View:
    """The view by the header: velocity aberration is about the reference point of the exposure's own aperture."""
    attitude = attitude_matrix(exposure.v2, exposure.v3, exposure.ra, exposure.dec, exposure.roll)
    aperture = nircam_apertures()[exposure.aperture]
    own_point = np.array([aperture.V2Ref, aperture.V3Ref])
    return View(attitude, exposure.va_scale * np.eye(2), (1 - exposure.va_scale) * own_point)


def true_view(exposure: PlannedExposure) -> View:
    """The true view: with errors of pointing, roll, placement and filter, and aberrated separations.

    Velocity aberration widens all separations from the target's point of the focal plane by 1 / VA_SCALE.
    """
    dec = exposure.dec + exposure.dec_error_mas / 3.6e6
    ra = exposure.ra + exposure.ra_error_mas / 3.6e6 / np.cos(np.radians(exposure.dec))
    attitude = attitude_matrix(exposure.v2, exposure.v3, ra, dec, exposure.roll + exposure.roll_error_arcsec / 3600)
    geometry = detector_geometry(exposure.detector)
    own_point = np.array([geometry.v2[0, 0], geometry.v3[0, 0]])
    turned = rotation(2, -exposure.placement_rotation_arcsec / 3600)[:2, :2]
    shift = np.add(exposure.placement_mas, exposure.filter_offset_mas) / 1000
    placed = own_point - turned @ own_point + shift
    target = np.array([exposure.v2, exposure.v3])
    return View(attitude, exposure.va_scale * turned, target + exposure.va_scale * (placed - target))


def header_error_mas(exposure: PlannedExposure) -> tuple[float, float]:
    """True minus nominal position (east, north) in mas of the middle of an exposure, from all causes."""
    ny, nx = exposure_shape(exposure)
    middle = (nx - 1) / 2, (ny - 1) / 2
    (ra, dec), (true_ra, true_dec) = (pixel_to_sky(exposure, of(exposure), *middle) for of in (nominal_view, true_view))
    east = ((true_ra - ra + 180) % 360 - 180) * np.cos(np.radians(dec))
    return float(3.6e6 * east), float(3.6e6 * (true_dec - dec))


def pixel_to_telescope(exposure: PlannedExposure, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """(V2, V3) in arcsec of pixel positions.

    Parameters
    ----------
    exposure
        The exposure; its detector and subarray are used.
    x, y
        Pixel positions, 0-based in the subarray, any shape.
    """
    geometry = detector_geometry(exposure.detector)
    dx, dy = _from_reference(exposure, geometry, x, y)
    return polynomial.polyval2d(dx, dy, geometry.v2), polynomial.polyval2d(dx, dy, geometry.v3)


def pixel_to_sky(exposure: PlannedExposure, view: View, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Sky positions of pixels.

    Parameters
    ----------
    exposure
        The exposure; its detector and subarray are used.
    view
        `true_view` or `nominal_view` of the exposure.
    x, y
        Pixel positions, 0-based in the subarray, any shape.

    Returns
    -------
    ra, dec
        Degrees, ICRS, of the inputs' shape.
    """
    v2, v3 = np.tensordot(view.matrix, pixel_to_telescope(exposure, x, y), axes=1)
    return _to_angles(view.attitude, (v2 + view.offset[0]) / 3600, (v3 + view.offset[1]) / 3600)


def sky_to_pixel(exposure: PlannedExposure, view: View, ra: ArrayLike, dec: ArrayLike) -> tuple[Floats, Floats]:
    """Pixel positions of points on the sky, the inverse of `pixel_to_sky` by Newton's method.

    Parameters
    ----------
    exposure
        The exposure; its detector and subarray are used.
    view
        `true_view` or `nominal_view` of the exposure.
    ra, dec
        Degrees, ICRS, any shape.

    Returns
    -------
    x, y
        0-based positions in the subarray; NaN more than half a detector's width outside the full frame, where the
        distortion polynomials are not valid.
    """
    geometry = detector_geometry(exposure.detector)
    v2, v3 = (np.asarray(angle * 3600) for angle in _to_angles(view.attitude.T, np.asarray(ra), np.asarray(dec)))
    seen = [(v2 + 648000) % 1296000 - 648000 - view.offset[0], v3 - view.offset[1]]
    v2, v3 = np.tensordot(np.linalg.inv(view.matrix), seen, axes=1)
    linear = np.linalg.inv([[geometry.v2[1, 0], geometry.v2[0, 1]], [geometry.v3[1, 0], geometry.v3[0, 1]]])
    dx, dy = np.tensordot(linear, [v2 - geometry.v2[0, 0], v3 - geometry.v3[0, 0]], axes=1)
    outside = np.maximum(abs(dx), abs(dy)) > DETECTOR_PIXELS
    dx, dy = np.where(outside, 0, dx), np.where(outside, 0, dy)
    for _ in range(5):  # quadratic convergence from within 30 pixels
        error_2 = polynomial.polyval2d(dx, dy, geometry.v2) - v2
        error_3 = polynomial.polyval2d(dx, dy, geometry.v3) - v3
        (a, b), (c, d) = _derivatives(geometry, dx, dy)
        determinant = a * d - b * c
        dx = dx - (d * error_2 - b * error_3) / determinant
        dy = dy - (a * error_3 - c * error_2) / determinant
        dx, dy = np.where(outside, 0, dx), np.where(outside, 0, dy)
    window = subarray_window(exposure.aperture)
    x = np.where(outside, np.nan, dx + geometry.x_reference + 1 - window.xstart)
    y = np.where(outside, np.nan, dy + geometry.y_reference + 1 - window.ystart)
    return x, y


def local_jacobian(exposure: PlannedExposure, x: ArrayLike, y: ArrayLike) -> Floats:
    """Derivatives of sky offsets with respect to pixels.

    The offsets (u, v) point along -V2 and +V3, so that they form a picture of the sky as it is usually shown,
    turned by the position angle of V3.

    Returns
    -------
    ndarray
        ``[[du/dx, du/dy], [dv/dx, dv/dy]]`` in arcsec per pixel, with shape ``(2, 2) + x.shape``.
    """
    geometry = detector_geometry(exposure.detector)
    dx, dy = _from_reference(exposure, geometry, x, y)
    jacobian = np.array(_derivatives(geometry, dx, dy))
    v3 = polynomial.polyval2d(dx, dy, geometry.v3)
    jacobian[0] *= -np.cos(v3 / ARCSEC_PER_RADIAN)
    return jacobian


def pixel_area_sr(exposure: PlannedExposure) -> Floats:
    """Solid angle of every pixel.

    Returns
    -------
    ndarray
        Steradians, with the exposure's shape (ny, nx).
    """
    geometry = detector_geometry(exposure.detector)
    ny, nx = exposure_shape(exposure)
    dx, _ = _from_reference(exposure, geometry, np.arange(nx), 0.0)
    _, dy = _from_reference(exposure, geometry, 0.0, np.arange(ny))

    def on_grid(coefficients: Floats) -> Floats:
        return polynomial.polygrid2d(dx, dy, coefficients).T

    (a, b), (c, d) = (
        [on_grid(polynomial.polyder(component, axis=axis)) for axis in (0, 1)]
        for component in (geometry.v2, geometry.v3)
    )
    return abs(a * d - b * c) * np.cos(on_grid(geometry.v3) / ARCSEC_PER_RADIAN) * SR_PER_ARCSEC2


def footprint(exposure: PlannedExposure, view: View) -> tuple[Floats, Floats]:
    """Sky positions (ra, dec) in degrees of the outer corners of the exposure's four window pixels."""
    ny, nx = exposure_shape(exposure)
    return pixel_to_sky(exposure, view, np.array([0, nx, nx, 0]) - 0.5, np.array([0, 0, ny, ny]) - 0.5)


def v3_position_angle(attitude: Floats, ra: ArrayLike, dec: ArrayLike) -> Floats:
    """Position angle of V3 at points on the sky, degrees east of north in [0, 360)."""
    pole_ra = np.arctan2(attitude[1, 2], attitude[0, 2])
    pole_dec = np.arcsin(attitude[2, 2])
    ra, dec = np.radians(ra), np.radians(dec)
    north = np.sin(pole_dec) * np.cos(dec) - np.cos(pole_dec) * np.sin(dec) * np.cos(pole_ra - ra)
    east = np.cos(pole_dec) * np.sin(pole_ra - ra)
    return np.asarray(np.degrees(np.arctan2(east, north)) % 360)


def nominal_wcs_keywords(exposure: PlannedExposure) -> dict[str, float | int]:
    """The keywords of the exposure's pointing and subarray.

    Returns
    -------
    dict
        Keywords by their names in lower case: ``ra_ref``, ``dec_ref``, ``roll_ref``, ``v2_ref``, ``v3_ref``,
        ``v3i_yang`` and ``vparity`` belong to the reference point of the exposure's own aperture; ``ra_v1``,
        ``dec_v1`` and ``pa_v3`` to the telescope's axis V1. Angles in degrees, ``v2_ref`` and ``v3_ref`` in
        arcsec. ``substrt1``, ``substrt2``, ``subsize1``, ``subsize2`` are 1-based pixels in DMS orientation.
    """
    aperture = nircam_apertures()[exposure.aperture]
    attitude = nominal_view(exposure).attitude
    ra_ref, dec_ref = (float(angle) for angle in _to_angles(attitude, aperture.V2Ref / 3600, aperture.V3Ref / 3600))
    ra_v1, dec_v1 = (float(angle) for angle in _to_angles(attitude, 0.0, 0.0))
    window = subarray_window(exposure.aperture)
    return {
        "ra_ref": ra_ref,
        "dec_ref": dec_ref,
        "roll_ref": float(v3_position_angle(attitude, ra_ref, dec_ref)),
        "v2_ref": float(aperture.V2Ref),
        "v3_ref": float(aperture.V3Ref),
        "v3i_yang": float(aperture.V3IdlYAngle),
        "vparity": int(aperture.VIdlParity),
        "ra_v1": ra_v1,
        "dec_v1": dec_v1,
        "pa_v3": float(v3_position_angle(attitude, ra_v1, dec_v1)),
        "substrt1": window.xstart,
        "substrt2": window.ystart,
        "subsize1": window.nx,
        "subsize2": window.ny,
    }


def _from_reference(
    exposure: PlannedExposure, geometry: DetectorGeometry, x: ArrayLike, y: ArrayLike
) -> tuple[Floats, Floats]:
    """Full-frame offsets from the polynomials' reference pixel."""
    window = subarray_window(exposure.aperture)
    dx = np.asarray(x, dtype=float) + (window.xstart - 1 - geometry.x_reference)
    dy = np.asarray(y, dtype=float) + (window.ystart - 1 - geometry.y_reference)
    return dx, dy


def _derivatives(geometry: DetectorGeometry, dx: Floats, dy: Floats) -> list[list[Floats]]:
    """``[[dV2/dx, dV2/dy], [dV3/dx, dV3/dy]]`` in arcsec per pixel."""
    return [
        [polynomial.polyval2d(dx, dy, polynomial.polyder(component, axis=axis)) for axis in (0, 1)]
        for component in (geometry.v2, geometry.v3)
    ]


def _to_angles(rotation: Floats, longitude: ArrayLike, latitude: ArrayLike) -> tuple[Floats, Floats]:
    """Rotate directions, all in degrees; longitudes come out in [0, 360)."""
    lon, lat = np.radians(longitude), np.radians(latitude)
    vector = np.stack([np.cos(lon) * np.cos(lat), np.sin(lon) * np.cos(lat), np.sin(lat)])
    x, y, z = np.tensordot(rotation, vector, axes=1)
    return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))
