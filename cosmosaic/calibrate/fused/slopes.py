"""Count rates: the optimally weighted least squares of ``stcal/ramp_fitting/src/slope_fitter.c``.

The weights follow Fixsen et al. (2000, PASP 112, 1350). Segments between cosmic rays are fitted one by one; all
arithmetic is in double precision and in the order of the C code, so the results are equal to the bit.
"""

import ctypes
import ctypes.util
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.calibrate.fused.compiled import (
    DO_NOT_USE,
    JUMP,
    PERSISTENCE,
    SATURATED,
    Flags,
    Image,
    PixelFlags,
    Ramp,
    compiled,
)

LARGE_VARIANCE = 1e6
POWERS = (0.0, 0.4, 1.0, 3.0, 6.0, 10.0)
"""Exponents of the weights by signal to noise, for the limits below."""
SIGNAL_TO_NOISE = (5.0, 10.0, 20.0, 50.0, 100.0)
NO_GAIN_VALUE = np.uint32(pixel["NO_GAIN_VALUE"])

Doubles = NDArray[np.float64]


class Times(NamedTuple):
    """Of the readout, in seconds."""

    frame: float
    group: float
    one_group: float
    """Integration time of a ramp in which only the first group is usable."""


class Detector(NamedTuple):
    """Properties of the pixels, shape ``(ny, nx)`` each."""

    gain: Image
    """Electrons per DN."""
    read_noise: Image
    """Electrons, of one group."""
    dark_current: Image
    """Mean dark current in electrons per second; it adds to the Poisson noise."""


class Rate(NamedTuple):
    """Count rates, shape ``(ny, nx)`` each."""

    sci: Image
    """DN/s."""
    dq: PixelFlags
    var_poisson: Image
    var_rnoise: Image
    err: Image


def readout_times(frame_s: float, group_s: float, nframes: int) -> Times:
    """Return the times as the C code holds them: single precision, except for the last."""
    frame, group = float(np.float32(frame_s)), float(np.float32(group_s))
    return Times(frame, group, (nframes + 1.0) * frame / 2.0)


def read_noise_of_group(read_noise: Image, gain: Image, nframes: int) -> Image:
    """Return the read noise of a group in electrons, given that of the difference of two frames in DN."""
    return (read_noise * (gain / np.sqrt(2.0 * nframes))).astype(np.float32)


def fit_slopes(
    ramp: Ramp, flags: Flags, dq: PixelFlags, zeroframe: Image | None, detector: Detector, times: Times
) -> Rate:
    """Fit the ramp of each pixel.

    Parameters
    ----------
    ramp
        Linear DN, shape ``(groups, ny, nx)``.
    flags
        Flags of the groups.
    dq
        Flags of the pixels.
    zeroframe
        First frame in DN, for pixels without any usable group; zero where it is bad itself.
    detector
        Gain, noise and dark current.
    times
        Of the readout.
    """
    shape = dq.shape
    planes = [np.empty(shape, dtype=np.float32) for _ in range(4)]
    rate = Rate(planes[0], dq.copy(), *planes[1:])
    first = np.zeros(shape, dtype=np.float32) if zeroframe is None else zeroframe
    _fit_pixels(ramp, flags, first, detector, times, _weights(len(ramp)), rate)
    return rate


@lru_cache
def _weights(groups: int) -> Doubles:
    """Weights by the number of groups in a segment, exponent and group; C's powf in single precision."""
    weights = np.zeros((groups + 1, len(POWERS), groups))
    for length in range(3, groups + 1):
        inverse = 1.0 / ((length - 1) / 2.0)
        for group in range(length):
            distance = abs((group - (length - 1) / 2.0) * inverse)
            weights[length, :, group] = [_powf(distance, power) for power in POWERS]
    return weights


def _powf(base: float, power: float) -> float:
    function = ctypes.CDLL(ctypes.util.find_library("m")).powf
    function.restype, function.argtypes = ctypes.c_float, (ctypes.c_float, ctypes.c_float)
    return float(function(base, power))


class _Pixel(NamedTuple):
    """Arrays of one pixel, used again for each."""

    data: Doubles
    flags: Flags
    segments: NDArray[np.int64]
    ordered: Doubles


