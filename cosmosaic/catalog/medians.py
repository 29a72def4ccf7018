"""Medians of many pixels, compiled: those of numpy, and the clipped ones of astropy, to the last bit.

The middle of a sample brackets the median. Only values in the bracket are sorted, and clipping hardly moves the median
within it.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

SAMPLE, SAMPLED = 1000, 100
"""Least size of a sample; of many values one in so many is in it."""
BRACKET_SIGMA = 5.0
"""Half width of the bracket in standard errors of the sample's median."""
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
    sample = np.sort(values[:: max(len(values) // max(SAMPLE, len(values) // SAMPLED), 1)])
    reach = min(BRACKET_SIGMA * 0.5 / np.sqrt(len(sample)), 0.5)
    low = sample[int((0.5 - reach) * (len(sample) - 1))]
    high = sample[int(np.ceil((0.5 + reach) * (len(sample) - 1)))]
    count, below = 0, 0
    for value in values:
        below += value < low
        count += (value >= low) & (value <= high)
    # The last place takes what is not kept: a loop without branches.
    middle, at = np.empty(count + 1, values.dtype), 0
    for value in values:
        middle[at] = value
        at += (value >= low) & (value <= high)
    return np.sort(middle[:count]), below


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


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _sums_within(values, low, high, shift):  # type: ignore[no-untyped-def]
    """Number of values within limits, their sum and that of their squares about a shift, and the number below.

    The sums may be taken in any order, several values at a time: they decide nothing but where to clip.
    """
    total, squares, count, cut = 0.0, 0.0, 0, 0
    for value in values:
        is_in = (value >= low) & (value <= high)
        offset = (value - shift) if is_in else 0.0
        total += offset
        squares += offset * offset
        count += is_in
        cut += value < low
    return count, total, squares, cut


@njit(cache=True, nogil=True)
def _pair(values, middle, below, limits, counts):  # type: ignore[no-untyped-def]
    """Return the two values in the middle of those within limits, given how many are below and within them."""
    cut, count = counts
    first, last = cut - below + (count - 1) // 2, cut - below + count // 2
    if first >= 0 and last < len(middle):
        return middle[first], middle[last]
    kept = np.sort(values[(values >= limits[0]) & (values <= limits[1])])
    return kept[(count - 1) // 2], kept[count // 2]


@njit(cache=True, nogil=True)
def _clipped_median(values):  # type: ignore[no-untyped-def]
    """Return the median of what clipping leaves, and how many values that are."""
    middle, below = _bracket(values)
    low, high = -np.inf, np.inf
    lower, upper, before = low, high, -1
    shift = np.float64(middle[0])
    for clip in range(CLIPS + 1):
        count, total, squares, cut = _sums_within(values, low, high, shift)
        if count == before or clip == CLIPS:
            break
        before = count
        one, other = _pair(values, middle, below, (low, high), (cut, count))
        centre = 0.5 * (np.float64(one) + np.float64(other))
        width = CLIP_SIGMA * np.sqrt(max(squares / count - (total / count) ** 2, 0.0))
        lower, upper = centre - width, centre + width
        low, high = max(low, lower), min(high, upper)
    count, _, _, cut = _sums_within(values, lower, upper, shift)
    if count == 0:
        return np.float32(np.nan), 0
    one, other = _pair(values, middle, below, (lower, upper), (cut, count))
    return one if count % 2 else (one + other) / np.float32(2), count


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
