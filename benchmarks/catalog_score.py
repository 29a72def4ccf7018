"""Figures of catalogues from the tables that `benchmarks/catalog.py` keeps, pooled over seeds.

S/N is that of a star of the source's flux in an aperture of 0.3 arcsec, by the map of depths: in the filter, or in the
sum of all filters where a program detects there. Isolated means no brighter neighbour within 1 arcsec. Sources and rows
under a single exposure of some filter count for ``purity_single_pct`` and the injection alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.stats import mad_std
from astropy.table import Table, vstack
from catalog_programs import ALL, numbers
from catalog_survey import FILTERS
from numpy.typing import NDArray

from cosmosaic.injection.corrections import GalaxyCorrection, shapes_of
from cosmosaic.injection.recovery import SPOILT

BRIGHT_STAR_NJY = 57544.0
"""AB magnitude 19.5."""
SURE_SNR, GALAXY_SNR, COLOUR_SNR, SHREDDED_SNR, INJECTED_SNR = 100.0, 20.0, 50.0, 50.0, 20.0
PULL_SNR, POSITION_SNR, PURE_SNR = (5.0, 50.0), (10.0, 200.0), 5.0
COMPLETENESS_SNR = {"10": (8.0, 12.0), "5": (4.0, 6.0)}
COMPARED_SNR = np.geomspace(3.0, 24.0, 7)
"""Bins of S/N in which the completeness of injected stars is compared with that of the survey's own."""
FEWEST = 10
"""A figure that rests on fewer is null."""
INDICES = (1, 4)

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tables:
    """What was kept of one program over several seeds."""

    truth: Table
    """With the column ``seed``."""
    sources: Table
    rows: Table

    @classmethod
    def of(cls, seeds: Sequence[tuple[Table, Table, Table]]) -> "Tables":
        """Join the tables (truth, sources, rows) of several seeds."""
        return cls(*(vstack(list(parts), metadata_conflicts="silent") for parts in zip(*seeds, strict=True)))

    @property
    def detections(self) -> list[str]:
        """Names of the detections: all filters together, or one by one."""
        return [name.removeprefix("found_") for name in self.sources.colnames if name.startswith("found_")]

    def ratio(self, band: str, kind: str = "total") -> Floats:
        """Measured over true flux."""
        return self.values(f"{band}_{kind}") / np.asarray(self.truth[f"flux_{band}"])

    def values(self, name: str) -> Floats:
        """A column of the sources' rows; NaN if the program has none."""
        return numbers(self.sources[name]) if name in self.sources.colnames else np.full(len(self.truth), np.nan)

    def chosen(self, snr: str, low: float, high: float = np.inf, star: bool | None = True) -> Mask:
        """Isolated sources of some S/N under two exposures and more: stars, galaxies (False), or all (None)."""
        value = np.asarray(self.truth[f"snr_{snr}"])
        return self.isolated & self.deep & self.of_kind(star) & (value > low) & (value < high)

    def of_kind(self, star: bool | None) -> Mask:
        """Stars, galaxies or all."""
        is_star = np.asarray(self.truth["kind"]) == "star"
        return np.ones(len(is_star), bool) if star is None else is_star == star

    @property
    def isolated(self) -> Mask:
        """Sources without a brighter neighbour."""
        return np.asarray(self.truth["isolated"], bool)

    @property
    def deep(self) -> Mask:
        """Sources under two exposures and more of each filter."""
        return np.asarray(self.truth["exposures"]) > 1


@dataclass
class Figures:
    """Figures by name, and the number of sources that each rests on."""

    values: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)

    def put(self, name: str, value: Any, count: Any) -> None:
        """Note a figure; by filter if these are dictionaries."""
        self.values[name], self.counts[name] = value, count

    def put_worst(self, name: str, by_filter: dict[str, tuple[float | None, int]]) -> None:
        """Note the largest deviation of all filters, and the least number."""
        known = [abs(value) for value, _ in by_filter.values() if value is not None]
        self.put(name, max(known) if known else None, min((count for _, count in by_filter.values()), default=0))


