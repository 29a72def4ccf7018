"""Sources of which outlier rejection has cut something away, as it does where a source varied between exposures."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CORE = 0.5
"""Pixels brighter than this fraction of the peak are the core."""
LEAST_LOSS = 0.3
"""Exposures, weighted by the light that is missing; a bad pixel beside the peak takes less."""
AROUND_PIXELS = 4
AROUND_PERCENTILE = 20.0
"""Of the weight in a rim around a source: that of the shallower side where it lies on the edge of an exposure."""
FEWEST_AROUND = 20

Floats = NDArray[np.floating]


def rejected_labels(
    segments: NDArray[np.integer], sci: Floats, wht: Floats, exposures: NDArray[np.integer] | Floats
) -> NDArray[np.integer]:
    """Return the labels of sources whose core has lost a third of an exposure or more.

    Comparing exposures cannot distinguish a star that was brighter in one from a cosmic ray. Flagged light is missing
    from the weight of the core, while the weight around the source is whole.

    Parameters
    ----------
    segments
        Labels of the sources, 0 on the sky, shape ``(ny, nx)``.
    sci, wht
        Surface brightness and drizzle weight, same shape.
    exposures
        Number of exposures (NEXP), same shape.
    """
    found = []
    for label, box in enumerate(ndimage.find_objects(segments), start=1):
        if box is None:
            continue
        wide = tuple(slice(max(part.start - AROUND_PIXELS, 0), part.stop + AROUND_PIXELS) for part in box)
        if _lost(segments[wide], label, sci[wide], wht[wide], exposures[wide].astype(np.float32)) > LEAST_LOSS:
            found.append(label)
    return np.array(found, dtype=segments.dtype)


def _lost(segments: NDArray[np.integer], label: int, sci: Floats, wht: Floats, exposures: Floats) -> float:
    """Number of exposures that a core lacks, or a number that it does not exceed if that is small."""
    own = (segments == label) & np.isfinite(sci)
    if not own.any() or wht.max() == 0:
        return 0.0
    core = own & (sci > CORE * sci[own].max())
    if not core.any():
        return 0.0  # no light of the source in this filter
    kept = float(np.average(wht[core], weights=sci[core])) if sci[core].min() > 0 else float(wht[core].mean())
    most = float((1.0 - kept / wht.max()) * exposures.max())
    if most <= LEAST_LOSS:
        return most  # whatever the weight around is
    around = ndimage.binary_dilation(segments == label, iterations=AROUND_PIXELS) & (segments == 0) & (wht > 0)
    if np.count_nonzero(around) < FEWEST_AROUND:
        return 0.0
    whole = np.percentile(wht[around], AROUND_PERCENTILE)
    return float((1.0 - kept / whole) * np.percentile(exposures[around], AROUND_PERCENTILE))
