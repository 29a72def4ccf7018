"""Completeness, flux bias, error pulls and purity of the catalogue in one filter, and the verdict on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import astropy.units as u
import numpy as np
import pyarrow.parquet as pq
from astropy.stats import binom_conf_interval, mad_std
from astropy.table import Table
from numpy.typing import NDArray

from cosmosaic.catalog.columns import ColumnSpec, as_table
from cosmosaic.catalog.files import arrow_table, read_catalog
from cosmosaic.injection.plot import draw_injection
from cosmosaic.injection.recovery import SPOILT, numbers
from cosmosaic.records import STATES, State
from cosmosaic.steps.result import Made

FEWEST = 10
"""With fewer sources a number is not measurable."""
AT_DEPTH_SNR = (4.0, 6.0)
"""True S/N in the depth's aperture of the sources that count for the completeness at the stated depth, 5 sigma."""
BRIGHT_SNR = 20.0
"""True S/N from which sources count for the flux bias."""
PULL_SNR = (5.0, 50.0)
"""True S/N of the sources that count for the pulls."""
PURITY_SNR = (3.0, 4.0, 5.0, 7.0, 10.0, 20.0, np.inf)
RADII_ARCSEC = (0.0, 0.15, 0.35, np.inf)
"""Bounds of the half-light radii of the samples of galaxies."""
MAGNITUDE_BIN = 1.0
MEDIAN_ERROR = float(np.sqrt(np.pi / 2.0))
"""Error of a median over that of a mean, of normal numbers."""
WIDTH_ERROR = 1.16
"""Error of a width from the median absolute deviation, times the root of their number, over the width."""
DIGITS = 4


class Limits(NamedTuple):
    """Largest deviations that pass, and that only warn."""

    good: float
    fair: float


COMPLETENESS_LIMITS = Limits(0.15, 0.40)
"""Fraction of the isolated stars at the stated depth that may be missing."""
BIAS_LIMITS = Limits(0.02, 0.05)
"""Median magnitude error of bright isolated stars."""
GALAXY_BIAS_LIMITS = Limits(0.05, 0.15)
"""The same of galaxies: the light beyond their Kron aperture is not in the catalogue (docs/catalogue.md)."""
PULL_LIMITS = Limits(0.10, 0.25)
"""Deviation of the width of pulls from 1."""


@dataclass(frozen=True)
class Metric:
    """One number and its state."""

    name: str
    value: float
    """NaN if it cannot be measured."""
    error: float
    number: int
    """Sources that it rests on."""
    state: State
    message: str


def judge_catalog(
    matched: Path, own: tuple[Path, ...], negative: tuple[Path, ...], band: str, stem: str, folder: Path
) -> Made:
    """Judge the catalogue in one filter by the injected sources.

    Parameters
    ----------
    matched
        ``_injected.ecsv``, what became of the sources.
    own, negative
        The survey's own catalogues, and those of the negative mosaics.
    band
        Filter.
    stem
        Name of the products without ending.
    folder
        Gets ``_completeness.ecsv`` and ``.parquet`` (by sample and magnitude), ``_injection.ecsv`` (the verdict, a row
        per metric) and ``_injection.png``.
    """
    sample = Sample.of(Table.read(matched, format="ascii.ecsv"), band)
    purity = purity_table(_snr(own, band), _snr(negative, band))
    completeness, metrics = completeness_table(sample), judge(sample)
    state = max((metric.state for metric in metrics), key=STATES.index)
    files = {
        "completeness": folder / f"{stem}_completeness.ecsv",
        "parquet": folder / f"{stem}_completeness.parquet",
        "verdict": folder / f"{stem}_injection.ecsv",
        "plot": folder / f"{stem}_injection.png",
    }
    completeness.meta |= {"band": band}
    completeness.write(files["completeness"], format="ascii.ecsv")
    pq.write_table(arrow_table(completeness), files["parquet"])
    _verdict_table(metrics, state, purity, band).write(files["verdict"], format="ascii.ecsv")
    draw_injection(completeness, sample.pulls, purity, f"{band}: {state}", files["plot"])
    return Made(facts=_facts(sample, metrics, purity, state), **files)


