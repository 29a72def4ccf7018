"""What the catalogue finds of the injected sources, and what it finds in the negative image."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from astropy.table import Column, Table
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cosmosaic.catalog.columns import ColumnSpec, as_table, source_specs
from cosmosaic.catalog.files import arrow_table, read_catalog
from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.catalog.image import MosaicImage, MosaicSet, Part, open_mosaics
from cosmosaic.catalog.measure import measure_mosaics
from cosmosaic.catalog.noise import DEPTH_DIAMETER_ARCSEC
from cosmosaic.catalog.psf import read_psf
from cosmosaic.geometry.sphere import sky_to_plane
from cosmosaic.steps.result import Made
from cosmosaic.survey import CatalogSettings

Columns = dict[str, NDArray]

MATCH_ARCSEC = 0.2
"""Largest distance of a row from an injected source that it may be."""
ALONE_ARCSEC = 1.0
"""An isolated source has no brighter neighbour within this, of the sky itself or injected."""
SPOILT = sum(
    (CatalogFlag.EDGE, CatalogFlag.BLENDED, CatalogFlag.NO_DATA, CatalogFlag.TRUNCATED, CatalogFlag.KRON_UNDEFINED)
)
"""Flags of rows whose fluxes do not count for bias and pulls."""
MEASURED = ("half_light_radius", "axis_ratio", "concentration", "kron_radius", "total_factor")
"""Columns of the catalogue that tell the shape of an injected source as it was measured, ``measured_<name>``."""


@dataclass(frozen=True)
class NegativeMosaics(MosaicSet):
    """Mosaics whose sky is turned over, so that noise is all that can be found in them."""

    def read_band(self, band: str, part: Part) -> MosaicImage:
        """Read a part of the finest grid in one filter, with the sign of SCI changed."""
        image = super().read_band(band, part)
        return replace(image, sci=-image.sci)


def measure_negative(
    mosaics: Mapping[str, Path], psfs: Mapping[str, Path], settings: CatalogSettings, stem: str, folder: Path
) -> Made:
    """Write the catalogue of the negative of a window's mosaics (``_i2d``), by filter: ``<stem>_negative.parquet``."""
    names = [name for name in mosaics if name in psfs]
    seen = open_mosaics({name: mosaics[name] for name in names})
    negative = NegativeMosaics(seen.paths, seen.factors, seen.shape, seen.wcs, seen.scale_arcsec)
    images = {name: read_psf(psfs[name], seen.scale_arcsec) for name in names}
    catalog = measure_mosaics(negative, images, settings, folder)
    path = folder / f"{stem}_negative.parquet"
    pq.write_table(arrow_table(catalog.table), path)
    return Made(catalog=path)


def match_injected(
    drawn: tuple[Path, ...],
    catalogs: tuple[Path, ...],
    own: Mapping[str, Path],
    tiles: tuple[str, ...],
    stem: str,
    folder: Path,
) -> Made:
    """Write what became of every injected source.

    Parameters
    ----------
    drawn, catalogs, tiles
        ``_injected.ecsv``, the catalogue of the window after their injection, and the window's name, in the same order.
    own
        The survey's own catalogue by window.
    stem
        Name of the products without ending.
    folder
        Gets ``_injected.parquet`` and ``_injected.ecsv``, a row per injected source.
    """
    parts, bands = list[Columns](), dict[str, None]()
    for path, found, tile in zip(drawn, catalogs, tiles, strict=True):
        table = Table.read(path, format="ascii.ecsv")
        names = [name.removeprefix("flux_") for name in table.colnames if name.startswith("flux_")]
        bands |= dict.fromkeys(names)
        catalog, known = read_catalog(found), read_catalog(own[tile])
        parts.append(matched_columns(table, catalog, known, names) | {"tile": np.full(len(table), tile)})
    specs = matched_specs(tuple(bands))
    missing = [np.full(len(part["ra"]), np.nan) for part in parts]
    columns = {
        name: np.concatenate([part.get(name, gap) for part, gap in zip(parts, missing, strict=True)]) for name in specs
    }
    columns["id"] = np.arange(1, len(columns["ra"]) + 1)
    matched = as_table(specs, columns)
    matched.meta = {"bands": list(bands), "match_arcsec": MATCH_ARCSEC, "isolated_arcsec": ALONE_ARCSEC}
    ecsv, parquet = folder / f"{stem}_injected.ecsv", folder / f"{stem}_injected.parquet"
    matched.write(ecsv, format="ascii.ecsv")
    pq.write_table(arrow_table(matched), parquet)
    return Made(table=ecsv, parquet=parquet)


