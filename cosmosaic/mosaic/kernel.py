"""The square drizzle kernel for science and variances at once.

The overlap of an input pixel with the output grid is the same for all planes of a frame; the drizzle package
computes it for each plane anew. What is done with it follows the package's C code (Fruchter & Hook 2002, PASP 114,
144), so that coverage, weights and values agree. Other kernels are left to the package.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

WEIGHT, SCIENCE, POISSON, READ_NOISE, FLAT = range(5)
"""Planes of sums: weight, weight x science, and weight x sigma of the three variances."""
PLANES = 5

SMALLEST_OVERLAP = 1e-14
"""Overlaps in pixels below this are rounding errors of none."""
LARGEST_BOX = 64
"""Output pixels along a side of the box around one input pixel."""

Floats = NDArray[np.floating[Any]]


class Light(NamedTuple):
    """What is drizzled, shape ``(ny, nx)`` each."""

    sci: Floats
    poisson: Floats
    read_noise: Floats
    flat: Floats
    """Variances."""
    weight: Floats


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


@njit(cache=True, nogil=True, error_model="numpy")
def _corner_row(map_x: Floats, map_y: Floats, row: float, offset: float, xs: Floats, ys: Floats) -> None:
    for i in range(xs.size):
        xs[i], ys[i] = _corner(map_x, map_y, i + offset, row)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _add_edge(xa: float, ya: float, xb: float, yb: float, areas: Floats) -> None:
    """Add the signed area under an edge, column by column, to the unit squares it lies in or above.

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


@njit(cache=True, nogil=True, error_model="numpy")
def overlap_areas(x: Floats, y: Floats, areas: Floats) -> None:
    """Compute the areas that a quadrilateral shares with unit squares (Green's theorem, edge by edge).

    Parameters
    ----------
    x, y
        Corners in cyclic order, shape ``(4,)`` each, within the array: square ``[row, column]`` spans column to
        column + 1 and row to row + 1.
    areas
        Set to the signed areas, positive for corners in clockwise order (y upward).
    """
    areas[:] = 0.0
    for corner in range(4):
        following = (corner + 1) & 3
        _add_edge(x[corner], y[corner], x[following], y[following], areas)


@njit(cache=True, nogil=True, error_model="numpy")
def drizzle_square(
    light: Light,
    pixel_map: tuple[Floats, Floats],
    pixfrac: float,
    row_range: tuple[int, int],
    origin: tuple[int, int],
    sums: Floats,
) -> None:
    """Add a frame to the sums of a window with the square kernel.

    Agrees with ``do_kernel_square`` of the drizzle package (Fruchter & Hook 2002, equations 4 and 5), with sigma
    drizzled in place of variance as ``stcal.resample.Resample`` does.

    Parameters
    ----------
    light
        The frame; pixels of weight 0 are left out.
    pixel_map
        Output pixel (x, y) of each input pixel's centre, shape ``(ny, nx)`` each; NaN where there is none.
    pixfrac
        Side of the drop in input pixels, above 0.
    row_range
        First input row and the one after the last; the others are left out.
    origin
        Output pixel (x, y) of the window's first element.
    sums
        `WEIGHT`, `SCIENCE`, ... of the window, shape ``(5, height, width)``; added to.
    """
    map_x, map_y = pixel_map
    sci, poisson, read_noise, flat, weight = light
    columns = sci.shape[1]
    height, width = sums.shape[1:]
    x0, y0 = origin
    half = 0.5 * pixfrac
    # Corners below and above the row of input pixels, on their left and right sides.
    xl_below, yl_below, xr_below, yr_below = np.empty(columns), np.empty(columns), np.empty(columns), np.empty(columns)
    xl_above, yl_above, xr_above, yr_above = np.empty(columns), np.empty(columns), np.empty(columns), np.empty(columns)
    x, y = np.empty(4), np.empty(4)
    areas = np.zeros((LARGEST_BOX, LARGEST_BOX))
    for j in range(row_range[0], row_range[1]):
        if not weight[j].any():
            continue
        _corner_row(map_x, map_y, j - half, -half, xl_below, yl_below)
        _corner_row(map_x, map_y, j - half, half, xr_below, yr_below)
        _corner_row(map_x, map_y, j + half, -half, xl_above, yl_above)
        _corner_row(map_x, map_y, j + half, half, xr_above, yr_above)
        for i in range(columns):
            w = weight[j, i]
            if w == 0.0:
                continue
            xa, xb, xc, xd = xl_above[i], xr_above[i], xr_below[i], xl_below[i]
            ya, yb, yc, yd = yl_above[i], yr_above[i], yr_below[i], yl_below[i]
            if math.isnan(xa + xb + xc + xd + ya + yb + yc + yd):
                continue
            left = math.floor(min(xa, xb, xc, xd) + 0.5)
            right = math.floor(max(xa, xb, xc, xd) + 0.5)
            bottom = math.floor(min(ya, yb, yc, yd) + 0.5)
            top = math.floor(max(ya, yb, yc, yd) + 0.5)
            if left >= x0 + width or right < x0 or bottom >= y0 + height or top < y0:
                continue
            jacobian = 0.5 * ((xb - xd) * (ya - yc) - (xa - xc) * (yb - yd))
            x[0], x[1], x[2], x[3] = xa - left + 0.5, xb - left + 0.5, xc - left + 0.5, xd - left + 0.5
            y[0], y[1], y[2], y[3] = ya - bottom + 0.5, yb - bottom + 0.5, yc - bottom + 0.5, yd - bottom + 0.5
            box = areas[: top - bottom + 1, : right - left + 1]
            overlap_areas(x, y, box)
            d = sci[j, i]
            p, r, f = np.sqrt(poisson[j, i]), np.sqrt(read_noise[j, i]), np.sqrt(flat[j, i])
            for row in range(max(bottom, y0), min(top, y0 + height - 1) + 1):
                for column in range(max(left, x0), min(right, x0 + width - 1) + 1):
                    area = abs(areas[row - bottom, column - left])
                    if area > SMALLEST_OVERLAP:
                        share = np.float32(area / abs(jacobian) * w)
                        sums[WEIGHT, row - y0, column - x0] += share
                        sums[SCIENCE, row - y0, column - x0] += share * d
                        sums[POISSON, row - y0, column - x0] += share * p
                        sums[READ_NOISE, row - y0, column - x0] += share * r
                        sums[FLAT, row - y0, column - x0] += share * f