@dataclass(frozen=True)
class Sample:
    """The injected sources that a filter covers, shape ``(n,)`` each."""

    is_star: NDArray[np.bool_]
    radius: NDArray[np.float64]
    """Half-light radius in arcsec; NaN for stars."""
    magnitude: NDArray[np.float64]
    """True AB magnitude."""
    snr: NDArray[np.float64]
    """S/N that a star of this flux has in the aperture of the depth."""
    found: NDArray[np.bool_]
    isolated: NDArray[np.bool_]
    error: NDArray[np.float64]
    """Total minus true magnitude; NaN for sources that were not found, or whose fluxes are spoilt."""
    pull: NDArray[np.float64]
    """Error of the aperture flux in units of its stated error; NaN alike."""

    @classmethod
    def of(cls, table: Table, band: str) -> "Sample":
        """Take a filter from the table of injected sources (`cosmosaic.injection.recovery.matched_specs`)."""
        prefix = band.lower()
        names = ("true_flux", "snr", "flux", "aper_flux", "aper_flux_err")
        columns = {name: numbers(table[f"{prefix}_{name}"]) for name in names}
        covered, true = np.isfinite(columns["snr"]), columns["true_flux"]
        is_clean = (np.asarray(table["flags"]) & SPOILT) == 0
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.where(is_clean & (columns["flux"] > 0), -2.5 * np.log10(columns["flux"] / true), np.nan)
            pull = np.where(is_clean, (columns["aper_flux"] - true) / columns["aper_flux_err"], np.nan)
        return cls(
            is_star=(np.asarray(table["kind"]) == "star")[covered],
            radius=numbers(table["half_light_radius"])[covered],
            magnitude=(true[covered] * u.nJy).to_value(u.ABmag),
            snr=columns["snr"][covered],
            found=np.asarray(table["found"], bool)[covered],
            isolated=np.asarray(table["isolated"], bool)[covered],
            error=error[covered],
            pull=pull[covered],
        )

    @property
    def pulls(self) -> NDArray[np.float64]:
        """Pulls of isolated stars of moderate S/N, whose aperture flux is total."""
        chosen = self.is_star & self.isolated & _within(self.snr, PULL_SNR) & np.isfinite(self.pull)
        return self.pull[chosen]


def judge(sample: Sample) -> list[Metric]:
    """Judge completeness at the stated depth, the flux bias of stars and galaxies, and the pulls.

    A number deviates only as far as it does beyond its own error.
    """
    at_depth = sample.is_star & sample.isolated & _within(sample.snr, AT_DEPTH_SNR)
    found, number = int(np.count_nonzero(sample.found & at_depth)), int(np.count_nonzero(at_depth))
    share = found / number if number else np.nan
    spread = float(np.sqrt(max(share * (1.0 - share), 0.25 / number) / number)) if number else np.nan
    bright = sample.isolated & (sample.snr > BRIGHT_SNR) & np.isfinite(sample.error)
    width = float(mad_std(sample.pulls)) if len(sample.pulls) else np.nan
    return [
        _metric("completeness", share, spread, number, 1.0 - share, COMPLETENESS_LIMITS),
        _bias("bias", sample.error[bright & sample.is_star], BIAS_LIMITS),
        _bias("galaxy_bias", sample.error[bright & ~sample.is_star], GALAXY_BIAS_LIMITS),
        _metric(
            "pull_width",
            width,
            WIDTH_ERROR * width / np.sqrt(max(len(sample.pulls), 1)),
            len(sample.pulls),
            abs(width - 1.0),
            PULL_LIMITS,
        ),
    ]


MEANING = {
    "completeness": "fraction found of isolated stars at the stated depth (true S/N 4 to 6)",
    "bias": "median magnitude error of isolated stars (true S/N above 20)",
    "galaxy_bias": "median magnitude error of isolated galaxies (S/N of a star of their flux above 20)",
    "pull_width": "width of the errors of isolated stars in units of their stated errors (true S/N 5 to 50)",
}


