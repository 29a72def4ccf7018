"""Slow stripes of single exposures, from the difference between an exposure and the stack of all others.

Light on the sky cancels in that difference, so the halo of a galaxy is never subtracted; light common to all exposures
stays. The alternation of stacking and correcting is the destriping of microwave maps (Delabrouille 1998, A&AS 127,
555). It finds drifts that are too slow for `cosmosaic.artefacts.flicker`, which cannot distinguish them from sky.
"""

import numpy as np
from numpy.typing import NDArray

from cosmosaic.cells.survey import CellExposure, CellSurvey, differences, without_patterns
from cosmosaic.exposures.patterns import Patterns

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

BIN_PIXELS = 32
"""Rows of the detector that share one value."""
ITERATIONS = 10
CLIP_SIGMA = 4.0
FEWEST_CELLS = 10


def destripe(survey: CellSurvey, levels: dict[str, float], cells: Flags) -> tuple[CellSurvey, Patterns]:
    """Subtract stripes along rows from the exposures' cells.

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
        The exposures without stripes, with the same mean levels.
    stripes
        Stripes subtracted from each exposure, MJy/sr, in bins of 32 rows.
    """
    stripes: dict[str, Floats] = {each.name: np.zeros(_number_of_bins(each)) for each in survey.exposures}
    levels = dict(levels)
    for _ in range(ITERATIONS):
        # No name for the exposures without stripes: those of the next pass take their room.
        for exposure, excess, noise, used in differences(without_patterns(survey, _nodes(stripes)), levels, cells):
            change, shift = _stripes(excess, noise, used, _row_bins(exposure), stripes[exposure.name].size)
            stripes[exposure.name] += change
            levels[exposure.name] += 0.5 * shift
    return without_patterns(survey, _nodes(stripes)), _nodes(stripes)


def _nodes(stripes: dict[str, Floats]) -> Patterns:
    return {name: [values[:, None]] for name, values in stripes.items()}


def _number_of_bins(exposure: CellExposure) -> int:
    return max(1, exposure.detector_rows // BIN_PIXELS)


def _row_bins(exposure: CellExposure) -> NDArray[np.int64]:
    _, y = exposure.detector_position
    bins = _number_of_bins(exposure)
    return np.clip(np.where(exposure.usable, (y + 0.5) * bins, 0), 0, bins - 1).astype(np.int64)


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
