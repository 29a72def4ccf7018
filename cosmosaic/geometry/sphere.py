"""The sphere, and planes that touch it: directions, separations, gnomonic projection, polygons.

A direction is (RA, Dec) in degrees, ICRS.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Footprint = Sequence[tuple[float, float]]
"""Corners (RA, Dec) of a polygon in degrees, ICRS."""
FloatArray = NDArray[np.float64]
ARCSEC_PER_RADIAN = np.degrees(1.0) * 3600.0
LARGEST_TANGENT_ANGLE_DEG = 80.0
"""Directions farther from the tangent point are not projected onto its plane."""


class GridError(ValueError):
    """No sensible pixel grid covers the exposures."""


def unit_vectors(sky: ArrayLike) -> FloatArray:
    """Convert directions (RA, Dec) in degrees, shape ``(N, 2)``, to unit vectors, shape ``(N, 3)``."""
    ra, dec = np.radians(np.asarray(sky, dtype=np.float64).reshape(-1, 2)).T
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def directions(vectors: ArrayLike) -> FloatArray:
    """Convert vectors of any length, shape ``(N, 3)``, to directions (RA, Dec) in degrees, RA in [0, 360)."""
    x, y, z = np.asarray(vectors, dtype=np.float64).reshape(-1, 3).T
    # A tiny negative angle modulo 360 rounds to 360 itself.
    ra = np.degrees(np.arctan2(y, x)) % 360.0 % 360.0
    return np.stack([ra, np.degrees(np.arctan2(z, np.hypot(x, y)))], axis=1)


def separations_deg(first: ArrayLike, second: ArrayLike) -> FloatArray:
    """Return the angles in degrees between unit vectors, shapes ``(N, 3)`` or ``(3,)``, exact for small ones too."""
    a, b = np.atleast_2d(first), np.atleast_2d(second)
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), np.sum(a * b, axis=1)))


def footprint_centre(footprint: Footprint) -> FloatArray:
    """Return the unit vector, shape ``(3,)``, to the middle of a footprint's corners."""
    return mean_direction(unit_vectors(footprint))


def mean_direction(vectors: FloatArray) -> FloatArray:
    """Return the unit vector to the mean of directions, shape ``(N, 3)``."""
    return _normalised(np.mean(vectors, axis=0))


def median_direction(vectors: FloatArray) -> FloatArray:
    """Return the unit vector to the median of directions, which a minority of outliers cannot move far."""
    return _normalised(np.median(vectors, axis=0))


def sky_to_plane(tangent: tuple[float, float], sky: ArrayLike) -> FloatArray:
    """Project directions on the tangent plane (gnomonic, FITS ``TAN``).

    Parameters
    ----------
    tangent
        Tangent point (RA, Dec) in degrees.
    sky
        Directions (RA, Dec) in degrees, shape ``(N, 2)``.

    Returns
    -------
    Offsets (east, north) in arcsec, shape ``(N, 2)``; NaN for directions more than 80 degrees away.
    """
    centre, east, north = _axes(tangent)
    vectors = unit_vectors(sky)
    depth = vectors @ centre
    depth = np.where(depth < np.cos(np.radians(LARGEST_TANGENT_ANGLE_DEG)), np.nan, depth)
    return np.stack([vectors @ east, vectors @ north], axis=1) / depth[:, None] * ARCSEC_PER_RADIAN


def plane_to_sky(tangent: tuple[float, float], plane: ArrayLike) -> FloatArray:
    """Invert `sky_to_plane`: offsets (east, north) in arcsec to directions (RA, Dec) in degrees."""
    centre, east, north = _axes(tangent)
    offsets = np.asarray(plane, dtype=np.float64).reshape(-1, 2) / ARCSEC_PER_RADIAN
    return directions(centre + offsets[:, :1] * east + offsets[:, 1:] * north)


def touches(corners: FloatArray, shape: tuple[int, int], padding: float = 0.0) -> bool:
    """Return whether a convex polygon reaches an image, by the separating-axis test.

    Parameters
    ----------
    corners
        0-based pixels (x, y) of the image, shape ``(N, 2)``; if one is not finite, the polygon is far away.
    shape
        Rows and columns of the image.
    padding
        Pixels that the image is enlarged by on each side.
    """
    rows, columns = shape
    x0, x1, y0, y1 = -0.5 - padding, columns - 0.5 + padding, -0.5 - padding, rows - 0.5 + padding
    window = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    return _have_common_points(corners, window)


def footprints_overlap(first: Footprint, second: Footprint) -> bool:
    """Return whether the convex footprints of two exposures overlap."""
    tangent = first[0]
    return _have_common_points(sky_to_plane(tangent, first), sky_to_plane(tangent, second))


def _have_common_points(first: FloatArray, second: FloatArray) -> bool:
    """Separating-axis test of two convex polygons; a polygon with corners that are not finite is far away."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return False
    edges = np.concatenate([np.roll(corners, -1, axis=0) - corners for corners in (first, second)])
    normals = np.stack([-edges[:, 1], edges[:, 0]])
    a, b = first @ normals, second @ normals
    return bool(np.all((a.max(axis=0) >= b.min(axis=0)) & (b.max(axis=0) >= a.min(axis=0))))


def _normalised(vector: FloatArray) -> FloatArray:
    length = np.linalg.norm(vector)
    if length < 1e-6:
        raise GridError(
            "the exposures are spread over the whole sky and have no centre; give grid.tangent_ra and grid.tangent_dec"
        )
    return vector / length


def _axes(tangent: tuple[float, float]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return unit vectors to the tangent point and, there, to the east and north."""
    ra, dec = np.radians(tangent)
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    return unit_vectors(tangent)[0], east, north
