"""One solution for where all exposures point, and where detectors and filters stand, from the stars they share.

The unknowns are small: a shift and a roll of each visit and, about it, of each pointing; a shift and a rotation of each
detector, the same in all exposures; a shift of each filter on each detector. They move a detection in the focal plane,

    (V2, V3) += shift + roll x (V2, V3 from the middle of NIRCam) + place + turn x (V2, V3 from the detector's point)
                + offset of the filter,

and all detections of a star must fall on one place, which no one needs to know: stars are eliminated from the normal
equations. Every unknown has a prior about zero, of the size of JWST's known errors. The priors are the gauge, too:
unknowns that no star determines (the mean of all pointings without a reference catalogue, a detector's place in a
survey without dithers) stay zero on the mean, and an exposure without stars gets the values of its visit and detector.
The structure is that of plate overlap solutions (Eichhorn 1960, AN 285, 233).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import SuperLU, splu
from scipy.spatial import KDTree

from cosmosaic.astrometry.matching import (
    ISOLATION,
    MAS_PER_RADIAN,
    at_peak,
    first_shifts,
    offset_peaks,
    same_stars,
    tangent_axes,
    without_neighbours,
)
from cosmosaic.geometry.sphere import ARCSEC_PER_RADIAN

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
Flags = NDArray[np.bool_]

MIDDLE_ARCSEC = (-0.3, -492.6)
"""(V2, V3) about the middle of NIRCam's two modules: pointings turn about it."""
LEVER_ARCSEC = 100.0
"""Rotations are counted in mas at this distance."""
FIRST_RADII_MAS = (150.0, 100.0, 70.0, 50.0)
"""Detections closer than this are one star before a solution: the first radius at which most stars are alone."""
ALONE_PART = 0.8
LEAST_RADIUS_MAS = 10.0
"""After a solution, a star's detections may at least be this far from each other."""
RADIUS_SIGMA = 5.0
BRIGHTEST_IN_PEAKS = 300
"""Stars of each exposure that find the first offsets between pointings."""
FEWEST_STARS = 3
"""An exposure with fewer shared stars counts as one that the stars did not align."""
HUBER_SIGMA, LARGEST_SIGMA = 2.0, 6.0
EXPECTED_PULL = 1.177
"""Median length of a residual in units of its error per axis (Rayleigh)."""
SYSTEMATIC_TRIALS = np.geomspace(0.05, 30.0, 64)
"""Errors in mas that may be added to those of the stars."""
PASSES, ITERATIONS = 2, 4
DRAWS, DRAWS_AT_ONCE, DRAW_SEED = 40, 8, 1
"""Random solutions, whose scatter tells the errors to 8 per cent."""


class Priors(NamedTuple):
    """Known errors of JWST, the priors: rms in mas, of rotations in mas at `LEVER_ARCSEC`."""

    visit_shift: float = 300.0
    visit_roll: float = 15.0
    """30 arcsec."""
    pointing_shift: float = 20.0
    """Of an exposure about its visit."""
    pointing_roll: float = 1.0
    detector_shift: float = 5.0
    detector_turn: float = 10.0
    filter_shift: float = 3.0


@dataclass(frozen=True)
class Seen:
    """An exposure: the labels by which it shares unknowns with others, and its pointing by the header."""

    name: str
    pointing: str
    """The same for all detectors of an exposure group."""
    visit: str
    detector: str
    band: str
    attitude: Floats
    """Rotation from the telescope's axes to the sky, shape (3, 3), as the header has it."""
    point: tuple[float, float]
    """(V2, V3) of the detector's reference point in arcsec."""
    is_held: bool = False
    """Whether it stays where it is, and holds the others."""
    aberration: float = np.nan
    """1 - VA_SCALE of the header."""


@dataclass(frozen=True)
class Detections:
    """Stars found in exposures, arrays with a value per detection."""

    exposure: Integers
    """Index of the exposure."""
    vectors: Floats
    """Unit vectors by the exposures' headers, shape (N, 3)."""
    errors: Floats
    """Rms error per axis, mas."""
    fluxes: Floats
    """Any unit: brighter ones are matched first."""

    def select(self, chosen: Flags | Integers) -> "Detections":
        """Return some of them."""
        return Detections(self.exposure[chosen], self.vectors[chosen], self.errors[chosen], self.fluxes[chosen])


