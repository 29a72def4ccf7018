"""Planes of a FITS file, a few rows at a time: of a mapped file every page that was looked at counts as memory.

The archive's files hold planes as plain single-precision numbers. FITS allows more (double precision, scaled
integers, compressed tiles), and users' scripts write them: such files are read and written whole.
"""

import math
import shutil
from collections.abc import Callable, Mapping
from os import SEEK_CUR
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

ROWS_AT_ONCE = 64
FLOATS = ">f4"
"""Single-precision numbers in the byte order of FITS."""
FLAGS = np.uint32
PLAIN_BITPIX = -32
FLAG_BITPIX, FLAG_ZERO = 32, 1 << 31
"""FITS holds unsigned integers as signed ones with an offset."""
FLAG_PLANES = ("DQ",)

FloatRows = NDArray[np.floating[Any]]
Change = Callable[[slice, FloatRows], NDArray[Any]]
"""Function of a range of rows and their values in single precision that returns the new ones; flags are ``uint32``."""


class PlaneError(ValueError):
    """A FITS file lacks a plane, or holds it in numbers that cannot be taken for it."""


class Plane(NamedTuple):
    """Place of the single-precision numbers of an image extension in its file."""

    path: Path
    name: str
    header_start: int
    start: int
    """Bytes that the header and the data begin at."""
    shape: tuple[int, int]
    """Rows and columns."""

    def rows(self, first: int, last: int) -> FloatRows:
        """Read rows ``first`` to ``last`` (exclusive), shape ``(last - first, columns)``."""
        columns = self.shape[1]
        offset = self.start + 4 * columns * first
        return np.fromfile(self.path, FLOATS, columns * (last - first), offset=offset).reshape(-1, columns)


def find_planes(path: Path) -> dict[str, Plane]:
    """Find the two-dimensional image extensions of a FITS file whose numbers lie there plainly, 4 bytes a pixel.

    If several extensions have the same name, the first is used, as in jwst.
    """
    planes: dict[str, Plane] = {}
    with fits.open(path, memmap=False) as hdus:
        for hdu in hdus:
            if hdu.name not in planes and _is_plain(hdu):
                places, shape = hdu.fileinfo(), (hdu.header["NAXIS2"], hdu.header["NAXIS1"])
                planes[hdu.name] = Plane(path, hdu.name, places["hdrLoc"], places["datLoc"], shape)
    return planes


def read_plane(hdus: fits.HDUList, name: str) -> NDArray[Any]:
    """Read a plane in the machine's own byte order, whatever way the file holds it.

    The memory of a plane is freed before the next one is read.

    Parameters
    ----------
    hdus
        A FITS file that was opened with ``memmap=False``: flags cannot be mapped.
    name
        Extension; of several the first counts. Flags (DQ) come as ``uint32``, all others as ``float32``.

    Raises
    ------
    PlaneError
        It is not a two-dimensional image, or flags are not integers.
    """
    hdu = hdus[name]
    if not hdu.is_image or hdu.data is None or hdu.data.ndim != 2:
        raise PlaneError(f"extension {name} is not a two-dimensional image")
    if name in FLAG_PLANES:
        return _flags(hdu)
    # Numbers beyond single precision become infinite, and infinite pixels are not used.
    with np.errstate(over="ignore"):
        plane = np.ascontiguousarray(hdu.data, dtype=np.float32)
    del hdu.data
    return plane


