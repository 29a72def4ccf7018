"""The size of tiles that fits the memory: a worker's need is predicted before anything is allocated."""

from collections.abc import Sequence
from typing import NamedTuple

from cosmosaic.geometry.windows import DEFAULT_TILE_PIXELS, tiles_of
from cosmosaic.nircam import FULL_FRAME
from cosmosaic.records import MosaicGrid, Windows

BASE_MB = 400.0
"""A worker with all libraries loaded, also those of the steps before and after."""
TILE_SIDES = (DEFAULT_TILE_PIXELS, DEFAULT_TILE_PIXELS // 2, DEFAULT_TILE_PIXELS // 4)
"""Sides to choose from; smaller ones make more files and steps."""
SMALL_MOSAIC_PIXELS = 4096
"""A mosaic that fits into a tile of this side is one tile: more steps would cost more than smaller tiles save."""
SUM_BYTES = 5 * 4
"""Of a pixel of an exposure's sums."""
MOSAIC_BYTES = 9 * 4
"""Of a pixel of a finished tile."""
"""Rows and columns of the largest exposures."""


class Resources(NamedTuple):
    """The division of the work."""

    tile_pixels: int
    processes: int


def tile_sides(window: MosaicGrid) -> tuple[int, ...]:
    """Return the sides of tiles that a mosaic may be cut into, the best first."""
    is_small = len(tiles_of(window, SMALL_MOSAIC_PIXELS)) == 1
    return (SMALL_MOSAIC_PIXELS, *TILE_SIDES) if is_small else TILE_SIDES


def fit_memory(
    memory_gb: float,
    processes: int,
    shape: tuple[int, int],
    input_over_output_scale: float,
    sides: Sequence[int] = TILE_SIDES,
) -> Resources:
    """Choose the tiles' side and the number of workers that fit the memory.

    Parameters
    ----------
    memory_gb
        For all workers together.
    processes
        Workers wanted.
    shape
        Rows and columns of an exposure.
    input_over_output_scale
        Side of a detector pixel in mosaic pixels.
    sides
        Of tiles to choose from, the best first.

    Raises
    ------
    ValueError
        Not even one worker with the smallest tiles fits.
    """
    for workers in range(processes, 0, -1):
        for side in sides:
            if workers * peak_mb(shape, side, input_over_output_scale) <= 1000.0 * memory_gb:
                return Resources(side, workers)
    least = peak_mb(shape, sides[-1], input_over_output_scale) / 1000.0
    raise ValueError(
        f"resources.memory_gb = {memory_gb:g} is too little: exposures of {shape[0]} x {shape[1]} pixels in tiles of "
        f"{sides[-1]} need {least:.1f}; raise it, or make mosaics of larger pixels"
    )


def peak_mb(shape: tuple[int, int], tile_pixels: int, input_over_output_scale: float) -> float:
    """Predict the peak memory of one worker in MB; it does not depend on the number of exposures.

    Parameters
    ----------
    shape
        Rows and columns of an exposure.
    tile_pixels
        Side of a tile.
    input_over_output_scale
        Side of a detector pixel in mosaic pixels.
    """
    pixels = shape[0] * shape[1]
    # The bounding box of an exposure rotated by 45 degrees has twice its area.
    box = 2 * pixels * input_over_output_scale**2
    sums = min(tile_pixels**2, box) * SUM_BYTES
    # Planes and weight, errors, flags and pattern, pixel map; then without errors, flags and pattern, and what is left
    # out.
    drizzling = pixels * (5 * 4 + 3 * 4 + 2 * 8) + 2 * sums
    flagging = max(pixels * (8 * 4 + 2 * 8 + 8) + box * 5, pixels * (6 * 4 + 2 * 8 + 6) + 2 * sums)
    # All of these, the places of the pixels among the cells, and the cell of each.
    binning = pixels * (8 * 4 + 4 * 8 + 3)
    combining = tile_pixels**2 * (MOSAIC_BYTES + SUM_BYTES)
    return BASE_MB + max(drizzling, flagging, binning, combining) / 1e6


def side_of_tiles(windows: Windows, detector_pixel_arcsec: float, worker_gb: float, given: int | None = None) -> int:
    """Choose the side in pixels of the tiles that one filter is combined in.

    Parameters
    ----------
    windows
        The mosaics.
    detector_pixel_arcsec
        Pixel scale of the detectors.
    worker_gb
        Memory of one worker.
    given
        The user's setting.

    Raises
    ------
    ValueError
        Not even the smallest tiles fit.
    """
    # Each named tile is made again separately.
    sides = (given,) if given else TILE_SIDES if windows.tiles else tile_sides(windows.whole)
    scale = 1000.0 * detector_pixel_arcsec / windows.whole.pixel_scale_mas
    return fit_memory(worker_gb, 1, FULL_FRAME, scale, sides).tile_pixels
