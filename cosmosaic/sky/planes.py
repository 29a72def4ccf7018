"""Planes of single exposures, from what differs between exposures that see the same sky.

Light on the sky cancels in the differences, and a gradient that all exposures share stays. SWarp's and Montage's
matching of planes over overlaps is the same least-squares problem. A plane that was fitted to a part of a detector
would be carried on over the rest, where nothing checks it: so levels and slopes are solved together, the levels held
by the pedestals and the slopes by their own spread over the survey, which the data tell (empirical Bayes, maximum
likelihood by expectation maximisation; Dempster, Laird & Rubin 1977, J. R. Stat. Soc. B 39, 1).
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cosmosaic.cells.survey import CellExposure, CellSurvey, differences, without_patterns
from cosmosaic.exposures.patterns import Patterns
from cosmosaic.sky.overlap import common_window
from cosmosaic.sky.pedestal import Level

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

PASSES = 3
"""Solutions, each without the outliers of the one before."""
ITERATIONS = 20
CLIP_SIGMA = 6.0
LEVEL_SIGMA = 3.0
"""Pedestals hold the levels at so many of their errors: a glow or a gradient of an exposure's own moves its mode by
more than its error."""
LEAST_OVERLAP = 0.25
"""Part of the smaller exposure's cells: at a narrow rim a wisp's rest would pass for a slope of the whole detector."""
FIRST_SPREAD = 0.05
"""Of the slopes, in units of the pixel rms, before the data have told it."""
TERMS = 3
"""Unknowns of an exposure: level in the middle of its cells, slopes along x and y over a detector's width."""


def detilt(survey: CellSurvey, levels: Mapping[str, Level], cells: Flags) -> tuple[CellSurvey, Patterns]:
    """Take planes out of the exposures' cells.

    Parameters
    ----------
    survey
        Exposures on the lattice.
    levels
        First guess of each exposure's level with its error, MJy/sr.
    cells
        Cells that may be used, shape of the lattice: without the cores of sources, which do not cancel.

    Returns
    -------
    survey
        The exposures without planes; their mean levels are what they were.
    planes
        What was taken out of each exposure, MJy/sr.
    """
    used = {exposure.name: exposure.usable & cells[exposure.window] for exposure in survey.exposures}
    spread = FIRST_SPREAD * survey.pixel_rms
    for _ in range(PASSES):
        solution, spread = _most_likely(*_normal_equations(survey, used), [levels[name] for name in used], spread)
        planes = {name: _nodes(slopes) for name, slopes in zip(used, solution[:, 1:], strict=True)}
        flat = without_patterns(survey, planes)
        middles = dict(zip(used, solution[:, 0], strict=True))
        for exposure, excess, noise, compared in differences(flat, middles, cells):
            used[exposure.name] &= ~compared | (np.abs(excess) < CLIP_SIGMA * noise)
    return flat, planes


def _nodes(slopes: Floats) -> list[Floats]:
    """Values a quarter of the detector from its middle, shape (2, 2)."""
    ends = np.array([-0.25, 0.25])
    return [ends * slopes[0] + ends[:, None] * slopes[1]]


def _normal_equations(survey: CellSurvey, used: Mapping[str, Flags]) -> tuple[Floats, Floats]:
    """Matrix and right-hand side of the least squares of all wide overlaps, the sky of each cell eliminated."""
    exposures = survey.exposures
    weights = [np.where(used[exposure.name], exposure.weight, 0.0) for exposure in exposures]
    terms = [_terms(exposure) for exposure in exposures]
    total = np.zeros(survey.grid.shape)
    for exposure, weight in zip(exposures, weights, strict=True):
        total[exposure.window] += weight
    matrix = np.zeros((len(exposures), TERMS, len(exposures), TERMS))
    right = np.zeros((len(exposures), TERMS))
    for i, j in combinations(range(len(exposures)), 2):
        for whole, a, b in common_window(exposures[i], exposures[j]):
            # Eliminating the sky leaves the differences of all pairs, with these weights.
            shared = weights[i][a] * weights[j][b] / np.maximum(total[whole], np.finfo(float).tiny)
            if np.count_nonzero(shared) < LEAST_OVERLAP * min(np.count_nonzero(weights[k]) for k in (i, j)):
                continue
            step = np.nan_to_num(exposures[i].mean[a]) - np.nan_to_num(exposures[j].mean[b])
            first, second = terms[i][:, *a], terms[j][:, *b]
            right[i] += np.einsum("aij,ij->a", first, shared * step)
            right[j] -= np.einsum("aij,ij->a", second, shared * step)
            matrix[i, :, i] += np.einsum("aij,bij,ij->ab", first, first, shared)
            matrix[j, :, j] += np.einsum("aij,bij,ij->ab", second, second, shared)
            matrix[i, :, j] = -np.einsum("aij,bij,ij->ab", first, second, shared)
            matrix[j, :, i] = matrix[i, :, j].T
    return matrix.reshape(right.size, right.size), right.ravel()


def _terms(exposure: CellExposure) -> Floats:
    x, y = (
        np.nan_to_num(position) - middle
        for position, middle in zip(exposure.detector_position, exposure.middle, strict=True)
    )
    return np.stack([np.ones_like(x), x, y])


def _most_likely(matrix: Floats, right: Floats, levels: list[Level], spread: float) -> tuple[Floats, float]:
    """Solve for levels and slopes, shape ``(exposures, 3)``, and find the spread of the slopes."""
    value, error = np.array([(level.value, level.error) for level in levels]).T
    expected, precision = np.zeros((2, len(levels), TERMS))
    expected[:, 0], precision[:, 0] = value, (LEVEL_SIGMA * error) ** -2.0
    for _ in range(ITERATIONS):
        precision[:, 1:] = spread**-2.0
        covariance = np.linalg.inv(matrix + np.diag(precision.ravel()))
        solution = (covariance @ (right + (precision * expected).ravel())).reshape(expected.shape)
        variance = np.diag(covariance).reshape(expected.shape)
        spread = float(np.sqrt(np.mean(solution[:, 1:] ** 2 + variance[:, 1:])))
    return solution, spread
