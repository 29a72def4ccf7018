"""Positions of an exposure's pixels on the survey's pixel lattice, interpolated where that is accurate enough."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cosmosaic.geometry.grid import sky_to_pixel
from cosmosaic.geometry.interpolation import LATTICE_STEP_PIXELS, LatticeSplines
from cosmosaic.records import Lattice

TOLERANCE_PIXELS = 1e-5
"""Largest error of an interpolated map, in output pixels; a map with larger errors is evaluated exactly."""

BLOCK_PIXELS = 32
"""Side of the blocks of pixels whose bounds are known, so that whole blocks can be skipped."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PixelMap:
    """Output pixel (x, y) of the centre of each input pixel, shape ``(ny, nx)`` each."""

    x: FloatArray
    y: FloatArray

    @cached_property
    def bounds(self) -> FloatArray:
        """Smallest and largest x, then y, of each block of pixels, shape ``(4, n, m)``; NaN does not count."""
        return _block_bounds(self.x, self.y)


def sampled_map(wcs: Any, grid: Lattice, shape: tuple[int, int]) -> FloatArray:
    """Map a lattice of an exposure's pixels, from which cubic splines give all others to `TOLERANCE_PIXELS`.

    Between the lattice's points the splines are checked against the WCS itself; where they miss it, or the exposure is
    small, all pixels are mapped.

    Parameters
    ----------
    wcs
        The exposure's gwcs: 0-based pixels (x, y) to (RA, Dec) in degrees.
    grid
        The output pixels.
    shape
        Rows and columns of the exposure.

    Returns
    -------
    samples
        Output pixel x, then y, shape ``(2, n, m)``: of a few rows and columns, or ``(2, ny, nx)`` of all.
    """
    if min(shape) < 2 * LATTICE_STEP_PIXELS:
        return exact_map(wcs, grid, shape)
    ys, xs = _lattice(shape)
    nodes = _mapped(wcs, grid, *np.meshgrid(xs, ys))
    if np.isfinite(nodes).all() and _largest_error(_splines(nodes, shape), wcs, grid, xs, ys) <= TOLERANCE_PIXELS:
        return nodes
    return exact_map(wcs, grid, shape)


def exact_map(wcs: Any, grid: Lattice, shape: tuple[int, int]) -> FloatArray:
    """Map every pixel of an exposure through its WCS, as `stcal.resample.utils.calc_pixmap` does; x, then y."""
    rows, columns = np.indices(shape, dtype=np.float64)
    return _mapped(wcs, grid, columns, rows)


def whole_map(samples: FloatArray, shape: tuple[int, int]) -> PixelMap:
    """Make the map of all pixels of an exposure from the result of `sampled_map`."""
    if samples.shape[1:] == shape:
        return PixelMap(*samples)
    return PixelMap(*_splines(samples, shape)(*map(np.arange, shape)))


@njit(cache=True, nogil=True)
def _block_bounds(map_x: FloatArray, map_y: FloatArray) -> FloatArray:
    rows, columns = map_x.shape
    bounds = np.empty((4, -(-rows // BLOCK_PIXELS), -(-columns // BLOCK_PIXELS)))
    bounds[0::2], bounds[1::2] = np.inf, -np.inf
    for j in range(rows):
        for i in range(columns):
            x, y, block = map_x[j, i], map_y[j, i], bounds[:, j // BLOCK_PIXELS, i // BLOCK_PIXELS]
            block[0], block[1] = min(block[0], x), max(block[1], x)
            block[2], block[3] = min(block[2], y), max(block[3], y)
    return bounds


def _lattice(shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Rows and columns at which the WCS is evaluated, the outermost pixels among them."""
    rows, columns = (np.linspace(0.0, n - 1.0, -(-n // LATTICE_STEP_PIXELS) + 1) for n in shape)
    return rows, columns


def _splines(nodes: FloatArray, shape: tuple[int, int]) -> LatticeSplines:
    return LatticeSplines(*_lattice(shape), nodes)


def _mapped(wcs: Any, grid: Lattice, x: FloatArray, y: FloatArray) -> FloatArray:
    ra, dec = wcs(x, y, with_bounding_box=False)
    pixels = sky_to_pixel(grid, np.stack([np.ravel(ra), np.ravel(dec)], axis=1))
    return pixels.T.reshape(2, *x.shape)


def _largest_error(splines: LatticeSplines, wcs: Any, grid: Lattice, xs: FloatArray, ys: FloatArray) -> float:
    """Compare with the WCS in the middles between the lattice's points, where a spline errs most."""
    middle_x, middle_y = (xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2
    exact = _mapped(wcs, grid, *np.meshgrid(middle_x, middle_y))
    error = np.abs(np.stack(splines(middle_y, middle_x)) - exact).max()
    return float(error) if np.isfinite(error) else np.inf
