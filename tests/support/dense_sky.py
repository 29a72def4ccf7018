"""The least squares of the sky with dense matrices, to compare the sparse ones with."""

import numpy as np

from cosmosaic.sky.overlap import (
    HUBER_SIGMA,
    ITERATIONS,
    LARGEST_PULL,
    Solution,
    connected_groups,
    planes_of,
    step_between_means,
)
from cosmosaic.sky.pedestal import Level
from cosmosaic.sky.planes import LEVEL_SIGMA, TERMS


def solve_levels(steps, pedestals) -> Solution:
    """As `cosmosaic.sky.overlap.solve_levels`, all of its iterations."""
    names = list(pedestals)
    place = {name: index for index, name in enumerate(names)}
    differences = np.zeros((len(steps), len(names)))
    for row, step in enumerate(steps):
        differences[row, place[step.first]], differences[row, place[step.second]] = 1.0, -1.0
    design = np.concatenate([differences, np.eye(len(names))])
    planes = planes_of(pedestals)
    measured = [step_between_means(step, planes) for step in steps]
    measured += [(level.value, level.error) for level in pedestals.values()]
    observed, errors = np.array(measured).T
    partial = np.array([2.0 * (1.0 / step.fraction - 1.0) for step in steps] + [0.0] * len(names))
    is_pedestal = np.arange(len(observed)) >= len(steps)
    scale, structure = 1.0, min(float(np.median(errors[kind])) for kind in (is_pedestal, ~is_pedestal) if kind.any())
    for _ in range(ITERATIONS):
        sigma = np.sqrt(np.where(is_pedestal, scale * errors, errors) ** 2 + structure**2 * partial)
        solution, covariance, pull, share = _weighted_solution(design, observed, sigma)
        scale *= _agreement(pull, share, is_pedestal, lowest=1.0 / scale)
        structure *= _agreement(pull, share, ~is_pedestal, lowest=0.0)
    levels = {
        name: Level(float(value), float(np.sqrt(variance)))
        for name, value, variance in zip(names, solution, np.diag(covariance), strict=True)
    }
    groups = connected_groups(names, steps)
    deviations: dict[str, float] = {}
    zeros: list[float] = []
    for group in groups:
        members = [place[name] for name in group]
        own = covariance[np.ix_(members, members)]
        to_mean, mean = own.mean(axis=1), float(own.mean())
        deviation = np.sqrt(np.maximum(np.diag(own) - 2 * to_mean + mean, 0.0))
        deviations |= dict(zip(group, deviation.tolist(), strict=True))
        zeros.append(float(np.sqrt(mean)))
    return Solution(levels, groups, scale, deviations, zeros, structure)


def _weighted_solution(design, observed, sigma):
    huber = np.ones_like(observed)
    for _ in range(ITERATIONS):
        weight = huber / sigma**2
        covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
        solution = covariance @ (design.T @ (weight * observed))
        pull = (observed - design @ solution) / sigma
        huber = np.minimum(1.0, HUBER_SIGMA / np.maximum(np.abs(pull), 1e-9))
    share = 1 - np.einsum("ij,jk,ik->i", design, covariance, design) * weight
    return solution, covariance, pull, share


def _agreement(pull, share, which, lowest) -> float:
    freedom = float(np.sum(share[which]))
    if freedom < 1:
        return 1.0
    excess = float(np.sum(np.minimum(pull[which] ** 2, LARGEST_PULL**2))) / freedom
    return float(np.clip(np.sqrt(excess), max(lowest, 0.2), 5.0))


def most_likely_planes(matrix, right, levels, spread):
    """As `cosmosaic.sky.planes.most_likely`, all of its iterations, with the errors of levels and slopes."""
    value, error = np.array([(level.value, level.error) for level in levels]).T
    expected, precision = np.zeros((2, len(levels), TERMS))
    expected[:, 0], precision[:, 0] = value, (LEVEL_SIGMA * error) ** -2.0
    for _ in range(ITERATIONS):
        precision[:, 1:] = spread**-2.0
        covariance = np.linalg.inv(matrix.toarray() + np.diag(precision.ravel()))
        solution = (covariance @ (right + (precision * expected).ravel())).reshape(expected.shape)
        variance = np.diag(covariance).reshape(expected.shape)
        spread = float(np.sqrt(np.mean(solution[:, 1:] ** 2 + variance[:, 1:])))
    return solution, spread, np.sqrt(variance)
