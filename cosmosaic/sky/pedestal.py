"""The level of one detector: the mode of its cells, by a Gaussian fitted to the side that sources do not reach."""

from typing import NamedTuple

import numpy as np
from astropy.stats import mad_std
from numpy.typing import NDArray

from cosmosaic.cells.survey import FEWEST_FOR_LEVEL, CellExposure, CellSurvey, NoSkyError
from cosmosaic.statistics import LOWER_SIGMA, gaussian_mode

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Slopes = tuple[float, float]

EVEN_SPREAD, LEAST_SPREAD = 12.0**-0.5, 0.01
"""Rms distance of cells from their middle along one axis, in widths of a detector: of a whole one, and of a strip."""


class Level(NamedTuple):
    """A sky level and its error, MJy/sr."""

    value: float
    error: float
    slopes: Slopes = (0.0, 0.0)
    """Along the detector's x and y from edge to edge, MJy/sr, of the plane that was taken out to measure it."""
    slope_errors: Slopes = (0.0, 0.0)


def pedestal(exposure: CellExposure, used: Flags, blocks: NDArray[np.int64]) -> Level:
    """Measure the level of a detector.

    A plane, which no mode survives, is taken out first and its mean over the detector put back. A detector that
    sources fill gets the mode of all its cells with an error as large as their scatter: an upper limit in effect,
    which a solution that knows the overlaps will hardly look at.

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
        The exposure has too few usable cells.
    """
    if np.count_nonzero(exposure.usable) < FEWEST_FOR_LEVEL:
        raise NoSkyError(
            f"{exposure.name}: {np.count_nonzero(exposure.usable)} usable cells of 8 by 8 pixels are too few to measure"
            " the sky in; check its DQ extension, or leave the exposure out"
        )
    used = used & exposure.usable
    if np.count_nonzero(used) < FEWEST_FOR_LEVEL:
        centre, error = gaussian_mode(exposure.mean[exposure.usable])
        return Level(centre, error, slope_errors=(error / EVEN_SPREAD, error / EVEN_SPREAD))
    x, y = exposure.from_middle(used)
    values = exposure.mean[used]
    slopes = plane_of(values, x, y)
    flat = values - slopes[0] * x - slopes[1] * y
    centre, sigma = gaussian_mode(flat)
    error = _block_error(flat, blocks[used], centre, sigma)
    # A slope across a narrow strip is not measurable.
    slope_errors = error / np.maximum([x.std(), y.std()], LEAST_SPREAD)
    # The plane is zero in the middle of the exposure's cells, which is where their mean lies.
    return Level(centre, error, _pair(slopes), _pair(slope_errors))


def pedestals(survey: CellSurvey, sources: Flags) -> dict[str, Level]:
    """Measure the level of every exposure.

    Parameters
    ----------
    survey
        Exposures on the lattice.
    sources
        Cells that are not empty sky, shape of the lattice.
    """
    free = ~sources & ~survey.held_out
    return {
        exposure.name: pedestal(exposure, free[exposure.window], survey.blocks(exposure.window))
        for exposure in survey.exposures
    }


def plane_of(values: Floats, x: Floats, y: Floats) -> Floats:
    """Fit slopes along x and y by least squares, cells beyond 2.5 sigma clipped."""
    design = np.stack([x, y, np.ones_like(x)], axis=1)
    kept = np.full(values.shape, True)
    solution = np.zeros(3)
    for _ in range(8):
        solution = np.linalg.lstsq(design[kept], values[kept], rcond=None)[0]
        residual = values - design @ solution
        centre = np.median(residual[kept])
        spread = mad_std(residual[kept])
        kept = np.abs(residual - centre) < 2.5 * spread
    return solution[:2]


def _pair(values: Floats) -> Slopes:
    x, y = values.tolist()
    return x, y


def _block_error(values: Floats, blocks: NDArray[np.int64], centre: float, sigma: float) -> float:
    """Error of the centre from the scatter of the blocks' means, never below that of independent cells."""
    near = np.abs(values - centre) < LOWER_SIGMA * sigma
    number = np.bincount(blocks[near])
    total = np.bincount(blocks[near], values[near] - centre)
    full = number >= 0.25 * max(number.max(), 1)
    formal = sigma / np.sqrt(max(int(near.sum()), 1))
    if np.count_nonzero(full) < 4:
        return 2 * formal
    scatter = mad_std(total[full] / number[full])
    return float(max(scatter / np.sqrt(np.count_nonzero(full)), formal))
