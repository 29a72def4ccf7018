"""Completeness and flux correction for each source of a catalogue, by what became of the injected sources.

Sources are detected, and their factor to total flux is measured, in the sum of all filters: completeness and correction
follow from the S/N there and the shape, and are the same in all filters, so that colours stay as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from astropy.stats import mad_std
from astropy.table import Table
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize
from scipy.special import expit, xlogy

from cosmosaic.catalog.columns import ColumnSpec, as_table
from cosmosaic.catalog.files import arrow_table, read_catalog
from cosmosaic.catalog.noise import DEPTH_DIAMETER_ARCSEC
from cosmosaic.injection.recovery import SPOILT, numbers
from cosmosaic.steps.result import Made

Floats = NDArray[np.float64]

FEWEST = 30
"""Fewer injected sources are too few for a model."""
RANGE_PCT = (1.0, 99.0)
"""Of the galaxies, between which the correction follows their shapes."""
LEAST_SNR = 10.0
"""S/N, of all filters together, of the galaxies that tell the correction."""
USUAL = np.array([0.15, 1.0, 50.0])
"""Half-light radius in arcsec, concentration and S/N at which only the constant term is left."""
UNITS = np.array([1.0, 0.5, np.log(10.0)])
"""Of their logarithms."""
TYPICAL_ERROR = 0.05
"""Magnitude error from which on an injected galaxy counts as an outlier, less and less."""
FREEDOM = 1.0
"""Typical size of a term, in units of `TYPICAL_ERROR`."""
EXTENDED_ARCSEC = 0.15
"""Half-light radius from which on a source of the same flux is harder to find."""
AT_SNR = 5.0
"""S/N, in the sum of the filters of the detection, that the model refers to."""
MODEL = np.array([1.0, np.log(4.0), 1.0, 3.0])
"""Expected completeness: logit at `AT_SNR`, logarithm of its slope, loss by size, logit at the top."""
MODEL_FREEDOM = np.array([3.0, 1.0, 2.0, 2.0])


@dataclass(frozen=True)
class GalaxyCorrection:
    """Magnitudes that the total fluxes of galaxies lack, a polynomial of the second degree in their shapes."""

    terms: Floats
    covariance: Floats
    low: Floats
    high: Floats
    """Range of the shapes that it rests on, shape ``(3,)``; beyond, it is that of the range's end."""

    @classmethod
    def fitted(cls, injected: Table) -> "GalaxyCorrection | None":
        """Fit the isolated galaxies of tables of injected sources (``_injected``); None if they are too few.

        The fit is robust (soft L1) and regular: a term that they do not tell is small.
        """
        bands = injected.meta["bands"]
        shapes, error = shapes_of(injected, bands, "measured_"), magnitude_error(injected, bands)
        clean = np.asarray(injected["found"], bool) & np.asarray(injected["isolated"], bool)
        clean &= (np.asarray(injected["flags"]) & SPOILT == 0) & (np.asarray(injected["kind"]) == "galaxy")
        clean &= np.isfinite(shapes).all(axis=1) & np.isfinite(error) & (shapes[:, 2] >= np.log(LEAST_SNR))
        if np.count_nonzero(clean) < FEWEST:
            return None
        shapes, error = shapes[clean], error[clean]
        design = _polynomial(shapes)

        def residuals(terms: Floats) -> Floats:
            return np.concatenate([(design @ terms - error) / TYPICAL_ERROR, terms / TYPICAL_ERROR / FREEDOM])

        start = np.zeros(design.shape[1])
        terms = least_squares(residuals, start, loss="soft_l1").x
        information = design.T @ design / float(mad_std(error - design @ terms)) ** 2
        covariance = np.linalg.inv(information + np.eye(len(terms)) / (TYPICAL_ERROR * FREEDOM) ** 2)
        low, high = np.percentile(shapes, RANGE_PCT, axis=0)
        return cls(terms, np.asarray(covariance, np.float64), low, high)

    def of(self, shapes: Floats) -> tuple[Floats, Floats]:
        """Return the magnitudes to add and their errors; NaN for shapes that are not known."""
        design = _polynomial(np.clip(shapes, self.low, self.high))
        return -design @ self.terms, np.sqrt(np.einsum("ni,ij,nj->n", design, self.covariance, design))


