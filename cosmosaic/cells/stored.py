"""Exposures whose cells stay in their files: each is read when it is taken, array by array as they are used."""

import os
import struct
import tempfile
import weakref
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from cosmosaic.cells.survey import CellExposure, Outline

Reader = Callable[[], Any]
LOCAL_HEADER_BYTES = 30
"""Of a member of a zip file, without its name and what follows that (PKWARE's APPNOTE.TXT, 4.3.7)."""
LENGTHS = 26
"""Where the local header has the lengths of these two."""


class CellsFileError(ValueError):
    """A file does not hold the cells of an exposure."""


class StoredExposure(CellExposure):
    """An exposure each of whose arrays is read when it is first used, and held as long as the exposure."""

    @classmethod
    def of(cls, facts: Mapping[str, Any], readers: Mapping[str, Reader]) -> "StoredExposure":
        """Return an exposure of which nothing is read yet.

        Parameters
        ----------
        facts
            What is known without its arrays.
        readers
            Functions that read the arrays, by the names of the fields.
        """
        exposure = object.__new__(cls)
        vars(exposure).update(facts, _readers=readers)
        return exposure

    def __getattr__(self, name: str) -> Any:
        reader = vars(self).get("_readers", {}).get(name)
        if reader is None:
            raise AttributeError(name)
        vars(self)[name] = value = reader()
        return value


class StoredExposures(Sequence[CellExposure]):
    """Exposures of which none is held: whoever takes one reads it, and drops it.

    Parameters
    ----------
    facts
        What is known of each exposure without its arrays, by the names of the fields, and its ``outline``.
    readers
        Functions that read the arrays of each.
    scratch
        Folder for temporary files.
    """

    def __init__(
        self, facts: Sequence[Mapping[str, Any]], readers: Sequence[Mapping[str, Reader]], scratch: Path | None
    ) -> None:
        self._facts, self._readers, self._scratch = facts, readers, scratch

    def __len__(self) -> int:
        return len(self._facts)

    @overload
    def __getitem__(self, number: int) -> CellExposure: ...

    @overload
    def __getitem__(self, number: slice) -> tuple[CellExposure, ...]: ...

    def __getitem__(self, number: int | slice) -> CellExposure | tuple[CellExposure, ...]:
        if isinstance(number, slice):
            return tuple(self[one] for one in range(*number.indices(len(self))))
        return StoredExposure.of(self._facts[number], self._readers[number])

    def __iter__(self) -> Iterator[CellExposure]:
        return map(StoredExposure.of, self._facts, self._readers)

    def changed(self, change: Callable[[CellExposure], Mapping[str, Any]]) -> "StoredExposures":
        """Return the exposures with some arrays changed; these go to a temporary file, until nobody needs them.

        Parameters
        ----------
        change
            Returns the changed arrays of an exposure by the names of the fields.
        """
        kept = _TemporaryArrays(self._scratch)
        readers = [
            {**before, **{name: kept.put(array) for name, array in change(exposure).items()}}
            for before, exposure in zip(self._readers, self, strict=True)
        ]
        return StoredExposures(self._facts, readers, self._scratch)

    def moved(self, rows: int, columns: int) -> "StoredExposures":
        """Return the exposures with their origins moved."""
        facts = [{**each, **_placed(each["outline"], rows, columns)} for each in self._facts]
        return StoredExposures(facts, self._readers, self._scratch)


def open_cells(paths: Iterable[Path], scratch: Path | None) -> StoredExposures:
    """Open files of `cosmosaic.cells.units.write_cells`, and read what they hold besides arrays.

    Parameters
    ----------
    paths
        The files.
    scratch
        Folder for temporary files; the system's, if there is none.

    Raises
    ------
    CellsFileError
        One of them does not hold the cells of an exposure.
    """
    facts, readers = zip(*map(_opened, paths), strict=True)
    return StoredExposures(facts, readers, scratch)


def _placed(outline: Outline, rows: int, columns: int) -> dict[str, Any]:
    origin = (outline.origin[0] + rows, outline.origin[1] + columns)
    return {"origin": origin, "outline": replace(outline, origin=origin)}


