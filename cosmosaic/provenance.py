"""Provenance in the headers of products, without anything that differs between equal runs."""

import re
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, WcsError

from cosmosaic.records import Reference, StoredObject

NO_DATE = "1970-01-01T00:00:00"
"""jwst writes the clock time into DATE; equal work must give equal bytes."""

TABLE_NAME = "PROVENANCE"

HEADER_TABLE_NAME = "HDRTAB"
"""The headers of a mosaic's exposures, row by row; each gets a new DATE when jwst puts its exposure aside on disk."""

ASDF_HISTORY_BYTES = 1 << 16
"""The history of software stands at the beginning of an ASDF extension, well within this."""

ASDF_EXTENSION_LIST = re.compile(rb"(?<=\n  extensions:\n)(?:  - .*\n(?:    .*\n)*)+")
ASDF_EXTENSION_ENTRY = re.compile(rb"  - .*\n(?:    .*\n)*")


def save_model(model: Any, path: Path) -> Path:
    """Write a jwst data model so that equal models give equal bytes.

    Its log goes, whose lines carry clock times and host names, and so does the time of writing.
    """
    model.cal_logs = {}
    on_save = model.on_save

    def on_save_without_clock(saved: Any = None) -> None:
        on_save(saved)
        model.meta.date = NO_DATE

    object.__setattr__(model, "on_save", on_save_without_clock)
    model.save(str(path))
    return path


def stamp(path: Path, step: str, key: str, inputs: tuple[StoredObject, ...], references: tuple[Reference, ...]) -> None:
    """Write step, key and software versions into a FITS file's primary header, its inputs into a table.

    The table, extension PROVENANCE, names each input and reference file with its sha256. Values that differ
    between equal runs are removed. Files of other formats are not changed.
    """
    if path.suffix != ".fits":
        return
    with fits.open(path, mode="update", memmap=True) as hdus:
        header = hdus[0].header
        header["DATE"] = (NO_DATE, "no time of writing: equal work, equal bytes")
        header["CMSTEP"] = (step, "cosmosaic step")
        header["CMKEY"] = (key, "key of the step")
        header["CMVER"] = (version("cosmosaic"), "version of cosmosaic")
        header["CMJWST"] = (version("jwst"), "version of jwst")
        header["CMDRIZ"] = (version("drizzle"), "version of drizzle")
        if "SCI" in hdus:
            complete_wcs(hdus["SCI"].header)
        if HEADER_TABLE_NAME in hdus and "DATE" in hdus[HEADER_TABLE_NAME].columns.names:
            hdus[HEADER_TABLE_NAME].data["DATE"] = NO_DATE
        while TABLE_NAME in hdus:  # inherited from an input
            del hdus[TABLE_NAME]
        hdus.append(_provenance_table(inputs, references))
    _order_asdf_extension(path)


def complete_wcs(header: fits.Header) -> None:
    """Write values that FITS readers would otherwise derive.

    Dates beside MJD and places in both forms, which they warn of each time; and LONPOLE, which jwst means to be 180
    everywhere, and which is 0 at the north pole where it is not said.
    """
    if "CRVAL2" in header:
        header.setdefault("LONPOLE", 180.0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wcs = WCS(header, fix=False)
            wcs.fix()
    except (ValueError, WcsError):
        return
    known = {"DATE-BEG": wcs.wcs.datebeg, "DATE-AVG": wcs.wcs.dateavg, "DATE-END": wcs.wcs.dateend}
    known |= {f"OBSGEO-{axis}": value for axis, value in zip("XYZLBH", wcs.wcs.obsgeo, strict=True)}
    for keyword, value in known.items():
        is_known = bool(value) if isinstance(value, str) else bool(np.isfinite(value))
        if keyword not in header and is_known:
            header[keyword] = value


def _provenance_table(inputs: tuple[StoredObject, ...], references: tuple[Reference, ...]) -> fits.BinTableHDU:
    rows = [("input", stored.name, stored.sha256) for stored in inputs]
    rows += [(reference.kind, reference.name, reference.sha256) for reference in references]
    table = np.array(rows, dtype=[("role", "U24"), ("name", "U128"), ("sha256", "U64")])
    return fits.BinTableHDU(table, name=TABLE_NAME)


def order_asdf_history(content: bytes) -> bytes:
    """Sort the extensions that asdf lists as used: it keeps them in a set, in the order of memory addresses."""
    return ASDF_EXTENSION_LIST.sub(
        lambda found: b"".join(sorted(ASDF_EXTENSION_ENTRY.findall(found.group()))), content, count=1
    )


def _order_asdf_extension(path: Path) -> None:
    with fits.open(path) as hdus:
        start = hdus["ASDF"].fileinfo()["datLoc"] if "ASDF" in hdus else None
    if start is None:
        return
    with path.open("r+b") as stream:
        stream.seek(start)
        head = stream.read(ASDF_HISTORY_BYTES)
        stream.seek(start)
        stream.write(order_asdf_history(head))