def shapes_of(table: Table, bands: Sequence[str], prefix: str = "") -> Floats:
    """Return the logarithms of half-light radius, concentration and S/N of rows of a catalogue, shape ``(n, 3)``.

    Parameters
    ----------
    table
        A catalogue, or a table of injected sources.
    bands
        Filters whose S/N counts.
    prefix
        Of the names of its columns of shapes.
    """
    squares = [
        np.maximum(numbers(table[f"{band.lower()}_flux"]) / numbers(table[f"{band.lower()}_flux_err"]), 0.0) ** 2
        for band in bands
    ]
    values = [numbers(table[f"{prefix}{name}"]) for name in ("half_light_radius", "concentration")]
    values.append(np.sqrt(np.nansum(squares, axis=0)))
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log(np.stack(values, axis=1))
    return np.where(np.isfinite(logarithms), logarithms, np.nan)


def magnitude_error(injected: Table, bands: Sequence[str]) -> Floats:
    """Return total minus true magnitude of injected sources, of the filters' mean flux weighted by its errors."""
    flux, true = np.zeros(len(injected)), np.zeros(len(injected))
    for band in (band.lower() for band in bands):
        names = ("flux", "flux_err", "true_flux")
        values, errors, put_in = (numbers(injected[f"{band}_{name}"]) for name in names)
        # A tile that a filter does not reach has no fluxes in it.
        known = np.isfinite(values + put_in) & (errors > 0)
        weight = np.divide(1.0, errors**2, out=np.zeros(len(injected)), where=known)
        flux += weight * np.where(known, values, 0.0)
        true += weight * np.where(known, put_in, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flux > 0, -2.5 * np.log10(flux / true), np.nan)


def _polynomial(shapes: Floats) -> Floats:
    """Terms up to the second degree, shape ``(n, 10)``."""
    x = (shapes - np.log(USUAL)) / UNITS
    pairs = [x[:, one] * x[:, other] for one in range(3) for other in range(one, 3)]
    return np.column_stack([np.ones(len(x)), x, *pairs])


@dataclass(frozen=True)
class CompletenessModel:
    """The fraction of sources that is found, by S/N and size, blends included."""

    parameters: Floats
    """As `MODEL`."""

    @classmethod
    def fitted(cls, injected: Table, bands: Sequence[str]) -> "CompletenessModel | None":
        """Fit all injected sources by their likelihood, for a detection in some filters; None if they are too few."""
        snr, radius = snr_of_star(injected, bands), true_radius(injected)
        found, known = np.asarray(injected["found"], bool), np.isfinite(snr) & (snr > 0)
        if np.count_nonzero(known) < FEWEST:
            return None
        snr, radius, found = snr[known], radius[known], found[known]

        def unlikeliness(parameters: Floats) -> float:
            chance = _chance(parameters, snr, radius)
            likely = xlogy(found, chance) + xlogy(~found, 1.0 - chance)
            return float(0.5 * np.sum(((parameters - MODEL) / MODEL_FREEDOM) ** 2) - likely.sum())

        return cls(minimize(unlikeliness, MODEL).x)

    def of(self, snr: Floats, radius: Floats) -> Floats:
        """Return the fraction found for some S/N and half-light radii in arcsec."""
        return _chance(self.parameters, snr, radius)


def _chance(parameters: Floats, snr: Floats, radius: Floats) -> Floats:
    at, slope, loss, top = parameters
    spread = np.log1p((radius / EXTENDED_ARCSEC) ** 2)
    return expit(top) * expit(at + np.exp(slope) * np.log(np.maximum(snr, 1e-3) / AT_SNR) - loss * spread)


def snr_of_star(injected: Table, bands: Sequence[str]) -> Floats:
    """Return the S/N in the sum of some filters that a star of an injected source's fluxes has, by the depths."""
    return _snr_of_sum([numbers(injected[f"{band.lower()}_snr"]) for band in bands])


