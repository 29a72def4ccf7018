"""Slow stripes of single exposures, from what differs between an exposure and the stack of all others.

Light on the sky cancels in that difference, so what is taken out of an exposure cannot be a galaxy's halo; what all
exposures have in common stays. The alternation of stacking and correcting is the destriping of microwave maps
(Delabrouille 1998, A&AS 127, 555). It sees the drifts that are too slow for `cosmosaic.sky.flicker`, where they
cannot be told from the sky.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cosmosaic.sky.cells import CellSurvey, Exposure, stack_sums

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

BIN_PIXELS = 32
"""Rows of the detector that share one value."""
ITERATIONS = 10
CLIP_SIGMA = 4.0
FEWEST_CELLS = 10


def destripe(survey: CellSurvey, levels: dict[str, float], cells: Flags) -> tuple[CellSurvey, dict[str, Floats]]:
    """Take stripes along rows out of the exposures' cells.

    Parameters
    ----------
    survey
        Exposures on the lattice.
    levels
        First guess of each exposure's level, MJy/sr.
    cells
        Cells that may be used, shape of the lattice: without the cores of sources, which do not cancel.

    Returns
    -------
    survey
        The exposures without stripes; their mean levels are what they were.
    stripes
        What was taken out of each exposure, MJy/sr, in bins of 32 rows from the first.
    """
    rows = {exposure.name: _row_bins(exposure) for exposure in survey.exposures}
    stripes: dict[str, Floats] = {name: np.zeros(int(bins.max()) + 1) for name, bins in rows.items()}
    levels = dict(levels)
    for _ in range(ITERATIONS):
        current = _without(survey, stripes, rows)
        total, weights = stack_sums(current, levels)
        for exposure in current.exposures:
            own = np.where(exposure.usable, exposure.pixels / exposure.pixel_rms**2, 0.0)
            rest = weights[exposure.window] - own
            cleared = np.where(exposure.usable, exposure.mean - levels[exposure.name], 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                others = (total[exposure.window] - own * cleared) / rest
                noise = np.sqrt(exposure.variance + 1.0 / rest)
            used = exposure.usable & (rest > 0.5 * own) & cells[exposure.window]
            change, shift = _stripes(cleared - others, noise, used, rows[exposure.name], stripes[exposure.name].size)
            stripes[exposure.name] += change
            levels[exposure.name] += 0.5 * shift
    return _without(survey, stripes, rows), stripes


def stripe_image(stripes: Floats, usable: Flags) -> Floats:
    """Spread stripes over an exposure's pixels, linear between the bins, with zero mean over the usable ones."""
    centres = (np.arange(stripes.size) + 0.5) * BIN_PIXELS - 0.5
    column = np.interp(np.arange(usable.shape[0]), centres, stripes)
    pattern = np.broadcast_to(column[:, None], usable.shape)
    return (pattern - pattern[usable].mean()).astype(np.float32)


def _row_bins(exposure: Exposure) -> NDArray[np.int64]:
    _, y = exposure.detector_position
    step = BIN_PIXELS / exposure.detector_rows
    return np.where(exposure.usable, np.nan_to_num((y + 0.5) / step), 0).astype(np.int64)


def _stripes(residual: Floats, noise: Floats, used: Flags, rows: NDArray[np.int64], size: int) -> tuple[Floats, float]:
    """Stripes in a residual, shrunk by their noise, with zero mean; and the mean that was left out."""
    if not used.any():
        return np.zeros(size), 0.0
    centre = float(np.median(residual[used]))
    used = used & (np.abs(residual - centre) < CLIP_SIGMA * noise * 1.5)
    number = np.bincount(rows[used], minlength=size)
    enough = number >= FEWEST_CELLS
    if np.count_nonzero(enough) < 3:
        return np.zeros(size), 0.0
    shift = float(residual[used].mean())
    mean = np.bincount(rows[used], residual[used] - shift, minlength=size) / np.maximum(number, 1)
    own = np.bincount(rows[used], noise[used] ** 2, minlength=size) / np.maximum(number, 1) ** 2
    signal = max(float(np.mean(mean[enough] ** 2 - own[enough])), 0.0)
    change = np.where(enough, mean * signal / np.maximum(signal + own, 1e-30), 0.0)
    return change, shift


def _without(survey: CellSurvey, stripes: dict[str, Floats], rows: dict[str, NDArray[np.int64]]) -> CellSurvey:
    exposures = []
    for exposure in survey.exposures:
        pattern = stripes[exposure.name][rows[exposure.name]]
        weight = exposure.pixels
        pattern = pattern - float(np.sum(pattern * weight) / np.sum(weight))
        exposures.append(replace(exposure, mean=exposure.mean - pattern))
    return CellSurvey(survey.grid, tuple(exposures))
