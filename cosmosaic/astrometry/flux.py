"""Flux scale of the detectors: how bright the same stars are on each, filter by filter."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cosmosaic.astrometry.flux_solution import Detector, DetectorScale, FluxCorrection
from cosmosaic.astrometry.network import Detections, Seen
from cosmosaic.statistics import scatter_about_zero

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

FEWEST = 5
"""A detector needs this many stars that another one has, too."""
ITERATIONS = 8
HUBER_SIGMA = 2.0
LEAST_SCATTER_MAG = 0.002
SIGNIFICANT_SIGMA = 4.0
"""Smaller offsets are not corrected; one of a hundred detectors may reach 3 by chance."""


class FluxScale(NamedTuple):
    """Difference in magnitude of stars on a detector from the mean of its group."""

    band: str
    detector: str
    offset: float
    """mag."""
    error: float
    """mag."""
    stars: int
    """Stars that another detector has, too."""
    group: int
    """Number of the detectors of one filter that common stars connect."""


def detector_fluxes(exposures: Sequence[Seen], detections: Detections, stars: Integers) -> list[FluxScale]:
    """Measure the flux scale of each detector against the others of its filter.

    Parameters
    ----------
    exposures
        All exposures.
    detections
        Detections with fluxes; stars without flux say nothing.
    stars
        Number of the star of each.

    Returns
    -------
    list of FluxScale
        Offsets of detectors that share stars with others of their filter; their mean is zero in each group that common
        stars connect.
    """
    bands = np.array([one.band for one in exposures])[detections.exposure]
    names = np.array([one.detector for one in exposures])[detections.exposure]
    found: list[FluxScale] = []
    for band in np.unique(bands):
        own = (bands == band) & (detections.fluxes > 0)
        scales = _of_filter(str(band), names[own], -2.5 * np.log10(detections.fluxes[own]), stars[own])
        first = 1 + max((one.group for one in found), default=-1)
        found += [one._replace(group=first + one.group) for one in scales]
    return found


def flux_corrections(measured: Sequence[FluxScale], kept: Sequence[FluxCorrection]) -> tuple[DetectorScale, ...]:
    """Decide by how much each detector is corrected.

    Corrections of an earlier run stay, and those of other detectors are relative to them, or to the mean of their group
    if it has none. Offsets that are not significant are not corrected.

    Parameters
    ----------
    measured
        Flux scales of all detectors that share stars with others.
    kept
        Corrections of an earlier run that stay.
    """
    known = {(one.band, one.detector): one for one in kept}
    own = {(one.band, one.detector): one for one in measured}
    zero = {group: _zero_of(group, own, known) for group in {one.group for one in measured}}
    found = []
    for key in sorted(own.keys() | known.keys()):
        one = own.get(key, FluxScale(*key, offset=np.nan, error=np.nan, stars=0, group=-1))
        value = one.offset + zero.get(one.group, 0.0)
        is_certain = abs(value) > SIGNIFICANT_SIGMA * one.error
        found.append(
            DetectorScale(
                band=one.band,
                detector=one.detector,
                offset=round(one.offset, 5),
                error=round(one.error, 5),
                stars=one.stars,
                group=one.group,
                correction=known[key].correction if key in known else round(value, 5) if is_certain else 0.0,
                kept=key in known,
            )
        )
    return tuple(found)


def corrected(scales: Sequence[DetectorScale]) -> tuple[DetectorScale, ...]:
    """Return flux scales as they are after the corrections."""
    left = [one.model_copy(update={"offset": one.offset - one.correction}) for one in scales]
    # A correction that all detectors of a group have in common changes none against the others.
    groups = {group: [one.offset for one in left if one.group == group] for group in {one.group for one in left}}
    return tuple(one.model_copy(update={"offset": one.offset - float(np.mean(groups[one.group]))}) for one in left)


def _zero_of(group: int, own: Mapping[Detector, FluxScale], known: Mapping[Detector, FluxCorrection]) -> float:
    """What brings the offsets of a group onto the corrections that are kept, mag."""
    both = [key for key, one in own.items() if one.group == group and key in known]
    if not both:
        return 0.0
    weights = [own[key].error ** -2 for key in both]
    return float(np.average([known[key].correction - own[key].offset for key in both], weights=weights))


def _of_filter(band: str, names: NDArray[np.str_], magnitudes: Floats, stars: Integers) -> list[FluxScale]:
    """Robust least squares for an offset of each detector and a magnitude of each star, which is eliminated."""
    shared = _seen_by_several(names, stars)
    names, magnitudes, stars = names[shared], magnitudes[shared], stars[shared]
    detectors, number = np.unique(names, return_inverse=True)
    if len(detectors) < 2:
        return []
    _, star = np.unique(stars, return_inverse=True)
    group = _connected(number, star)
    design = np.eye(len(detectors))[number]
    weight: Floats = np.ones(len(number))
    offsets: Floats = np.zeros(len(detectors))
    scatter = 0.0
    covariance: Floats = np.eye(len(detectors))
    for _ in range(ITERATIONS):
        centred, values = (_without_star(each, star, weight) for each in (design, magnitudes[:, None]))
        # The mean of a group, which no star determines, is zero: of all by the ones, of each by the pseudoinverse.
        normal = centred.T @ (weight[:, None] * centred) + np.ones((len(detectors),) * 2)
        covariance = np.linalg.pinv(normal)
        offsets = covariance @ (centred.T @ (weight * values[:, 0]))
        left = values[:, 0] - centred @ offsets
        scatter = max(scatter_about_zero(left), LEAST_SCATTER_MAG)
        weight = np.minimum(1.0, HUBER_SIGMA * scatter / np.maximum(np.abs(left), 1e-9))
    errors = scatter * np.sqrt(np.maximum(np.diag(covariance) - 1 / len(detectors) ** 2, 0))
    counts = [len(np.unique(star[number == one])) for one in range(len(detectors))]
    return [
        FluxScale(band, str(name), float(offset), float(error), count, int(of))
        for name, offset, error, count, of in zip(detectors, offsets, errors, counts, group, strict=True)
        if count >= FEWEST
    ]


def _seen_by_several(names: NDArray[np.str_], stars: Integers) -> NDArray[np.bool_]:
    """Find which detections are of stars that more than one detector has."""
    _, number = np.unique(names, return_inverse=True)
    pairs = np.unique(np.stack([stars, number], axis=1), axis=0)
    several, counts = np.unique(pairs[:, 0], return_counts=True)
    return np.isin(stars, several[counts > 1])


def _connected(detector: Integers, star: Integers) -> Integers:
    """Number of the group of each detector: those that common stars connect, directly or through others."""
    seen = coo_array((np.ones(len(star)), (detector, star))).tocsr()
    groups: Integers = connected_components(seen @ seen.T, directed=False)[1]
    return groups


def _without_star(values: Floats, star: Integers, weight: Floats) -> Floats:
    """Values minus their weighted mean over each star, shape (N, K)."""
    total = np.bincount(star, weight)
    means = np.stack([np.bincount(star, weight * column) / total for column in values.T], axis=1)
    return values - means[star]
