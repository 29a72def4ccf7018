"""Errors of a ramp of one group, which the ramp fit cannot know: they are measured."""

from typing import Any

import numpy as np
from astropy.stats import mad_std

from cosmosaic.dq import is_usable

STEP = 2
"""Rows and columns between compared pixels: odd and even columns differ by more than noise, and what is left of 1/f
noise, which rows have in common, counts."""


def measure_errors(rate: Any) -> float | None:
    """Set VAR_RNOISE and ERR of a count rate of one group by the scatter of its pixels.

    With two groups or more, the noise of the reset cancels and the variances are those of the fit. With one, the jwst
    package takes the read noise of a difference of two groups; the count has that of one read, and the noise of the
    reset, which no reference file tells. Pixels close to each other are compared, so that sources hardly count unless
    they crowd, and cosmic rays, which one group cannot show, do not.

    Parameters
    ----------
    rate
        Data model in DN/s; changed.

    Returns
    -------
    float or None
        Measured over assumed read noise; None, and no change, if the pixels scatter less than by their photon noise or
        none can be used.
    """
    usable = is_usable(rate.data, rate.err, rate.dq)
    pairs = usable[STEP:, STEP:] & usable[:-STEP, :-STEP]
    if not pairs.any():
        return None
    differences = (rate.data[STEP:, STEP:] - rate.data[:-STEP, :-STEP])[pairs]
    measured = mad_std(differences) ** 2 / 2 - np.median(rate.var_poisson[usable])
    assumed = np.median(rate.var_rnoise[usable])
    if not (measured > 0 and assumed > 0):
        return None
    rate.var_rnoise = rate.var_rnoise * np.float32(measured / assumed)
    rate.err = np.sqrt(rate.var_poisson + rate.var_rnoise)
    return float(np.sqrt(measured / assumed))
