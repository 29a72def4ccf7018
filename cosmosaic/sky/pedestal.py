"""The level of one detector: the mode of its cells, by a Gaussian fitted to the side that sources do not reach."""

from typing import NamedTuple

import numpy as np
from astropy.stats import mad_std
from numba import njit
from numpy.typing import NDArray

from cosmosaic.cells.survey import FEWEST_FOR_LEVEL, CellExposure, CellSurvey, NoSkyError
from cosmosaic.statistics import LOWER_SIGMA, gaussian_mode

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Slopes = tuple[float, float]

EVEN_SPREAD, LEAST_SPREAD = 12.0**-0.5, 0.01
"""Rms distance of cells from their middle along one axis, in widths of a detector: of a whole one, and of a strip."""

CLIPS, CLIP_SIGMA = 8, 2.5
"""Of the cells that a plane is fitted to."""
SIGMA_PER_DEVIATION = 1.482602218505602
"""Of a Gaussian: its sigma in units of the median distance from its median (`astropy.stats.mad_std`)."""
LEAST_DETERMINED = 1e-8
"""Square of the spread of cells, in widths of a detector, and part of it across their line, below which slopes are not
determined by sums in double precision."""


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
    kept = np.full(values.shape, True)
    for _ in range(CLIPS):
        plane = _fit_plane(values, x, y, kept)
        if np.isnan(plane).any():
            # Cells in one line tell one slope: the smallest of those that fit.
            design = np.stack([x, y, np.ones_like(x)], axis=1)
            plane = np.linalg.lstsq(design[kept], values[kept], rcond=None)[0]
        before, kept = kept, _unclipped(values, x, y, plane, kept)
        if np.array_equal(kept, before):
            break
    return plane[:2]


@njit(cache=True, nogil=True)
def _fit_plane(values: Floats, x: Floats, y: Floats, kept: Flags) -> Floats:
    """Slopes and level of the plane through the kept cells; NaN if they do not determine it."""
    number, mean, x0, y0 = 0, 0.0, 0.0, 0.0
    for cell in range(values.size):
        if kept[cell]:
            number += 1
            mean += values[cell]
            x0 += x[cell]
            y0 += y[cell]
    if number < 3:
        return np.full(3, np.nan)
    mean, x0, y0 = mean / number, x0 / number, y0 / number
    xx, xy, yy, xv, yv = 0.0, 0.0, 0.0, 0.0, 0.0
    for cell in range(values.size):
        if kept[cell]:
            value, along_x, along_y = values[cell] - mean, x[cell] - x0, y[cell] - y0
            xx += along_x * along_x
            xy += along_x * along_y
            yy += along_y * along_y
            xv += along_x * value
            yv += along_y * value
    determinant = xx * yy - xy * xy
    if min(xx, yy) < number * LEAST_DETERMINED or determinant < LEAST_DETERMINED * xx * yy:
        return np.full(3, np.nan)
    slope_x, slope_y = (yy * xv - xy * yv) / determinant, (xx * yv - xy * xv) / determinant
    return np.array([slope_x, slope_y, mean - slope_x * x0 - slope_y * y0])


@njit(cache=True, nogil=True)
def _unclipped(values: Floats, x: Floats, y: Floats, plane: Floats, kept: Flags) -> Flags:
    """Cells within 2.5 sigma of a plane, the sigma that of the kept ones."""
    residual = values - plane[0] * x - plane[1] * y - plane[2]
    own = residual[kept]
    if own.size == 0:
        return np.zeros(kept.shape, dtype=np.bool_)
    centre = np.median(own)
    spread = SIGMA_PER_DEVIATION * np.median(np.abs(own - centre))
    return np.abs(residual - centre) < CLIP_SIGMA * spread


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
