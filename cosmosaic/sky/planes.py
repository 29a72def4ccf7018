"""Planes of single exposures, from what differs between an exposure and the stack of all others.

As for stripes (`cosmosaic.sky.stripes`), light on the sky cancels in the difference, and a gradient that all exposures
share stays. SWarp's and Montage's matching of planes over overlaps is the same least-squares problem; here the
alternation of stacking and correcting solves it.
"""

import numpy as np
from numpy.typing import NDArray

from cosmosaic.sky.cells import CellSurvey, Difference, differences
from cosmosaic.sky.patterns import Patterns, without_patterns

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

ITERATIONS = 10
CLIP_SIGMA = 4.0
FEWEST_CELLS = 100


def detilt(survey: CellSurvey, levels: dict[str, float], cells: Flags) -> tuple[CellSurvey, Patterns]:
    """Take planes out of the exposures' cells.

    Parameters
    ----------
    survey
        Exposures on the lattice.
    levels
        First guess of each exposure's level, MJy/sr.
    cells
        Cells that may be used, shape of the lattice.

    Returns
    -------
    survey
        The exposures without planes; their mean levels are what they were.
    planes
        What was taken out of each exposure, MJy/sr.
    """
    slopes: dict[str, Floats] = {name: np.zeros(2) for name in survey.names}
    for _ in range(ITERATIONS):
        current = without_patterns(survey, _nodes(slopes))
        for difference in differences(current, levels, cells):
            slopes[difference.exposure.name] += _slopes(difference)
    return without_patterns(survey, _nodes(slopes)), _nodes(slopes)


def _nodes(slopes: dict[str, Floats]) -> Patterns:
    """Values a quarter of the detector from its middle, shape (2, 2)."""
    ends = np.array([-0.25, 0.25])
    return {name: [ends * along_x + ends[:, None] * along_y] for name, (along_x, along_y) in slopes.items()}


def _slopes(difference: Difference) -> Floats:
    """Slopes along x and y over the detector's width, each shrunk by its noise."""
    exposure, excess, noise, used = difference
    if np.count_nonzero(used) < FEWEST_CELLS:
        return np.zeros(2)
    used = used & (np.abs(excess - np.median(excess[used])) < CLIP_SIGMA * noise * 1.5)
    design = np.stack([np.ones(np.count_nonzero(used)), *(position[used] for position in exposure.detector_position)])
    covariance = np.linalg.inv(design @ design.T)
    solution = covariance @ (design @ excess[used])
    scatter = float(np.var(excess[used] - solution @ design))
    error = np.sqrt(np.diag(covariance)[1:] * scatter)
    return solution[1:] * np.clip(1 - (error / np.maximum(np.abs(solution[1:]), 1e-30)) ** 2, 0, 1)