@dataclass(frozen=True)
class Frame:
    """The unknowns of a survey and where each stands in the solution."""

    exposures: Sequence[Seen]
    columns: Integers
    """First unknown of visit, pointing, detector and filter of each exposure, shape (E, 4)."""
    priors: Floats
    """Rms of each unknown, mas."""
    pointings: Integers
    """Number of the pointing of each exposure."""
    moves: Integers
    """First move of the pointing, of the filter on the detector, and of the detector, shape (E, 3)."""
    mixing: csr_array
    """Moves are sums of unknowns: this matrix times the unknowns."""


@dataclass(frozen=True)
class Network:
    """A solution."""

    frame: Frame
    unknowns: Floats
    """mas, in the order of the frame."""
    rotations: Floats
    """Rotation vector in mas that was applied to each exposure's group as a whole, shape (E, 3)."""
    groups: Integers
    """Group of exposures, connected by stars, that each belongs to."""
    stars: Integers
    """Number of stars of each exposure that others have, too."""
    errors: Floats
    """Rms error per axis of the position of each exposure's reference point, relative to its group, mas."""
    systematic_mas: float
    """Systematic error added in quadrature to the detections' errors so that they agree, mas."""

    @property
    def aligned(self) -> Flags:
        """Whether each exposure was aligned by stars; the others have only the corrections of visit and detector."""
        return self.stars >= FEWEST_STARS

    def displaced(self, detections: Detections) -> Detections:
        """Return detections where the solution has them."""
        moved = displacements(self.frame, detections, self.unknowns)
        turned = np.cross(self.rotations[detections.exposure], detections.vectors)
        vectors = detections.vectors + (moved + turned) / MAS_PER_RADIAN
        return replace(detections, vectors=vectors / np.linalg.norm(vectors, axis=1)[:, None])


def frame_of(exposures: Sequence[Seen], priors: Priors = Priors()) -> Frame:  # noqa: B008
    """Number the unknowns of a survey."""
    visit_sizes = (priors.visit_shift, priors.visit_shift, priors.visit_roll)
    pointing_sizes = (priors.pointing_shift, priors.pointing_shift, priors.pointing_roll)
    kinds = [
        ([one.visit for one in exposures], visit_sizes),
        ([f"{one.visit} {one.pointing}" for one in exposures], pointing_sizes),
        ([one.detector for one in exposures], (priors.detector_shift, priors.detector_shift, priors.detector_turn)),
        ([f"{one.detector} {one.band}" for one in exposures], (priors.filter_shift, priors.filter_shift)),
    ]
    columns, sizes, start = [], [], 0
    for names, rms in kinds:
        labels, numbers = np.unique(names, return_inverse=True)
        columns.append(start + len(rms) * numbers)
        sizes.append(np.tile(rms, len(labels)))
        start += len(rms) * len(labels)
    pointings = np.unique(kinds[1][0], return_inverse=True)[1] if len(exposures) else np.zeros(0, dtype=int)
    moves, mixing = _moves(np.stack(columns, axis=1), start)
    return Frame(exposures, np.stack(columns, axis=1), np.concatenate(sizes), pointings, moves, mixing)


def _moves(columns: Integers, unknowns: int) -> tuple[Integers, csr_array]:
    """Number the moves of exposures, and return them as sums of unknowns.

    A visit and its pointings move stars alike, and so do the shifts of a detector and of its filters: equations of
    their sums have half as many coefficients.
    """
    visit, pointing, detector, of_filter = columns.T
    kinds = [(pointing, 3, (pointing, visit)), (of_filter, 2, (of_filter, detector)), (detector, 1, (detector + 2,))]
    firsts: list[Integers] = []
    terms, start = [], 0
    for own, size, summed in kinds:
        labels, numbers = np.unique(own, return_inverse=True)
        firsts.append(start + size * numbers)
        terms += [np.stack([firsts[-1] + axis, one + axis], axis=1) for one in summed for axis in range(size)]
        start += size * len(labels)
    distinct = np.unique(np.concatenate(terms), axis=0)
    mixing = coo_array((np.ones(len(distinct)), distinct.T), shape=(start, unknowns)).tocsr()
    return np.stack(firsts, axis=1), mixing


