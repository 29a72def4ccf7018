"""Planes of a FITS file, a few rows at a time: of a mapped file every page that was looked at counts as memory."""

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

FloatRows = NDArray[np.floating[Any]]
Change = Callable[[slice, FloatRows], NDArray[Any]]
"""Takes which rows, and what stands there, to what shall stand there: numbers of 4 bytes in the byte order of FITS."""


class Plane(NamedTuple):
    """Where the single-precision numbers of an image extension lie in its file."""

    path: Path
    start: int
    """Byte that the data begin at."""
    shape: tuple[int, int]
    """Rows and columns."""

    def rows(self, first: int, last: int) -> FloatRows:
        """Read rows ``first`` to ``last`` (exclusive), shape ``(last - first, columns)``."""
        columns = self.shape[1]
        offset = self.start + 4 * columns * first
        return np.fromfile(self.path, FLOATS, columns * (last - first), offset=offset).reshape(-1, columns)


def find_planes(path: Path) -> dict[str, Plane]:
    """Find the two-dimensional image extensions of a FITS file by name; all are taken for 4 bytes a pixel."""
    with fits.open(path, memmap=False) as hdus:
        images = [hdu for hdu in hdus if hdu.is_image and hdu.header["NAXIS"] == 2]
        return {
            hdu.name: Plane(path, hdu.fileinfo()["datLoc"], (hdu.header["NAXIS2"], hdu.header["NAXIS1"]))
            for hdu in images
        }


def copy_changed(source: Path, target: Path, header: fits.Header, changes: Mapping[str, Change]) -> Path:
    """Copy a FITS file with another primary header and some planes changed, in one pass and strip by strip.

    Parameters
    ----------
    source, target
        What is read, without data in its primary HDU, and what is written.
    header
        Takes the place of the primary header.
    changes
        What to make of a plane, by the extension's name.
    """
    planes = find_planes(source)
    with source.open("rb") as old, target.open("wb") as new:
        new.write(header.tostring().encode("ascii"))
        old.seek(_first_extension(source))
        for plane, change in sorted(
            ((planes[name], change) for name, change in changes.items()), key=lambda pair: pair[0].start
        ):
            new.write(old.read(plane.start - old.tell()))
            for first in range(0, plane.shape[0], ROWS_AT_ONCE):
                rows = slice(first, min(first + ROWS_AT_ONCE, plane.shape[0]))
                new.write(np.ascontiguousarray(change(rows, plane.rows(rows.start, rows.stop))).data)
            old.seek(4 * math.prod(plane.shape), SEEK_CUR)
        shutil.copyfileobj(old, new)
    return target


def _first_extension(path: Path) -> int:
    """Byte that the first extension's header begins at."""
    with fits.open(path, memmap=False) as hdus:
        return int(hdus[1].fileinfo()["hdrLoc"])
