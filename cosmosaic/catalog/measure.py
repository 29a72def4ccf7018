"""The catalogue of one mosaic: measured, and written as ECSV, Parquet and a segmentation image."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import QTable, meta
from astropy.wcs import WCS
from numpy.typing import NDArray

from cosmosaic.catalog.detection import detect
from cosmosaic.catalog.image import read_mosaic
from cosmosaic.catalog.noise import MosaicStatistics, mosaic_statistics
from cosmosaic.catalog.photometry import aperture_suffixes, measure_sources
from cosmosaic.provenance import complete_wcs
from cosmosaic.steps.result import Made
from cosmosaic.survey import CatalogSettings

SOFTWARE = ("cosmosaic", "photutils", "astropy")


@dataclass(frozen=True)
class MosaicCatalog:
    """The sources and statistics of a mosaic."""

    table: QTable
    """A row per source; the columns are those of `cosmosaic.catalog.photometry.column_specs`."""
    segments: NDArray[np.int32]
    """Labels of the sources, 0 on the sky, shape ``(ny, nx)``."""
    wcs: WCS
    statistics: MosaicStatistics


def measure_mosaic(path: Path, settings: CatalogSettings, band: str) -> MosaicCatalog:
    """Detect and measure the sources of a mosaic, and its noise.

    Parameters
    ----------
    path
        A mosaic with SCI in MJy/sr, ERR and WHT (``_i2d.fits``).
    settings
        Thresholds, scales and apertures.
    band
        Name of the band, for the table's metadata.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ValueError
        The file is not a mosaic, or has no data.
    """
    image = read_mosaic(path)
    detection = detect(image, settings)
    table = measure_sources(image, detection, settings)
    statistics = mosaic_statistics(image, detection.background, detection.source_mask, len(table))
    table.meta = {
        "band": band,
        "aperture_radii_arcsec": {suffix: radius for radius, suffix in aperture_suffixes(settings).items()},
        "statistics": statistics.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "software": {name: version(name) for name in SOFTWARE},
    }
    found = detection.segments
    segments = np.zeros(image.sci.shape, np.int32) if found is None else found.data.astype(np.int32)
    return MosaicCatalog(table=table, segments=segments, wcs=image.wcs, statistics=statistics)


@dataclass(frozen=True)
class CatalogFiles:
    """The files that one catalogue was written to."""

    ecsv: Path
    parquet: Path
    segments: Path


def write_catalog(catalog: MosaicCatalog, folder: Path, stem: str) -> CatalogFiles:
    """Write ``<stem>_cat.ecsv``, ``<stem>_cat.parquet`` and ``<stem>_segm.fits``; equal catalogues give equal bytes.

    Parameters
    ----------
    catalog
        The catalogue.
    folder
        An existing folder. Older files of the same names are replaced.
    stem
        Beginning of the names.
    """
    files = CatalogFiles(
        ecsv=folder / f"{stem}_cat.ecsv",
        parquet=folder / f"{stem}_cat.parquet",
        segments=folder / f"{stem}_segm.fits",
    )
    catalog.table.write(files.ecsv, format="ascii.ecsv", overwrite=True)
    pq.write_table(arrow_table(catalog.table), files.parquet)
    _write_segments(catalog, files.segments)
    return files


def arrow_table(table: QTable) -> pa.Table:
    """Convert a table to Arrow, with its units and descriptions.

    Readers find them as the fields' metadata (pyarrow), in ``DataFrame.attrs`` (pandas) and as the columns' units
    (``QTable.read`` of astropy).

    Parameters
    ----------
    table
        Columns with one value a row.
    """
    units = {name: str(table[name].unit) for name in table.colnames if getattr(table[name], "unit", None) is not None}
    arrays, fields = [], []
    for name in table.colnames:
        array = pa.array(getattr(table[name], "value", np.asarray(table[name])))
        facts = {"unit": units.get(name, ""), "description": table[name].info.description}
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata=facts))
    attributes = json.dumps({"units": units, **table.meta})
    facts_of_table = {"PANDAS_ATTRS": attributes, "table_meta_yaml": "\n".join(meta.get_yaml_from_table(table))}
    facts_of_table |= {f"table::len::{name}": str(table[name].itemsize // 4) for name in _string_columns(table)}
    return pa.table(arrays, schema=pa.schema(fields, metadata=facts_of_table))


def _string_columns(table: QTable) -> list[str]:
    return [name for name in table.colnames if table[name].dtype.kind == "U"]


def _write_segments(catalog: MosaicCatalog, path: Path) -> None:
    header = catalog.wcs.to_header()
    complete_wcs(header)
    header["BAND"] = (catalog.table.meta["band"], "band that the sources were found in")
    header["NSOURCES"] = (len(catalog.table), "number of sources")
    image = fits.ImageHDU(catalog.segments, header=header, name="SEGM")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path, overwrite=True)


def catalog_mosaic(mosaic: Path, settings: CatalogSettings, band: str, stem: str, folder: Path) -> Made:
    """Measure the sources of a mosaic (``_i2d``) and its noise; write catalogue and segmentation map."""
    catalog = measure_mosaic(mosaic, settings, band)
    files = write_catalog(catalog, folder, stem)
    return Made(
        catalogue=files.ecsv, parquet=files.parquet, segments=files.segments, facts=catalog.statistics.model_dump()
    )