@compiled
def _fit_pixels(
    ramp: Ramp, flags: Flags, zeroframe: Image, detector: Detector, times: Times, weights: Doubles, rate: Rate
) -> None:
    groups, ny, nx = ramp.shape
    one = _Pixel(
        np.empty(groups), np.empty(groups, dtype=np.uint8), np.empty((groups, 2), dtype=np.int64), np.empty(groups)
    )
    for y in range(ny):
        for x in range(nx):
            for k in range(groups):
                one.flags[k] = flags[k, y, x]
                one.data[k] = np.nan if one.flags[k] & SATURATED else np.float64(ramp[k, y, x])
            gain = np.float64(detector.gain[y, x])
            dq = rate.dq[y, x]
            if gain <= 0 or np.isnan(gain):
                dq |= np.uint32(DO_NOT_USE) | NO_GAIN_VALUE
            pixel_of = (gain, np.float64(detector.read_noise[y, x]), np.float64(detector.dark_current[y, x]))
            values = _fit_pixel(one, dq, np.float64(zeroframe[y, x]), pixel_of, times, weights)
            rate.sci[y, x], rate.dq[y, x] = np.float32(values[0]), values[1]
            rate.var_poisson[y, x], rate.var_rnoise[y, x] = np.float32(values[2]), np.float32(values[3])
            rate.err[y, x] = np.float32(values[4])


@compiled
def _fit_pixel(
    one: _Pixel,
    dq: np.uint32,
    zeroframe: float,
    pixel_of: tuple[float, float, float],
    times: Times,
    weights: Doubles,
) -> tuple[float, np.uint32, float, float, float]:
    """Return slope, flags, the two variances and the error of one pixel (`ramp_fit_pixel`)."""
    data, flags = one.data, one.flags
    groups = len(data)
    good, unusable, saturated = 0, 0, 0
    for flag in flags:
        good += flag == 0
        unusable += flag & (DO_NOT_USE | SATURATED) != 0
        saturated += flag & SATURATED != 0
        dq |= np.uint32(flag & (JUMP | PERSISTENCE))
    lone_time = times.group
    is_lone = False
    if good == 1 and flags[0] == 0:
        lone_time, is_lone = times.one_group, True
    elif good == 0 and zeroframe != 0:
        data[0], flags[0] = zeroframe, 0
        unusable -= 1
        saturated -= groups == saturated
        lone_time, is_lone = times.frame, True

    median = _median_rate(one, times, lone_time, is_lone)
    number = 0
    if flags[0] & SATURATED:
        dq |= np.uint32(DO_NOT_USE | SATURATED)
    else:
        number = _find_segments(flags, one.segments)
    poisson, noise, weighted = 0.0, 0.0, 0.0
    if unusable == groups:
        dq |= np.uint32(DO_NOT_USE)
        if saturated == groups:
            dq |= np.uint32(SATURATED)
    else:
        for k in range(number):
            start, end = one.segments[k]
            slope, var_poisson, var_rnoise = _fit_segment(
                data[start:end], start, median, pixel_of, (times.group, lone_time), weights
            )
            noise += 1.0 / var_rnoise
            if var_poisson > 0:
                poisson += 1.0 / var_poisson
            weighted += slope / var_rnoise
    return _combined(weighted, poisson, noise, dq, saturated > 0)


@compiled
def _combined(
    weighted: float, poisson: float, noise: float, dq: np.uint32, is_saturated: bool
) -> tuple[float, np.uint32, float, float, float]:
    if poisson > 0:
        poisson = 1.0 / poisson
    if poisson >= LARGE_VARIANCE or poisson < 0:
        poisson = 0.0
    if noise > 0:
        noise = 1.0 / noise
    if noise >= LARGE_VARIANCE:
        noise = 0.0
    error = np.sqrt(poisson + noise)
    slope = weighted
    if dq & np.uint32(DO_NOT_USE | SATURATED):
        slope, poisson, noise, error = np.nan, 0.0, 0.0, 0.0
    if is_saturated:
        dq |= np.uint32(SATURATED)
    if not np.isnan(slope):
        slope = slope * noise
    return slope, dq, poisson, noise, error


