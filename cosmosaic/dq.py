"""Which pixels of an exposure can be used."""

import numpy as np
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels.dqflags import pixel

UNUSABLE = pixel["DO_NOT_USE"] | pixel["NON_SCIENCE"]
"""Pixels that jwst's resample step leaves out (its ``GOOD_BITS``)."""


def is_usable(
    data: NDArray[np.floating], err: NDArray[np.floating], dq: NDArray[np.unsignedinteger]
) -> NDArray[np.bool_]:
    """Tell which pixels have a value and an error, and are not flagged DO_NOT_USE or NON_SCIENCE."""
    return np.isfinite(data) & np.isfinite(err) & (err > 0) & ((dq & UNUSABLE) == 0)


def border(shape: tuple[int, ...], width: int) -> NDArray[np.bool_]:
    """Pixels within some pixels of an image's edge."""
    edge = np.ones(shape, dtype=bool)
    edge[width : shape[0] - width, width : shape[1] - width] = False
    return edge
