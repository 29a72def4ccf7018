"""Matching of detections of the same star in several exposures.

Pointings are first brought together by the peaks of the histograms of all offsets between their stars, which wrong
pairs cannot move however crowded the field is; the result of nearest neighbours would depend on the crowding.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree
from scipy.special import pdtrc

from cosmosaic.geometry.sphere import ARCSEC_PER_RADIAN

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

MAS_PER_RADIAN = 1000 * ARCSEC_PER_RADIAN
SEARCH_MAS = 1000.0
"""Largest offset between pointings."""
BIN_MAS = 40.0
PEAK_MAS = 60.0
"""Pairs this far from the peak of the offsets belong to it: roll errors and misplaced detectors widen it."""
CHANCE = 1e-4
"""Largest probability of a peak that chance pairs make."""
FEWEST_PAIRS = 3
SHIFT_PRIOR_MAS = 300.0
"""Uncertainty of a pointing from pairs of stars stays within this."""
HELD_MAS = 1e-3
ITERATIONS = 5
ISOLATION = 3.0
"""Detections with a neighbour in the same exposure within this many matching radii are not matched."""


class Peak(NamedTuple):
    """The offset between two pointings."""

    first: int
    second: int
    offset: Floats
    """Second minus first, mas, a vector of three components."""
    pairs: int


def tangent_axes(vectors: Floats) -> tuple[Floats, Floats]:
    """Unit vectors to the east and north at directions, each with shape ``(N, 3)``."""
    east = np.stack([-vectors[:, 1], vectors[:, 0], np.zeros(len(vectors))], axis=1)
    east /= np.maximum(np.hypot(vectors[:, 0], vectors[:, 1]), np.finfo(float).tiny)[:, None]
    return east, np.cross(vectors, east)


def close_pairs(vectors: Floats, radius_mas: float) -> Integers:
    """Pairs of directions closer than a radius, shape ``(P, 2)``."""
    if not len(vectors):
        return np.zeros((0, 2), dtype=int)
    return KDTree(vectors).query_pairs(radius_mas / MAS_PER_RADIAN, output_type="ndarray")


def without_neighbours(vectors: Floats, exposures: Integers, radius_mas: float) -> NDArray[np.bool_]:
    """Find which detections have no other one of the same exposure within a radius."""
    pairs = close_pairs(vectors, radius_mas)
    pairs = pairs[exposures[pairs[:, 0]] == exposures[pairs[:, 1]]]
    alone = np.full(len(vectors), True)
    alone[pairs.ravel()] = False
    return alone


def offset_peaks(vectors: Floats, pointings: Integers) -> list[Peak]:
    """Find the offset between every two pointings that see the same stars.

    Parameters
    ----------
    vectors
        Unit vectors to the detections, shape ``(N, 3)``.
    pointings
        Pointing of each.
    """
    pairs = close_pairs(vectors, SEARCH_MAS)
    order = pointings[pairs]
    pairs = np.where((order[:, 0] > order[:, 1])[:, None], pairs[:, ::-1], pairs)
    pairs = pairs[order[:, 0] != order[:, 1]]
    if not len(pairs):
        return []
    first, second = pointings[pairs].T
    key = first.astype(np.int64) * (int(pointings.max()) + 1) + second
    sorting = np.argsort(key, kind="stable")
    pairs, starts = pairs[sorting], np.flatnonzero(np.diff(key[sorting], prepend=-1))
    steps = (vectors[pairs[:, 1]] - vectors[pairs[:, 0]]) * MAS_PER_RADIAN
    east, north = tangent_axes(vectors[pairs[:, 0]])
    plane = np.stack([np.sum(steps * east, axis=1), np.sum(steps * north, axis=1)], axis=1)
    peaks = []
    for start, end in zip(starts, [*starts[1:], len(pairs)], strict=True):
        near = at_peak(plane[start:end])
        if near is not None:
            one, other = pointings[pairs[start]]
            peaks.append(Peak(int(one), int(other), _median(steps[start:end][near]), int(near.sum())))
    return peaks


def at_peak(offsets: Floats) -> NDArray[np.bool_] | None:
    """Find which offsets (x, y) in mas belong to the peak of their histogram; None if chance may have made it."""
    if len(offsets) < FEWEST_PAIRS:
        return None
    bins = int(2 * SEARCH_MAS / BIN_MAS)
    columns = np.clip(((offsets + SEARCH_MAS) / BIN_MAS).astype(int), 0, bins - 1)
    side = bins + 2
    counts = np.bincount((columns + 1) @ (side, 1), minlength=side**2).reshape(side, side)
    strips = counts[:-2] + counts[1:-1] + counts[2:]
    blocks = strips[:, :-2] + strips[:, 1:-1] + strips[:, 2:]
    row, column = np.unravel_index(np.argmax(blocks), blocks.shape)
    background = len(offsets) * 9 * BIN_MAS**2 / (np.pi * SEARCH_MAS**2)
    highest = blocks[row, column]
    trials = bins**2 / 9
    if highest < FEWEST_PAIRS or trials * pdtrc(highest - 1, background) > CHANCE:
        return None
    near = np.all(np.abs(columns - (row, column)) <= 1, axis=1)
    for _ in range(3):
        before, near = near, np.hypot(*(offsets - _median(offsets[near])).T) < PEAK_MAS
        if near.sum() < FEWEST_PAIRS:
            return None
        if np.array_equal(near, before):
            break
    return near


def _median(points: Floats) -> Floats:
    """Median along the first axis: that of numpy costs more than all else where points are few."""
    ordered = np.sort(points, axis=0)
    return np.asarray(0.5 * (ordered[(len(points) - 1) // 2] + ordered[len(points) // 2]))


def first_shifts(peaks: list[Peak], held: NDArray[np.bool_]) -> Floats:
    """Displacement in mas of each pointing that brings all together, shape ``(pointings, 3)``, zero on the mean.

    Offsets that contradict the others lose their weight.

    Parameters
    ----------
    peaks
        Offsets between pointings.
    held
        Whether each pointing stays where it is.
    """
    pointings = len(held)
    if not peaks:
        return np.zeros((pointings, 3))
    ends = np.array([(peak.first, peak.second) for peak in peaks])
    offsets = np.stack([peak.offset for peak in peaks])
    pairs = np.array([peak.pairs for peak in peaks], dtype=float)
    rows = np.repeat(np.arange(len(peaks)), 2)
    signs = np.tile([-1.0, 1.0], len(peaks))
    design = coo_array((signs, (rows, ends.ravel())), shape=(len(peaks), pointings)).tocsc()
    sizes = np.where(held, HELD_MAS, SHIFT_PRIOR_MAS)
    prior = coo_array((sizes**-2.0, (np.arange(pointings),) * 2)).tocsc()
    trust = np.ones(len(peaks))
    for _ in range(ITERATIONS):
        weights = trust * pairs / PEAK_MAS**2
        normal = (design.T @ design.multiply(weights[:, None]) + prior).tocsc()
        shifts = splu(normal).solve(-(design.T @ (weights[:, None] * offsets)))
        left = np.linalg.norm(offsets + design @ shifts, axis=1) / PEAK_MAS
        trust = 1 / (1 + left**2) ** 2
    return np.asarray(shifts)


def same_stars(vectors: Floats, exposures: Integers, radius_mas: Floats | float) -> Integers:
    """Number the stars: detections that stand together, at most one of each exposure.

    Parameters
    ----------
    vectors
        Unit vectors to the detections, shape ``(N, 3)``, their pointings brought together.
    exposures
        Exposure of each.
    radius_mas
        Largest distance of two detections of one star; of each detection, or of all.

    Returns
    -------
    Number of the star of each detection, shape ``(N,)``; -1 where it is in doubt, or no other exposure has it.
    """
    radii = np.broadcast_to(radius_mas, len(vectors))
    largest = float(radii.max(initial=0.0))
    pairs = close_pairs(vectors, largest)
    distance = np.linalg.norm(vectors[pairs[:, 0]] - vectors[pairs[:, 1]], axis=1) * MAS_PER_RADIAN
    pairs = pairs[distance < np.minimum(*radii[pairs].T)] if len(pairs) else pairs
    links = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(vectors),) * 2)
    count, labels = connected_components(links, directed=False)
    members = np.bincount(labels, minlength=count)
    # In a chain of neighbours it is unknown which detections are the same star.
    order = np.lexsort((exposures, labels))
    both = np.stack([labels, exposures])[:, order]
    is_twice = np.all(both[:, 1:] == both[:, :-1], axis=0)
    doubtful = np.zeros(count, dtype=bool)
    doubtful[both[0, 1:][is_twice]] = True
    good = (members > 1) & ~doubtful
    numbers = np.where(good, np.cumsum(good) - 1, -1)
    return numbers[labels]
