"""A sigma-clipped median for each detector."""

from typing import Any

import numpy as np
from astropy.stats import sigma_clip
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.exposures import exposure_name

UNUSABLE = pixel["DO_NOT_USE"] | pixel["NON_SCIENCE"]
CLIP_SIGMA = 3.0
MAXIMUM_ITERATIONS = 25


class NoSkyError(RuntimeError):
    """An exposure has no pixel in which the sky could be measured."""


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


def measure_medians(library: Any) -> dict[str, float]:
    """Return the clipped median of each exposure of a `jwst.datamodels.ModelLibrary`, by exposure name."""
    levels = {}
    with library:
        for model in library:
            levels[exposure_name(model.meta.filename)] = clipped_median(model.data, model.dq)
            library.shelve(model, modify=False)
    return levels
