"""Gaussian filters of images, compiled: the numbers of `scipy.ndimage.gaussian_filter`, to the last bit.

scipy filters line by line, each pixel's sum by itself. Here the sums of the pixels of a row grow together, which
processors do for several pixels at a time; each sum has the same terms in the same order.
"""

from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

Mode = Literal["reflect", "constant"]


def gaussian(
    image: NDArray[np.float32], sigma: float, *, truncate: float = 4.0, mode: Mode = "reflect", order: int = 0
) -> NDArray[np.float32]:
    """Smooth with a Gaussian along both axes.

    Parameters
    ----------
    image
        Shape ``(ny, nx)``.
    sigma
        Standard deviation in pixels.
    truncate
        Reach of the Gaussian in standard deviations.
    mode
        Beyond the border the image is mirrored, or 0.
    order
        1 for the derivative along the rows' axis (x), 0 for none.
    """
    reach = int(truncate * sigma + 0.5)
    weights = _weights(sigma, reach, 0)
    smoothed = np.empty_like(image)
    _along_columns(image, weights, mode == "reflect", smoothed)
    _along_rows(smoothed, _weights(sigma, reach, order), mode == "reflect", 1.0 if order == 0 else -1.0)
    return smoothed


def _weights(sigma: float, reach: int, order: int) -> NDArray[np.float64]:
    """Weights of the pixels before a pixel, the farthest first, and its own; those behind are the same or negative."""
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 / sigma**2 * offsets**2)
    weights = weights / weights.sum()
    if order == 1:
        weights = offsets * (-1.0 / sigma**2) * weights
        weights = weights[::-1]
    return np.ascontiguousarray(weights[: reach + 1])


@njit(cache=True, nogil=True)
def _mirrored(at, length):  # type: ignore[no-untyped-def]
    """Return the place inside whose mirror image a place is (edges are doubled)."""
    at %= 2 * length
    return at if at < length else 2 * length - 1 - at


@njit(cache=True, nogil=True)
def _along_columns(image, weights, is_mirrored, smoothed):  # type: ignore[no-untyped-def]
    rows, columns = image.shape
    reach = len(weights) - 1
    sums, empty = np.empty(columns), np.zeros(columns, image.dtype)
    for row in range(rows):
        middle = image[row]
        for column in range(columns):
            sums[column] = np.float64(middle[column]) * weights[reach]
        for step in range(reach, 0, -1):
            before, after, weight = row - step, row + step, weights[reach - step]
            if not is_mirrored:
                low = image[before] if before >= 0 else empty
                high = image[after] if after < rows else empty
            else:
                low, high = image[_mirrored(before, rows)], image[_mirrored(after, rows)]
            for column in range(columns):
                sums[column] += (np.float64(low[column]) + np.float64(high[column])) * weight
        for column in range(columns):
            smoothed[row, column] = sums[column]


@njit(cache=True, nogil=True)
def _along_rows(image, weights, is_mirrored, sign):  # type: ignore[no-untyped-def]
    """Filter the rows in place; the sign is that of the weights behind a pixel."""
    rows, columns = image.shape
    reach = len(weights) - 1
    sums, line = np.empty(columns), np.zeros(columns + 2 * reach)
    for row in range(rows):
        for column in range(columns):
            line[reach + column] = image[row, column]
        if is_mirrored:
            for step in range(1, reach + 1):
                line[reach - step] = image[row, _mirrored(-step, columns)]
                line[reach + columns - 1 + step] = image[row, _mirrored(columns - 1 + step, columns)]
        for column in range(columns):
            sums[column] = line[reach + column] * weights[reach]
        for step in range(reach, 0, -1):
            weight = weights[reach - step]
            low, high = line[reach - step : reach - step + columns], line[reach + step : reach + step + columns]
            for column in range(columns):
                sums[column] += (low[column] + sign * high[column]) * weight
        for column in range(columns):
            image[row, column] = sums[column]