def solve_network(
    exposures: Sequence[Seen],
    detections: Detections,
    priors: Priors = Priors(),  # noqa: B008
) -> Network:
    """Align exposures with the stars that they share.

    Parameters
    ----------
    exposures
        All exposures, of all filters; those without detections too.
    detections
        Their stars.
    priors
        Prior rms of the unknowns.
    """
    frame = frame_of(exposures, priors)
    detections = detections.select(np.argsort(-detections.fluxes, kind="stable"))
    shifts = _first_shifts(frame, detections)
    together = detections.vectors + shifts[frame.pointings[detections.exposure]] / MAS_PER_RADIAN
    radii = np.full(len(together), _first_radius(together, detections.exposure))
    systematic = 1.0
    unknowns: Floats = np.zeros(len(frame.priors))
    for _ in range(PASSES):
        matched, stars = _matched(replace(detections, vectors=together), radii)
        shared = detections.select(matched)
        solved = _solve(frame, shared, stars, systematic)
        unknowns, systematic = solved.unknowns, solved.systematic
        moved = displacements(frame, detections, unknowns)
        together = detections.vectors + moved / MAS_PER_RADIAN
        radii = _radii(detections, systematic)
    groups = _groups(frame, shared, stars)
    return Network(
        frame=frame,
        unknowns=unknowns,
        rotations=np.zeros((len(exposures), 3)),
        groups=groups,
        stars=np.bincount(shared.exposure, minlength=len(exposures)),
        errors=_errors(frame, groups, solved),
        systematic_mas=systematic,
    )


def stars_of(network: Network, detections: Detections) -> tuple[Integers, Integers]:
    """Match detections where a solution has them.

    Returns
    -------
    Indices of the detections that more than one exposure has, and the number of the star of each.
    """
    placed = network.displaced(detections)
    return _matched(placed, _radii(detections, network.systematic_mas))


def displacements(frame: Frame, detections: Detections, unknowns: Floats) -> Floats:
    """Return the vectors in mas that a solution moves detections by, shape ``(N, 3)``."""
    east, north = tangent_axes(detections.vectors)
    moved = (_design(frame, detections) @ (frame.mixing @ unknowns)).reshape(-1, 2)
    return moved[:, :1] * east + moved[:, 1:] * north


def tie_to_catalogue(
    network: Network, detections: Detections, reference: Floats, errors: Floats
) -> tuple[Network, dict[int, int]]:
    """Turn each group of exposures as a whole onto a reference catalogue.

    Parameters
    ----------
    network
        A relative solution.
    detections
        The stars that it was made from.
    reference
        Unit vectors to the catalogue's stars at the exposures' epoch, shape ``(M, 3)``.
    errors
        Their rms errors per axis, mas.

    Returns
    -------
    The solution, and how many stars of the catalogue tie each group. A group that none ties stays where it is, and so
    does one with exposures that are held.
    """
    placed = network.displaced(detections)
    rotations = network.rotations.copy()
    tied = {}
    for group in np.unique(network.groups):
        members = network.groups == group
        if any(one.is_held for one, is_member in zip(network.frame.exposures, members, strict=True) if is_member):
            continue
        rotation, count = _rotation_onto(placed.select(members[placed.exposure]), reference, errors)
        rotations[members] += rotation
        tied[int(group)] = count
    return replace(network, rotations=rotations), tied


def _rotation_onto(placed: Detections, reference: Floats, errors: Floats) -> tuple[Floats, int]:
    """Rotation vector in mas that brings detections onto a catalogue, and the number of its stars that say so."""
    pairs = _reference_pairs(placed.vectors, reference)
    if not len(pairs):
        return np.zeros(3), 0
    found, known = placed.vectors[pairs[:, 0]], reference[pairs[:, 1]]
    steps = (known - found) * MAS_PER_RADIAN
    middle = found.mean(axis=0) / np.linalg.norm(found.mean(axis=0))
    axes = np.stack([middle, *(axis[0] for axis in tangent_axes(middle[None]))])
    east, north = tangent_axes(found)
    # A star that is seen often has one error of the catalogue's.
    often = np.bincount(pairs[:, 1], minlength=len(reference))[pairs[:, 1]]
    sigma = np.sqrt(placed.errors[pairs[:, 0]] ** 2 + often * errors[pairs[:, 1]] ** 2)
    observed = np.concatenate([np.sum(steps * axis, axis=1) for axis in (east, north)])
    design = np.concatenate(
        [np.stack([np.sum(np.cross(one, found) * axis, axis=1) for one in axes], axis=1) for axis in (east, north)]
    )
    # About the middle a few stars know no roll: at the distance of LEVER it stays within the prior.
    prior = np.diag([(LEVER_ARCSEC / ARCSEC_PER_RADIAN / Priors().visit_roll) ** 2, 0, 0])
    solution: Floats = np.zeros(3)
    trust: Floats = np.ones(len(found))
    for _ in range(ITERATIONS * 2):
        weights = np.tile(trust / sigma**2, 2)
        normal = design.T @ (weights[:, None] * design) + prior
        solution = np.linalg.lstsq(normal, design.T @ (weights * observed), rcond=None)[0]
        left = np.hypot(*(observed - design @ solution).reshape(2, -1))
        trust = _trust(left / sigma / max(1.0, float(np.median(left / sigma)) / 1.18))
    return solution @ axes, len(np.unique(pairs[trust > 0, 1]))


