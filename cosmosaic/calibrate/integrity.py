"""Checks of reference files before the work: jwst's own errors name neither the file nor the cure."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import asdf
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from cosmosaic.calibrate.gain import FITS_MAGIC, GZIP_MAGIC

LARGEST_REFERENCE_BYTES = 8e9
"""Larger than any reference file of NIRCam, unpacked."""
PIECE_BYTES = 1 << 24
"""Unpacked at a time."""
ANY = {"", "ANY", "N/A", "GENERIC"}
UNREADABLE = (
    OSError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, zlib.error, fits.VerifyError,
    AstropyUserWarning,
)  # fmt: skip


def fault_of(path: Path, kind: str, detector: str) -> str:
    """Return the fault of a reference file, as the rest of a sentence that begins with its name; empty if it has none.

    Parameters
    ----------
    path
        A local file, FITS (also packed by gzip) or ASDF.
    kind
        Its reference type, e.g. ``flat``.
    detector
        The detector that it is to be used for.
    """
    if not path.is_file():
        return "is not there"
    if path.stat().st_size == 0:
        return "is empty"
    try:
        stated = _asdf_facts(path) if path.suffix == ".asdf" else _fits_facts(path)
    except UNREADABLE as error:
        return f"is truncated or damaged ({error})"
    return _contradiction(stated, {"INSTRUME": "NIRCAM", "REFTYPE": kind.upper(), "DETECTOR": detector.upper()})


def _contradiction(stated: dict[str, str], expected: dict[str, str]) -> str:
    for keyword, value in expected.items():
        found = stated[keyword].strip().upper()
        if found not in ANY and found != value:
            return f"is stale or of another kind: it has {keyword} = '{found}' where '{value}' is needed"
    return ""


def _asdf_facts(path: Path) -> dict[str, str]:
    with asdf.open(path, lazy_load=False, memmap=False) as file:
        meta = file.tree["meta"]
        instrument = meta.get("instrument", {})
        return {
            "INSTRUME": str(instrument.get("name", "")),
            "DETECTOR": str(instrument.get("detector", "")),
            "REFTYPE": str(meta.get("reftype", "")),
        }


def _fits_facts(path: Path) -> dict[str, str]:
    with _unpacked(path) as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        with fits.open(stream, memmap=False, lazy_load_hdus=False) as hdus:
            if len(hdus) < 2:
                raise ValueError("it has no extension")
            last = hdus[-1].fileinfo()
            if last["datLoc"] + last["datSpan"] > size:
                raise ValueError(f"it has {size} bytes, its headers claim {last['datLoc'] + last['datSpan']}")
            header = hdus[0].header
            return {keyword: str(header.get(keyword, "")) for keyword in ("INSTRUME", "DETECTOR", "REFTYPE")}


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a FITS file; one that is packed by gzip is unpacked whole, which checks it to its end."""
    with path.open("rb") as stream:
        begin = stream.read(len(FITS_MAGIC))
        stream.seek(0)
        if begin == FITS_MAGIC:
            yield stream
            return
        if not begin.startswith(GZIP_MAGIC):
            raise ValueError("it is neither plain FITS nor gzipped FITS")
        content = io.BytesIO()
        with gzip.open(stream) as packed:
            # Piece by piece: to ask for as many bytes as there may be takes memory for all of them at once.
            while piece := packed.read(PIECE_BYTES):
                content.write(piece)
                if content.tell() > LARGEST_REFERENCE_BYTES:
                    raise ValueError("it unpacks to more bytes than a reference file can have")
        yield content
