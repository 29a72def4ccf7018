"""The ratio of the scatter of a mosaic's pixels to their errors."""

import math
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.stats import mad_std
from numpy.typing import NDArray

from cosmosaic.exposures.planes import Plane, find_planes

SOURCE_SIGMA = 4.0
"""Pixels this far from the sky are left out of its scatter."""
LARGEST_SAMPLE_PIXELS = 4_000_000
"""Rows are sampled evenly so that no more pixels are read, however large the mosaic; the factor is then known to a
thousandth."""


def noise_correlation(sci: NDArray[np.floating], err: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Measure the ratio of the pixels' scatter to their errors.

    In a drizzled mosaic neighbouring pixels share input pixels. Their scatter is smaller than ERR, while sums over
    several pixels scatter as ``sqrt(sum ERR^2)`` (Casertano et al. 2000, AJ 120, 2747, appendix).

    Parameters
    ----------
    sci
        Image without background, shape ``(ny, nx)``.
    err
        Its error map in the same unit.
    mask
        True on sources and where there are no data.

    Returns
    -------
    factor
        Robust standard deviation of ``sci / err``; NaN where everything is masked.
    """
    clear = ~mask
    return float(mad_std(sci[clear] / err[clear])) if clear.any() else float("nan")


def note_noise_factor(path: Path) -> None:
    """Write the factor into the header of a mosaic (``_i2d``), keyword NOISEFAC of SCI.

    Drizzled pixels share light, so their noise is correlated: sky pixels scatter by ERR times this factor, sums over
    many pixels by ERR in quadrature. A mosaic without data is not changed.
    """
    planes = find_planes(path)
    step = -(-math.prod(planes["SCI"].shape) // LARGEST_SAMPLE_PIXELS)
    sci, err = (_sampled(planes[name], step) for name in ("SCI", "ERR"))
    usable = np.isfinite(sci) & (err > 0)
    if not usable.any():
        return
    sky = np.median(sci[usable])
    pulls = np.where(usable, (sci - sky) / err, np.nan)
    sources = ~(np.abs(pulls) < SOURCE_SIGMA * mad_std(pulls[usable]))
    factor = noise_correlation(sci - sky, err, sources)
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus["SCI"].header["NOISEFAC"] = (round(factor, 4), "scatter of the sky / ERR: noise is correlated")


def _sampled(plane: Plane, step: int) -> NDArray[np.float32]:
    """Read evenly spaced rows of a plane."""
    rows = [plane.rows(row, row + 1) for row in range(0, plane.shape[0], step)]
    return np.concatenate(rows).astype(np.float32)
