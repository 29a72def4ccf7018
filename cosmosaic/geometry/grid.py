"""The one tangent-plane pixel grid that all mosaics of a survey share.

The tangent point lies on the corner of four pixels and every window begins and ends a whole number of
blocks from it. Windows of pixels two (three, ...) times larger therefore nest: each large pixel covers
whole small ones, and two windows of one scale differ by whole pixels.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cosmosaic.records import MosaicGrid
from cosmosaic.survey import GridSettings

Footprint = Sequence[tuple[float, float]]
"""Corners (RA, Dec) of a polygon in degrees, ICRS."""
FloatArray = NDArray[np.float64]

ARCSEC_PER_RADIAN = np.degrees(1.0) * 3600.0
WINDOW_BLOCK_PIXELS = 8
"""Windows are whole multiples of this many of the largest pixels."""
PADDING_ARCSEC = 0.5
"""Room around the footprints: a detector's edges bow outward between its corners, and alignment shifts frames."""
TANGENT_DECIMALS = 2
LARGEST_TANGENT_ANGLE_DEG = 80.0
"""Directions farther from the tangent point have no sensible place on its plane."""
LARGEST_GRID_ANGLE_DEG = 5.0
"""Frames farther from the tangent point are refused: the scale there is 0.8 % off."""


class GridError(ValueError):
    """No sensible pixel grid covers the frames."""


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
    return _normalised(unit_vectors(footprint).mean(axis=0))


def median_direction(vectors: FloatArray) -> FloatArray:
    """Return the unit vector to the median of directions, which a minority of strays cannot move far."""
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


def sky_to_pixel(grid: MosaicGrid, sky: ArrayLike) -> FloatArray:
    """Convert directions (RA, Dec) in degrees to 0-based pixels (x, y) of a grid; shape ``(N, 2)`` both."""
    return _plane_to_pixels(grid, sky_to_plane((grid.tangent_ra, grid.tangent_dec), sky)) + grid.crpix


def pixel_to_sky(grid: MosaicGrid, pixels: ArrayLike) -> FloatArray:
    """Convert 0-based pixels (x, y) of a grid to directions (RA, Dec) in degrees; shape ``(N, 2)`` both."""
    offsets = np.asarray(pixels, dtype=np.float64).reshape(-1, 2) - grid.crpix
    plane = offsets @ pc_matrix(grid.rotation).T * (grid.pixel_scale_mas / 1000.0)
    return plane_to_sky((grid.tangent_ra, grid.tangent_dec), plane)