def _reference_pairs(vectors: Floats, reference: Floats) -> Integers:
    """Detections and the stars of a catalogue at the peak of their offsets, shape ``(P, 2)``."""
    if not len(vectors) or not len(reference):
        return np.zeros((0, 2), dtype=int)
    near = KDTree(vectors).query_ball_tree(KDTree(reference), 1000.0 / MAS_PER_RADIAN)
    pairs = np.array([(i, j) for i, others in enumerate(near) for j in others], dtype=int).reshape(-1, 2)
    steps = (reference[pairs[:, 1]] - vectors[pairs[:, 0]]) * MAS_PER_RADIAN
    plane = np.stack([np.sum(steps * axis, axis=1) for axis in tangent_axes(vectors[pairs[:, 0]])], axis=1)
    near_peak = at_peak(plane)
    return pairs[:0] if near_peak is None else pairs[near_peak]


def _matched(placed: Detections, radii: Floats) -> tuple[Integers, Integers]:
    """Detections of stars that more than one exposure has, and the number of the star of each."""
    alone = without_neighbours(placed.vectors, placed.exposure, ISOLATION * float(np.max(radii, initial=0.0)))
    usable = np.flatnonzero(alone)
    numbers = same_stars(placed.vectors[usable], placed.exposure[usable], radii[usable])
    return usable[numbers >= 0], numbers[numbers >= 0]


def _radii(detections: Detections, systematic: float) -> Floats:
    """Largest distance in mas from other detections of the same star."""
    sigma = np.hypot(detections.errors, systematic) * np.sqrt(2)
    return np.clip(RADIUS_SIGMA * sigma, LEAST_RADIUS_MAS, FIRST_RADII_MAS[-1])


def _first_radius(vectors: Floats, exposures: Integers) -> float:
    """Radius in mas in which detections are matched first: small where stars crowd."""
    for radius in FIRST_RADII_MAS[:-1] if len(vectors) else ():
        if np.mean(without_neighbours(vectors, exposures, ISOLATION * radius)) > ALONE_PART:
            return radius
    return FIRST_RADII_MAS[-1]


def _first_shifts(frame: Frame, detections: Detections) -> Floats:
    """Displacement in mas of each pointing that brings all together, from the brightest stars."""
    order = np.argsort(detections.exposure, kind="stable")
    exposure = detections.exposure[order]
    starts = np.searchsorted(exposure, exposure, side="left")
    brightest = order[np.arange(len(order)) - starts < BRIGHTEST_IN_PEAKS]
    pointings = frame.pointings[detections.exposure[brightest]]
    peaks = offset_peaks(detections.vectors[brightest], pointings)
    held = np.zeros(int(frame.pointings.max(initial=-1)) + 1, dtype=bool)
    held[frame.pointings] = [one.is_held for one in frame.exposures]
    return first_shifts(peaks, held)


