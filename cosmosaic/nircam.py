"""Facts about NIRCam: its detectors, and the names of detectors and filters."""

import re
from typing import NamedTuple

import numpy as np

BLOCKING_FILTERS = {
    "F162M": "F150W2",
    "F164N": "F150W2",
    "F323N": "F322W2",
    "F405N": "F444W",
    "F466N": "F444W",
    "F470N": "F444W",
}
"""Filters in the pupil wheel, and the one in the filter wheel that each is observed with."""

FILTERS = (
    "F070W", "F090W", "F115W", "F140M", "F150W", "F150W2", "F162M", "F164N", "F182M", "F187N", "F200W", "F210M",
    "F212N", "F250M", "F277W", "F300M", "F322W2", "F323N", "F335M", "F356W", "F360M", "F405N", "F410M", "F430M",
    "F444W", "F460M", "F466N", "F470N", "F480M",
)  # fmt: skip
"""All filters, by wavelength."""


class Passband(NamedTuple):
    """A filter's wavelengths in micrometres."""

    pivot_um: float
    width_um: float


PASSBANDS = {
    "F070W": Passband(0.704, 0.128),
    "F090W": Passband(0.901, 0.194),
    "F115W": Passband(1.154, 0.225),
    "F140M": Passband(1.404, 0.142),
    "F150W": Passband(1.501, 0.318),
    "F150W2": Passband(1.671, 1.227),
    "F162M": Passband(1.627, 0.168),
    "F164N": Passband(1.645, 0.020),
    "F182M": Passband(1.845, 0.238),
    "F187N": Passband(1.874, 0.024),
    "F200W": Passband(1.990, 0.461),
    "F210M": Passband(2.093, 0.205),
    "F212N": Passband(2.120, 0.027),
    "F250M": Passband(2.503, 0.181),
    "F277W": Passband(2.786, 0.672),
    "F300M": Passband(2.996, 0.318),
    "F322W2": Passband(3.247, 1.339),
    "F323N": Passband(3.237, 0.038),
    "F335M": Passband(3.365, 0.347),
    "F356W": Passband(3.563, 0.787),
    "F360M": Passband(3.621, 0.372),
    "F405N": Passband(4.053, 0.046),
    "F410M": Passband(4.092, 0.436),
    "F430M": Passband(4.280, 0.228),
    "F444W": Passband(4.421, 1.024),
    "F460M": Passband(4.624, 0.228),
    "F466N": Passband(4.654, 0.054),
    "F470N": Passband(4.708, 0.051),
    "F480M": Passband(4.834, 0.303),
}
"""Pivot wavelengths and bandwidths of the filters in NIRCam's filter and pupil wheels (JWST User Documentation)."""

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
SHORT_GAIN, LONG_GAIN = 2.05, 1.82
"""Nominal gains in electrons per DN (JWST User Documentation)."""
DICHROIC_UM = 2.35
"""Filters below this wavelength are on the short-wavelength detectors."""
WISP_DETECTORS = frozenset({"NRCA3", "NRCA4", "NRCB3", "NRCB4"})
"""Detectors with wisps, light that is scattered onto one place of them (Robotham et al. 2023, PASP 135, 085003)."""
NARROWEST_STAR_PIXELS = 1.3
"""A star is at least about as wide as a pixel, whatever the diffraction."""


def detector_name(name: str) -> str:
    """Return the header's name of a detector, of which STPSF calls the long-wavelength ones NRCA5 and NRCB5."""
    return re.sub(r"^(NRC[AB])5$", r"\1LONG", name.upper())


def band_name(text: str) -> str:
    """Return the name that astronomers give a filter, or two that light passes one after the other.

    A filter in the pupil wheel names the band, whichever comes first: F470N is F444W and F470N in headers, and
    ``f470n-f444w`` in MAST's names. Other text is only changed to upper case.
    """
    names = [name for name in re.split(r"[-+/]", text.strip().upper()) if name != "CLEAR"]
    narrow = [name for name in names if BLOCKING_FILTERS.get(name) in names]
    return narrow[0] if narrow else "-".join(names)


def wheels_of(band: str) -> tuple[str, str]:
    """Return the elements in the filter wheel and the pupil wheel for a band."""
    return (BLOCKING_FILTERS[band], band) if band in BLOCKING_FILTERS else (band, "CLEAR")


def wavelength_um(filter_name: str) -> float:
    """Return the nominal wavelength in micrometres, e.g. 1.5 for F150W."""
    return int(filter_name[1:4]) / 100


def is_long_wavelength(filter_name: str) -> bool:
    """Return whether a filter belongs to the long-wavelength channel."""
    return wavelength_um(filter_name) > DICHROIC_UM


def drawn_pixel_arcsec(detector: str) -> float:
    """Return the pixel scale that simulated sources are drawn with."""
    return DRAWN_LONG_PIXEL_ARCSEC if is_long_wavelength_detector(detector) else DRAWN_SHORT_PIXEL_ARCSEC


def is_long_wavelength_detector(detector: str) -> bool:
    """Return whether a detector, named as headers have it, is one of the two of the long-wavelength channel."""
    return detector.endswith("LONG")


def star_fwhm_pixels(filter_name: str) -> float:
    """Return the width of a star in detector pixels, by the diffraction limit."""
    fwhm_arcsec = np.degrees(1.02 * wavelength_um(filter_name) * 1e-6 / TELESCOPE_DIAMETER_M) * 3600
    return max(NARROWEST_STAR_PIXELS, float(fwhm_arcsec / detector_pixel_arcsec(filter_name)))


def detector_pixel_arcsec(filter_name: str) -> float:
    """Return the nominal pixel scale of the detectors that a filter is observed with."""
    return LONG_PIXEL_ARCSEC if is_long_wavelength(filter_name) else SHORT_PIXEL_ARCSEC


def detector_gain(filter_name: str) -> float:
    """Return the nominal gain, in electrons per DN, of the detectors that a filter is observed with."""
    return LONG_GAIN if is_long_wavelength(filter_name) else SHORT_GAIN