def _opened(path: Path) -> tuple[dict[str, Any], dict[str, Reader]]:
    """Facts of an exposure, and functions that read its arrays."""
    try:
        with np.load(path) as stored:
            name, detector, group = map(str, stored["names"])
            row, column, detector_rows = map(int, stored["numbers"])
            pixel_rms = float(stored["pixel_rms"])
            mean, variance, pixels, x, y = _places(path, ("mean", "variance", "pixels", "x", "y"))
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise CellsFileError(
            f"{path.name}: no cells of an exposure ({error}); delete the file, and the next run makes it again"
        ) from error
    outline = Outline(name, detector, (row, column), mean.shape, pixel_rms, detector_rows)
    facts = {
        "name": name,
        "detector": detector,
        "group": group,
        "origin": (row, column),
        "pixel_rms": pixel_rms,
        "detector_rows": detector_rows,
        "outline": outline,
    }
    readers: dict[str, Reader] = {
        "mean": partial(read_array, path, mean, np.float64),
        "variance": partial(read_array, path, variance, np.float64),
        "pixels": partial(read_array, path, pixels, np.int32),
        "detector_position": partial(_read_both, path, x, y),
    }
    return facts, readers


class _Place(NamedTuple):
    """Where an array lies in a file."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, int]
    order: Literal["C", "F"]


def _places(path: Path, names: Sequence[str]) -> list[_Place]:
    """Places of two-dimensional arrays in an uncompressed ``.npz`` file."""
    places = []
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        for name in names:
            entry = archive.getinfo(f"{name}.npy")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{name} is compressed")
            raw.seek(entry.header_offset + LENGTHS)
            start = entry.header_offset + LOCAL_HEADER_BYTES + sum(struct.unpack("<HH", raw.read(4)))
            raw.seek(start)
            np.lib.format.read_magic(raw)
            (rows, columns), by_columns, dtype = np.lib.format.read_array_header_1_0(raw)
            places.append(_Place(raw.tell(), dtype, (rows, columns), "F" if by_columns else "C"))
    return places


def read_array(path: Path, place: _Place, dtype: type[np.generic]) -> NDArray[Any]:
    """Read an array of a file of cells.

    Raises
    ------
    CellsFileError
        The file ends before the array does.
    """
    rows, columns = place.shape
    descriptor = os.open(path, os.O_RDONLY)
    try:
        stored = _values(descriptor, place.offset, place.dtype, rows * columns)
    except EOFError as error:
        raise CellsFileError(
            f"{path.name}: the file is cut short; delete it, and the next run makes it again"
        ) from error
    finally:
        os.close(descriptor)
    return stored.reshape(rows, columns, order=place.order).astype(dtype)


def _values(descriptor: int, offset: int, dtype: np.dtype[Any], number: int) -> NDArray[Any]:
    """Read numbers from a place in an open file: `numpy.fromfile` takes two to four times as long for a few."""
    values = np.empty(number, dtype)
    memory, done = values.data.cast("B"), 0
    while done < values.nbytes:
        read = os.preadv(descriptor, [memory[done:]], offset + done)
        if not read:
            raise EOFError
        done += read
    return values


def _read_both(path: Path, x: _Place, y: _Place) -> tuple[NDArray[Any], NDArray[Any]]:
    return read_array(path, x, np.float64), read_array(path, y, np.float64)


class _TemporaryArrays:
    """Arrays in a temporary file, which vanishes with the last function that reads one of them."""

    def __init__(self, folder: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115, closed with the last reader
        weakref.finalize(self, self._file.close)
        self._end = 0

    def put(self, array: NDArray[Any]) -> Reader:
        """Append an array; return the function that reads it."""
        start = self._end
        self._file.seek(start)
        array.tofile(self._file)
        self._end += array.nbytes
        return partial(self._read, start, array.dtype, array.shape)

    def _read(self, start: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        return _values(self._file.fileno(), start, dtype, int(np.prod(shape))).reshape(shape)