def copy_changed(source: Path, target: Path, headers: Mapping[str, fits.Header], changes: Mapping[str, Change]) -> Path:
    """Copy a FITS file with other headers and some planes changed.

    A file whose planes are plain is copied in one pass and strip by strip, byte for byte but for the changes. Any
    other is written anew, its planes in single precision, uncompressed and each once.

    Parameters
    ----------
    source, target
        The file to read, without data in its primary HDU, and the file to write.
    headers
        Take the place of those of the primary HDU (``PRIMARY``) and of planes that are changed.
    changes
        Function of a plane, by the extension's name; missing extensions are ignored.
    """
    if not _is_plain_file(source, changes):
        return _write_anew(source, target, headers, changes)
    planes = find_planes(source)
    with source.open("rb") as old, target.open("wb") as new:
        new.write(_text_of(headers["PRIMARY"]))
        old.seek(_first_extension(source))
        for plane, change in sorted(
            ((planes[name], change) for name, change in changes.items() if name in planes),
            key=lambda pair: pair[0].start,
        ):
            new.write(old.read(plane.header_start - old.tell()))
            kept = old.read(plane.start - plane.header_start)
            new.write(_text_of(headers[plane.name]) if plane.name in headers else kept)
            for first in range(0, plane.shape[0], ROWS_AT_ONCE):
                rows = slice(first, min(first + ROWS_AT_ONCE, plane.shape[0]))
                new.write(_stored(change(rows, plane.rows(rows.start, rows.stop))).data)
            old.seek(4 * math.prod(plane.shape), SEEK_CUR)
        shutil.copyfileobj(old, new)
    return target


def _write_anew(source: Path, target: Path, headers: Mapping[str, fits.Header], changes: Mapping[str, Change]) -> Path:
    with fits.open(source, memmap=False) as hdus:
        written = [fits.PrimaryHDU(header=headers["PRIMARY"])]
        for hdu in hdus[1:]:
            if hdu.name not in changes:
                written.append(hdu)
            elif hdu.name not in [other.name for other in written]:
                plane = read_plane(hdus, hdu.name).astype(np.float32, copy=False)
                changed = changes[hdu.name](slice(0, plane.shape[0]), plane)
                header = _without_scale(headers.get(hdu.name, hdu.header))
                written.append(fits.ImageHDU(changed, header, name=hdu.name))
        fits.HDUList(written).writeto(target, overwrite=True, output_verify="silentfix+ignore")
    return target


def _text_of(header: fits.Header) -> bytes:
    return header.tostring(padding=True).encode("ascii")


def _stored(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers as FITS holds them."""
    if values.dtype == FLAGS:
        return (values ^ FLAGS(FLAG_ZERO)).astype(">u4")
    return np.ascontiguousarray(values, dtype=FLOATS)


def _flags(hdu: fits.ImageHDU) -> NDArray[np.uint32]:
    flags = hdu.data
    if not np.issubdtype(flags.dtype, np.integer):
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(flags) & (flags == np.round(flags)) & (np.abs(flags) < 1 << 32)
        if not whole.all():
            raise PlaneError(f"extension {hdu.name} holds numbers that are not flags; write them as 32-bit integers")
        flags = flags.astype(np.int64)
    taken = np.ascontiguousarray(flags).astype(FLAGS)
    del hdu.data
    return taken


def _is_plain_file(path: Path, names: Mapping[str, Change]) -> bool:
    """Return whether none of the planes of some names is there twice, and all are plain."""
    with fits.open(path, memmap=False) as hdus:
        found = [hdu for hdu in hdus[1:] if hdu.name in names]
        are_single = len({hdu.name for hdu in found}) == len(found)
        return hdus[0].header["NAXIS"] == 0 and are_single and all(_is_plain(hdu) for hdu in found)


def _is_plain(hdu: fits.hdu.base.ExtensionHDU) -> bool:
    header = hdu.header
    if isinstance(hdu, fits.CompImageHDU) or not hdu.is_image or header["NAXIS"] != 2:
        return False
    bitpix, zero = (FLAG_BITPIX, FLAG_ZERO) if hdu.name in FLAG_PLANES else (PLAIN_BITPIX, 0)
    return header["BITPIX"] == bitpix and header.get("BZERO", 0) == zero and header.get("BSCALE", 1) == 1


def _without_scale(header: fits.Header) -> fits.Header:
    """Leave out the keywords of the encoding of numbers."""
    kept = header.copy()
    for keyword in ("BSCALE", "BZERO", "BLANK"):
        kept.remove(keyword, ignore_missing=True)
    return kept


def _first_extension(path: Path) -> int:
    """Byte that the first extension's header begins at."""
    with fits.open(path, memmap=False) as hdus:
        return int(hdus[1].fileinfo()["hdrLoc"])
