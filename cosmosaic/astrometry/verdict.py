"""Agreement of exposures, detectors, modules and filters about the positions of stars, and a verdict on it.

A detection is compared with the mean of the same star's detections that have another label: another pointing, visit,
detector, module or filter. The common part of all detections of a label, a shift and for pointings and visits a roll,
is its error against the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray

from cosmosaic.astrometry.flux_solution import DetectorScale
from cosmosaic.astrometry.matching import MAS_PER_RADIAN, at_peak, close_pairs, tangent_axes
from cosmosaic.astrometry.network import (
    FEWEST_STARS,
    LEVER_ARCSEC,
    MIDDLE_ARCSEC,
    Detections,
    Seen,
    solve_network,
    stars_of,
    tie_to_catalogue,
)
from cosmosaic.geometry.sphere import ARCSEC_PER_RADIAN
from cosmosaic.records import STATES, State

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
Flags = NDArray[np.bool_]

LIMITS = {
    "exposure": (2.0, 8.0),
    "roll": (2.0, 4.0),
    "detector": (1.5, 5.0),
    "module": (2.0, 8.0),
    "filter": (3.0, 8.0),
    "cell": (10.0, 20.0),
    "absolute": (5.0, 15.0),
    "flux": (20.0, 100.0),
    "width": (2.0, 8.0),
    "ellipticity": (2.0, 8.0),
}
"""Largest value that passes, and that does not fail, mas or `UNITS`. A roll counts at `LEVER_ARCSEC`."""
UNITS = {"flux": "mmag", "width": "%", "ellipticity": "%"}
"""Units other than mas."""
SIGMA = 4.5
"""The worst of many exposures is this far off by chance."""
FEWEST = 5
"""A label with fewer stars says nothing."""
JUDGED_PART = 5
"""One star in this many judges, and does not take part in the solution that it judges."""
CELL_ARCSEC = 120.0
CLIP_SIGMA = 4.0
SCALE_PER_MAS = 1e-3
WORDS = {
    "exposure": "exposure {} is offset by {:.1f} +- {:.1f} mas from the others",
    "roll": "{} is rotated by {:.1f} +- {:.1f} mas at 100 arcsec from the others",
    "detector": "detector {} is offset by {:.1f} +- {:.1f} mas from the others",
    "module": "module {} is offset by {:.1f} +- {:.1f} mas from the other; see align.aberration",
    "filter": "filter {} is offset by {:.1f} +- {:.1f} mas from the others",
    "cell": "filter {} is offset by {:.1f} +- {:.1f} mas from the others in a cell of 2 arcmin",
    "absolute": "{} is offset by {:.1f} +- {:.1f} mas from the reference catalogue; check its epoch and proper motions",
    "flux": "{}: the same stars differ by {:.0f} +- {:.0f} mmag from the mean of the detectors; see"
    " exposures.flux_scale and resolve",
    "width": "{}: stars of the mosaic are {:.1f} +- {:.1f} % wider than those of its exposures",
    "ellipticity": "{}: stars of the mosaic differ in ellipticity by {:.1f} +- {:.1f} % from those of its exposures",
}


class Metric(NamedTuple):
    """The worst of one kind of error."""

    name: str
    value: float
    """NaN if not measurable."""
    error: float
    rms: float
    """Rms over all of the kind, without the part of noise."""
    unit: str
    number: int
    """Number of labels of the kind."""
    where: str
    state: State
    message: str


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
    roll_error: float


def judge_astrometry(
    exposures: Sequence[Seen], detections: Detections, stars: Integers, reference: tuple[Floats, Floats] | None = None
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
    """
    kinds = {
        "exposure": [f"{one.visit} {one.pointing}" for one in exposures],
        "roll": [f"visit {one.visit}" for one in exposures],
        "detector": [one.detector for one in exposures],
        "module": [one.detector[3] for one in exposures],
        "filter": [one.band for one in exposures],
    }
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
    metrics = [
        _metric(kind, [(one.label, float(np.hypot(*one.shift)), one.error) for one in found[kind]])
        for kind in ("exposure", "detector", "module", "filter")
    ]
    metrics.insert(1, _metric("roll", [(one.label, abs(one.roll), one.roll_error) for one in rolls]))
    metrics.append(_metric("cell", _cells(labels["filter"], detections, stars, axes, places)))
    if reference is not None:
        metrics.append(_metric("absolute", _absolute(detections, *reference)))
    return tuple(metrics)


def judge_fluxes(scales: Sequence[DetectorScale]) -> Metric:
    """Judge the flux scales of detectors, as they were measured."""
    known = [
        (f"{one.band} {one.detector}", 1000 * abs(one.offset), 1000 * one.error)
        for one in scales
        if np.isfinite(one.offset)
    ]
    return _metric("flux", known)


def judge_sharpness(band: str, measured: Mapping[str, float]) -> tuple[Metric, Metric]:
    """Judge the width and ellipticity of a mosaic's stars against those of its exposures.

    Parameters
    ----------
    band
        The filter.
    measured
        ``fwhm_ratio``, ``ellipticity`` and their errors, ``_error``; NaN where there are too few stars.
    """
    widths = (band, 100 * (measured["fwhm_ratio"] - 1), 100 * measured["fwhm_ratio_error"])
    turns = (band, 100 * measured["ellipticity"], 100 * measured["ellipticity_error"])
    return _metric("width", [widths]), _metric("ellipticity", [turns])