def _design(frame: Frame, detections: Detections) -> csr_array:
    """Derivatives of positions (east, north) with respect to the moves, shape ``(2 N, moves)``."""
    exposure = detections.exposure
    free = np.array([not one.is_held for one in frame.exposures])[exposure]
    attitudes = np.stack([one.attitude for one in frame.exposures])[exposure]
    points = np.array([one.point for one in frame.exposures])[exposure]
    telescope = np.einsum("nij,ni->nj", attitudes, detections.vectors)
    v2, v3 = (ARCSEC_PER_RADIAN * angle for angle in (np.arctan2(telescope[:, 1], telescope[:, 0]), telescope[:, 2]))
    along_v2, along_v3 = np.zeros_like(telescope), np.zeros_like(telescope)
    along_v2[:, 0], along_v2[:, 1] = -telescope[:, 1], telescope[:, 0]
    along_v2 /= np.hypot(*along_v2[:, :2].T)[:, None]
    along_v3 = np.cross(telescope, along_v2)
    sky = [np.einsum("nij,nj->ni", attitudes, axis) for axis in (along_v2, along_v3)]
    axes = np.array([[np.sum(one * axis, axis=1) for one in sky] for axis in tangent_axes(detections.vectors)])

    ones, zeros = np.ones(len(exposure)), np.zeros(len(exposure))
    about_middle = (np.array([v2, v3]).T - MIDDLE_ARCSEC).T / LEVER_ARCSEC
    about_point = (np.array([v2, v3]).T - points).T / LEVER_ARCSEC
    shift = [(ones, zeros), (zeros, ones)]  # along V2, along V3
    turns = [(lever[1], -lever[0]) for lever in (about_middle, about_point)]
    values = np.einsum("akn,ckn->nac", axes, np.array([*shift, turns[0], *shift, turns[1]])) * free[:, None, None]
    of_exposure = np.concatenate(
        [frame.moves[:, :1] + np.arange(3), frame.moves[:, 1:2] + np.arange(2), frame.moves[:, 2:]], axis=1
    )
    columns = np.repeat(of_exposure[exposure], 2, axis=0)
    starts = columns.shape[1] * np.arange(len(columns) + 1)
    shape = (len(columns), frame.mixing.shape[0])
    return csr_array((values.ravel(), columns.ravel(), starts), shape=shape)


class Solution(NamedTuple):
    """The unknowns, and the weighted equations that gave them."""

    unknowns: Floats
    systematic: float
    factor: SuperLU
    """Of the normal equations."""
    design: csr_array
    """Of moves."""
    incidence: csr_array
    """Star of each coordinate."""
    weight: Floats
    """Of each coordinate."""