def snr_of_row(catalog: Table, bands: Sequence[str]) -> Floats:
    """Return the S/N in the sum of some filters of rows of a catalogue, by the errors of their apertures."""
    diameters = catalog.meta["aperture_diameters_arcsec"]
    suffix = min(diameters, key=lambda name: abs(diameters[name] - DEPTH_DIAMETER_ARCSEC))
    errors = [numbers(catalog[f"{band.lower()}_aper_flux_err_{suffix}"]) for band in bands]
    fluxes = [numbers(catalog[f"{band.lower()}_flux"]) for band in bands]
    return _snr_of_sum([flux / error for flux, error in zip(fluxes, errors, strict=True)])


def _snr_of_sum(ratios: list[Floats]) -> Floats:
    """S/N in the sum of the filters that cover a source, each divided by its noise."""
    covered = np.isfinite(ratios).sum(axis=0)
    return np.where(covered > 0, np.nansum(ratios, axis=0) / np.sqrt(np.maximum(covered, 1)), np.nan)


def true_radius(injected: Table) -> Floats:
    """Return the half-light radius of circles of injected sources in arcsec, 0 for stars."""
    return np.nan_to_num(numbers(injected["half_light_radius"]) * np.sqrt(numbers(injected["axis_ratio"])))


def radius_of_row(catalog: Table, injected: Table) -> Floats:
    """Return the half-light radius in arcsec of rows of a catalogue, roughly without the PSF: beyond that of stars."""
    is_star = np.asarray(injected["found"], bool) & (np.asarray(injected["kind"]) == "star")
    stars = numbers(injected["measured_half_light_radius"])[is_star]
    point = float(np.nanmedian(stars)) if np.isfinite(stars).any() else 0.0
    return np.sqrt(np.maximum(numbers(catalog["half_light_radius"]) ** 2 - point**2, 0.0))


def correct_catalog(matched: Path, catalog: Path, stem: str, folder: Path) -> Made:
    """Write completeness and flux correction for each source of a catalogue.

    Parameters
    ----------
    matched
        ``_injected.ecsv``.
    catalog
        The survey's catalogue of a window (``_cat.parquet``).
    stem
        Name of the products without ending.
    folder
        Gets ``_corrections.ecsv`` and ``.parquet``, with the rows of the catalogue.
    """
    injected, table = Table.read(matched, format="ascii.ecsv"), read_catalog(catalog)
    bands = [band for band in injected.meta["bands"] if f"{band.lower()}_flux" in table.colnames]
    columns = {name: np.asarray(table[name]) for name in ("id", "ra", "dec")}
    unknown = np.full(len(table), np.nan)
    columns |= dict.fromkeys(("completeness", "galaxy_correction", "galaxy_correction_err"), unknown)
    detected = [band for band in bands if band in table.meta["detection_bands"]]
    completeness = CompletenessModel.fitted(injected, detected) if detected else None
    correction = GalaxyCorrection.fitted(injected)
    if completeness is not None:
        columns["completeness"] = completeness.of(snr_of_row(table, detected), radius_of_row(table, injected))
    if bands and correction is not None:
        magnitudes, errors = correction.of(shapes_of(table, bands))
        columns |= {"galaxy_correction": magnitudes, "galaxy_correction_err": errors}
    corrected = as_table(correction_specs(), columns)
    corrected.meta = {"bands": bands}
    ecsv, parquet = folder / f"{stem}_corrections.ecsv", folder / f"{stem}_corrections.parquet"
    corrected.write(ecsv, format="ascii.ecsv")
    pq.write_table(arrow_table(corrected), parquet)
    return Made(table=ecsv, parquet=parquet)


def correction_specs() -> dict[str, ColumnSpec]:
    """Describe the columns of the table of corrections, in order."""
    share, error = "stat.probability", "stat.fit.residual;phot.mag"
    return {
        "id": ColumnSpec(None, "i8", "meta.id;meta.main", "number of the source in the catalogue"),
        "ra": ColumnSpec("deg", "f8", "pos.eq.ra;meta.main", "right ascension, ICRS"),
        "dec": ColumnSpec("deg", "f8", "pos.eq.dec;meta.main", "declination, ICRS"),
        "completeness": ColumnSpec(
            None, "f8", share, "fraction of injected sources of this true S/N and size that are found, with blends"
        ),
        "galaxy_correction": ColumnSpec(
            "mag", "f8", error, "to be added to mag in every filter if the source is a galaxy"
        ),
        "galaxy_correction_err": ColumnSpec("mag", "f8", f"stat.error;{error}", "its error"),
    }
