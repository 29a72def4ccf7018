"""Light that is more concentrated than a point source's: cosmic rays and bad pixels, not sources of the sky."""

import numpy as np
from numpy.typing import NDArray

from cosmosaic.catalog.apertures import find_peaks
from cosmosaic.catalog.psf import Psf

SHARPER = 1.3
"""Times the peak of a point source in the middle of a pixel: PSFs are not known better."""
SURE_SIGMA = 3.0
HALF_WIDTH = 2
"""Of the box around the peak whose light the peak is compared with, in pixels."""


def are_sharp(
    residual: NDArray[np.float32],
    err: NDArray[np.float32],
    valid: NDArray[np.bool_],
    segments: NDArray[np.integer],
    labels: NDArray[np.integer],
    psf: Psf,
) -> NDArray[np.bool_]:
    """Find sources of which the brightest pixel has more of the light around it than a point source's could have.

    Parameters
    ----------
    residual, err
        Surface brightness without background and its standard error, shape ``(ny, nx)``.
    valid
        True where there are data, same shape.
    segments
        Labels of the sources, 0 on the sky, same shape.
    labels
        Of the sources to look at, shape ``(n,)``.
    psf
        The PSF on the same pixels.

    Returns
    -------
    sharp
        Shape ``(n,)``; False where the light around the peak is not above its noise, or reaches pixels without data.
    """
    middle = len(psf.image) // 2
    box = np.s_[max(middle - HALF_WIDTH, 0) : middle + HALF_WIDTH + 1]
    most = psf.image[middle, middle] / psf.image[box, box].sum()
    peaks = find_peaks(residual, segments.astype(np.int32, copy=False), labels)
    steps = np.arange(-HALF_WIDTH, HALF_WIDTH + 1)
    rows, columns = peaks.row[:, None, None] + steps[:, None], peaks.column[:, None, None] + steps
    height, width = residual.shape
    inside = ((rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)).all(axis=(1, 2))
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    inside &= valid[rows, columns].all(axis=(1, 2))
    light, variance = residual[rows, columns].sum(axis=(1, 2)), (err[rows, columns] ** 2).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = peaks.value / light
        own = err[peaks.row, peaks.column] ** 2
        # The peak is part of the light: of both only what lies around it is independent.
        error = np.sqrt((1.0 - share) ** 2 * own + share**2 * (variance - own)) / light
    shown = inside & np.isfinite(light) & (light > SURE_SIGMA * np.sqrt(variance))
    return np.asarray(shown & (share - SURE_SIGMA * error > SHARPER * most))
