"""The segmentation map of a window, which may be larger than memory."""

import tempfile
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


class SegmentMap:
    """A segmentation map in a temporary file: only the parts in use are in memory.

    Parameters
    ----------
    shape
        Rows and columns of the window.
    folder
        Has room for four bytes per pixel while the map exists.
    """

    def __init__(self, shape: tuple[int, int], folder: Path) -> None:
        self.shape = shape
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the map exists
        self._file.truncate(4 * shape[0] * shape[1])

    def __getitem__(self, part: Part | slice) -> NDArray[np.int32]:
        return np.array(self._mapped("r")[part])

    def __setitem__(self, part: Part, numbers: NDArray[np.int32]) -> None:
        self._mapped("r+")[part] = numbers

    def _mapped(self, mode: Literal["r", "r+"]) -> np.memmap:
        # Pages of a file count as memory of the process as long as they are mapped.
        return np.memmap(self._file, np.int32, mode, shape=self.shape)
