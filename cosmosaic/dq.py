"""Usable pixels of an exposure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels.dqflags import pixel

UNUSABLE = pixel["DO_NOT_USE"] | pixel["NON_SCIENCE"]
"""Pixels that jwst's resample step leaves out (its ``GOOD_BITS``)."""

LARGEST_COUNT_DN = 65535.0
"""Largest count of a 16-bit converter in one frame, DN."""
SHORTEST_FRAME_S, LARGEST_CONVERSION = 0.01, 100.0
"""Defaults of headers without values: less than any subarray needs, and more MJy/sr per DN/s than any filter has."""
BRIGHTNESS_MARGIN = 10.0
"""Room for what multiplies counts after the converter: linearity, gain and flat field."""
SMALLEST_VARIANCE_RATIO = 1e-4
"""Of read noise, to its median. A ramp of two groups beside those of twenty, NIRCam's longest, has 1300 times their
variance (it goes with the cube of the length); the read noise itself differs between pixels by a factor of few."""
LARGEST_NEGATIVE_SIGMA = 1000.0
"""How far below an exposure's faintest hundredth a pixel may lie, in its own errors: dark current and bias that are
subtracted in excess reach some dozens."""
FAINTEST_PERCENT = 1.0
SAMPLED_PIXELS = 1 << 18

FloatImage = NDArray[np.floating]


def is_usable(
    data: NDArray[np.floating], err: NDArray[np.floating], dq: NDArray[np.unsignedinteger]
) -> NDArray[np.bool_]:
    """Find which pixels have a value and an error, and are not flagged DO_NOT_USE or NON_SCIENCE."""
    return np.isfinite(data) & np.isfinite(err) & (err > 0) & ((dq & UNUSABLE) == 0)


def border(shape: tuple[int, ...], width: int) -> NDArray[np.bool_]:
    """Pixels within some pixels of an image's edge."""
    edge = np.ones(shape, dtype=bool)
    edge[width : shape[0] - width, width : shape[1] - width] = False
    return edge


def largest_brightness(frame_time_s: object, conversion: object) -> float:
    """Return the surface brightness in MJy/sr that no pixel can have: the converter's range in one frame, with margin.

    Parameters
    ----------
    frame_time_s
        Time of one frame in seconds (TFRAME).
    conversion
        MJy/sr per DN/s (PHOTMJSR). Anything but a positive number is replaced by NIRCam's most extreme value.
    """
    frame = _positive(frame_time_s, SHORTEST_FRAME_S)
    return BRIGHTNESS_MARGIN * LARGEST_COUNT_DN / frame * _positive(conversion, LARGEST_CONVERSION)


def implausible(sci: FloatImage, err: FloatImage, variances: Sequence[FloatImage], largest: float) -> NDArray[np.bool_]:
    """Return the pixels with values that no detector can produce, however bright the light or deep the noise.

    Infinite values; brightness or errors beyond ``largest``; a value a thousand of its own errors below the faintest
    hundredth of the exposure; errors and variances of read noise that are not positive, or ten thousand times
    smaller in the square than the exposure's read noise; negative variances. NaN means that there is no value, and
    is never implausible.

    Parameters
    ----------
    sci, err
        Surface brightness and its error, MJy/sr, shape ``(ny, nx)``.
    variances
        Variance of read noise first, then any others, (MJy/sr)**2; none if they are unknown.
    largest
        From `largest_brightness`.
    """
    least = SMALLEST_VARIANCE_RATIO * _level(variances[0], 50.0, 0.0) if variances else 0.0
    floor = min(0.0, _level(sci, FAINTEST_PERCENT, -largest))
    # Limits in the precision of the planes, as numpy compares them; beyond its range they are infinite.
    with np.errstate(over="ignore"):
        limits = Limits(*np.array([largest, largest**2, floor, least], dtype=sci.dtype))
    found = np.zeros(sci.shape, dtype=bool)
    _find_bad_brightness(sci, err, limits, found)
    for number, variance in enumerate(variances):
        _find_bad_variance(variance, limits, number == 0, found)
    return found


class Limits(NamedTuple):
    """Values beyond which pixels are implausible."""

    largest: np.floating
    """Brightness and error."""
    largest_variance: np.floating
    faintest: np.floating
    """Brightness, apart from the pixel's error."""
    least_variance: np.floating
    """Of read noise, and of the whole error."""


@njit(cache=True, nogil=True)
def _find_bad_brightness(sci: FloatImage, err: FloatImage, limits: Limits, found: NDArray[np.bool_]) -> None:
    sigmas = err.dtype.type(LARGEST_NEGATIVE_SIGMA)
    for j in range(sci.shape[0]):
        for i in range(sci.shape[1]):
            value, error = sci[j, i], err[j, i]
            # Without branches, so that several pixels are compared at once.
            found[j, i] |= (abs(value) > limits.largest) | (value < limits.faintest - sigmas * error)
            found[j, i] |= (error <= 0) | (error > limits.largest) | (error * error < limits.least_variance)


@njit(cache=True, nogil=True)
def _find_bad_variance(variance: FloatImage, limits: Limits, is_read_noise: bool, found: NDArray[np.bool_]) -> None:
    for j in range(variance.shape[0]):
        for i in range(variance.shape[1]):
            value = variance[j, i]
            found[j, i] |= (value < 0) | (value > limits.largest_variance)
            found[j, i] |= is_read_noise & ((value <= 0) | (value < limits.least_variance))


def implausible_in(model: Any) -> NDArray[np.bool_]:
    """Return the pixels of a `jwst.datamodels.ImageModel` with impossible values, regardless of its flags."""
    largest = largest_brightness(model.meta.exposure.frame_time, model.meta.photometry.conversion_megajanskys)
    variances = [] if model.var_rnoise is None else [native(model.var_rnoise)]
    return implausible(native(model.data), native(model.err), variances, largest)


def native(plane: NDArray[Any]) -> NDArray[Any]:
    """Return a plane in the machine's own byte order, which compiled functions need; a copy where it is in another."""
    return np.asarray(plane, dtype=plane.dtype.newbyteorder("="))


def _level(plane: FloatImage, percent: float, lowest: float) -> float:
    """Percentile of the finite values above a limit, from an even sample; 0 where there are none."""
    step = max(1, int(np.sqrt(plane.size / SAMPLED_PIXELS)))
    sample = plane[::step, ::step]
    sample = sample[np.isfinite(sample) & (sample > lowest)]
    return float(np.percentile(sample, percent)) if sample.size else 0.0


def _positive(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value < np.inf else default
