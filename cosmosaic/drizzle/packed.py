"""Planes of rectangles of the lattice in a file: compressed without loss, and read a few rows at a time.

Each plane is packed in strips. Of a strip the first bytes of all numbers lie together, then all second bytes and so on,
as with GZIP_2 in FITS, since exponents of neighbours are alike; they are compressed with LZ4. A list of the strips'
lengths ends the file.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cosmosaic.geometry.windows import Box

STRIP_ROWS = 64
"""Strips end at multiples of so many rows of the lattice: those of all exposures and tiles are read together."""
CODEC = pa.Codec("lz4_raw")
"""It leaves 0.38 of sums; zstd leaves 0.35, and takes twice as long to pack and several times as long to unpack."""
LENGTH_BYTES = 8
"""Of the number at the end of a file that tells how long the list before it is."""

Numbers = NDArray[Any]


def strips(box: Box) -> Iterator[Box]:
    """Cut a rectangle into strips, from below; a cut lies at each multiple of `STRIP_ROWS` rows of the lattice."""
    bottom, end = box.y, box.y + box.height
    while bottom < end:
        top = min((bottom // STRIP_ROWS + 1) * STRIP_ROWS, end)
        yield Box(box.x, bottom, box.width, top - bottom)
        bottom = top


class Placed(NamedTuple):
    """A plane of a rectangle."""

    box: Box
    numbers: Numbers
    """Of any type, shape ``(height, width)``."""
    part: str = ""
    """Name of the part of the file that it belongs to."""


def write_planes(planes: Iterable[Placed], path: Path) -> Path:
    """Write planes."""
    described = []
    with path.open("wb") as file:
        for box, numbers, part in planes:
            lengths = [file.write(_packed(numbers[strip.within(box)])) for strip in strips(box)]
            described.append({"box": box, "type": numbers.dtype.str, "lengths": lengths, "part": part})
        text = json.dumps(described).encode()
        file.write(text + len(text).to_bytes(LENGTH_BYTES, "little"))
    return path


class PackedPlane:
    """A plane in a file of `write_planes`."""

    def __init__(self, path: Path, start: int, described: Mapping[str, Any]) -> None:
        self.box = Box(*described["box"])
        self._path, self._start = path, start
        self._type, self._lengths = np.dtype(described["type"]), described["lengths"]

    def read(self, part: Box) -> Numbers:
        """Read a part of the rectangle, shape ``(height, width)`` of the part."""
        found = np.empty((part.height, part.width), self._type)
        start = self._start
        with self._path.open("rb") as file:
            for strip, length in zip(strips(self.box), self._lengths, strict=True):
                common = strip.intersection(part)
                if common.pixels:
                    file.seek(start)
                    found[common.within(part)] = _unpacked(file.read(length), strip, self._type)[common.within(strip)]
                start += length
        return found


def open_planes(path: Path, part: str = "") -> list[PackedPlane]:
    """Open the planes of one part of a file of `write_planes`; nothing is unpacked yet."""
    with path.open("rb") as file:
        end = file.seek(-LENGTH_BYTES, 2)
        file.seek(end - int.from_bytes(file.read(), "little"))
        described = json.loads(file.read()[:-LENGTH_BYTES])
    starts = accumulate((sum(plane["lengths"]) for plane in described), initial=0)
    placed = zip(starts, described, strict=False)
    return [PackedPlane(path, start, plane) for start, plane in placed if plane["part"] == part]


def _packed(numbers: Numbers) -> bytes:
    each = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, numbers.itemsize)
    by_byte = np.empty((numbers.itemsize, len(each)), np.uint8)
    for number, place in enumerate(by_byte):  # numpy's transposed copy takes twice as long
        place[:] = each[:, number]
    return CODEC.compress(by_byte, asbytes=True)


def _unpacked(content: bytes, strip: Box, kind: np.dtype[Any]) -> Numbers:
    size = kind.itemsize * strip.pixels
    by_byte = np.frombuffer(CODEC.decompress(content, decompressed_size=size), np.uint8)
    each = np.empty((strip.pixels, kind.itemsize), np.uint8)
    for number, place in enumerate(by_byte.reshape(kind.itemsize, -1)):
        each[:, number] = place
    return each.view(kind).reshape(strip.height, strip.width)
