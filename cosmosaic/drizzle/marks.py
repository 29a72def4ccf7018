"""Flags of an exposure's pixels on the survey's lattice: what the DQ plane of a mosaic is made of."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.dq import UNUSABLE
from cosmosaic.drizzle.kernel import WEIGHT, Light
from cosmosaic.drizzle.packed import Placed, open_planes
from cosmosaic.drizzle.sums import Patch, drizzle_light, lit_part
from cosmosaic.geometry.pixelmap import PixelMap
from cosmosaic.geometry.windows import Box
from cosmosaic.survey import DrizzleSettings

DO_NOT_USE, SATURATED, JUMP_DET = (np.uint8(pixel[name]) for name in ("DO_NOT_USE", "SATURATED", "JUMP_DET"))
"""Bits of marks: an unusable pixel, a saturated one, and a usable one with a jump, has a part of its drop here."""
REJECTED = np.uint8(pixel["DO_NOT_USE"] | pixel["OUTLIER"])
"""Bits where outliers were left out."""

Marks = NDArray[np.uint8]


def drizzle_marks(dq: NDArray[np.uint32], pixel_map: PixelMap, box: Box, settings: DrizzleSettings) -> Marks:
    """Mark the lattice pixels of a rectangle that drops of flagged pixels reach.

    Parameters
    ----------
    dq
        Flags of the exposure. Reference pixels and others that see no sky (NON_SCIENCE) make no marks.
    pixel_map
        Lattice pixel of each input pixel's centre.
    box
        Rectangle to fill.
    settings
        Kernel and pixel fraction.

    Returns
    -------
    marks
        `DO_NOT_USE`, `SATURATED`, `JUMP_DET`, shape ``(height, width)``.
    """
    marks = np.zeros((box.height, box.width), np.uint8)
    usable, science = (dq & UNUSABLE) == 0, (dq & pixel["NON_SCIENCE"]) == 0
    alone = settings.model_copy(update={"errors": "none"})
    for bit, eligible in ((DO_NOT_USE, science), (SATURATED, science), (JUMP_DET, usable)):
        weight = (((dq & bit) > 0) & eligible).astype(np.float32)
        light = Light(weight, weight, weight, weight, weight)
        marks[drizzle_light(light, pixel_map, box, alone).planes[..., WEIGHT] != 0] |= bit
    return marks


def marked_part(box: Box, marks: Marks) -> Placed:
    """Cut off the margins of a rectangle that have no marks."""
    marked = lit_part(marks > 0, box)
    return Placed(marked, marks[marked.within(box)])


class MarksFile:
    """The marks in a file of sums, whose rows are read as needed."""

    def __init__(self, path: Path) -> None:
        self._plane = open_planes(path)[-1]
        self.box = self._plane.box

    def read(self, strip: Box, patch: Patch | None = None) -> Marks:
        """Return the marks in a strip of the lattice, with the pixels of a patch marked as `REJECTED`."""
        marks = np.zeros((strip.height, strip.width), np.uint8)
        common = self.box.intersection(strip)
        if common.pixels:
            marks[common.within(strip)] = self._plane.read(common)
        if patch is not None:
            marks[patch.places_in(strip)] |= REJECTED
        return marks
