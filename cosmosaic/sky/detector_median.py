"""A sigma-clipped median for each detector."""

import numpy as np
from astropy.stats import sigma_clip

from cosmosaic.cells.survey import NoSkyError
from cosmosaic.dq import UNUSABLE

CLIP_SIGMA = 3.0
MAXIMUM_ITERATIONS = 25


def clipped_median(data: np.ndarray, dq: np.ndarray) -> float:
    """Return the median of an image after pixels beyond 3 sigma of it are clipped, until none is left.

    Parameters
    ----------
    data
        Surface brightness, shape (ny, nx).
    dq
        JWST data-quality flags, shape (ny, nx); DO_NOT_USE and NON_SCIENCE pixels do not count.

    Raises
    ------
    NoSkyError
        No pixel is usable.
    """
    usable = np.isfinite(data) & ((dq & UNUSABLE) == 0)
    if not usable.any():
        raise NoSkyError("no usable pixel to measure the sky in")
    kept = sigma_clip(
        data[usable].astype(float),
        sigma=CLIP_SIGMA,
        maxiters=MAXIMUM_ITERATIONS,
        cenfunc="median",
        stdfunc="mad_std",
        masked=False,
    )
    return float(np.median(kept))
