"""Statistics that sources and cosmic rays hardly touch: the mode of a distribution, the scatter about zero."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

UPPER_SIGMA = 1.0
LOWER_SIGMA = 3.0
"""The Gaussian is fitted between these distances below and above its centre."""
CUT_MEAN, CUT_VARIANCE = -0.2827861107271541, 0.6161417353578291
"""Moments of a Gaussian of sigma 1 between them, by `scipy.stats.truncnorm`, which takes long to import."""
ITERATIONS = 500
TOLERANCE_SIGMA = 1e-5

SIGMA_PER_MEDIAN_DEVIATION = 1.4826
"""Of a Gaussian: its sigma in units of the median distance from its centre."""


def gaussian_mode(values: Floats) -> tuple[float, float]:
    """Fit a Gaussian to the core of a distribution, the bright side cut short.

    Maximum likelihood of a Gaussian truncated at 3 sigma below and 1 sigma above its centre, iterated until the
    cuts converge; in pure noise it has no bias, and sources hardly affect the fitted part. For a Gaussian, maximum
    likelihood means that mean and variance between the cuts are the expected ones. The use of a Gaussian's core as a
    pedestal is that of CEERS (Bagley et al. 2023, ApJL 946, L12).

    Parameters
    ----------
    values
        Sample, shape ``(N,)``, finite.

    Returns
    -------
    centre, sigma
        In the sample's unit.
    """
    ordered = np.sort(values.astype(np.float64))
    offset = float(_half_sample_mode(ordered))
    ordered -= offset
    sums, squares = (np.concatenate([[0.0], np.cumsum(power)]) for power in (ordered, ordered**2))
    below = int(np.searchsorted(ordered, 0.0))
    centre, sigma = 0.0, float(np.sqrt(squares[below] / max(below, 1)))
    for _ in range(ITERATIONS):
        cuts = (centre - LOWER_SIGMA * sigma, centre + UPPER_SIGMA * sigma)
        first, last = np.searchsorted(ordered, cuts)
        number = int(last - first)
        if number < 2 or sigma == 0:
            break
        mean = (sums[last] - sums[first]) / number
        variance = (squares[last] - squares[first]) / number - mean**2
        width = float(np.clip(np.sqrt(max(variance, 0.0) / CUT_VARIANCE), 0.5 * sigma, 2 * sigma))
        moved = float(mean - CUT_MEAN * width)
        settled = abs(moved - centre) + abs(width - sigma) < TOLERANCE_SIGMA * sigma
        centre, sigma = moved, width
        if settled:
            break
    return centre + offset, sigma


def scatter_about_zero(values: Floats) -> float:
    """Return the sigma of a Gaussian centred on zero from the median of absolute values.

    Unlike `astropy.stats.mad_std`, which measures from the sample's own median, this is for values centred on zero by
    construction, such as residuals from a background.

    Parameters
    ----------
    values
        Sample of any shape; NaN does not count.
    """
    return float(SIGMA_PER_MEDIAN_DEVIATION * np.nanmedian(np.abs(values)))


def _half_sample_mode(ordered: Floats) -> float:
    """Robust start: the densest half of the densest half (Bickel & Fruehwirth 2006), to a tenth of the sample."""
    smallest = max(200, ordered.size // 10)
    while ordered.size > smallest:
        half = ordered.size // 2
        start = int(np.argmin(ordered[half:] - ordered[: ordered.size - half]))
        ordered = ordered[start : start + half]
    return float(np.mean(ordered))
