"""Facts about NIRCam: its detectors, and what the names of detectors and filters mean."""

import numpy as np

TELESCOPE_DIAMETER_M = 6.5
DETECTOR_PIXELS = 2048
"""Side of a detector."""
FULL_FRAME = (DETECTOR_PIXELS, DETECTOR_PIXELS)
DETECTOR_PATTERN = r"NRC([AB][1-4]|[AB]LONG)"
"""Names of the detectors as headers have them."""

SHORT_PIXEL_ARCSEC, LONG_PIXEL_ARCSEC = 0.0311, 0.0630
"""Nominal pixel scales, the mean over the detectors; cells and widths of stars are made with them."""
LARGEST_SHORT_PIXEL_ARCSEC, LARGEST_LONG_PIXEL_ARCSEC = 0.0312, 0.0630
"""Largest nominal pixel scales (SIAF): a footprint that is drawn with them contains the detector."""
DRAWN_SHORT_PIXEL_ARCSEC, DRAWN_LONG_PIXEL_ARCSEC = 0.031, 0.063
"""Rounded pixel scales that simulated sources are drawn with; their digits decide every simulated pixel."""
DICHROIC_UM = 2.35
"""Filters below this wavelength are on the short-wavelength detectors."""
WISP_DETECTORS = frozenset({"NRCA3", "NRCA4", "NRCB3", "NRCB4"})
"""Detectors with wisps, light that is scattered onto one place of them (Robotham et al. 2023, PASP 135, 085003)."""
NARROWEST_STAR_PIXELS = 1.3
"""A star is at least about as wide as a pixel, whatever the diffraction."""


def wavelength_um(filter_name: str) -> float:
    """Return the nominal wavelength in micrometres, e.g. 1.5 for F150W."""
    return int(filter_name[1:4]) / 100


def is_long_wavelength(filter_name: str) -> bool:
    """Tell whether a filter belongs to the long-wavelength channel."""
    return wavelength_um(filter_name) > DICHROIC_UM


def is_long_wavelength_detector(detector: str) -> bool:
    """Tell whether a detector, named as headers have it, is one of the two of the long-wavelength channel."""
    return detector.endswith("LONG")


def star_fwhm_pixels(filter_name: str) -> float:
    """Return the width of a star in detector pixels, by the diffraction limit."""
    fwhm_arcsec = np.degrees(1.02 * wavelength_um(filter_name) * 1e-6 / TELESCOPE_DIAMETER_M) * 3600
    return max(NARROWEST_STAR_PIXELS, float(fwhm_arcsec / detector_pixel_arcsec(filter_name)))


def detector_pixel_arcsec(filter_name: str) -> float:
    """Return the nominal pixel scale of the detectors that a filter is observed with."""
    return LONG_PIXEL_ARCSEC if is_long_wavelength(filter_name) else SHORT_PIXEL_ARCSEC