def _solve(frame: Frame, shared: Detections, stars: Integers, systematic: float) -> Solution:
    """Solve for the unknowns, robustly, and for what the errors must be enlarged by."""
    count = int(stars.max(initial=-1)) + 1
    design = _design(frame, shared)
    # Positions about the first detection of each star: differences of directions lose no digits.
    first = np.zeros(count, dtype=int)
    first[stars[::-1]] = np.arange(len(stars))[::-1]
    steps = (shared.vectors - shared.vectors[first[stars]]) * MAS_PER_RADIAN
    observed = np.stack([np.sum(steps * axis, axis=1) for axis in tangent_axes(shared.vectors)], axis=1).ravel()
    of_star = np.stack([2 * stars, 2 * stars + 1], axis=1).ravel()
    shape = (2 * len(stars), 2 * count)
    incidence = csr_array((np.ones(len(of_star)), (np.arange(len(of_star)), of_star)), shape=shape)
    prior = coo_array((frame.priors**-2.0, (np.arange(len(frame.priors)),) * 2)).tocsc()
    unknowns: Floats = np.zeros(len(frame.priors))
    trust: Floats = np.ones(len(stars))
    factor, weight = splu(prior), np.repeat(trust, 2)
    by_move, by_star, mixing = design.T.tocsr(), incidence.T.tocsr(), frame.mixing
    for _ in range(ITERATIONS):
        sigma = np.hypot(shared.errors, systematic)
        weight = np.repeat(trust / sigma**2, 2)
        total = np.maximum(by_star @ weight, np.finfo(float).tiny)
        weighted = _scaled(design, weight)
        of_stars = by_star @ weighted
        means = _scaled(of_stars, 1 / total)
        of_moves = by_move @ weighted - of_stars.T.tocsr() @ means
        normal = (mixing.T @ of_moves @ mixing + prior).tocsc()
        side = mixing.T @ (weighted.T @ observed - means.T @ (by_star @ (weight * observed)))
        factor = splu(normal, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
        unknowns = -factor.solve(side)
        left = observed + design @ (mixing @ unknowns)
        left -= incidence @ ((by_star @ (weight * left)) / total)
        # The mean of a star follows its own detections.
        share = np.clip(1 - (weight / (incidence @ total))[::2], 0.05, 1)
        size = np.hypot(left[::2], left[1::2]) / np.sqrt(share)
        trust = _trust(size / sigma)
        systematic = _systematic(size, shared.errors, systematic)
    return Solution(unknowns, systematic, factor, design, incidence, weight)


def _scaled(matrix: csr_array, factors: Floats) -> csr_array:
    """Multiply each row with a factor."""
    data = matrix.data * np.repeat(factors, np.diff(matrix.indptr))
    return csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _trust(pulls: Floats) -> Floats:
    """Weight of measurements by their residuals in sigma per axis: Huber's, and none at all far away."""
    weight = np.minimum(1.0, HUBER_SIGMA / np.maximum(pulls, 1e-9))
    return np.where(pulls < LARGEST_SIGMA, weight, 0.0)


def _systematic(size: Floats, errors: Floats, present: float) -> float:
    """Return the error to add in quadrature so that the median residual fits its errors."""
    if len(size) < FEWEST_STARS:
        return present
    # The median falls as the error grows, so the trial on the other side of the expected one is found by halves.
    low, high = 0, len(SYSTEMATIC_TRIALS)
    while low < high:
        middle = (low + high) // 2
        is_large = _median_pull(size, errors, middle) > EXPECTED_PULL
        low, high = (middle + 1, high) if is_large else (low, middle)
    near = [one for one in (low - 1, low) if 0 <= one < len(SYSTEMATIC_TRIALS)]
    return float(SYSTEMATIC_TRIALS[min(near, key=lambda one: abs(_median_pull(size, errors, one) - EXPECTED_PULL))])


def _median_pull(size: Floats, errors: Floats, trial: int) -> float:
    return float(np.median(size / np.hypot(errors, SYSTEMATIC_TRIALS[trial])))


def _groups(frame: Frame, shared: Detections, stars: Integers) -> Integers:
    """Number the groups of exposures that stars connect; the detectors of a pointing are one."""
    pointings = int(frame.pointings.max(initial=-1)) + 1
    count = pointings + int(stars.max(initial=-1)) + 1
    links = coo_array(
        (np.ones(len(stars)), (frame.pointings[shared.exposure], pointings + stars)), shape=(count, count)
    )
    return connected_components(links, directed=False)[1][frame.pointings]


def _errors(frame: Frame, groups: Integers, solved: Solution) -> Floats:
    """Rms error per axis of each exposure's reference point, mas: the scatter of random solutions.

    The shift and rotation of its whole group are not included: no star can determine them.
    """
    points = _reference_points(frame)
    moved = _design(frame, points) @ (frame.mixing @ _draws(frame, solved))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        rows = np.stack([2 * members, 2 * members + 1], axis=1).ravel()
        together = _turns(points.vectors[members])
        moved[rows] -= together @ (np.linalg.pinv(together) @ moved[rows])
    return np.sqrt(np.mean(moved**2, axis=1).reshape(-1, 2).mean(axis=1))


def _draws(frame: Frame, solved: Solution) -> Floats:
    """Random errors of the unknowns, distributed as their covariance says, shape ``(unknowns, DRAWS)``.

    They solve the equations of random errors of stars and priors, of which the cost is linear; that of the covariance
    itself is not.
    """
    generator = np.random.default_rng(DRAW_SEED)
    weight, incidence = solved.weight[:, None], solved.incidence
    total = np.maximum(incidence.T @ weight, np.finfo(float).tiny)
    draws = []
    for _ in range(0, DRAWS, DRAWS_AT_ONCE):
        noise = np.sqrt(weight) * generator.standard_normal((len(weight), DRAWS_AT_ONCE))
        noise -= weight * (incidence @ ((incidence.T @ noise) / total))
        of_priors = generator.standard_normal((len(frame.priors), DRAWS_AT_ONCE)) / frame.priors[:, None]
        draws.append(solved.factor.solve(frame.mixing.T @ (solved.design.T @ noise) + of_priors))
    return np.concatenate(draws, axis=1)


def _turns(vectors: Floats) -> Floats:
    """Derivatives of positions (east, north) with respect to a rotation vector, shape ``(2 N, 3)``."""
    axes = tangent_axes(vectors)
    return np.stack([np.cross(vectors, axis) for axis in axes], axis=1).reshape(-1, 3)


def _reference_points(frame: Frame) -> Detections:
    """The exposures' reference points as detections."""
    v2, v3 = np.radians(np.array([one.point for one in frame.exposures]).reshape(-1, 2).T / 3600)
    telescope = np.stack([np.cos(v2) * np.cos(v3), np.sin(v2) * np.cos(v3), np.sin(v3)], axis=1)
    vectors = np.array([one.attitude @ vector for one, vector in zip(frame.exposures, telescope, strict=True)])
    nothing = np.zeros(len(frame.exposures))
    return Detections(np.arange(len(frame.exposures)), vectors.reshape(-1, 3), nothing, nothing)
