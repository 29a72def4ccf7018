"""Medians of many pixels: those of numpy, and the clipped ones of astropy, to the last bit.

numpy sorts and partitions single precision several values at a time. Of sorted values clipping leaves a range, whose
median is in its middle.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

CLIP_SIGMA, CLIPS = 3.0, 5
"""As `astropy.stats.SigmaClip` by default."""
SIGMA_PER_DEVIATION = 1.482602218505602
"""Of a Gaussian: its sigma in units of the median distance from its median (astropy's ``mad_std``)."""


def scatter(values: NDArray[np.float32]) -> np.floating:
    """Robust standard deviation of values without NaN, as `astropy.stats.mad_std`."""
    return median(np.abs(values - median(values))) * SIGMA_PER_DEVIATION


def median(values: NDArray[np.float32]) -> np.float32:
    """Return the median of values without NaN, as `numpy.median`, which looks for NaN and for both middle values."""
    if not values.size:
        return np.float32(np.nan)
    middle = values.size // 2
    halves = np.partition(values, middle, axis=None)
    upper = halves[middle]
    return upper if values.size % 2 else (halves[:middle].max() + upper) / np.float32(2)


def clipped_medians(
    image: NDArray[np.float32], masked: NDArray[np.bool_], size: tuple[int, int], fewest: float
) -> NDArray[np.float32]:
    """Return the clipped medians of boxes of pixels, as `photutils.background.Background2D` does before it fills gaps.

    Parameters
    ----------
    image
        Shape ``(ny, nx)``.
    masked
        Pixels that are left out, as those that are not finite.
    size
        Rows and columns of a box; the last ones may be smaller.
    fewest
        Boxes in which no more values than this are left have NaN.
    """
    height, width = size
    medians = np.full((-(-image.shape[0] // height), -(-image.shape[1] // width)), np.nan, np.float32)
    for row, column in np.ndindex(medians.shape):
        box = np.s_[row * height : (row + 1) * height, column * width : (column + 1) * width]
        values = _usable(image[box], masked[box])
        values.sort()
        middle, left = _clipped_median(values)
        if left > fewest:
            medians[row, column] = middle
    return medians


@njit(cache=True, nogil=True)
def _usable(image, masked):  # type: ignore[no-untyped-def]
    values, count = np.empty(image.size + 1, image.dtype), 0
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            # The next place takes what is not kept: a loop without branches.
            values[count] = image[row, column]
            count += (not masked[row, column]) & np.isfinite(image[row, column])
    return values[:count]


@njit(cache=True, nogil=True)
def _clipped_median(values):  # type: ignore[no-untyped-def]
    """Return the median of what clipping leaves of sorted values, and how many these are."""
    low, high = -np.inf, np.inf
    lower, upper, before = low, high, 0
    for _ in range(CLIPS):
        first, last = _first_from(values, low, False), _first_from(values, high, True)
        if last - first == before:
            break
        before = last - first
        centre = 0.5 * (np.float64(values[(first + last - 1) // 2]) + np.float64(values[(first + last) // 2]))
        width = CLIP_SIGMA * _deviation(values[first:last])
        lower, upper = centre - width, centre + width
        low, high = max(low, lower), min(high, upper)
    first, last = _first_from(values, lower, False), _first_from(values, upper, True)
    if first == last:
        return np.float32(np.nan), 0
    one, other = values[(first + last - 1) // 2], values[(first + last) // 2]
    return one if (last - first) % 2 else (one + other) / np.float32(2), last - first


@njit(cache=True, nogil=True)
def _first_from(values, limit, is_above):  # type: ignore[no-untyped-def]
    """Return the place of the first of sorted values that is not below a limit, or that is above it."""
    first, last = 0, len(values)
    while first < last:
        middle = (first + last) // 2
        if values[middle] < limit or (is_above and values[middle] == limit):
            first = middle + 1
        else:
            last = middle
    return first


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _deviation(values):  # type: ignore[no-untyped-def]
    """Return the standard deviation; its sums may be taken in any order, as it decides nothing but where to clip."""
    total, squares, shift = 0.0, 0.0, np.float64(values[len(values) // 2])
    for value in values:
        offset = value - shift
        total += offset
        squares += offset * offset
    return np.sqrt(max(squares / len(values) - (total / len(values)) ** 2, 0.0))