def state_of(metrics: Sequence[Metric]) -> State:
    """The worst state of the measurable metrics, if there are any."""
    measured = [one.state for one in metrics if one.state != "not measurable"]
    return max(measured, key=STATES.index, default="not measurable")


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
    before = Judged(judge_astrometry(exposures, judged, numbers, reference), judged, numbers)
    if reference is not None:
        solved, _ = tie_to_catalogue(solved, detections.select(others), *reference)
    moved = solved.displaced(judged)
    return before, Judged(judge_astrometry(exposures, moved, numbers, reference), moved, numbers)


def fitted_scale(exposures: Sequence[Seen], detections: Detections) -> tuple[float, float]:
    """Scale by which the distances of detectors differ from their headers', and its error.

    Uncorrected aberration gives -(1 - VA_SCALE), which no rigid shift of an exposure removes.
    """
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
    if len(lever) < FEWEST_STARS:
        return np.nan, np.nan
    square = float(np.sum(lever**2))
    scale = float(np.sum(lever * shifts)) / square
    scatter = float(np.std(shifts - scale * lever))
    return scale * SCALE_PER_MAS, scatter / np.sqrt(square) * SCALE_PER_MAS


def verdict_table(before: Sequence[Metric], after: Sequence[Metric]) -> QTable:
    """Return metrics before and after as a table; its meta has the state and the reasons."""
    rows = [("before", *one) for one in before] + [("after", *one) for one in after]
    names = ("when", *Metric._fields)
    table = QTable(rows=rows, names=names) if rows else QTable(names=names)
    for name in ("value", "error", "rms"):
        table[name] = np.round(np.asarray(table[name], dtype=float), 4)
    judged = after or before
    table.meta |= {
        "state": state_of(judged),
        "reasons": [one.message for one in judged if one.state in ("warn", "fail")],
    }
    return table


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
    first = np.zeros(count, dtype=int)
    first[stars[::-1]] = np.arange(len(stars))[::-1]
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


def _offsets(labels: Labels, detections: Detections, stars: Integers, axes: Floats, places: Floats) -> list[Offset]:
    """Shift and roll of each label against the others."""
    usable, difference, sigma = differences(labels, detections, stars, axes)
    found = []
    for number, own in _members(labels.numbers, usable):
        if len(np.unique(stars[own])) >= FEWEST:
            name = str(labels.names[number])
            found.append(_shift_and_roll(name, difference[own], sigma[own], places[own], stars[own]))
    return found


def _members(numbers: Integers, usable: Flags) -> Iterator[tuple[int, Integers]]:
    """Yield each number with the indices of its usable members; the cost grows with the members alone."""
    indices = np.flatnonzero(usable)
    indices = indices[np.argsort(numbers[indices], kind="stable")]
    starts = np.flatnonzero(np.diff(numbers[indices], prepend=-1))
    for own in np.split(indices, starts[1:]) if len(indices) else []:
        yield int(numbers[own[0]]), own


def _shift_and_roll(label: str, difference: Floats, sigma: Floats, places: Floats, stars: Integers) -> Offset:
    """Weighted, clipped fit; errors from the scatter of stars, each of which may be seen many times."""
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
    often = len(stars) / len(np.unique(stars))
    errors = inflation * np.sqrt(np.diag(np.linalg.inv(normal)) * often)
    return Offset(label, solution[:2], float(np.hypot(*errors[:2]) / np.sqrt(2)), float(solution[2]), float(errors[2]))


def _cells(
    bands: Labels, detections: Detections, stars: Integers, axes: Floats, places: Floats
) -> list[tuple[str, float, float]]:
    """Offset of each filter against the others in cells of the sky."""
    usable, difference, sigma = differences(bands, detections, stars, axes)
    cell = cells_of(detections)
    found = []
    for both, own in _members(cell * len(bands.names) + bands.numbers, usable):
        if len(np.unique(stars[own])) >= FEWEST:
            band = str(bands.names[both % len(bands.names)])
            one = _shift_and_roll(band, difference[own], sigma[own], places[own], stars[own])
            found.append((one.label, float(np.hypot(*one.shift)), one.error))
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


def _absolute(detections: Detections, reference: Floats, errors: Floats) -> list[tuple[str, float, float]]:
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
    error = float(np.sqrt(np.mean(errors[stars] ** 2 + np.mean(np.var(medians, axis=0))) / len(stars)))
    return [("the survey", float(np.hypot(*np.median(medians, axis=0))), error)]


def _metric(kind: str, found: list[tuple[str, float, float]]) -> Metric:
    """Judge the worst of one kind."""
    passes, fails = LIMITS[kind]
    unit = UNITS.get(kind, "mas")
    # An uncertain offset is not significant unless it exceeds its uncertainty.
    known = [one for one in found if SIGMA * one[2] < max(fails, one[1] - passes)]
    if not known or (len(known) < 2 and kind in ("exposure", "detector", "filter")):
        return Metric(
            kind, np.nan, np.nan, np.nan, unit, len(known), "", "not measurable", f"too few stars for the {kind}"
        )
    values, errors = (np.array([one[place] for one in known]) for place in (1, 2))
    where, value, error = known[int(np.argmax(values - SIGMA * errors))]
    rms = float(np.sqrt(max(float(np.mean(values**2 - 2 * errors**2)), 0.0)))
    certain = value > SIGMA * error
    state: State = "pass"
    if certain and value > passes:
        state = "fail" if value - SIGMA * error > passes and value > fails else "warn"
    return Metric(kind, value, error, rms, unit, len(known), where, state, WORDS[kind].format(where, value, error))