def _bias(name: str, errors: NDArray[np.float64], limits: Limits) -> Metric:
    if not len(errors):
        return _metric(name, np.nan, np.nan, 0, np.nan, limits)
    value = float(np.median(errors))
    spread = float(MEDIAN_ERROR * mad_std(errors) / np.sqrt(len(errors)))
    return _metric(name, value, spread, len(errors), abs(value), limits)


def _metric(name: str, value: float, error: float, number: int, deviation: float, limits: Limits) -> Metric:
    if number < FEWEST:
        return Metric(name, np.nan, np.nan, number, "not measurable", f"{MEANING[name]}: only {number} sources")
    beyond = max(deviation - error, 0.0)
    state: State = "pass" if beyond <= limits.good else "warn" if beyond <= limits.fair else "fail"
    return Metric(name, value, error, number, state, f"{MEANING[name]}: {value:.3f} +- {error:.3f}")


def completeness_table(sample: Sample) -> Table:
    """Measure completeness and bias of stars, and of galaxies by size, in bins of true magnitude."""
    if not len(sample.magnitude):
        return as_table(completeness_specs(), {name: np.zeros(0) for name in completeness_specs()})
    edges = np.arange(np.floor(sample.magnitude.min()), sample.magnitude.max(), MAGNITUDE_BIN)
    rows = [
        row
        for name, chosen, radii in _samples(sample)
        for low in edges
        if (row := _bin(sample, chosen & _within(sample.magnitude, (low, low + MAGNITUDE_BIN)), name, radii, low))
    ]
    specs = completeness_specs()
    return as_table(specs, {name: np.array([row[name] for row in rows]) for name in specs})


def completeness_specs() -> dict[str, ColumnSpec]:
    """Describe the columns of the table of completeness, in order."""
    share, bias = "stat.probability", "stat.fit.residual;phot.mag"
    return {
        "sample": ColumnSpec(None, "str", "meta.id", "stars, or galaxies"),
        "radius_low": ColumnSpec("arcsec", "f8", "phys.angSize;stat.min", "least half-light radius"),
        "radius_high": ColumnSpec("arcsec", "f8", "phys.angSize;stat.max", "largest half-light radius; null: any"),
        "mag_low": ColumnSpec("mag", "f8", "phot.mag;stat.min", "least true AB magnitude"),
        "mag_high": ColumnSpec("mag", "f8", "phot.mag;stat.max", "largest true AB magnitude"),
        "injected": ColumnSpec(None, "i4", "meta.number", "injected sources"),
        "found": ColumnSpec(None, "i4", "meta.number", "of these, found"),
        "completeness": ColumnSpec(None, "f8", share, "fraction found, with blends"),
        "completeness_low": ColumnSpec(None, "f8", f"{share};stat.min", "lower end of its 68 % interval (Wilson)"),
        "completeness_high": ColumnSpec(None, "f8", f"{share};stat.max", "upper end of its 68 % interval (Wilson)"),
        "isolated": ColumnSpec(None, "i4", "meta.number", "injected sources without a brighter neighbour"),
        "completeness_isolated": ColumnSpec(None, "f8", share, "fraction of these found"),
        "bias": ColumnSpec("mag", "f8", bias, "median of total minus true magnitude, without spoilt fluxes"),
        "bias_err": ColumnSpec("mag", "f8", f"stat.error;{bias}", "its error; null for a single source"),
        "measured": ColumnSpec(None, "i4", "meta.number", "sources that the bias rests on"),
    }


def _samples(sample: Sample) -> Iterator[tuple[str, NDArray[np.bool_], tuple[float, float]]]:
    yield "stars", sample.is_star, (np.nan, np.nan)
    for radii in pairwise(RADII_ARCSEC):
        yield "galaxies", ~sample.is_star & _within(sample.radius, radii), radii