def matched_specs(bands: tuple[str, ...]) -> dict[str, ColumnSpec]:
    """Describe the columns of the table of injected sources, in order."""
    specs = {
        "id": ColumnSpec(None, "i8", "meta.id;meta.main", "number of the injected source"),
        "tile": ColumnSpec(None, "str", "meta.id", "window that it was injected into"),
        "round": ColumnSpec(None, "i4", "meta.number", "round of injection"),
        "ra": ColumnSpec("deg", "f8", "pos.eq.ra;meta.main", "right ascension, ICRS"),
        "dec": ColumnSpec("deg", "f8", "pos.eq.dec;meta.main", "declination, ICRS"),
        "kind": ColumnSpec(None, "str", "src.class", "star or galaxy"),
        "sersic_n": ColumnSpec(None, "f8", "src.morph.param", "Sersic index; null for stars"),
        "half_light_radius": ColumnSpec("arcsec", "f8", "phys.angSize", "along the major axis; null for stars"),
        "axis_ratio": ColumnSpec(None, "f8", "phys.size.axisRatio", "minor over major axis; null for stars"),
        "position_angle": ColumnSpec("deg", "f8", "pos.posAng", "of the major axis, east of north; null for stars"),
        "found": ColumnSpec(None, "bool", "meta.code", "whether the catalogue has it"),
        "isolated": ColumnSpec(
            None, "bool", "meta.code", f"no brighter source of the sky within {ALONE_ARCSEC:g} arcsec"
        ),
        "offset": ColumnSpec("arcsec", "f8", "pos.angDistance", "distance of the row from the injected position"),
        "flags": ColumnSpec(None, "i4", "meta.code.qual", "flags of the row; 0 where not found"),
    }
    catalog = source_specs()
    for name in MEASURED:
        specs[f"measured_{name}"] = replace(catalog[name], description=f"of the row: {catalog[name].description}")
    for band in bands:
        specs |= {
            f"{band.lower()}_{name}": ColumnSpec(unit, "f8", ucd, f"{band}: {text}")
            for name, unit, ucd, text in (
                ("true_flux", "nJy", "phot.flux.density;meta.modelled", "injected flux"),
                ("snr", None, "stat.snr", "S/N of a star of this flux in 0.3 arcsec, by the depth at its place"),
                ("flux", "nJy", "phot.flux.density", "total flux in the catalogue"),
                ("flux_err", "nJy", "stat.error;phot.flux.density", "its error"),
                ("aper_flux", "nJy", "phot.flux.density", "flux in the aperture nearest to 0.3 arcsec, for a star"),
                ("aper_flux_err", "nJy", "stat.error;phot.flux.density", "its error"),
            )
        }
    return specs


def matched_columns(sources: Table, catalog: Table, known: Table, bands: list[str]) -> Columns:
    """Find injected sources in the catalogue that was made after their injection.

    A source is found if a row lies within `MATCH_ARCSEC` of it and no source of the sky itself that is as bright lies
    as near: such a row would be that source's.

    Parameters
    ----------
    sources
        Injected sources, as `cosmosaic.injection.sources.draw_sources` writes them.
    catalog, known
        Catalogue after the injection, and the survey's own.
    bands
        Filters of the sources.
    """
    sky, tangent = _sky(sources), (float(sources["ra"][0]), float(sources["dec"][0]))
    places, rows = sky_to_plane(tangent, sky), sky_to_plane(tangent, _sky(catalog))
    distance, row = np.full(len(sources), np.inf), np.zeros(len(sources), np.int64)
    if len(catalog):
        distance, row = KDTree(rows).query(places)
    light = np.sum([np.asarray(sources[f"flux_{band}"]) for band in bands], axis=0)
    brighter = _brighter_neighbours(places, light, sky_to_plane(tangent, _sky(known)), _light(known, bands))
    found = (distance < MATCH_ARCSEC) & (brighter > MATCH_ARCSEC)
    columns: Columns = {
        name: np.asarray(sources[name])
        for name in ("round", "ra", "dec", "kind", "sersic_n", "half_light_radius", "axis_ratio", "position_angle")
    }
    columns |= {
        "found": found,
        "isolated": brighter > ALONE_ARCSEC,
        "offset": np.where(found, distance, np.nan),
        "flags": np.where(found, np.asarray(catalog["flags"])[row], 0) if len(catalog) else np.zeros(len(row), int),
    }
    for name in MEASURED if len(catalog) else ():
        columns[f"measured_{name}"] = np.where(found, numbers(catalog[name])[row], np.nan)
    for band in bands:
        columns |= _band_columns(sources, catalog, band, found, row)
    return columns


def _band_columns(
    sources: Table, catalog: Table, band: str, found: NDArray[np.bool_], row: NDArray[np.int64]
) -> Columns:
    """The columns of one filter; its fluxes are NaN where a source was not found or is not covered."""
    prefix = band.lower()
    snr = np.asarray(sources[f"snr_{band}"])
    columns = {f"{prefix}_true_flux": np.asarray(sources[f"flux_{band}"]), f"{prefix}_snr": snr}
    names = {"flux": "flux", "flux_err": "flux_err"}
    if len(catalog):
        diameters = catalog.meta["aperture_diameters_arcsec"]
        suffix = min(diameters, key=lambda name: abs(diameters[name] - DEPTH_DIAMETER_ARCSEC))
        names |= {"aper_flux": f"aper_flux_{suffix}", "aper_flux_err": f"aper_flux_err_{suffix}"}
    for name, column in names.items():
        values = numbers(catalog[f"{prefix}_{column}"])[row] if len(catalog) else np.full(len(row), np.nan)
        columns[f"{prefix}_{name}"] = np.where(found & np.isfinite(snr), values, np.nan)
    return columns


def _brighter_neighbours(
    places: NDArray[np.float64],
    light: NDArray[np.float64],
    known: NDArray[np.float64],
    known_light: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Distance in arcsec from each source to the nearest source of the sky that is as bright; infinite if none."""
    nearest = np.full(len(places), np.inf)
    if not len(known):
        return nearest
    tree = KDTree(known)
    for number, near in enumerate(tree.query_ball_point(places, ALONE_ARCSEC)):
        bright = [index for index in near if known_light[index] >= light[number]]
        if bright:
            nearest[number] = np.hypot(*(known[bright] - places[number]).T).min()
    return nearest


def _light(table: Table, bands: list[str]) -> NDArray[np.float64]:
    """Sum of the fluxes over the filters, without null and negative ones."""
    return np.sum([np.maximum(np.nan_to_num(numbers(table[f"{band.lower()}_flux"])), 0.0) for band in bands], axis=0)


def numbers(column: Column) -> NDArray[np.float64]:
    """Return a column's values; NaN where it is null."""
    return np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan)


def _sky(table: Table) -> NDArray[np.float64]:
    return np.stack([numbers(table["ra"]), numbers(table["dec"])], axis=1)