def survey_grid(settings: GridSettings, footprints: Mapping[str, Footprint], scale_factor: int = 1) -> MosaicGrid:
    """Make the survey's grid, or the same window in larger pixels.

    Parameters
    ----------
    settings
        Tangent point, rotation and pixel scale. Without a tangent point it is the middle of the footprints,
        rounded to 0.01 deg so that a few more frames seldom move it; a survey that grows should fix it.
    footprints
        Footprint of *every* frame of the survey, in all filters, by the frame's name.
    scale_factor
        Pixels are this many times larger than ``settings.pixel_scale_mas``; 0-based reference pixels relate
        as ``(c + 0.5) / scale_factor - 0.5``, shapes as ``1 / scale_factor``.

    Raises
    ------
    GridError
        There is no footprint, one is not finite, they reach more than 5 deg from the tangent point, or the window
        has more than ``settings.largest_mpix`` megapixels; the frame that lies farthest out is named.
    ValueError
        The scale factor does not divide the window.
    """
    block = WINDOW_BLOCK_PIXELS * settings.long_wavelength_factor
    if scale_factor < 1 or block % scale_factor:
        raise ValueError(f"pixels {scale_factor} times larger do not nest in blocks of {block} pixels")
    _check_footprints(footprints)
    tangent = _tangent_point(settings, footprints)
    lower, upper = _window_edges(settings, tangent, footprints, block)
    _check_size(settings, footprints, (upper - lower) / scale_factor)
    edge_x, edge_y = (int(edge) // scale_factor for edge in lower)
    columns, rows = (int(length) // scale_factor for length in upper - lower)
    return MosaicGrid(
        tangent_ra=tangent[0],
        tangent_dec=tangent[1],
        rotation=settings.rotation,
        pixel_scale_mas=settings.pixel_scale_mas * scale_factor,
        crpix=(-edge_x - 0.5, -edge_y - 0.5),
        shape=(rows, columns),
    )


def overlaps(grid: MosaicGrid, footprint: Footprint) -> bool:
    """Tell whether a frame can put light into a window.

    With `PADDING_ARCSEC` to spare: a frame that is left out certainly misses the window.
    """
    return touches(sky_to_pixel(grid, footprint), grid.shape, PADDING_ARCSEC * 1000.0 / grid.pixel_scale_mas)


def touches(corners: FloatArray, shape: tuple[int, int], padding: float = 0.0) -> bool:
    """Tell whether a convex polygon reaches an image, by the separating-axis test.

    Parameters
    ----------
    corners
        0-based pixels (x, y) of the image, shape ``(N, 2)``; where one is not finite, the polygon is far away.
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
    """Tell whether two frames see a common part of the sky, by the corners of their convex footprints."""
    tangent = first[0]
    return _have_common_points(sky_to_plane(tangent, first), sky_to_plane(tangent, second))


def resample_parameters(grid: MosaicGrid) -> dict[str, float | list[float] | list[int]]:
    """Return the parameters that make jwst's ``ResampleStep`` drizzle onto a grid.

    ``crpix`` is 0-based, ``output_shape`` is (x, y), ``pixel_scale`` in arcsec and ``rotation`` the position
    angle of +y in degrees, east of north.
    """
    rows, columns = grid.shape
    return {
        "crval": [grid.tangent_ra, grid.tangent_dec],
        "crpix": list(grid.crpix),
        "output_shape": [columns, rows],
        "rotation": grid.rotation,
        "pixel_scale": grid.pixel_scale_mas / 1000.0,
    }


def _have_common_points(first: FloatArray, second: FloatArray) -> bool:
    """Separating-axis test of two convex polygons; one with corners that are not finite is far away."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return False
    edges = np.concatenate([np.roll(corners, -1, axis=0) - corners for corners in (first, second)])
    normals = np.stack([-edges[:, 1], edges[:, 0]])
    a, b = first @ normals, second @ normals
    return bool(np.all((a.max(axis=0) >= b.min(axis=0)) & (b.max(axis=0) >= a.min(axis=0))))


def _normalised(vector: FloatArray) -> FloatArray:
    length = np.linalg.norm(vector)
    if length < 1e-6:
        raise GridError("the frames lie all over the sky and have no middle; give grid.tangent_ra and grid.tangent_dec")
    return vector / length


def _axes(tangent: tuple[float, float]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return unit vectors to the tangent point and, there, to the east and north."""
    ra, dec = np.radians(tangent)
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    return unit_vectors(tangent)[0], east, north


def pc_matrix(rotation: float) -> FloatArray:
    """Turn pixel offsets to (east, north); x runs westward at rotation 0. The matrix is its own inverse."""
    angle = np.radians(rotation)
    return np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _plane_to_pixels(grid: MosaicGrid, plane: FloatArray) -> FloatArray:
    return plane @ pc_matrix(grid.rotation).T * (1000.0 / grid.pixel_scale_mas)


def _check_footprints(footprints: Mapping[str, Footprint]) -> None:
    if not footprints:
        raise GridError("there is no frame to make a pixel grid for")
    for name, footprint in footprints.items():
        corners = np.asarray(footprint, dtype=np.float64)
        if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3 or not np.isfinite(corners).all():
            raise GridError(f"the footprint of {name} is no polygon on the sky: {footprint}")


def _tangent_point(settings: GridSettings, footprints: Mapping[str, Footprint]) -> tuple[float, float]:
    if settings.tangent_ra is not None and settings.tangent_dec is not None:
        return settings.tangent_ra, settings.tangent_dec
    # Sorted, because the order of a sum shows in its last digit.
    middle = _normalised(np.mean([footprint_centre(footprints[name]) for name in sorted(footprints)], axis=0))
    ra, dec = (round(float(angle), TANGENT_DECIMALS) for angle in directions(middle)[0])
    return ra % 360.0, dec + 0.0


def _window_edges(
    settings: GridSettings, tangent: tuple[float, float], footprints: Mapping[str, Footprint], block: int
) -> tuple[FloatArray, FloatArray]:
    """Return the lower and upper window edges (x, y) in pixels from the tangent point, multiples of ``block``."""
    sky = np.concatenate([np.asarray(footprint, dtype=np.float64) for footprint in footprints.values()])
    angle = float(separations_deg(unit_vectors(sky), unit_vectors(tangent)).max())
    if angle > LARGEST_GRID_ANGLE_DEG:
        name, distance = _farthest(footprints)
        raise GridError(
            f"the frames reach {angle:.2f} deg from the tangent point RA {tangent[0]}, Dec {tangent[1]} deg, more than "
            f"{LARGEST_GRID_ANGLE_DEG:g}; farthest out is {name}, {distance:.2f} deg from the median of all frames: "
            f"check its pointing, and grid.tangent_ra and grid.tangent_dec where they are given"
        )
    corners = sky_to_plane(tangent, sky)
    pixels = corners @ pc_matrix(settings.rotation).T * (1000.0 / settings.pixel_scale_mas)
    padding = PADDING_ARCSEC * 1000.0 / settings.pixel_scale_mas
    lower = np.floor((pixels.min(axis=0) - padding) / block) * block
    upper = np.ceil((pixels.max(axis=0) + padding) / block) * block
    return lower, upper


def _check_size(settings: GridSettings, footprints: Mapping[str, Footprint], size: FloatArray) -> None:
    megapixels = float(size[0] * size[1] / 1e6)
    if megapixels <= settings.largest_mpix:
        return
    name, distance = _farthest(footprints)
    raise GridError(
        f"the mosaic would have {size[0]:.0f} x {size[1]:.0f} pixels, {megapixels:.0f} megapixels, more than "
        f"grid.largest_mpix = {settings.largest_mpix:g}; farthest out is {name}, {distance:.3f} deg from the median of "
        f"all frames: take it away if its pointing is wrong, else raise grid.largest_mpix or grid.pixel_scale_mas"
    )


def _farthest(footprints: Mapping[str, Footprint]) -> tuple[str, float]:
    """Return the frame farthest from the median of all, and its distance in degrees."""
    names = sorted(footprints)
    centres = np.array([footprint_centre(footprints[name]) for name in names])
    distances = separations_deg(centres, median_direction(centres))
    index = int(np.argmax(distances))
    return names[index], float(distances[index])
