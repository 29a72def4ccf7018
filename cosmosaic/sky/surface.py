"""A smooth background of the whole mosaic, outside of sources, brought back to the exposures.

The second of the two steps by which CEERS flattens its mosaics (Bagley et al. 2023, ApJL 946, L12), on the stack of
cells. It takes all light that varies over more than some ten arcseconds for background; sources are masked with a wide
margin, so that the outskirts of galaxies are bridged and not followed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cosmosaic.cells.survey import CellExposure, CellSurvey, stack, sums_on_detector
from cosmosaic.exposures.patterns import Patterns
from cosmosaic.source_light import grown, smooth_background

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

BOX_CELLS = 40
"""Side of the boxes: 10 arcsec at short wavelengths."""
PROTECT_CELLS = 6.0
"""Margin that the masks of large sources get."""
LARGE_CELLS = 60
"""Sources of at least this many cells are large: 4 square arcseconds."""
NODES = 12


def mosaic_surface(survey: CellSurvey, levels: dict[str, float], sources: Flags) -> tuple[dict[str, float], Patterns]:
    """Find the smooth background that the stack of the exposures has.

    Parameters
    ----------
    survey
        Exposures on the lattice.
    levels
        Level of each, MJy/sr.
    sources
        Cells that hold sources, shape of the lattice.

    Returns
    -------
    shifts
        Mean of the background over each exposure, to be added to its level, MJy/sr.
    patterns
        Its variation over each exposure.
    """
    brightness = stack(survey, levels)
    surface = smooth_background(brightness, sources | grown(_large(sources), PROTECT_CELLS), BOX_CELLS)
    shifts, patterns = {}, {}
    for exposure in survey.exposures:
        blotted = surface[exposure.window]
        shifts[exposure.name] = float(blotted[exposure.usable].mean())
        patterns[exposure.name] = [_nodes(exposure, blotted - shifts[exposure.name])]
    return shifts, patterns


def _large(sources: Flags) -> Flags:
    labels, number = ndimage.label(sources)
    sizes: Any = ndimage.sum_labels(np.ones(sources.shape), labels, np.arange(number + 1))
    return sources & (sizes[labels] >= LARGE_CELLS)


def _nodes(exposure: CellExposure, values: Floats) -> Floats:
    """Mean of an exposure's cells in equal parts of the detector; parts without data take the exposure's mean."""
    total, number = sums_on_detector(exposure, values, exposure.usable, NODES)
    return total / np.maximum(number, 1)