def score(tables: Tables) -> Figures:
    """Return the figures of one program that need nothing but its catalogues."""
    figures = Figures()
    _score_detection(tables, figures)
    _score_rows(tables.rows, figures)
    stars = {band: tables.chosen(band, SURE_SNR) & np.asarray(tables.truth[f"unsaturated_{band}"]) for band in FILTERS}
    figures.put_worst("star_mag_bias", {band: bias(tables.ratio(band)[stars[band]]) for band in FILTERS})
    galaxies = {}
    for index in INDICES:
        has_index = np.asarray(tables.truth["sersic_n"]) == index
        galaxies[index] = {
            band: bias(tables.ratio(band)[tables.chosen(band, GALAXY_SNR, star=False) & has_index]) for band in FILTERS
        }
    worst = {index: Figures() for index in INDICES}
    for index, one in worst.items():
        one.put_worst("bias", galaxies[index])
    figures.put(
        "galaxy_mag_bias_uncorrected",
        {f"n = {index}": one.values["bias"] for index, one in worst.items()},
        {f"n = {index}": one.counts["bias"] for index, one in worst.items()},
    )
    for name, kind in (("pull_aperture", "aperture"), ("pull_kron", "kron"), ("pull_total", "total")):
        put_pulls(figures, name, tables, kind)
    _score_positions(tables, figures)
    return figures


def _score_detection(tables: Tables, figures: Figures) -> None:
    for name, (low, high) in COMPLETENESS_SNR.items():
        found = [np.asarray(tables.sources[f"found_{one}"])[tables.chosen(one, low, high)] for one in tables.detections]
        figures.put(f"completeness_{name}_pct", *percentage(np.concatenate(found)))
    pieces, around = [], []
    for one in tables.detections:
        bright = (np.asarray(tables.truth[f"snr_{one}"]) > SHREDDED_SNR) & tables.of_kind(False) & tables.deep
        pieces.append(np.asarray(tables.sources[f"pieces_{one}"])[bright] > 0)
        bands = FILTERS if one == ALL else (one,)
        flux = np.max([tables.truth[f"flux_{band}"] for band in bands], axis=0)
        around.append(
            np.asarray(tables.sources[f"pieces_{one}"])[(flux > BRIGHT_STAR_NJY) & tables.of_kind(True) & tables.deep]
        )
    figures.put("shredded_pct", *percentage(np.concatenate(pieces)))
    stars = np.concatenate(around)
    figures.put("star_pieces", float(np.mean(stars)) if len(stars) else None, len(stars))


def _score_rows(rows: Table, figures: Figures) -> None:
    is_true, sure = np.asarray(rows["true"], bool), np.asarray(rows["snr"]) > PURE_SNR
    single, flagged = np.asarray(rows["exposures"]) == 1, np.asarray(rows["single_flag"], bool)
    figures.put("purity_5_pct", *percentage(is_true[sure & ~single]))
    figures.put("purity_single_pct", *percentage(is_true[sure & single]))
    sharp = np.asarray(rows["sharp_flag"], bool)
    figures.put("purity_5_unflagged_pct", *percentage(is_true[sure & ~single & ~sharp]))
    figures.put("sharp_flag_right_pct", *percentage(~is_true[sharp]))
    figures.put("purity_single_unflagged_pct", *percentage(is_true[sure & single & ~flagged & ~sharp]))
    figures.put("single_flag_right_pct", *percentage(single[flagged]))
    figures.put("single_flagged_pct", *percentage(flagged[single & sure & ~is_true]))


def put_pulls(figures: Figures, name: str, tables: Tables, kind: str) -> None:
    """Note the width of the pulls of stars in each filter."""
    widths = {}
    for band in FILTERS:
        flux = np.asarray(tables.truth[f"flux_{band}"])
        with np.errstate(divide="ignore", invalid="ignore"):
            pulls = (tables.values(f"{band}_{kind}") - flux) / tables.values(f"{band}_{kind}_err")
        widths[band] = width(pulls[tables.chosen(band, *PULL_SNR)])
    figures.put(name, *({band: one[part] for band, one in widths.items()} for part in (0, 1)))