@compiled
def _median_rate(one: _Pixel, times: Times, lone_time: float, is_lone: bool) -> float:
    """Median of the differences per second, without jumps (`compute_median_rate`)."""
    data, flags, ordered = one.data, one.flags, one.ordered
    groups = len(data)
    if groups == 1:
        return data[0] / times.one_group
    if is_lone:
        rate = data[0] / lone_time
        return 0.0 if np.isnan(rate) else rate
    number = 0
    before = data[0] / times.group
    for k in range(groups - 1):
        after = data[k + 1] / times.group
        difference = after - before
        before = after
        if flags[k + 1] & JUMP or (flags[k] | flags[k + 1]) & DO_NOT_USE or np.isnan(difference):
            continue
        place = number
        while place > 0 and ordered[place - 1] > difference:
            ordered[place] = ordered[place - 1]
            place -= 1
        ordered[place] = difference
        number += 1
    if number == 0:
        first = np.nan if flags[0] & DO_NOT_USE else data[0] / times.group
        return 0.0 if np.isnan(first) else first
    half = number // 2
    return ordered[half] if number % 2 else (ordered[half] + ordered[half - 1]) / 2.0


@compiled
def _find_segments(flags: Flags, segments: NDArray[np.int64]) -> int:
    """Find stretches of good groups, which a jump may begin; return their number.

    Those of one group count only where there is none longer, and then the first alone.
    """
    groups, number, longest, start = len(flags), 0, 0, -1
    for k in range(groups + 1):
        is_good = k < groups and flags[k] & ~PERSISTENCE == 0
        if is_good and start < 0:
            start = k - 1 if k > 0 and flags[k - 1] & ~PERSISTENCE == JUMP else k
        if not is_good and start >= 0:
            segments[number, 0], segments[number, 1] = start, k
            longest = max(longest, k - start)
            number += 1
            start = -1
    if longest < 2:
        return min(number, 1)
    kept = 0
    for k in range(number):
        if segments[k, 1] - segments[k, 0] > 1:
            segments[kept, 0], segments[kept, 1] = segments[k, 0], segments[k, 1]
            kept += 1
    return kept


@compiled
def _fit_segment(
    data: Doubles,
    start: int,
    median: float,
    pixel_of: tuple[float, float, float],
    spent: tuple[float, float],
    weights: Doubles,
) -> tuple[float, float, float]:
    """Return slope and variances of one segment."""
    gain, read_noise, dark_current = pixel_of
    group_time, lone_time = spent
    length = len(data)
    source = median + dark_current if median > 0 else dark_current
    if length == 1:
        noise = read_noise / lone_time
        return data[0] / lone_time, source / (lone_time * gain), 12.0 * noise * noise / (6.0 * gain * gain)
    noise = read_noise / group_time
    if length == 2:
        slope = (data[1] - data[0]) / group_time
        return slope, source / (group_time * gain), 12.0 * noise * noise / (6.0 * gain * gain)
    slope = _weighted_slope(data, start, gain, read_noise, weights) / group_time
    seglen = np.float64(length)
    var_poisson = source / (group_time * gain * (seglen - 1.0))
    if gain <= 0 or np.isnan(gain):
        return slope, var_poisson, 0.0
    var_rnoise = 12.0 * noise * noise / ((seglen * seglen * seglen - seglen) * gain * gain)
    return slope, var_poisson, var_rnoise


@compiled
def _weighted_slope(data: Doubles, start: int, gain: float, read_noise: float, weights: Doubles) -> float:
    length = len(data)
    chosen = weights[length, _power_of(data[length - 1] - data[0], gain, read_noise)]
    inverse_noise = 1.0 / (read_noise * read_noise)
    sumw, sumx, sumxx, sumy, sumxy = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(length):
        weight = chosen[k] * inverse_noise
        x = np.float64(k) + np.float64(start)
        y = data[k]
        if np.isnan(y):
            y = 0.0
        weighted = x * weight
        sumw += weight
        sumx += weighted
        sumxx += x * weighted
        sumy += y * weight
        sumxy += y * weighted
    inverse = 1.0 / (sumw * sumxx - sumx * sumx)
    return (sumw * sumxy - sumx * sumy) * inverse


@compiled
def _power_of(rise: float, gain: float, read_noise: float) -> int:
    """Index of the exponent of the weights for a rise in DN (`segment_snr`, `snr_power`)."""
    variance = read_noise * read_noise + rise * gain
    ratio = 0.0
    if variance > 0 and gain != 0:
        ratio = rise * gain / np.sqrt(variance)
    elif np.isnan(variance):
        ratio = np.nan
    for k in range(len(SIGNAL_TO_NOISE)):
        if ratio < SIGNAL_TO_NOISE[k]:
            return k
    return len(SIGNAL_TO_NOISE)
