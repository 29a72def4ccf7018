"""Warnings, before the work, of valid settings that give useless mosaics, or not what they seem to ask for."""

from collections.abc import Collection, Sequence

import numpy as np

from cosmosaic.geometry.sphere import directions, footprint_centre, footprints_overlap
from cosmosaic.nircam import LONG_PIXEL_ARCSEC, SHORT_PIXEL_ARCSEC, is_long_wavelength
from cosmosaic.records import Exposure
from cosmosaic.survey import DrizzleSettings, Survey

LARGEST_HOLES = 0.01
"""Fraction of empty pixels above which a warning is given."""
LARGEST_PIXELS = 2.0
"""Pixels larger than this, in the detector's pixels, lose the resolution of a single exposure."""
SAMPLED_PLACES = 30
"""Places at which depth is counted: enough for a median, and quick for a thousand exposures."""
POINT_ARCSEC = 0.01


def doubtful_settings(survey: Survey, exposures: Sequence[Exposure]) -> tuple[str, ...]:
    """Warn of settings that will leave holes in mosaics, of pixels too large for stars and apertures, and of PSFs.

    PSFs of some detectors of a filter are not used, since its mosaics are made of exposures of all of them.

    Parameters
    ----------
    survey
        The settings.
    exposures
        All exposures that take part.
    """
    told = []
    for band in sorted({exposure.band for exposure in exposures}):
        is_long = is_long_wavelength(band)
        detector = LONG_PIXEL_ARCSEC if is_long else SHORT_PIXEL_ARCSEC
        factor = survey.grid.long_wavelength_factor if is_long else 1
        pixel = survey.grid.pixel_scale_mas * factor / 1000.0
        told += _holes(survey.drizzle, [one for one in exposures if one.band == band], detector, pixel, band)
        told += _large_pixels(survey, detector, pixel, band)
        told += _missing_psfs(survey, {one.detector for one in exposures if one.band == band}, band)
    return tuple(told)


def empty_fraction(drop_arcsec: float, pixel_arcsec: float, detector_arcsec: float, depth: int) -> float:
    """Return the fraction of pixels that no drop reaches, for exposures with subpixel offsets.

    Parameters
    ----------
    drop_arcsec, pixel_arcsec, detector_arcsec
        Sides of a drop (pixfrac times the detector's pixel), of the mosaic's pixels and of the detector's pixels.
    depth
        Number of exposures.
    """
    reached = min(1.0, (drop_arcsec + pixel_arcsec) / detector_arcsec) ** 2
    return (1.0 - reached) ** depth


def _holes(
    drizzle: DrizzleSettings, exposures: Sequence[Exposure], detector: float, pixel: float, band: str
) -> list[str]:
    drop = 0.0 if drizzle.kernel == "point" else drizzle.pixfrac * detector
    if drizzle.kernel not in ("square", "point", "turbo") or drop + pixel >= detector:
        return []
    depth = _median_depth(exposures)
    empty = empty_fraction(drop, pixel, detector, depth)
    if empty <= LARGEST_HOLES:
        return []
    setting = "drizzle.kernel = 'point'" if drizzle.kernel == "point" else f"drizzle.pixfrac = {drizzle.pixfrac:g}"
    return [
        f"{band}: {setting} with pixels of {1000 * pixel:g} mas leaves about {100 * empty:.0f} % of the mosaic empty "
        f"at its depth of {depth}; raise drizzle.pixfrac, or grid.pixel_scale_mas towards {1000 * detector:.0f}"
    ]


def _missing_psfs(survey: Survey, detectors: Collection[str], band: str) -> list[str]:
    missing = sorted(name for name in detectors if survey.catalog.detector_psf(name, band) is None)
    if band in survey.catalog.psfs or not missing or len(missing) == len(detectors):
        return []
    return [
        f"catalog.detector_psfs: none is of {', '.join(f'{name}_{band}' for name in missing)}, so that no mosaic of "
        f"{band} with their exposures uses those of other detectors; give {missing[0]}_{band}, or {band} for all"
    ]


def _large_pixels(survey: Survey, detector: float, pixel: float, band: str) -> list[str]:
    told = []
    if pixel > LARGEST_PIXELS * detector:
        told.append(
            f"{band}: pixels of {1000 * pixel:g} mas are {pixel / detector:.1f} times those of the detector; stars, "
            f"cosmic rays and defects cannot be told apart; lower grid.pixel_scale_mas or grid.long_wavelength_factor"
        )
    small = [diameter for diameter in survey.catalog.aperture_diameters_arcsec if diameter < 2 * pixel]
    if small and survey.drizzle.errors != "none":
        diameters = ", ".join(f"{diameter:g}" for diameter in small)
        told.append(
            f"{band}: catalog.aperture_diameters_arcsec {diameters} are below two pixels of {1000 * pixel:g} mas; "
            f"their fluxes will be meaningless"
        )
    return told


def _median_depth(exposures: Sequence[Exposure]) -> int:
    """Median number of exposures that see the middle of an exposure."""
    step = max(1, len(exposures) // SAMPLED_PLACES)
    depths = []
    for exposure in exposures[::step]:
        ra, dec = directions(footprint_centre(exposure.footprint))[0]
        point = [(ra, dec - POINT_ARCSEC / 3600), (ra, dec + POINT_ARCSEC / 3600), (ra, dec)]
        depths.append(sum(footprints_overlap(other.footprint, point) for other in exposures))
    return int(np.median(depths))
