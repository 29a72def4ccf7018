"""The files of a catalogue: ECSV, Parquet and a segmentation image; equal catalogues give equal bytes."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.io.votable import from_table, tree
from astropy.table import Table, meta
from astropy.wcs import WCS

from cosmosaic.catalog.image import STRIP_ROWS
from cosmosaic.catalog.segments import Segments
from cosmosaic.provenance import complete_wcs


@dataclass(frozen=True)
class CatalogFiles:
    """The files that one catalogue was written to."""

    parquet: Path
    segments: Path


def write_catalog(table: Table, segments: Segments, wcs: WCS, folder: Path, stem: str) -> CatalogFiles:
    """Write ``<stem>_cat.parquet`` and ``<stem>_segm.fits``.

    Parameters
    ----------
    table
        The catalogue.
    segments, wcs
        Segmentation map and its WCS.
    folder
        An existing folder. Older files of the same names are replaced.
    stem
        Beginning of the names.
    """
    files = CatalogFiles(parquet=folder / f"{stem}_cat.parquet", segments=folder / f"{stem}_segm.fits")
    pq.write_table(arrow_table(table), files.parquet)
    header = wcs.to_header()
    complete_wcs(header)
    header["NSOURCES"] = (len(table), "number of sources")
    header["BANDS"] = (" ".join(table.meta["bands"]), "filters of the catalogue")
    fits.PrimaryHDU().writeto(files.segments, overwrite=True)
    header = fits.ImageHDU(np.zeros((1, 1), np.int32), header=header, name="SEGM").header
    header["NAXIS2"], header["NAXIS1"] = segments.shape
    # astropy looks for the last part of a Path alone.
    with fits.StreamingHDU(str(files.segments), header) as stream:
        for row in range(0, segments.shape[0], STRIP_ROWS):
            stream.write(segments[row : row + STRIP_ROWS])
    return files


def read_catalog(parquet: Path) -> Table:
    """Read a catalogue from Parquet, masked where a value is unknown, as its ECSV is."""
    table = Table(Table.read(parquet), masked=True)
    for column in table.columns.values():
        if column.dtype.kind == "f":
            # astropy reads null as NaN.
            column.mask |= np.isnan(np.asarray(column))
    return table


def arrow_table(table: Table) -> pa.Table:
    """Convert a table to Arrow, with its units, UCDs and descriptions.

    Readers find them as the fields' metadata (pyarrow), in ``DataFrame.attrs`` (pandas), as the columns' units
    (``Table.read`` of astropy) and as a VOTable (``Table.read(..., format="parquet.votable")``). Masked is null.

    Parameters
    ----------
    table
        Masked columns with one value a row.
    """
    units = {name: str(table[name].unit) for name in table.colnames if table[name].unit is not None}
    arrays, fields = [], []
    for name, column in table.columns.items():
        array = pa.array(np.asarray(column.filled()), mask=np.asarray(column.mask))
        facts = {"unit": units.get(name, ""), "ucd": column.meta["ucd"], "description": column.description}
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata=facts))
    facts_of_table = {
        "PANDAS_ATTRS": json.dumps({"units": units, **table.meta}),
        "table_meta_yaml": "\n".join(meta.get_yaml_from_table(table)),
        "IVOA.VOTable-Parquet.version": "1.0",
        "IVOA.VOTable-Parquet.content": _votable_header(table),
    }
    widths = {name: table[name].dtype.itemsize // 4 for name in table.colnames if table[name].dtype.kind == "U"}
    facts_of_table |= {f"table::len::{name}": str(width) for name, width in widths.items()}
    return pa.table(arrays, schema=pa.schema(fields, metadata=facts_of_table))


def _votable_header(table: Table) -> str:
    """The columns as a VOTable without rows."""
    empty = table[:0].copy()
    empty.meta = {}
    document: tree.VOTableFile = from_table(empty)
    for field in document.get_first_table().fields:
        field.ucd = table[field.name].meta["ucd"]
    buffer = io.BytesIO()
    document.to_xml(buffer)
    return buffer.getvalue().decode()
