"""Sections of a window: overlapping parts that are measured one by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from cosmosaic.catalog.image import Part

PADDED_PIXELS = 2400
"""Largest side of a section with its margins, which memory grows with: 0.9 GB for four filters."""
MARGIN_PIXELS = 400
"""Least width of the margin: sources of this extent are measured whole."""
MULTIPLE = 8
"""Bounds of sections are multiples of this, in which larger pixels nest."""


@dataclass(frozen=True)
class Section:
    """A part of a window."""

    own: Part
    padded: Part
    """With the margin, clipped to the window."""

    @property
    def own_in_padded(self) -> Part:
        """The own part, counted from the padded one's corner."""
        rows, columns = (
            slice(own.start - padded.start, own.stop - padded.start)
            for own, padded in zip(self.own, self.padded, strict=True)
        )
        return rows, columns

    def holds(self, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Find which places, in pixels of the window, are in the own part."""
        inside = [
            (axis.start <= np.rint(place)) & (np.rint(place) < axis.stop)
            for axis, place in zip(self.own, (rows, columns), strict=True)
        ]
        return inside[0] & inside[1]


def sections_of(shape: tuple[int, int], box: int) -> Iterator[Section]:
    """Divide a window into sections whose bounds are multiples of the background's boxes.

    Parameters
    ----------
    shape
        Rows and columns of the window.
    box
        Side of the boxes in pixels.
    """
    unit = int(np.lcm(max(box, 1), MULTIPLE)) if box < PADDED_PIXELS - 2 * MARGIN_PIXELS else MULTIPLE
    margin = -(-MARGIN_PIXELS // unit) * unit
    rows, columns = (_divided(length, unit, margin) for length in shape)
    for row in rows:
        for column in columns:
            yield Section((row, column), (_grown(row, margin, shape[0]), _grown(column, margin, shape[1])))


def _divided(length: int, unit: int, margin: int) -> list[slice]:
    """Divide an axis into few parts of about equal length: a narrow one costs as much as its wide margins."""
    for number in count(1):
        side = -(-length // (number * unit)) * unit
        parts = [slice(start, min(start + side, length)) for start in range(0, length, side)]
        padded = (_grown(part, margin, length) for part in parts)
        if side <= unit or all(part.stop - part.start <= PADDED_PIXELS for part in padded):
            break
    return parts


def _grown(axis: slice, margin: int, length: int) -> slice:
    return slice(max(axis.start - margin, 0), min(axis.stop + margin, length))
