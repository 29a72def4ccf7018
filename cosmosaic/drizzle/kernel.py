"""The square drizzle kernel for science and variances at once.

The overlap of an input pixel with the output grid is the same for all planes of an exposure; the drizzle package
computes it again for each plane. Its use follows the package's C code (Fruchter & Hook 2002, PASP 114, 144), so that
coverage, weights and values agree. For other kernels the package itself is used.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cosmosaic.geometry.pixelmap import BLOCK_PIXELS

WEIGHT, SCIENCE, POISSON, READ_NOISE, FLAT = range(5)
"""Planes of sums: weight, weight x science, and of the three variances weight x sigma or weight**2 x variance."""
PLANES = {"jwst": 5, "propagated": 5, "none": 2}
"""Number of planes by `cosmosaic.survey.DrizzleSettings.errors`."""

SMALLEST_OVERLAP = 1e-14
"""Overlaps in pixels below this are rounding errors."""
LARGEST_BOX = 64
"""Output pixels along a side of the box around one input pixel."""

Floats = NDArray[np.floating[Any]]


class Light(NamedTuple):
    """The planes that are drizzled, shape ``(ny, nx)`` each."""

    sci: Floats
    poisson: Floats
    read_noise: Floats
    flat: Floats
    """Variances."""
    weight: Floats


class Drop(NamedTuple):
    """The drop that an input pixel becomes."""

    pixfrac: float
    """Its side in input pixels, above 0."""
    reach: float
    """Largest distance of its light from its centre, in output pixels."""
    propagated: bool
    """Whether its variances are drizzled with squared weights."""


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _corner(map_x: Floats, map_y: Floats, column: float, row: float) -> tuple[float, float]:
    """Interpolate the pixel map bilinearly, extrapolating at its edges (``interpolate_point`` of the package)."""
    rows, columns = map_x.shape
    i = min(max(int(column), 0), columns - 2)
    j = min(max(int(row), 0), rows - 2)
    fx, fy = column - i, row - j
    gx, gy = 1.0 - fx, 1.0 - fy
    a, b, c, d = map_x[j, i], map_x[j, i + 1], map_x[j + 1, i], map_x[j + 1, i + 1]
    x = a * gx * gy + b * fx * gy + c * gx * fy + d * fx * fy
    a, b, c, d = map_y[j, i], map_y[j, i + 1], map_y[j + 1, i], map_y[j + 1, i + 1]
    y = a * gx * gy + b * fx * gy + c * gx * fy + d * fx * fy
    return x, y


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _add_edge(xa: float, ya: float, xb: float, yb: float, areas: Floats) -> None:
    """Add the signed area under an edge, column by column, to the unit squares in which, or above which, it is.

    Square ``[row, column]`` spans column to column + 1 and row to row + 1; the edge lies within ``areas``.
    """
    if xa == xb:
        return
    if xa < xb:
        x1, y1, x2, y2, sign = xa, ya, xb, yb, 1.0
    else:
        x1, y1, x2, y2, sign = xb, yb, xa, ya, -1.0
    slope = (y2 - y1) / (x2 - x1)
    column = int(x1)
    x, y = x1, y1
    while x < x2:
        boundary = column + 1.0
        if boundary < x2:
            x_next, y_next = boundary, y1 + (boundary - x1) * slope
        else:
            x_next, y_next = x2, y2
        width = sign * (x_next - x)
        if y < y_next:
            low, high = y, y_next
        else:
            low, high = y_next, y
        first, last = int(low), int(high)
        for row in range(first):
            areas[row, column] += width
        if first == last:
            areas[first, column] += width * (0.5 * (low + high) - first)
        else:
            per_height = width / (high - low)
            rest = first + 1.0 - low
            areas[first, column] += per_height * (rest * (1.0 - 0.5 * rest) + (high - first - 1.0))
            for row in range(first + 1, last):
                areas[row, column] += per_height * (0.5 + (high - row - 1.0))
            rest = high - last
            areas[last, column] += per_height * 0.5 * rest * rest
        x, y = x_next, y_next
        column += 1


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def overlap_areas(corners: tuple[float, float, float, float, float, float, float, float], areas: Floats) -> None:
    """Add the areas that a quadrilateral shares with unit squares (Green's theorem, edge by edge).

    Parameters
    ----------
    corners
        Their x and y by turns, in cyclic order, within the array: square ``[row, column]`` spans column to
        column + 1 and row to row + 1.
    areas
        Added to: signed areas, positive for corners in clockwise order (y upward).
    """
    xa, ya, xb, yb, xc, yc, xd, yd = corners
    _add_edge(xa, ya, xb, yb, areas)
    _add_edge(xb, yb, xc, yc, areas)
    _add_edge(xc, yc, xd, yd, areas)
    _add_edge(xd, yd, xa, ya, areas)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _share_out(
    areas: Floats, density: float, place: tuple[int, int], light: tuple[float, ...], propagated: bool, sums: Floats
) -> None:
    """Give the output pixels around ``place`` (row, column within the sums) their shares of a drop."""
    height, width, planes = sums.shape
    # One-dimensional and unsigned: numba would check every signed index for counting from the end.
    values = sums.reshape(-1)
    d, p, r, f = light
    for j in range(areas.shape[0]):
        row = place[0] + j
        for i in range(areas.shape[1]):
            area = abs(areas[j, i])
            areas[j, i] = 0.0
            column = place[1] + i
            if not (0 <= row < height and 0 <= column < width and area > SMALLEST_OVERLAP):
                continue
            share = np.float32(area * density)
            k = np.uintp((row * width + column) * planes)
            values[k] += share
            values[k + np.uintp(SCIENCE)] += share * d
            if planes == 2:
                continue
            if propagated:
                share *= share
            values[k + np.uintp(POISSON)] += share * p
            values[k + np.uintp(READ_NOISE)] += share * r
            values[k + np.uintp(FLAT)] += share * f


@njit(cache=True, nogil=True, error_model="numpy")
def drizzle_square(
    light: Light,
    pixel_map: tuple[Floats, Floats],
    drop: Drop,
    blocks: NDArray[np.bool_],
    origin: tuple[int, int],
    sums: Floats,
) -> None:
    """Add an exposure to the sums of a window with the square kernel.

    Agrees with ``do_kernel_square`` of the drizzle package (Fruchter & Hook 2002, equations 4 and 5). Of variances
    sigma is drizzled, as ``stcal.resample.Resample`` does, or the variance with squared weights, as the package does
    with ``data2``.

    Parameters
    ----------
    light
        The exposure; pixels of weight 0 are left out.
    pixel_map
        Output pixel (x, y) of each input pixel's centre, shape ``(ny, nx)`` each; NaN where undefined.
    drop
        The drop that an input pixel becomes.
    blocks
        Which blocks of `BLOCK_PIXELS` input pixels a side are drizzled; the others are left out.
    origin
        Output pixel (x, y) of the window's first element.
    sums
        `WEIGHT`, `SCIENCE`, ... of each pixel of the window, shape ``(height, width, 5)``, or ``(height, width, 2)``
        without variances; added to.
    """
    map_x, map_y = pixel_map
    sci, poisson, read_noise, flat, weight = light
    height, width = sums.shape[:2]
    x0, y0 = origin[0] - drop.reach, origin[1] - drop.reach
    x1, y1 = origin[0] + width + drop.reach, origin[1] + height + drop.reach
    half = 0.5 * drop.pixfrac
    areas = np.zeros((LARGEST_BOX, LARGEST_BOX))
    for j in range(sci.shape[0]):
        previous = -2
        xb = yb = xc = yc = 0.0
        for block in range(blocks.shape[1]):
            if not blocks[j // BLOCK_PIXELS, block]:
                continue
            for i in range(block * BLOCK_PIXELS, min((block + 1) * BLOCK_PIXELS, sci.shape[1])):
                w = weight[j, i]
                if w == 0.0 or not (x0 < map_x[j, i] < x1 and y0 < map_y[j, i] < y1):
                    continue
                if previous == i - 1 and half == 0.5:
                    # Drops as large as pixels share their corners.
                    xa, ya, xd, yd = xb, yb, xc, yc
                else:
                    xa, ya = _corner(map_x, map_y, i - half, j + half)
                    xd, yd = _corner(map_x, map_y, i - half, j - half)
                xb, yb = _corner(map_x, map_y, i + half, j + half)
                xc, yc = _corner(map_x, map_y, i + half, j - half)
                previous = i
                if math.isnan(xa + xb + xc + xd + ya + yb + yc + yd):
                    continue
                left, right = math.floor(min(xa, xb, xc, xd) + 0.5), math.floor(max(xa, xb, xc, xd) + 0.5)
                bottom, top = math.floor(min(ya, yb, yc, yd) + 0.5), math.floor(max(ya, yb, yc, yd) + 0.5)
                box = areas[: top - bottom + 1, : right - left + 1]
                x, y = left - 0.5, bottom - 0.5
                overlap_areas((xa - x, ya - y, xb - x, yb - y, xc - x, yc - y, xd - x, yd - y), box)
                jacobian = 0.5 * ((xb - xd) * (ya - yc) - (xa - xc) * (yb - yd))
                p, r, f = poisson[j, i], read_noise[j, i], flat[j, i]
                if not drop.propagated:
                    p, r, f = np.sqrt(p), np.sqrt(r), np.sqrt(f)
                place = bottom - origin[1], left - origin[0]
                _share_out(box, w / abs(jacobian), place, (sci[j, i], p, r, f), drop.propagated, sums)
