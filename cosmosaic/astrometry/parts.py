"""The verdict on astrometry by filter, by pair of filters and by tile, and all of it as a table."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cosmosaic.astrometry.matching import MAS_PER_RADIAN, SEARCH_MAS
from cosmosaic.astrometry.metrics import Metric, state_of
from cosmosaic.astrometry.network import Detections, Seen
from cosmosaic.astrometry.reference import Reference
from cosmosaic.astrometry.solution import OF_ONE_FILTER
from cosmosaic.astrometry.verdict import (
    Judged,
    judge_astrometry,
    judge_scale,
    members_of,
    without_others,
)
from cosmosaic.geometry.sphere import directions
from cosmosaic.geometry.windows import tiles_around
from cosmosaic.records import MosaicGrid

Integers = NDArray[np.integer]
Scope = Literal["survey", "filter", "filters", "tile"]

OF_FILTER = (*OF_ONE_FILTER, "scale")
OF_PAIR = ("filter", "cell")


class Part(NamedTuple):
    """What a metric is about."""

    scope: Scope
    filter: str = ""
    """The filter, or the first of two."""
    other_filter: str = ""
    tile: str = ""


WHOLE = Part("survey")
JudgedPart = tuple[Part, Sequence[Metric]]


def judge_parts(
    exposures: Sequence[Seen], judged: Judged, reference: Reference | None, tiles: Sequence[MosaicGrid]
) -> list[JudgedPart]:
    """Judge each filter, each pair of filters and each tile by its own stars.

    Parameters
    ----------
    exposures
        All exposures.
    judged
        The stars that judge, where they are to be judged.
    reference
        The reference catalogue, if there is one.
    tiles
        Windows of one lattice.
    """
    # Survey-wide, so that a tile that one module has not seen is not measurable.
    single = without_others(exposures)
    parts: list[JudgedPart] = []
    for part, kinds, own in _parts(exposures, judged, tiles):
        some = Judged((), judged.detections.select(own), judged.stars[own])
        metrics = _judge(exposures, some, reference, single, part.scope)
        parts.append((part, [one for one in metrics if one.name in kinds]))
    return parts


def _parts(
    exposures: Sequence[Seen], judged: Judged, tiles: Sequence[MosaicGrid]
) -> Iterator[tuple[Part, Sequence[str], Integers]]:
    """Yield each part, the kinds of errors that are judged in it, and its detections."""
    names, numbers = np.unique([one.band for one in exposures], return_inverse=True)
    of_filter = numbers[judged.detections.exposure] if len(exposures) else np.zeros(0, dtype=int)
    bands = dict(members_of(of_filter, np.full(len(of_filter), True)))
    none = np.zeros(0, dtype=int)
    for number, band in enumerate(names):
        yield Part("filter", str(band)), OF_FILTER, bands.get(number, none)
    for one, other in combinations(range(len(names)), 2):
        own = np.concatenate([bands.get(one, none), bands.get(other, none)])
        yield Part("filters", str(names[one]), str(names[other])), OF_PAIR, own
    of_tile = _in_tiles(judged, tiles)
    for number, tile in enumerate(tiles):
        yield Part("tile", tile=tile.tile), (*OF_FILTER, *OF_PAIR), of_tile.get(number, none)


def _judge(
    exposures: Sequence[Seen], judged: Judged, reference: Reference | None, single: set[str], scope: Scope
) -> list[Metric]:
    """Judge some detections; the cost grows with them, not with the survey."""
    detections = judged.detections
    used, numbers = np.unique(detections.exposure, return_inverse=True)
    own = Detections(numbers, detections.vectors, detections.errors, detections.fluxes)
    seen = [exposures[number] for number in used]
    stars = np.unique(judged.stars, return_inverse=True)[1]
    metrics = judge_astrometry(seen, own, stars, reference and _near(own, reference), single)
    return [*metrics, judge_scale(seen, own)] if scope == "filter" else list(metrics)


def _near(detections: Detections, reference: Reference) -> Reference:
    """The stars of a catalogue near detections."""
    vectors, errors = reference
    if not len(detections.vectors) or not len(vectors):
        return Reference(vectors[:0], errors[:0])
    near = KDTree(vectors).query_ball_point(detections.vectors, SEARCH_MAS / MAS_PER_RADIAN)
    chosen = np.unique(np.concatenate([np.array(each, dtype=int) for each in near]))
    return Reference(vectors[chosen], errors[chosen])


def _in_tiles(judged: Judged, tiles: Sequence[MosaicGrid]) -> dict[int, Integers]:
    """Detections by the number of each tile that has any; a star counts where its first detection is."""
    stars = judged.stars
    if not tiles or not len(stars):
        return {}
    _, first = np.unique(stars, return_index=True)
    inside, tile = tiles_around(tiles, directions(judged.detections.vectors[first]))
    by_star = dict(members_of(stars, np.full(len(stars), True)))
    return {
        number: np.concatenate([by_star[int(stars[first[one]])] for one in inside[own]])
        for number, own in members_of(tile, np.full(len(tile), True))
    }


def verdict_table(judged: Mapping[str, Sequence[Metric]], parts: Mapping[str, Sequence[JudgedPart]]) -> QTable:
    """Return all metrics as a table; its meta has the state and the reasons.

    Parameters
    ----------
    judged
        Metrics of the survey ``before``, ``after`` and of pure ``noise``.
    parts
        Those of its parts, before and after.
    """
    rows = [(when, *WHOLE, *one) for when, metrics in judged.items() for one in metrics]
    rows += [(when, *part, *one) for when, each in parts.items() for part, metrics in each for one in metrics]
    names = ("when", *Part._fields, *Metric._fields)
    table = QTable(rows=rows, names=names) if rows else QTable(names=names)
    for name in ("value", "error", "rms", "in_errors"):
        table[name] = np.round(np.asarray(table[name], dtype=float), 4)
    after = judged["after"] or judged["before"]
    table.meta |= {
        "state": state_of(after),
        "reasons": [one.message for one in after if one.state in ("warn", "fail")],
    }
    return table