def _bin(
    sample: Sample, chosen: NDArray[np.bool_], name: str, radii: tuple[float, float], low: float
) -> dict[str, Any] | None:
    """One row of the table of completeness; None if nothing was injected."""
    number, alone = int(np.count_nonzero(chosen)), chosen & sample.isolated
    if not number:
        return None
    found = int(np.count_nonzero(chosen & sample.found))
    errors = sample.error[chosen & np.isfinite(sample.error)]
    interval = binom_conf_interval(found, number, interval="wilson")
    return {
        "sample": name,
        "radius_low": radii[0],
        "radius_high": radii[1],
        "mag_low": low,
        "mag_high": low + MAGNITUDE_BIN,
        "injected": number,
        "found": found,
        "completeness": found / number,
        "completeness_low": interval[0],
        "completeness_high": interval[1],
        "isolated": np.count_nonzero(alone),
        "completeness_isolated": np.mean(sample.found[alone]) if alone.any() else np.nan,
        "bias": np.median(errors) if len(errors) else np.nan,
        "bias_err": MEDIAN_ERROR * mad_std(errors) / np.sqrt(len(errors)) if len(errors) > 1 else np.nan,
        "measured": len(errors),
    }


def purity_table(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> list[dict[str, float | int | None]]:
    """Compare the catalogue with that of the negative image, in bins of measured S/N in the filter."""
    rows: list[dict[str, float | int | None]] = []
    for low, high in pairwise(PURITY_SNR):
        sources, false = (int(np.count_nonzero(_within(snr, (low, high)))) for snr in (positive, negative))
        purity = round(max(1.0 - false / sources, 0.0), DIGITS) if sources else None
        rows.append({"snr_low": low, "snr_high": high if np.isfinite(high) else None, "sources": sources,
                     "negative": false, "purity": purity})  # fmt: skip
    return rows


def _snr(catalogs: tuple[Path, ...], band: str) -> NDArray[np.float64]:
    """S/N of the total fluxes in a filter; catalogues of windows without the filter have none."""
    tables = [read_catalog(path) for path in catalogs]
    prefix = band.lower()
    # Both are 0 where a filter has no pixel in the aperture.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = [
            numbers(table[f"{prefix}_flux"]) / numbers(table[f"{prefix}_flux_err"])
            for table in tables
            if f"{prefix}_flux" in table.colnames
        ]
    return np.concatenate(ratios) if ratios else np.zeros(0)


def _verdict_table(
    metrics: list[Metric], state: State, purity: list[dict[str, float | int | None]], band: str
) -> Table:
    """The verdict: a row per metric; state and purity are in the metadata."""
    columns = {name: [getattr(metric, name) for metric in metrics] for name in Metric.__dataclass_fields__}
    for name in ("value", "error"):
        columns[name] = [round(float(value), DIGITS) for value in columns[name]]
    table = Table(columns)
    table.meta = {"band": band, "state": state, "purity": purity}
    return table


def _facts(
    sample: Sample, metrics: list[Metric], purity: list[dict[str, float | int | None]], state: State
) -> dict[str, float | None]:
    """Numbers for the run table, None for unknown ones, and the state as its position in `STATES`."""
    value = {metric.name: float(metric.value) if np.isfinite(metric.value) else None for metric in metrics}
    significant = [row for row in purity if (row["snr_low"] or 0.0) >= AT_DEPTH_SNR[0] + 1.0]
    sources, false = (sum(int(row[name] or 0) for row in significant) for name in ("sources", "negative"))
    completeness = value["completeness"]
    return {
        "injected": float(len(sample.magnitude)),
        "completeness_pct": None if completeness is None else round(100.0 * completeness, 2),
        "bias_mag": _rounded(value["bias"]),
        "galaxy_bias_mag": _rounded(value["galaxy_bias"]),
        "pull_width": _rounded(value["pull_width"]),
        "purity_pct": round(100.0 * max(1.0 - false / sources, 0.0), 2) if sources else None,
        "state": float(STATES.index(state)),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _within(values: NDArray[np.float64], bounds: tuple[float, float]) -> NDArray[np.bool_]:
    return (values >= bounds[0]) & (values < bounds[1])
