"""The census of a survey: the windows' added up."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosmosaic.census.files import (
    DEPTH_EDGES,
    MAGNITUDE_EDGES,
    RULES,
    SAMPLE_ROWS,
    BandCensus,
    Census,
    CensusFacts,
    OddRow,
    Sample,
    read_census,
    read_facts,
)
from cosmosaic.census.odd import HANDFUL

DEPTH_PERCENTILES = (5.0, 50.0, 95.0)


class BandTotal(NamedTuple):
    """One filter of the survey."""

    name: str
    arcmin2: float | None
    """None if a window of the filter has no map of depths."""
    covered: int
    detected: int
    with_magnitude: int
    depths: tuple[float, ...] | None
    """At `DEPTH_PERCENTILES` of the area, from shallow to deep; None if not measured."""
    fwhm_arcsec: tuple[float, ...]
    """Of the PSFs of all windows, the least and the largest; empty without a PSF."""
    origins: tuple[str, ...]
    """Where the PSFs come from."""


class OddSource(NamedTuple):
    """A source that stands out, by one rule or several."""

    row: OddRow
    reasons: tuple[tuple[str, str], ...]
    """Rule, and reason in words."""
    bands: tuple[str, ...]
    """The filters of its stamps."""
    stamp: NDArray[np.uint8]


class SurveyCensus(NamedTuple):
    """The census of all windows."""

    windows: tuple[CensusFacts, ...]
    sources: int
    arcmin2: float | None
    """Sum over the windows; what windows share counts for each, as its sources do. None where not measured."""
    bands: tuple[BandTotal, ...]
    """By wavelength."""
    flags: dict[str, int]
    counts: NDArray[np.int64]
    """See `cosmosaic.census.files.Census`."""
    depths: NDArray[np.floating]
    sample: Sample
    odd: tuple[OddSource, ...]
    """By rule, those that stand out most first."""


def add_up(paths: Mapping[str, Path]) -> SurveyCensus:
    """Add up the census of each window, given by its name; one is in memory at a time."""
    facts = [read_facts(path) for path in paths.values()]
    bands = {(band.wavelength_um, band.name) for one in facts for band in one.bands}
    names = [name for _, name in sorted(bands)]
    places = {name: place for place, name in enumerate(names)}
    counts = np.zeros((len(names), 2, len(MAGNITUDE_EDGES) - 1), np.int64)
    depths = np.zeros((len(names), len(DEPTH_EDGES) - 1))
    sample, chosen, stamps = _no_sample(len(names)), _chosen(facts), dict[tuple[str, str], NDArray[np.uint8]]()
    for path in paths.values():
        census = read_census(path)
        own = [places[band.name] for band in census.facts.bands]
        counts[own] += census.counts
        depths[own] += census.depths
        sample = _merged(sample, census.sample, own)
        stamps |= _stamps(census, chosen)
    return SurveyCensus(
        windows=tuple(facts),
        sources=sum(one.sources for one in facts),
        arcmin2=_sum([one.arcmin2 for one in facts]),
        bands=tuple(_total(name, facts, depths[place]) for name, place in places.items()),
        flags={flag: sum(one.flags[flag] for one in facts) for flag in facts[0].flags},
        counts=counts,
        depths=depths,
        sample=sample,
        odd=_odd(chosen, facts, stamps),
    )


def quantiles(areas: NDArray[np.floating], percentiles: tuple[float, ...]) -> tuple[float, ...] | None:
    """Return the depths at percentiles of the area, given the area in each bin of `DEPTH_EDGES`; None without area."""
    total = np.concatenate([[0.0], np.cumsum(areas)])
    if total[-1] <= 0:
        return None
    # Where bins are empty, the area of the first edge with it counts.
    rising = np.concatenate([[True], np.diff(total) > 0])
    return tuple(
        float(value) for value in np.interp(np.array(percentiles) / 100 * total[-1], total[rising], DEPTH_EDGES[rising])
    )


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _total(name: str, facts: list[CensusFacts], areas: NDArray[np.floating]) -> BandTotal:
    own: list[BandCensus] = [band for one in facts for band in one.bands if band.name == name]
    widths = [band.psf_fwhm_arcsec for band in own if band.psf_fwhm_arcsec is not None]
    return BandTotal(
        name=name,
        arcmin2=_sum([band.arcmin2 for band in own]),
        covered=sum(band.covered for band in own),
        detected=sum(band.detected for band in own),
        with_magnitude=sum(band.with_magnitude for band in own),
        depths=quantiles(areas, DEPTH_PERCENTILES),
        fwhm_arcsec=tuple(sorted({min(widths), max(widths)})) if widths else (),
        origins=tuple(sorted({band.psf_origin for band in own if band.psf_origin})),
    )


def _no_sample(bands: int) -> Sample:
    none, by_band = np.zeros(0), np.zeros((0, bands))
    return Sample(none, by_band, by_band, none, none, none)


def _merged(sample: Sample, other: Sample, own: list[int]) -> Sample:
    """The sample of what two are samples of; ``own`` are the places of the other's filters among all."""
    wide = {}
    for name in ("magnitude", "snr"):
        wide[name] = np.full((len(other.rank), sample.magnitude.shape[1]), np.nan, np.float32)
        wide[name][:, own] = getattr(other, name)
    joined = (np.concatenate(pair) for pair in zip(sample, other._replace(**wide), strict=True))
    return Sample(*joined).lowest(SAMPLE_ROWS)


def _chosen(facts: list[CensusFacts]) -> list[OddRow]:
    """The rows that stand out most by each rule, over all windows."""
    every = [row for one in facts for row in one.odd]
    return [
        row
        for rule in RULES
        for row in sorted((row for row in every if row.rule == rule), key=lambda row: -row.score)[:HANDFUL]
    ]


def _stamps(census: Census, chosen: list[OddRow]) -> dict[tuple[str, str], NDArray[np.uint8]]:
    return {(row.window, row.id): census.stamps[row.stamp] for row in chosen if row.window == census.facts.window}


def _odd(
    chosen: list[OddRow], facts: list[CensusFacts], stamps: Mapping[tuple[str, str], NDArray[np.uint8]]
) -> tuple[OddSource, ...]:
    bands = {one.window: tuple(band.name for band in one.bands) for one in facts}
    first = {(row.window, row.id): row for row in reversed(chosen)}
    reasons = {
        place: tuple((row.rule, row.reason) for row in chosen if (row.window, row.id) == place) for place in first
    }
    return tuple(
        OddSource(first[place], reasons[place], bands[place[0]], stamps[place])
        for place in dict.fromkeys((row.window, row.id) for row in chosen)
    )
