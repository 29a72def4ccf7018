"""Planes of a window, the segmentation map among them, which may be larger than memory."""

import tempfile
import weakref
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cosmosaic.catalog.image import Part


class Segments(Protocol):
    """Numbers of the sources, 0 on the sky, of which rows can be read: an array or what stands for one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.int32]:
        """Return some rows."""


class DiskPlane:
    """A plane of a window in a temporary file, zero at first: only the parts in use are in memory.

    Parameters
    ----------
    shape
        Rows and columns of the window.
    dtype
        Of its values.
    folder
        Has room for the plane while it exists.
    """

    def __init__(self, shape: tuple[int, int], dtype: type[np.generic], folder: Path) -> None:
        self.shape, self._dtype = shape, np.dtype(dtype)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the plane exists
        weakref.finalize(self, self._file.close)
        self._file.truncate(self._dtype.itemsize * shape[0] * shape[1])

    def __getitem__(self, part: Part | slice) -> NDArray:
        return np.array(self._mapped("r")[part])

    def __setitem__(self, part: Part, values: NDArray) -> None:
        self._mapped("r+")[part] = values

    def _mapped(self, mode: Literal["r", "r+"]) -> np.memmap:
        # Pages of a file count as memory of the process as long as they are mapped.
        return np.memmap(self._file, self._dtype, mode, shape=self.shape)