def _score_positions(tables: Tables, figures: Figures) -> None:
    off = (tables.values("ra") - np.asarray(tables.truth["ra"])) * np.cos(np.radians(tables.truth["dec"])) * 3600.0
    ratio = off / tables.values("ra_err")
    figures.put("position_ratio", *width(ratio[tables.chosen(ALL, *POSITION_SNR)]))


def colour_bias(tables: Tables) -> tuple[float | None, int]:
    """Worst bias of F115W - F444W of stars and of galaxies, isolated, with S/N above 50 in both, and their number."""
    blue, red = FILTERS[0], FILTERS[-1]
    figures, ratio = Figures(), tables.ratio(blue) / tables.ratio(red)
    whole = np.asarray(tables.truth[f"unsaturated_{blue}"]) & np.asarray(tables.truth[f"unsaturated_{red}"])
    both = {
        kind: bias(
            ratio[whole & tables.chosen(blue, COLOUR_SNR, star=star) & tables.chosen(red, COLOUR_SNR, star=star)]
        )
        for kind, star in (("stars", True), ("galaxies", False))
    }
    figures.put_worst("colour", both)
    return figures.values["colour"], figures.counts["colour"]


def corrected_galaxies(tables: Tables, injections: dict[int, Table]) -> Figures:
    """Bias of galaxies after the correction that the injections of the other seeds tell, as a user would apply it.

    Parameters
    ----------
    tables
        Our catalogue.
    injections
        ``_injected`` tables by seed.
    """
    magnitudes = np.full(len(tables.truth), np.nan)
    for seed in np.unique(tables.truth["seed"]):
        others = [one for other, one in injections.items() if other != seed]
        here = np.asarray(tables.truth["seed"]) == seed
        if others:
            magnitudes[here] = corrections(tables, vstack(others, metadata_conflicts="silent"))[here]
    figures = Figures()
    figures.put_worst("galaxy_mag_bias", _corrected_bias(tables, magnitudes))
    return figures


def corrections(tables: Tables, injected: Table) -> Floats:
    """Magnitudes to be added if the sources are galaxies, by tables of injected sources."""
    measured = Table({name: tables.values(name) for name in ("half_light_radius", "concentration")})
    for band in FILTERS:
        measured[f"{band.lower()}_flux"] = tables.values(f"{band}_total")
        measured[f"{band.lower()}_flux_err"] = tables.values(f"{band}_flux_err")
    injected.meta["bands"] = list(FILTERS)
    correction = GalaxyCorrection.fitted(injected)
    shapes = shapes_of(measured, FILTERS)
    return np.full(len(measured), np.nan) if correction is None else correction.of(shapes)[0]


def _corrected_bias(tables: Tables, magnitudes: Floats) -> dict[str, tuple[float | None, int]]:
    """Median magnitude error of galaxies, by filter, with these magnitudes added."""
    return {
        band: bias((tables.ratio(band) * 10.0 ** (-0.4 * magnitudes))[tables.chosen(band, GALAXY_SNR, star=False)])
        for band in FILTERS
    }


