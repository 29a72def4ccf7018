"""Wisps: light scattered onto a fixed place of a detector, of different strength in each exposure."""

import numpy as np
from numpy.typing import NDArray

from cosmosaic.nircam import WISP_DETECTORS
from cosmosaic.simulate.plan import PlannedExposure
from cosmosaic.simulate.truth import generator_of
from cosmosaic.survey import SimulationSettings

STRENGTH_SCATTER = 0.2
"""Relative rms of the strength between exposures."""
RIDGES = ((1.0, 0.32, 0.05), (0.6, 0.55, 0.03))
"""Relative brightness, row and width of the two ridges, the latter in units of the exposure's height."""


def draw_wisps(exposure: PlannedExposure, shape: tuple[int, int], settings: SimulationSettings) -> NDArray[np.float32]:
    """Draw the wisps of an exposure: two bright curved ridges, fixed on the detector.

    NIRCam's wisps have other shapes and are on the same detectors (Robotham et al. 2023, PASP 135, 085003).

    Parameters
    ----------
    exposure
        Its seed and detector are used.
    shape
        Rows and columns that are read out; the ridges cross their middle.
    settings
        ``wisp_mjy_sr`` is the mean brightness of the brighter ridge.

    Returns
    -------
    ndarray
        Surface brightness in MJy/sr; 0 on detectors that have no wisps.
    """
    if exposure.detector not in WISP_DETECTORS or settings.wisp_mjy_sr == 0:
        return np.zeros(shape, dtype=np.float32)
    y, x = np.meshgrid(*(np.linspace(0, 1, size, dtype=np.float32) for size in shape), indexing="ij")
    phase = 0.7 if exposure.detector.endswith("4") else 0.0
    pattern = np.zeros(shape)
    for brightness, row, width in RIDGES:
        ridge = row + 0.08 * np.sin(5 * x + phase) + 0.15 * (x - 0.5) ** 2
        pattern += brightness * np.exp(-0.5 * ((y - ridge) / width) ** 2 - 0.5 * ((x - 0.5) / 0.25) ** 2)
    strength = 1 + STRENGTH_SCATTER * generator_of(exposure, "wisps").standard_normal()
    return (settings.wisp_mjy_sr * strength * pattern).astype(np.float32)
