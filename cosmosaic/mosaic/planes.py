"""Planes of a FITS file, a few rows at a time: of a mapped file every page that was looked at counts as memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

ROWS_AT_ONCE = 128
FLOATS = ">f4"
"""Single-precision numbers in the byte order of FITS."""

FloatRows = NDArray[np.floating[Any]]


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


def change_plane(plane: Plane, change: Callable[[slice, FloatRows], NDArray[Any]]) -> None:
    """Replace a plane strip by strip.

    Parameters
    ----------
    plane
        What to change, in place.
    change
        Takes which rows, and what stands there, to what shall stand there: numbers of 4 bytes in the byte order of
        FITS.
    """
    rows, columns = plane.shape
    with plane.path.open("r+b") as file:
        for first in range(0, rows, ROWS_AT_ONCE):
            strip = slice(first, min(first + ROWS_AT_ONCE, rows))
            changed = change(strip, plane.rows(strip.start, strip.stop))
            file.seek(plane.start + 4 * columns * first)
            file.write(np.ascontiguousarray(changed).data)
