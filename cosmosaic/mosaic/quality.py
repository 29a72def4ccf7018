"""Exposure time and flags of a mosaic's pixels, from those of its exposures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.drizzle.kernel import WEIGHT
from cosmosaic.drizzle.marks import DO_NOT_USE, JUMP_DET, Marks
from cosmosaic.drizzle.sums import Sums
from cosmosaic.geometry.windows import Box

NOT_OBSERVED = pixel["DO_NOT_USE"] | pixel["NON_SCIENCE"]
"""Flags where no exposure reaches."""
SINGLE_EXPOSURE = pixel["UNRELIABLE_SLOPE"]
"""Flag of a pixel that one exposure made, in which nothing shows cosmic rays. Sums of this and the other flags are
even, and thus exact in float32; DO_NOT_USE does not come with it."""
IN_ANY = pixel["SATURATED"] | pixel["OUTLIER"]


@dataclass(frozen=True)
class Quality:
    """What is known of a strip's pixels so far, shape ``(height, width)`` each."""

    seconds: NDArray[np.float64]
    """Exposure time."""
    count: NDArray[np.int32]
    """Number of exposures that contribute."""
    last: NDArray[np.int32]
    """The exposure counted last: the detectors of an exposure group count once."""
    marks: Marks
    """Those of all exposures."""
    clean: NDArray[np.bool_]
    """Whether an exposure without a jump contributes."""

    def add(self, marks: Marks, sums: Sums | None, strip: Box, exposure: int, seconds: float) -> None:
        """Add one detector, in the order of the exposure groups.

        Parameters
        ----------
        marks
            Its marks in the strip (`cosmosaic.drizzle.marks`).
        sums
            Its sums without outliers, if there are any in the strip.
        strip
            The strip.
        exposure
            Number of its exposure group, from 1.
        seconds
            Its effective exposure time.
        """
        np.bitwise_or(self.marks, marks, out=self.marks)
        if sums is None:
            return
        part = sums.box.within(strip)
        totals = (self.seconds[part], self.count[part], self.last[part], self.clean[part])
        _add(sums.planes[..., WEIGHT], marks[part], exposure, seconds, totals)

    def flags(self) -> NDArray[np.uint32]:
        """Return the flags, in the bits of JWST's DQ.

        SATURATED and OUTLIER: in an exposure at least. JUMP_DET: in all that contribute. `SINGLE_EXPOSURE`.
        DO_NOT_USE: nothing contributes; `NOT_OBSERVED` if nothing reaches.
        """
        seen, dq = self.count > 0, self.marks.astype(np.uint32) & np.uint32(IN_ANY)
        dq[seen & ~self.clean] |= np.uint32(JUMP_DET)
        dq[self.count == 1] |= np.uint32(SINGLE_EXPOSURE)
        reached = (self.marks & DO_NOT_USE) > 0
        dq[~seen] |= np.where(reached[~seen], np.uint32(DO_NOT_USE), np.uint32(NOT_OBSERVED))
        return dq


def no_quality(strip: Box) -> Quality:
    """Start a strip."""
    shape = (strip.height, strip.width)
    kinds = (np.float64, np.int32, np.int32, np.uint8, np.bool_)
    seconds, count, last, marks, clean = (np.zeros(shape, kind) for kind in kinds)
    return Quality(seconds, count, last, marks, clean)


@njit(cache=True, nogil=True)
def _add(weights: Any, marks: Any, exposure: int, seconds: float, totals: tuple[Any, Any, Any, Any]) -> None:
    time, count, last, clean = totals
    for row in range(weights.shape[0]):
        for column in range(weights.shape[1]):
            if weights[row, column] == 0.0:
                continue
            if not marks[row, column] & JUMP_DET:
                clean[row, column] = True
            if last[row, column] != exposure:
                time[row, column] += seconds
                count[row, column] += 1
                last[row, column] = exposure
