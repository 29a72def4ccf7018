"""The mode of a distribution: a Gaussian fitted to the side that sources do not reach."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_ndtr

Floats = NDArray[np.floating]

UPPER_SIGMA = 1.0
LOWER_SIGMA = 3.0
"""The Gaussian is fitted between these distances below and above its centre."""
ITERATIONS = 30


def gaussian_mode(values: Floats) -> tuple[float, float]:
    """Fit a Gaussian to the core of a distribution, the bright side cut short.

    Maximum likelihood of a Gaussian truncated at 3 sigma below and 1 sigma above its centre, iterated until the
    cuts stand still; in pure noise it has no bias, and sources touch little of what it sees. The method is that
    of CEERS's pedestals (Bagley et al. 2023, ApJL 946, L12) without their histogram.

    Parameters
    ----------
    values
        Sample, shape ``(N,)``, finite.

    Returns
    -------
    centre, sigma
        In the sample's unit.
    """
    centre = float(np.median(values))
    sigma = float(1.4826 * np.median(np.abs(values - centre))) or 1e-30
    centre = _half_sample_mode(values)
    below = values[values < centre]
    sigma = float(np.sqrt(np.mean((below - centre) ** 2))) if below.size else sigma
    for _ in range(30):
        low, high = centre - LOWER_SIGMA * sigma, centre + UPPER_SIGMA * sigma
        inside = values[(values > low) & (values < high)]
        moved, width = _truncated_gaussian(inside, low, high, centre, sigma)
        settled = abs(moved - centre) < 1e-4 * sigma and abs(width - sigma) < 1e-3 * sigma
        centre, sigma = moved, width
        if settled:
            break
    return centre, sigma


def _half_sample_mode(values: Floats) -> float:
    """Robust start: the densest half of the densest half ... (Bickel & Fruehwirth 2006), stopped where noise rules."""
    ordered = np.sort(values)
    while ordered.size > 200:
        half = ordered.size // 2
        start = int(np.argmin(ordered[half:] - ordered[: ordered.size - half]))
        ordered = ordered[start : start + half]
        if ordered.size < 0.1 * values.size:
            break
    return float(np.mean(ordered))


def _truncated_gaussian(inside: Floats, low: float, high: float, centre: float, sigma: float) -> tuple[float, float]:
    number, mean, square = inside.size, float(np.mean(inside)), float(np.var(inside))

    def cost(parameters: Floats) -> float:
        m, s = centre + parameters[0] * sigma, sigma * np.exp(parameters[1])
        a, b = (low - m) / s, (high - m) / s
        log_area = log_ndtr(b) + np.log1p(-np.exp(np.minimum(log_ndtr(a) - log_ndtr(b), -1e-12)))
        return float(np.log(s) + (square + (mean - m) ** 2) / (2 * s**2) + log_area)

    if number < 10:
        return centre, sigma
    best = minimize(cost, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-12}).x
    shift, stretch = np.clip(best, [-1.0, -0.5], [1.0, 0.5])
    return centre + shift * sigma, sigma * float(np.exp(stretch))
