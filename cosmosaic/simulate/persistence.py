"""Persistence: the light that filled pixels release in later exposures of the same detector."""

from datetime import datetime
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from cosmosaic.simulate.geometry import subarray_window
from cosmosaic.simulate.instrument import DetectorMaps, detector_maps, flux_conversion
from cosmosaic.simulate.plan import PlannedExposure, exposure_duration_s, plan_exposures
from cosmosaic.simulate.ramps import draw_cosmic_rays, full_well_dn, photon_rate
from cosmosaic.simulate.render import sky_level, surface_brightness
from cosmosaic.survey import SimulationSettings

REFERENCE_TIME_S = 1000.0
LONGEST_S = 4 * 3600.0
STEEPNESS = 3.0
"""Power of the filled fraction of a pixel that the current goes with."""


def persistence(
    exposure: PlannedExposure, scene: Table, settings: SimulationSettings, image: Path | None = None
) -> NDArray[np.float32]:
    """Surface brightness that earlier exposures of the detector seem to have in an exposure.

    The current falls as the inverse of the time; its mean over the exposure is used.

    Parameters
    ----------
    exposure
        The planned exposure.
    scene, image
        What the telescope observes, as for `cosmosaic.simulate.render.surface_brightness`.
    settings
        The survey; ``persistence_dn_s`` is the current of a full pixel after 1000 s.

    Returns
    -------
    ndarray
        MJy/sr, shape ``(ny, nx)``.
    """
    maps = detector_maps(exposure.detector, subarray_window(exposure.aperture))
    duration = exposure_duration_s(settings)
    current = np.zeros(maps.gain.shape, dtype=np.float32)
    for earlier in plan_exposures(settings):
        since = datetime.fromisoformat(exposure.start) - datetime.fromisoformat(earlier.start)
        gap = since.total_seconds() - duration
        if earlier.detector == exposure.detector and 0 < gap < LONGEST_S:
            sky = surface_brightness(earlier, scene, sky_level(earlier.band, settings.sky_mjy_sr), image)
            mean = settings.persistence_dn_s * REFERENCE_TIME_S / duration * np.log((gap + duration) / gap)
            current += np.float32(mean) * filled(earlier, sky, settings, maps) ** np.float32(STEEPNESS)
    return current * flux_conversion(exposure.detector, exposure.band) / maps.flat


def filled(
    exposure: PlannedExposure, sky: NDArray[np.float32], settings: SimulationSettings, maps: DetectorMaps
) -> NDArray[np.float32]:
    """Fraction of each pixel's full well that light and cosmic rays have filled at the end of an exposure."""
    conversion = flux_conversion(exposure.detector, exposure.band)
    electrons = photon_rate(sky, maps, conversion) * np.float32(exposure_duration_s(settings))
    hits = draw_cosmic_rays(exposure, settings, maps)
    np.add.at(electrons.reshape(-1), hits.pixel, hits.electrons)
    return np.clip(electrons / maps.gain / full_well_dn(maps), 0, 1)
