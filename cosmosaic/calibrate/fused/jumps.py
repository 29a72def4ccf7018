"""Cosmic rays: the two-point difference method, `find_crs` of ``stcal.jump.twopoint_difference``."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosmosaic.calibrate.fused.compiled import DO_NOT_USE, JUMP, SATURATED, Flags, Image, Mask, Ramp, compiled

FEWEST_GROUPS = 3
"""With fewer the jump step is skipped."""
SINGLE_PASS_DIFFERENCES = 10
"""With at least this many differences, all jumps of a pixel are found at once."""
NOT_SEARCHED = -99
"""Value of jwst if too many groups are unusable everywhere."""


class Thresholds(NamedTuple):
    """In units of the noise of a difference."""

    normal: float
    three_differences: float
    two_differences: float
    neighbours_above: float
    """The four neighbours of larger jumps are flagged as well."""
    neighbours_below: float


class Noise(NamedTuple):
    """Parameters of the noise of a group."""

    gain: Image
    """Electrons per DN, shape ``(ny, nx)``."""
    read_noise: Image
    """DN, of the difference of two frames, same shape."""
    nframes: int
    """Frames that are averaged into a group."""


def flag_jumps(ramp: Ramp, flags: Flags, noise: Noise, thresholds: Thresholds) -> int:
    """Flag the groups in which a cosmic ray arrived, in place.

    Parameters
    ----------
    ramp
        DN, shape ``(groups, ny, nx)``.
    flags
        Flags of the groups.
    noise
        Of the detector.
    thresholds
        Of a jump.

    Returns
    -------
    int
        Number of jumps, their neighbours aside.
    """
    usable = sum(not _is_unusable(plane) for plane in flags)
    if usable < FEWEST_GROUPS:
        return NOT_SEARCHED
    strong = np.zeros(flags.shape, dtype=np.bool_)
    find = _flag_in_one_pass if usable - 1 >= SINGLE_PASS_DIFFERENCES else _flag_one_by_one
    number = find(ramp, flags, noise, thresholds, strong)
    _flag_neighbours(flags, strong)
    return int(number)


def _is_unusable(flags: Flags) -> bool:
    return bool((flags & DO_NOT_USE).all())


@compiled
def _flag_in_one_pass(ramp: Ramp, flags: Flags, noise: Noise, thresholds: Thresholds, strong: Mask) -> int:
    groups, ny, nx = ramp.shape
    differences, ordered = np.empty(groups - 1), np.empty(groups - 1)
    jumps = np.empty(groups - 1, dtype=np.bool_)
    total = 0
    for y in range(ny):
        for x in range(nx):
            _differences(ramp[:, y, x], flags[:, y, x], noise.gain[y, x], differences)
            median = _median(differences, ordered)
            sigma = _sigma(median, _variance(noise, y, x))
            for k in range(groups - 1):
                jumps[k] = abs(differences[k] - median) / sigma > thresholds.normal and np.isfinite(differences[k])
            total += _mark(differences, jumps, (median, sigma), thresholds, flags[:, y, x], strong[:, y, x])
    return total


@compiled
def _flag_one_by_one(ramp: Ramp, flags: Flags, noise: Noise, thresholds: Thresholds, strong: Mask) -> int:
    groups, ny, nx = ramp.shape
    differences, ordered = np.empty(groups - 1), np.empty(groups - 1)
    left, sizes = np.empty(groups - 1), np.empty(groups - 1)
    jumps = np.empty(groups - 1, dtype=np.bool_)
    total = 0
    for y in range(ny):
        for x in range(nx):
            variance = _variance(noise, y, x)
            _differences(ramp[:, y, x], flags[:, y, x], noise.gain[y, x], differences)
            left[:] = np.abs(differences)
            if _find_one_by_one(left, variance, thresholds, sizes, ordered, jumps):
                median = _median(differences, ordered)
                found = (median, _sigma(median, variance))
                total += _mark(differences, jumps, found, thresholds, flags[:, y, x], strong[:, y, x])
    return total


@compiled
def _variance(noise: Noise, y: int, x: int) -> float:
    """Variance of a difference by read noise, electrons squared."""
    electrons = noise.read_noise[y, x] * noise.gain[y, x]
    return np.float64(electrons * electrons) / noise.nframes


@compiled
def _mark(
    differences: NDArray[np.float64],
    jumps: Mask,
    expected: tuple[float, float],
    thresholds: Thresholds,
    flags: Flags,
    strong: Mask,
) -> int:
    """Flag jumps, and those among them whose neighbours are flagged as well; return their number."""
    median, sigma = expected
    number = 0
    for k in range(len(jumps)):
        if jumps[k]:
            number += 1
            flags[k + 1] |= JUMP
            size = abs(differences[k] - median) / sigma
            strong[k + 1] = thresholds.neighbours_above < size < thresholds.neighbours_below
    return number


@compiled
def _differences(ramp: Image, flags: Flags, gain: np.float32, differences: NDArray[np.float64]) -> None:
    """Differences of successive groups in electrons, in single precision; NaN where one is flagged."""
    for k in range(len(differences)):
        if (flags[k] | flags[k + 1]) & (DO_NOT_USE | SATURATED):
            differences[k] = np.nan
        else:
            differences[k] = np.float64(ramp[k + 1] * gain - ramp[k] * gain)


@compiled
def _sigma(median: float, variance: float) -> float:
    """Noise of a difference; NaN, which no jump exceeds, where there is none."""
    sigma = np.sqrt(abs(median) + variance)
    return np.nan if sigma == 0 else sigma


@compiled
def _find_one_by_one(
    left: NDArray[np.float64],
    variance: float,
    thresholds: Thresholds,
    sizes: NDArray[np.float64],
    ordered: NDArray[np.float64],
    jumps: Mask,
) -> bool:
    """Find the largest jump and leave it out, as long as it exceeds the threshold for the remaining differences.

    Returns whether there is any.
    """
    for step in range(len(left)):
        median, usable = _median_of_smaller(left, ordered)
        if step > 0:
            # jwst keeps the medians of all passes but the first in single precision.
            median = np.float64(np.float32(median))
        sigma = _sigma(median, variance)
        largest = -np.inf
        for k in range(len(left)):
            sizes[k] = np.float64(abs(np.float32(left[k] - median))) / sigma
            if sizes[k] > largest:
                largest = sizes[k]
        if not largest > _threshold(usable, thresholds):
            return step > 0
        if step == 0:
            jumps[:] = False
        for k in range(len(left)):
            if sizes[k] == largest:
                jumps[k] = True
                left[k] = np.nan
    return True


@compiled
def _threshold(usable: int, thresholds: Thresholds) -> float:
    if usable >= 4:
        return thresholds.normal
    if usable == 3:
        return thresholds.three_differences
    return thresholds.two_differences if usable == 2 else np.inf


@compiled
def _median_of_smaller(sizes: NDArray[np.float64], ordered: NDArray[np.float64]) -> tuple[float, int]:
    """Median of all but the largest of four or more sizes, of three, or the smaller of two (`calc_med_first_diffs`)."""
    number = _sort(sizes, ordered)
    if number < 2:
        return np.nan, number
    if number == 2:
        return ordered[0], number
    if number == 3:
        return ordered[1], number
    smaller = number - 1
    while smaller > 0 and ordered[smaller - 1] == ordered[number - 1]:
        smaller -= 1
    return _middle(ordered, smaller), number


@compiled
def _median(values: NDArray[np.float64], ordered: NDArray[np.float64]) -> float:
    return _middle(ordered, _sort(values, ordered))


@compiled
def _middle(ordered: NDArray[np.float64], number: int) -> float:
    if number == 0:
        return np.nan
    half = number // 2
    return ordered[half] if number % 2 else (ordered[half - 1] + ordered[half]) / 2


@compiled
def _sort(values: NDArray[np.float64], ordered: NDArray[np.float64]) -> int:
    """Put the values that are not NaN in order; return their number."""
    number = 0
    for value in values:
        if np.isnan(value):
            continue
        place = number
        while place > 0 and ordered[place - 1] > value:
            ordered[place] = ordered[place - 1]
            place -= 1
        ordered[place] = value
        number += 1
    return number


@compiled
def _flag_neighbours(flags: Flags, strong: Mask) -> None:
    groups, ny, nx = strong.shape
    for group in range(groups):
        for y in range(ny):
            for x in range(nx):
                if strong[group, y, x]:
                    for j, i in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                        if 0 <= j < ny and 0 <= i < nx and not flags[group, j, i] & (SATURATED | DO_NOT_USE):
                            flags[group, j, i] |= JUMP
