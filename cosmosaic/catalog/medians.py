"""Medians of many pixels, compiled: those of numpy, and the clipped ones of astropy, to the last bit.

The middle of a sample brackets the median. Only values in the bracket are sorted, and clipping hardly moves the median
within it.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

SAMPLE = 1000
BRACKET = 0.08
"""Fraction of the sample on each side of its median within the bracket."""
CLIP_SIGMA, CLIPS = 3.0, 5
"""As `astropy.stats.SigmaClip` by default."""
SIGMA_PER_DEVIATION = 1.482602218505602
"""Of a Gaussian: its sigma in units of the median distance from its median (astropy's ``mad_std``)."""


def scatter(values: NDArray[np.float32]) -> np.floating:
    """Robust standard deviation of values without NaN, as `astropy.stats.mad_std`."""
    return median(np.abs(values - median(values))) * SIGMA_PER_DEVIATION


def median(values: NDArray[np.float32]) -> np.float32:
    """Return the median of values without NaN, as `numpy.median`."""
    return np.float32(_median(np.ascontiguousarray(values).ravel()))


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
    return _clipped_medians(image, masked, size[0], size[1], fewest)


@njit(cache=True, nogil=True)
def _bracket(values):  # type: ignore[no-untyped-def]
    """Return the sorted values around the median, and how many are below."""
    sample = np.sort(values[:: max(len(values) // SAMPLE, 1)])
    low = sample[int((0.5 - BRACKET) * (len(sample) - 1))]
    high = sample[int(np.ceil((0.5 + BRACKET) * (len(sample) - 1)))]
    count, below = 0, 0
    for value in values:
        below += value < low
        count += low <= value <= high
    middle, count = np.empty(count, values.dtype), 0
    for value in values:
        if low <= value <= high:
            middle[count] = value
            count += 1
    return np.sort(middle), below


@njit(cache=True, nogil=True)
def _middle_of(middle, first, count):  # type: ignore[no-untyped-def]
    """Median of so many sorted values from a place on; the mean of two is that of numpy in single precision."""
    one, other = middle[first + (count - 1) // 2], middle[first + count // 2]
    return one if count % 2 else (one + other) / np.float32(2)


@njit(cache=True, nogil=True)
def _median(values):  # type: ignore[no-untyped-def]
    if len(values) == 0:
        return np.float32(np.nan)
    middle, below = _bracket(values)
    count = len(values)
    if (count - 1) // 2 >= below and count // 2 < below + len(middle):
        return _middle_of(middle, -below, count)
    return _middle_of(np.sort(values), 0, count)


@njit(cache=True, nogil=True)
def _clipped_median(values):  # type: ignore[no-untyped-def]
    """Return the median of what clipping leaves, and how many values that are."""
    middle, below = _bracket(values)
    low, high = -np.inf, np.inf
    lower, upper, before = low, high, -1
    shift = np.float64(middle[0])
    for clip in range(CLIPS + 1):
        total, squares, count, cut = 0.0, 0.0, 0, 0
        for value in values:
            is_in = low <= value <= high
            offset = (value - shift) if is_in else 0.0
            total += offset
            squares += offset * offset
            count += is_in
            cut += value < low
        if count == before or clip == CLIPS:
            break
        before = count
        first = cut - below
        if first + (count - 1) // 2 >= 0 and first + count // 2 < len(middle) and low <= middle[0]:
            one, other = middle[first + (count - 1) // 2], middle[first + count // 2]
        else:
            kept = np.sort(values[(values >= low) & (values <= high)])
            one, other = kept[(count - 1) // 2], kept[count // 2]
        centre = 0.5 * (np.float64(one) + np.float64(other))
        width = CLIP_SIGMA * np.sqrt(max(squares / count - (total / count) ** 2, 0.0))
        lower, upper = centre - width, centre + width
        low, high = max(low, lower), min(high, upper)
    kept = values[(values >= lower) & (values <= upper)]
    return _median(kept), len(kept)


@njit(cache=True, nogil=True)
def _clipped_medians(image, masked, height, width, fewest):  # type: ignore[no-untyped-def]
    rows, columns = -(-image.shape[0] // height), -(-image.shape[1] // width)
    medians, values = np.full((rows, columns), np.float32(np.nan)), np.empty(height * width, np.float32)
    for row in range(rows):
        for column in range(columns):
            count = 0
            for y in range(row * height, min((row + 1) * height, image.shape[0])):
                for x in range(column * width, min((column + 1) * width, image.shape[1])):
                    values[count] = image[y, x]
                    count += not masked[y, x] and np.isfinite(image[y, x])
            if count > 0:
                middle, left = _clipped_median(values[:count])
                if left > fewest:
                    medians[row, column] = middle
    return medians
