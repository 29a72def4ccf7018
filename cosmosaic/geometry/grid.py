"""The one tangent-plane pixel grid that all mosaics of a survey share.

The tangent point lies on the corner of four pixels, unless the pixels are those of an image (`like.py`), and every
window begins and ends a whole number of blocks from it. Windows of pixels two (three, ...) times larger therefore nest:
each large pixel covers whole small ones, and two windows of one scale differ by whole pixels.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from cosmosaic.geometry.sphere import (
    FloatArray,
    Footprint,
    GridError,
    directions,
    footprint_centre,
    mean_direction,
    median_direction,
    plane_to_sky,
    separations_deg,
    sky_to_plane,
    touches,
    unit_vectors,
)
from cosmosaic.records import Lattice, MosaicGrid
from cosmosaic.survey import GridSettings

WINDOW_BLOCK_PIXELS = 8
"""Windows are whole multiples of this many of the largest pixels."""
PADDING_ARCSEC = 0.5
"""Room around the footprints: a detector's edges bow outward between its corners, and alignment shifts exposures."""
TANGENT_DECIMALS = 2
LARGEST_GRID_ANGLE_DEG = 5.0
"""Exposures farther from the tangent point are refused: the scale there is 0.8 % off."""


def sky_to_pixel(grid: Lattice, sky: ArrayLike) -> FloatArray:
    """Convert directions (RA, Dec) in degrees to 0-based pixels (x, y) of a grid; shape ``(N, 2)`` both."""
    return _plane_to_pixels(grid, sky_to_plane((grid.tangent_ra, grid.tangent_dec), sky)) + grid.crpix


def pixel_to_sky(grid: Lattice, pixels: ArrayLike) -> FloatArray:
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
        rounded to 0.01 deg so that a few more exposures seldom move it; a survey that grows should fix it.
    footprints
        Footprint of *every* exposure of the survey, in all filters, by the exposure's name.
    scale_factor
        Pixels are this many times larger than ``settings.pixel_scale_mas``; 0-based reference pixels relate
        as ``(c + 0.5) / scale_factor - 0.5``, shapes as ``1 / scale_factor``.

    Raises
    ------
    GridError
        There is no footprint, one is not finite, they reach more than 5 deg from the tangent point, or the window
        has more than ``settings.largest_mpix`` megapixels; the exposure that lies farthest out is named.
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
    """Return whether an exposure can contribute to a window.

    With a margin of `PADDING_ARCSEC`: an exposure for which it is false certainly misses the window.
    """
    return touches(sky_to_pixel(grid, footprint), grid.shape, margin_pixels(grid))


def margin_pixels(grid: MosaicGrid) -> float:
    """Return `PADDING_ARCSEC` in pixels of a grid."""
    return PADDING_ARCSEC * 1000.0 / grid.pixel_scale_mas


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


def pc_matrix(rotation: float) -> FloatArray:
    """Turn pixel offsets to (east, north); x runs westward at rotation 0. The matrix is its own inverse."""
    angle = np.radians(rotation)
    return np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _plane_to_pixels(grid: Lattice, plane: FloatArray) -> FloatArray:
    return plane @ pc_matrix(grid.rotation).T * (1000.0 / grid.pixel_scale_mas)


def _check_footprints(footprints: Mapping[str, Footprint]) -> None:
    if not footprints:
        raise GridError("there are no exposures to define a pixel grid")
    for name, footprint in footprints.items():
        corners = np.asarray(footprint, dtype=np.float64)
        if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3 or not np.isfinite(corners).all():
            raise GridError(f"the footprint of {name} is not a polygon on the sky: {footprint}")


def _tangent_point(settings: GridSettings, footprints: Mapping[str, Footprint]) -> tuple[float, float]:
    if settings.tangent_ra is not None and settings.tangent_dec is not None:
        return settings.tangent_ra, settings.tangent_dec
    # Sorted, because the order of a sum shows in its last digit.
    middle = mean_direction(np.array([footprint_centre(footprints[name]) for name in sorted(footprints)]))
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
            f"the exposures reach {angle:.2f} deg from the tangent point RA {tangent[0]}, Dec {tangent[1]} deg, more "
            f"than {LARGEST_GRID_ANGLE_DEG:g}; farthest out is {name}, {distance:.2f} deg from the median of all "
            f"exposures: check its pointing, and grid.tangent_ra and grid.tangent_dec if they are set"
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
        f"all exposures: remove it if its pointing is wrong, or raise grid.largest_mpix or grid.pixel_scale_mas"
    )


def _farthest(footprints: Mapping[str, Footprint]) -> tuple[str, float]:
    """Return the exposure farthest from the median of all, and its distance in degrees."""
    names = sorted(footprints)
    centres = np.array([footprint_centre(footprints[name]) for name in names])
    distances = separations_deg(centres, median_direction(centres))
    index = int(np.argmax(distances))
    return names[index], float(distances[index])