def injection_errors(tables: Tables, injected: Table) -> Figures:
    """Compare completeness and flux bias of injected sources with those of the survey's own, by the truth.

    Parameters
    ----------
    tables
        Our catalogue.
    injected
        ``_injected`` tables of the same seeds.
    """
    figures = Figures()
    snr = np.sum([numbers(injected[f"{band.lower()}_snr"]) for band in FILTERS], axis=0) / np.sqrt(len(FILTERS))
    is_star = np.asarray(injected["kind"]) == "star"
    alone = np.asarray(injected["isolated"], bool) & np.isfinite(snr)
    own_snr, own_found = np.asarray(tables.truth[f"snr_{ALL}"]), np.asarray(tables.sources[f"found_{ALL}"], bool)
    own = tables.isolated & tables.of_kind(True)
    found = np.asarray(injected["found"], bool)
    cells, their_cells = (
        np.where(kept, np.digitize(value, COMPARED_SNR), 0) % len(COMPARED_SNR)
        for kept, value in ((own, own_snr), (alone & is_star, np.nan_to_num(snr)))
    )
    off, count = cell_difference(cells, own_found.astype(float), their_cells, found.astype(float), np.mean)
    figures.put("injection_completeness_error_pct", None if off is None else 100.0 * abs(off), count)
    galaxies = _corrected_bias(tables, corrections(tables, injected))
    stars = _star_differences(tables, injected, alone & is_star)
    differences = {
        f"{band} {kind}": one[band] for kind, one in (("galaxies", galaxies), ("stars", stars)) for band in FILTERS
    }
    figures.put_worst("injection_flux_error_mag", differences)
    return figures


def _star_differences(tables: Tables, injected: Table, alone: Mask) -> dict[str, tuple[float | None, int]]:
    """Median magnitude error of injected stars less that of the survey's own, by filter."""
    own_clean = (np.nan_to_num(tables.values("flags")).astype(int) & SPOILT) == 0
    clean, result = alone & ((np.asarray(injected["flags"]) & SPOILT) == 0), {}
    for band in FILTERS:
        prefix = band.lower()
        theirs = numbers(injected[f"{prefix}_flux"]) / numbers(injected[f"{prefix}_true_flux"])
        unsaturated = np.asarray(tables.truth[f"unsaturated_{band}"])
        own, number = bias(tables.ratio(band)[tables.chosen(band, INJECTED_SNR) & own_clean & unsaturated])
        put_in, fewer = bias(theirs[clean & (numbers(injected[f"{prefix}_snr"]) > INJECTED_SNR)])
        known = own is not None and put_in is not None
        result[band] = (put_in - own if known else None, min(number, fewer))
    return result


def cell_difference(
    own_cells: NDArray[np.int64], own: Floats, cells: NDArray[np.int64], theirs: Floats, statistic: Any
) -> tuple[float | None, int]:
    """Mean difference of a statistic over cells that both have, weighted by the own sources; with the lesser number."""
    differences, weights, least = [], [], 0
    for cell in np.unique(own_cells[own_cells > 0]):
        mine, other = own[own_cells == cell], theirs[cells == cell]
        if min(len(mine), len(other)) < FEWEST:
            continue
        differences.append(float(statistic(other) - statistic(mine)))
        weights.append(len(mine))
        least += min(len(mine), len(other))
    return (float(np.average(differences, weights=weights)), least) if weights else (None, 0)


def depth_error(blank: Table) -> tuple[float | None, int]:
    """How far the depths are from the scatter of blank apertures, in per cent: the worst filter."""
    figures, by_filter = Figures(), {}
    for band in FILTERS:
        scatter, count = width(np.asarray(blank["pull"])[np.asarray(blank["filter"]) == band])
        by_filter[band] = (None if scatter is None else 100.0 * (1.0 / scatter - 1.0), count)
    figures.put_worst("depth", by_filter)
    return figures.values["depth"], figures.counts["depth"]


def bias(ratio: Floats) -> tuple[float | None, int]:
    """Median magnitude error of measured over true fluxes, and their number."""
    ratio = ratio[np.isfinite(ratio)]
    value = float(-2.5 * np.log10(np.median(ratio))) if len(ratio) >= FEWEST and np.median(ratio) > 0 else None
    return value, len(ratio)


def width(values: Floats) -> tuple[float | None, int]:
    """Robust standard deviation, and the number of values."""
    values = values[np.isfinite(values)]
    return (float(mad_std(values)) if len(values) >= FEWEST else None), len(values)


def percentage(true: NDArray) -> tuple[float | None, int]:
    """Percentage of true values, and their number."""
    return (100.0 * float(np.mean(true)) if len(true) >= FEWEST else None), len(true)
