"""The level of one detector: the mode of its cells, by a Gaussian fitted to the side that sources do not reach."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_ndtr

from cosmosaic.sky.cells import CellSurvey, Exposure, NoSkyError

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

UPPER_SIGMA = 1.0
LOWER_SIGMA = 3.0
"""The Gaussian is fitted between these distances below and above its centre."""
FEWEST_CELLS = 50


class Level(NamedTuple):
    """A sky level and its error, MJy/sr."""

    value: float
    error: float


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


def pedestal(exposure: Exposure, used: Flags, blocks: NDArray[np.int64]) -> Level:
    """Measure the level of a detector.

    A plane, which no mode survives, is taken out first and its mean over the detector put back.

    Parameters
    ----------
    exposure
        The detector.
    used
        Source-free cells, shape of the exposure.
    blocks
        Number of the block of each cell, same shape; the scatter between blocks gives the error.

    Raises
    ------
    NoSkyError
        Too few cells are free of sources.
    """
    used = used & exposure.usable
    if np.count_nonzero(used) < FEWEST_CELLS:
        raise NoSkyError(
            f"{exposure.name}: {np.count_nonzero(used)} cells of {exposure.usable.sum()} are free of sources, too few"
            " for a pedestal; use a method that looks at the overlaps, or a table of your own"
        )
    x, y = exposure.detector_position
    values, x, y = exposure.mean[used], x[used], y[used]
    slopes = _plane(values, x, y)
    centre, sigma = gaussian_mode(values - slopes[0] * x - slopes[1] * y)
    error = _block_error(values - slopes[0] * x - slopes[1] * y, blocks[used], centre, sigma)
    # The plane is zero in the detector's middle, which is where a whole detector's mean lies.
    return Level(centre, error)


def pedestals(survey: CellSurvey, sources: Flags) -> dict[str, Level]:
    """Measure the level of every exposure.

    Parameters
    ----------
    survey
        Exposures on the lattice.
    sources
        Cells that are no empty sky, shape of the lattice.
    """
    free = ~sources & ~survey.held_out
    return {
        exposure.name: pedestal(exposure, free[exposure.window], survey.blocks[exposure.window])
        for exposure in survey.exposures
    }


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


def _plane(values: Floats, x: Floats, y: Floats) -> Floats:
    """Slopes along x and y by least squares, cells beyond 2.5 sigma of it clipped."""
    design = np.stack([x, y, np.ones_like(x)], axis=1)
    kept = np.full(values.shape, True)
    solution = np.zeros(3)
    for _ in range(8):
        solution = np.linalg.lstsq(design[kept], values[kept], rcond=None)[0]
        residual = values - design @ solution
        centre = np.median(residual[kept])
        spread = 1.4826 * np.median(np.abs(residual[kept] - centre))
        kept = np.abs(residual - centre) < 2.5 * spread
    return solution[:2]


def _block_error(values: Floats, blocks: NDArray[np.int64], centre: float, sigma: float) -> float:
    """Error of the centre from the scatter of the blocks' means, never below that of independent cells."""
    near = np.abs(values - centre) < LOWER_SIGMA * sigma
    number = np.bincount(blocks[near])
    total = np.bincount(blocks[near], values[near] - centre)
    full = number >= 0.25 * max(number.max(), 1)
    formal = sigma / np.sqrt(max(int(near.sum()), 1))
    if np.count_nonzero(full) < 4:
        return 2 * formal
    scatter = 1.4826 * np.median(np.abs(total[full] / number[full] - np.median(total[full] / number[full])))
    return float(max(scatter / np.sqrt(np.count_nonzero(full)), formal))
