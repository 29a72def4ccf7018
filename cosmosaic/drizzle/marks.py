"""Flags of an exposure's pixels on the survey's lattice: what the DQ plane of a mosaic is made of."""

from collections.abc import Mapping
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


def flagged_pixels(dq: NDArray[np.uint32]) -> dict[np.uint8, Light]:
    """Return the pixels of an exposure that make marks, by the bit of the mark.

    Parameters
    ----------
    dq
        Flags of the exposure. Reference pixels and others that see no sky (NON_SCIENCE) make no marks.
    """
    usable, science = (dq & UNUSABLE) == 0, (dq & pixel["NON_SCIENCE"]) == 0
    flagged = {}
    for bit, eligible in ((DO_NOT_USE, science), (SATURATED, science), (JUMP_DET, usable)):
        weight = (((dq & bit) > 0) & eligible).astype(np.float32)
        flagged[bit] = Light(weight, weight, weight, weight, weight)
    return flagged


def drizzle_marks(flagged: Mapping[np.uint8, Light], pixel_map: PixelMap, box: Box, settings: DrizzleSettings) -> Marks:
    """Mark the lattice pixels of a rectangle that drops of flagged pixels reach.

    Parameters
    ----------
    flagged
        From `flagged_pixels`.
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
    alone = settings.model_copy(update={"errors": "none"})
    for bit, light in flagged.items():
        marks[drizzle_light(light, pixel_map, box, alone).planes[..., WEIGHT] != 0] |= bit
    return marks


def marked_part(box: Box, marks: Marks) -> Placed:
    """Cut off the margins of a rectangle that have no marks."""
    marked = lit_part(marks > 0, box)
    return Placed(marked, marks[marked.within(box)].copy())


class MarksFile:
    """The marks of one tile in a file of sums, whose rows are read as needed."""

    def __init__(self, path: Path, tile: str) -> None:
        self._plane = open_planes(path, tile)[-1]
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
