"""Agreement of exposures, detectors, modules and filters about the positions of stars, and a verdict on it.

A detection is compared with the mean of the same star's detections that have another label: another pointing, visit,
detector, module or filter. The common part of all detections of a label, a shift and for pointings and visits a roll,
is its error against the others.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cosmosaic.astrometry.flux_solution import DetectorScale
from cosmosaic.astrometry.matching import MAS_PER_RADIAN, at_peak, close_pairs, tangent_axes
from cosmosaic.astrometry.metrics import Deviation, Metric, judge, not_applicable
from cosmosaic.astrometry.network import (
    LEVER_ARCSEC,
    MIDDLE_ARCSEC,
    Detections,
    Seen,
    solve_network,
    stars_of,
    tie_to_catalogue,
)
from cosmosaic.astrometry.solution import JUDGED
from cosmosaic.geometry.sphere import ARCSEC_PER_RADIAN

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
Flags = NDArray[np.bool_]

FEWEST = 5
"""A label with fewer stars says nothing, nor does a scale by fewer detectors."""
JUDGED_PART = 5
"""One star in this many judges, and does not take part in the solution that it judges."""
CELL_ARCSEC = 120.0
CLIP_SIGMA = 4.0
WRONG_SIGMA = 5.0
"""A detection this far from the median of its star is of something else."""
SCALE_PER_MAS = 1e-3
TRIAL_SCALE = 5e-5
"""A scale that is put into detections to see how much of it is found."""
LEAST_RESPONSE = 0.7
"""Part of a trial scale that must be found again: where few stars connect detectors, their priors hold them."""
NULL_SEED = 1


class Labels(NamedTuple):
    """Labels of the detections."""

    names: NDArray[np.str_]
    numbers: Integers
    """Of the name of each detection."""


class Judged(NamedTuple):
    """Stars that judge, where a solution has them, and the verdict by them."""

    metrics: tuple[Metric, ...]
    detections: Detections
    stars: Integers
    """Number of the star of each."""


class Offset(NamedTuple):
    """Common offset of the detections of one label from the others, mas."""

    label: str
    shift: Floats
    error: float
    roll: float
    """At the farthest star, or at `LEVER_ARCSEC` if that is nearer."""
    roll_error: float
    stars: int

    @property
    def deviation(self) -> Deviation:
        """The length of the shift."""
        return Deviation(self.label, float(np.hypot(*self.shift)), self.error, self.stars)


def judge_astrometry(
    exposures: Sequence[Seen],
    detections: Detections,
    stars: Integers,
    reference: tuple[Floats, Floats] | None = None,
    single: Collection[str] | None = None,
) -> tuple[Metric, ...]:
    """Judge where detections of the same stars are.

    Parameters
    ----------
    exposures
        All exposures.
    detections
        Detections, where they are to be judged.
    stars
        Number of the star of each.
    reference
        Unit vectors to the stars of a catalogue at the exposures' epoch, and their errors in mas.
    single
        Kinds of errors that the survey cannot have, as `without_others` tells; by default those of the exposures.
    """
    kinds = _labels(exposures)
    labels = {}
    for kind, each in kinds.items():
        names, numbers = np.unique(each, return_inverse=True)
        labels[kind] = Labels(names, numbers[detections.exposure])
    axes, arcmin = telescope_axes(exposures, detections)
    places = (60 * arcmin - MIDDLE_ARCSEC) / LEVER_ARCSEC
    found = {}
    for kind, of_kind in labels.items():
        found[kind] = _offsets(of_kind, detections, stars, axes, places)
    rolls = [*found["roll"], *(one._replace(label=f"exposure {one.label}") for one in found["exposure"])]
    deviations = {kind: [one.deviation for one in found[kind]] for kind in ("exposure", "detector", "module", "filter")}
    deviations["roll"] = [Deviation(one.label, abs(one.roll), one.roll_error, one.stars) for one in rolls]
    deviations["cell"] = _cells(labels["filter"], detections, stars, axes, places)
    if reference is not None:
        deviations["absolute"] = _absolute(detections, *reference)
    single = without_others(exposures) if single is None else single
    return tuple(
        not_applicable(kind) if kind in single else judge(kind, deviations[kind])
        for kind in JUDGED
        if kind in deviations
    )


def judge_scale(exposures: Sequence[Seen], detections: Detections) -> Metric:
    """Judge the distances of detectors, which velocity aberration that was left in makes wrong by 1 - VA_SCALE."""
    if len({one.detector for one in exposures}) < FEWEST:
        return not_applicable("scale")
    scale, error = fitted_scale(exposures, detections)
    expected = 1e6 * float(np.median([one.aberration for one in exposures]))
    where = f"where 1 - VA_SCALE is {expected:.0f} ppm"
    count = len(detections.exposure)
    return judge("scale", [Deviation(where, 1e6 * abs(scale), 1e6 * error if np.isfinite(error) else np.inf, count)])


def judge_matches(detections: Detections, stars: Integers) -> Metric:
    """Judge how many detections are not where the median of their star is, whatever the offsets of exposures."""
    count = len(stars)
    if not count:
        return judge("matches", [])
    first = _first_of(stars)
    steps = (detections.vectors - detections.vectors[first[stars]]) * MAS_PER_RADIAN
    plane = np.stack([np.sum(steps * axis, axis=1) for axis in tangent_axes(detections.vectors)], axis=1)
    star, exposure = (np.unique(labels, return_inverse=True)[1] for labels in (stars, detections.exposure))
    for labels in (star, exposure, star, exposure, star):
        each = np.arange(labels.max() + 1)
        plane -= np.stack([ndimage.median(one, labels, each)[labels] for one in plane.T], axis=1)
    pulls = np.hypot(*plane.T) / detections.errors
    part = float(np.mean(pulls > WRONG_SIGMA * max(1.0, float(np.median(pulls)) / 1.18)))
    number = int(star.max()) + 1
    # One wrong detection of many says little.
    error = np.sqrt((part * (1 - part) + 1 / count) / number) if number >= FEWEST else np.inf
    return judge("matches", [Deviation("the field", 100 * part, 100 * float(error), number)])


def without_others(exposures: Sequence[Seen]) -> set[str]:
    """Return the kinds of errors that a survey cannot have: it has a single detector, module or filter."""
    kinds = _labels(exposures)
    single = {kind for kind in ("detector", "module", "filter") if len(set(kinds[kind])) < 2 and len(exposures) > 1}
    return single | ({"cell"} if "filter" in single else set())


def _labels(exposures: Sequence[Seen]) -> dict[str, list[str]]:
    """Label of each exposure by the kind of error."""
    return {
        "exposure": [f"{one.visit} {one.pointing}" for one in exposures],
        "roll": [f"visit {one.visit}" for one in exposures],
        "detector": [one.detector for one in exposures],
        "module": [one.detector[3] for one in exposures],
        "filter": [one.band for one in exposures],
    }


def judge_fluxes(scales: Sequence[DetectorScale]) -> Metric:
    """Judge the flux scales of detectors, as they were measured."""
    known = [
        Deviation(f"{one.band} {one.detector}", 1000 * abs(one.offset), 1000 * one.error, one.stars)
        for one in scales
        if np.isfinite(one.offset)
    ]
    return judge("flux", known)


def judge_sharpness(band: str, measured: Mapping[str, float]) -> tuple[Metric, Metric]:
    """Judge the width and ellipticity of a mosaic's stars against those of its exposures.

    Parameters
    ----------
    band
        The filter.
    measured
        ``fwhm_ratio``, ``ellipticity`` and their errors, ``_error``; NaN where there are too few stars; and
        ``sharpness_stars``, their number.
    """
    return judge_sharpness_of_filters({band: measured})


def judge_sharpness_of_filters(measured: Mapping[str, Mapping[str, float]]) -> tuple[Metric, Metric]:
    """Judge the worst of several filters, each as in `judge_sharpness`."""
    widths, turns = [], []
    for band, each in measured.items():
        stars = int(each["sharpness_stars"])
        widths.append(Deviation(band, 100 * (each["fwhm_ratio"] - 1), 100 * each["fwhm_ratio_error"], stars))
        turns.append(Deviation(band, 100 * each["ellipticity"], 100 * each["ellipticity_error"], stars))
    return judge("width", widths), judge("ellipticity", turns)


def held_out_verdict(
    exposures: Sequence[Seen], detections: Detections, reference: tuple[Floats, Floats] | None = None
) -> tuple[Judged, Judged]:
    """Judge the headers and a network by stars that the network has not seen.

    Returns
    -------
    The verdicts before and after. The applied solution uses all stars, and is better by the root of 4 / 5.
    """
    if not exposures:
        nothing = Judged((), detections, np.zeros(0, dtype=int))
        return nothing, nothing
    whole = solve_network(exposures, detections)
    matched, stars = stars_of(whole, detections)
    judging = matched[stars % JUDGED_PART == 0]
    others = np.ones(len(detections.exposure), dtype=bool)
    others[judging] = False
    solved = solve_network(exposures, detections.select(others))
    judged, numbers = detections.select(judging), stars[stars % JUDGED_PART == 0]
    before = _judged(exposures, judged, numbers, reference)
    if reference is not None:
        solved, _ = tie_to_catalogue(solved, detections.select(others), *reference)
    return before, _judged(exposures, solved.displaced(judged), numbers, reference)


def _judged(
    exposures: Sequence[Seen], detections: Detections, stars: Integers, reference: tuple[Floats, Floats] | None
) -> Judged:
    metrics = judge_astrometry(exposures, detections, stars, reference)
    return Judged((*metrics, judge_scale(exposures, detections), judge_matches(detections, stars)), detections, stars)


def null_verdict(exposures: Sequence[Seen], judged: Judged) -> tuple[Metric, ...]:
    """Judge the same stars as if nothing but their errors were wrong: the null test."""
    if not exposures:
        return ()
    return _judged(exposures, _pure_noise(judged.detections, judged.stars), judged.stars, None).metrics


def _pure_noise(detections: Detections, stars: Integers) -> Detections:
    first = _first_of(stars)
    vectors = detections.vectors[first[stars]]
    noise = np.random.default_rng(NULL_SEED).standard_normal((2, len(stars))) * detections.errors / MAS_PER_RADIAN
    moved = vectors + np.einsum("an,ani->ni", noise, np.stack(tangent_axes(vectors)))
    return replace(detections, vectors=moved)


def fitted_scale(exposures: Sequence[Seen], detections: Detections) -> tuple[float, float]:
    """Scale by which the distances of detectors differ from their headers', and its error.

    Uncorrected aberration gives -(1 - VA_SCALE), which no rigid shift of an exposure removes.

    Returns
    -------
    The scale and its error; NaN where stars connect too few detectors.
    """
    scale, error = _detector_scale(exposures, detections)
    # Priors hold the places of detectors: how much of a known scale comes back tells by how much.
    axes, _ = telescope_axes(exposures, detections)
    lever = np.array([one.point for one in exposures]).reshape(-1, 2)[detections.exposure] - MIDDLE_ARCSEC
    steps = -TRIAL_SCALE * lever / ARCSEC_PER_RADIAN
    trial = replace(detections, vectors=detections.vectors + np.einsum("na,ani->ni", steps, axes))
    response = (_detector_scale(exposures, trial)[0] - scale) / TRIAL_SCALE
    return (scale / response, error / response) if response > LEAST_RESPONSE else (np.nan, np.nan)


def _detector_scale(exposures: Sequence[Seen], detections: Detections) -> tuple[float, float]:
    """Scale of the places of detectors in a network, which priors pull to zero."""
    network = solve_network(exposures, detections)
    # The common offset of all filters of a detector is a shift of the detector.
    place, of_filter = network.frame.columns[:, 2], network.frame.columns[:, 3]
    moved = np.stack([network.unknowns[place + axis] + network.unknowns[of_filter + axis] for axis in (0, 1)], axis=1)
    names = np.array([one.detector for one in exposures])
    every = np.array([one.point for one in exposures])
    lever, shifts = (
        np.array([values[names == name].mean(axis=0) for name in np.unique(names)]) for values in (every, moved)
    )
    lever, shifts = lever - lever.mean(axis=0), shifts - shifts.mean(axis=0)
    if len(lever) < FEWEST:
        return np.nan, np.nan
    square = float(np.sum(lever**2))
    scale = float(np.sum(lever * shifts)) / square
    # Two means and the scale are fitted.
    scatter = float(np.std(shifts - scale * lever, ddof=3))
    return scale * SCALE_PER_MAS, scatter / np.sqrt(square) * SCALE_PER_MAS


def telescope_axes(exposures: Sequence[Seen], detections: Detections) -> tuple[Floats, Floats]:
    """Unit vectors along V2 and V3 at detections, shape (2, N, 3), and (V2, V3) in arcmin."""
    attitudes = np.array([one.attitude for one in exposures]).reshape(-1, 3, 3)[detections.exposure]
    telescope = np.einsum("nij,ni->nj", attitudes, detections.vectors)
    along_v2, along_v3 = tangent_axes(telescope)
    axes = np.stack([np.einsum("nij,nj->ni", attitudes, axis) for axis in (along_v2, along_v3)])
    place = ARCSEC_PER_RADIAN * np.stack([np.arctan2(telescope[:, 1], telescope[:, 0]), telescope[:, 2]], axis=1)
    return axes, place / 60


def differences(labels: Labels, detections: Detections, stars: Integers, axes: Floats) -> tuple[Flags, Floats, Floats]:
    """Each detection minus the mean of those of its star with other labels.

    Parameters
    ----------
    labels, detections, stars
        Detections, their labels and the numbers of their stars.
    axes
        Two unit vectors at each detection, shape (2, N, 3).

    Returns
    -------
    Which detections have others, the differences along the axes in mas, shape (N, 2), and their errors per axis.
    """
    count = int(stars.max(initial=-1)) + 1
    both, own = np.unique(stars * len(labels.names) + labels.numbers, return_inverse=True)
    weight = detections.errors**-2.0
    first = _first_of(stars)
    steps = (detections.vectors - detections.vectors[first[stars]]) * MAS_PER_RADIAN
    others = np.zeros_like(steps)
    left = np.bincount(stars, weight, count)[stars] - np.bincount(own, weight, len(both))[own]
    has_other = left > 1e-9 * weight
    for axis in range(3):
        moment = weight * steps[:, axis]
        total = np.bincount(stars, moment, count)[stars] - np.bincount(own, moment, len(both))[own]
        others[:, axis] = total / np.where(has_other, left, 1.0)
    difference = steps - others
    plane = np.stack([np.sum(difference * axis, axis=1) for axis in axes], axis=1)
    return has_other, plane, np.sqrt(1 / weight + 1 / np.where(has_other, left, np.inf))


def _first_of(stars: Integers) -> Integers:
    """Index of the first detection of each star."""
    first = np.zeros(int(stars.max(initial=-1)) + 1, dtype=int)
    first[stars[::-1]] = np.arange(len(stars))[::-1]
    return first


def _offsets(labels: Labels, detections: Detections, stars: Integers, axes: Floats, places: Floats) -> list[Offset]:
    """Shift and roll of each label against the others."""
    usable, difference, sigma = differences(labels, detections, stars, axes)
    found = []
    for number, own in members_of(labels.numbers, usable):
        found.append(_shift_and_roll(str(labels.names[number]), difference[own], sigma[own], places[own], stars[own]))
    return found


def members_of(numbers: Integers, usable: Flags) -> Iterator[tuple[int, Integers]]:
    """Yield each number with the indices of its usable members; the cost grows with the members alone."""
    indices = np.flatnonzero(usable)
    indices = indices[np.argsort(numbers[indices], kind="stable")]
    starts = np.flatnonzero(np.diff(numbers[indices], prepend=-1))
    for own in np.split(indices, starts[1:]) if len(indices) else []:
        yield int(numbers[own[0]]), own


def _shift_and_roll(label: str, difference: Floats, sigma: Floats, places: Floats, stars: Integers) -> Offset:
    """Weighted, clipped fit; errors from the scatter of stars, each of which may be seen many times."""
    count = len(np.unique(stars))
    if count < FEWEST:
        return Offset(label, np.full(2, np.nan), np.inf, np.nan, np.inf, count)
    ones, zeros = np.ones(len(sigma)), np.zeros(len(sigma))
    middle = places.mean(axis=0)
    design = np.stack(
        [
            np.stack([ones, zeros, places[:, 1] - middle[1]], axis=1),
            np.stack([zeros, ones, middle[0] - places[:, 0]], axis=1),
        ],
        axis=1,
    )
    kept = np.full(len(sigma), True)
    solution: Floats = np.zeros(3)
    for _ in range(4):
        weight = kept / sigma**2
        normal = np.einsum("nai,n,naj->ij", design, weight, design) + 1e-9 * np.eye(3)
        solution = np.linalg.solve(normal, np.einsum("nai,n,na->i", design, weight, difference))
        left = np.hypot(*(difference - design @ solution).T) / sigma
        kept = left < CLIP_SIGMA * max(1.0, float(np.median(left)) / 1.18)
    inflation = max(1.0, float(np.median(left)) / 1.18)
    errors = inflation * np.sqrt(np.diag(np.linalg.inv(normal)) * len(stars) / count)
    shift_error = float(np.hypot(*errors[:2]) / np.sqrt(2))
    lever = min(float(np.hypot(*(places - middle).T).max()), 1.0)
    return Offset(label, solution[:2], shift_error, lever * float(solution[2]), lever * float(errors[2]), count)


def _cells(bands: Labels, detections: Detections, stars: Integers, axes: Floats, places: Floats) -> list[Deviation]:
    """Offset of each filter against the others in cells of the sky."""
    usable, difference, sigma = differences(bands, detections, stars, axes)
    cell = cells_of(detections)
    found = []
    for both, own in members_of(cell * len(bands.names) + bands.numbers, usable):
        band = str(bands.names[both % len(bands.names)])
        found.append(_shift_and_roll(band, difference[own], sigma[own], places[own], stars[own]).deviation)
    return found


def cells_of(detections: Detections) -> Integers:
    """Number of the cell of the sky that each detection is in."""
    x, y, z = detections.vectors.T
    declination = np.arcsin(np.clip(z, -1, 1))
    row = np.floor(declination * ARCSEC_PER_RADIAN / CELL_ARCSEC).astype(int)
    column = np.floor(
        np.arctan2(y, x) * np.cos(row * CELL_ARCSEC / ARCSEC_PER_RADIAN) * ARCSEC_PER_RADIAN / CELL_ARCSEC
    )
    numbers: Integers = np.unique(np.stack([row, column.astype(int)], axis=1), axis=0, return_inverse=True)[1]
    return numbers


def _absolute(detections: Detections, reference: Floats, errors: Floats) -> list[Deviation]:
    """Offset of all detections from a catalogue."""
    together = np.concatenate([detections.vectors, reference])
    pairs = close_pairs(together, 1000.0)
    count = len(detections.vectors)
    pairs = np.sort(pairs, axis=1)
    pairs = pairs[(pairs[:, 0] < count) & (pairs[:, 1] >= count)]
    steps = (together[pairs[:, 0]] - together[pairs[:, 1]]) * MAS_PER_RADIAN
    plane = np.stack([np.sum(steps * axis, axis=1) for axis in tangent_axes(together[pairs[:, 0]])], axis=1)
    near = at_peak(plane)
    if near is None:
        return []
    known = pairs[near, 1] - count
    stars = np.unique(known)
    medians = np.array([np.median(plane[near][known == star], axis=0) for star in stars])
    if len(stars) < FEWEST:
        return [Deviation("the survey", np.nan, np.inf, len(stars))]
    error = float(np.sqrt(np.mean(errors[stars] ** 2 + np.mean(np.var(medians, axis=0))) / len(stars)))
    return [Deviation("the survey", float(np.hypot(*np.median(medians, axis=0))), error, len(stars))]
