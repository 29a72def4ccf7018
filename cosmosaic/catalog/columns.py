"""The columns of catalogues: units, types, UCDs and meaning."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import MaskedColumn, Table
from numpy.typing import NDArray

from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.survey import CatalogSettings

Columns = dict[str, NDArray[Any]]
RANGES = (
    (0.3, "em.UV"),
    (0.4, "em.opt.U"),
    (0.5, "em.opt.B"),
    (0.6, "em.opt.V"),
    (0.75, "em.opt.R"),
    (1.0, "em.opt.I"),
    (1.5, "em.IR.J"),
    (2.0, "em.IR.H"),
    (3.0, "em.IR.K"),
    (4.0, "em.IR.3-4um"),
    (8.0, "em.IR.4-8um"),
    (15.0, "em.IR.8-15um"),
    (30.0, "em.IR.15-30um"),
)
"""Spectral ranges of UCDs, by their longest wavelengths in micrometres."""


@dataclass(frozen=True)
class ColumnSpec:
    """Unit, type, UCD and meaning of a catalogue column."""

    unit: str | None
    dtype: str
    ucd: str
    description: str


def source_specs() -> dict[str, ColumnSpec]:
    """Describe the columns of a source that do not belong to one filter, in order."""
    return {
        "id": ColumnSpec(None, "i8", "meta.id", "number of the source; its value in the segmentation map"),
        "name": ColumnSpec(None, "str", "meta.id;meta.main", "IAU-style designation from the position"),
        "ra": ColumnSpec("deg", "f8", "pos.eq.ra;meta.main", "right ascension, ICRS"),
        "dec": ColumnSpec("deg", "f8", "pos.eq.dec;meta.main", "declination, ICRS"),
        "ra_err": ColumnSpec("arcsec", "f8", "stat.error;pos.eq.ra", "standard error along right ascension"),
        "dec_err": ColumnSpec("arcsec", "f8", "stat.error;pos.eq.dec", "standard error along declination"),
        "x": ColumnSpec("pix", "f8", "pos.cartesian.x", "column, the centre of the first pixel is 0"),
        "y": ColumnSpec("pix", "f8", "pos.cartesian.y", "row, the centre of the first pixel is 0"),
        "area": ColumnSpec("arcsec2", "f8", "phys.angArea", "area of the segment"),
        "semimajor": ColumnSpec("arcsec", "f8", "phys.angSize.smajAxis", "rms extent along the major axis"),
        "semiminor": ColumnSpec("arcsec", "f8", "phys.angSize.sminAxis", "rms extent along the minor axis"),
        "axis_ratio": ColumnSpec(None, "f8", "phys.size.axisRatio", "semiminor / semimajor"),
        "orientation": ColumnSpec("deg", "f8", "pos.posAng", "position angle of the major axis, east of north"),
        "half_light_radius": ColumnSpec(
            "arcsec", "f8", "phys.angSize;src", "radius of the circle with half of the flux, detection image"
        ),
        "concentration": ColumnSpec(
            None, "f8", "src.morph.param", "flux within 0.2 arcsec over that within 0.5 arcsec diameter, over a star's"
        ),
        "star_probability": ColumnSpec(
            None, "f8", "src.class.starGalaxy", "probability that the source is a point source, by its concentration"
        ),
        "kron_radius": ColumnSpec("arcsec", "f8", "phys.angSize;src", "semi-major axis of the Kron aperture"),
        "aperture": ColumnSpec("arcsec", "f8", "phys.angSize;instr.setup", "diameter of the aperture of flux"),
        "total_factor": ColumnSpec(
            None, "f8", "arith.factor", "from the aperture to total flux, the same in all filters"
        ),
        "total_factor_err": ColumnSpec(None, "f8", "stat.error", "its error, which all filters share: none of colours"),
        "peak_snr": ColumnSpec(None, "f8", "stat.snr", "peak in the detection image"),
        "n_filters": ColumnSpec(None, "i4", "meta.number", "filters that cover the source"),
        "flags": ColumnSpec(
            None, "i4", "meta.code.qual", "; ".join(f"{flag.value} {flag.name}" for flag in CatalogFlag)
        ),
    }


def extinction_specs() -> dict[str, ColumnSpec]:
    """Describe the column that a map of E(B-V) gives."""
    ucd = "phot.color.excess;phys.absorption.gal"
    return {"ebv": ColumnSpec("mag", "f8", ucd, "E(B-V) of the Milky Way, from the map that the survey names")}


def band_specs(band: str, settings: CatalogSettings) -> dict[str, ColumnSpec]:
    """Describe the columns of one filter, in order."""
    prefix, name, ucd = band.lower(), band.upper(), _range(settings.wavelength_um(band))
    flux, error = f"phot.flux.density;{ucd}", f"stat.error;phot.flux.density;{ucd}"
    magnitude = f"phot.mag;{ucd}"
    specs = {
        "flux": ColumnSpec("nJy", "f8", flux, "total flux, from the PSF-matched aperture whose size suits the source"),
        "flux_err": ColumnSpec("nJy", "f8", error, "error of flux, from the scatter of empty apertures"),
        "flux_err_propagated": ColumnSpec("nJy", "f8", error, "error of flux, ERR propagated"),
        "mag": ColumnSpec("mag", "f8", magnitude, "AB magnitude of flux; null where flux is not positive"),
        "mag_err": ColumnSpec("mag", "f8", f"stat.error;{magnitude}", "error of mag"),
        "mag_limit": ColumnSpec(
            "mag", "f8", f"{magnitude};stat.max", "where flux is below 3 sigma: AB magnitude of max(flux, 0) + 3 sigma"
        ),
        "kron_flux": ColumnSpec("nJy", "f8", flux, "flux in the Kron aperture, PSF-matched, corrected to total"),
        "kron_flux_err": ColumnSpec("nJy", "f8", error, "error of kron_flux"),
        "iso_flux": ColumnSpec("nJy", "f8", flux, "flux in the segment"),
        "iso_flux_err": ColumnSpec("nJy", "f8", error, "error of iso_flux"),
    }
    for diameter, suffix in aperture_suffixes(settings).items():
        place = f"in a circle of {diameter:g} arcsec diameter, corrected to total for a point source"
        specs[f"aper_flux_{suffix}"] = ColumnSpec("nJy", "f8", flux, f"flux {place}")
        specs[f"aper_flux_err_{suffix}"] = ColumnSpec("nJy", "f8", error, f"error of aper_flux_{suffix}")
    specs |= {
        "exposures": ColumnSpec(None, "f8", "meta.number;obs.exposure", "exposures that reach the source's centre"),
        "depth": ColumnSpec(
            "mag", "f8", f"{magnitude};stat.max", "AB magnitude of 5 sigma in 0.3 arcsec at the source"
        ),
        "background": ColumnSpec("MJy / sr", "f8", "instr.skyLevel", "background that was subtracted at the source"),
    }
    return {
        f"{prefix}_{column}": ColumnSpec(spec.unit, spec.dtype, spec.ucd, f"{name}: {spec.description}")
        for column, spec in specs.items()
    }


def _range(wavelength_um: float) -> str:
    """The spectral range of a filter in UCDs."""
    return next((name for longest, name in RANGES if wavelength_um < longest), RANGES[-1][1])


def column_specs(
    bands: Iterable[str], settings: CatalogSettings, more: Mapping[str, ColumnSpec] | None = None
) -> dict[str, ColumnSpec]:
    """Describe all columns of a catalogue, in order; ``more`` come before those of filters."""
    specs = source_specs() | dict(more or {})
    for band in bands:
        specs |= band_specs(band, settings)
    return specs


def aperture_suffixes(settings: CatalogSettings) -> dict[float, str]:
    """Name the aperture of each diameter in arcsec: 0.3 becomes ``0p30``."""
    return {
        diameter: f"{diameter:.4f}".rstrip("0").ljust(4, "0").replace(".", "p")
        for diameter in settings.aperture_diameters_arcsec
    }


def as_table(specs: Mapping[str, ColumnSpec], columns: Mapping[str, NDArray[Any]]) -> Table:
    """Make a plain table with units, UCDs and descriptions; numbers that are not finite are null."""
    table = Table()
    for name, spec in specs.items():
        values = np.asarray(columns[name]).astype(spec.dtype)
        mask = ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
        table[name] = MaskedColumn(
            np.where(mask, 0, values) if mask.any() else values,
            mask=mask,
            unit=spec.unit,
            description=spec.description,
            meta={"ucd": spec.ucd},
        )
    return table


def with_columns(table: Table, specs: Mapping[str, ColumnSpec]) -> Table:
    """Return a table with these columns in this order, null where it has none."""
    missing = {name: np.full(len(table), np.nan) for name in specs if name not in table.colnames}
    complete = table.copy()
    for name, column in as_table({name: specs[name] for name in missing}, missing).columns.items():
        complete[name] = column
    return complete[list(specs)]
