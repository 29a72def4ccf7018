"""NIRCam's science instrument aperture file (SIAF), without pysiaf's look for newer versions on the network."""

import logging
from functools import cache
from typing import Any
from unittest import mock


@cache
def nircam_apertures() -> Any:
    """All of NIRCam's apertures by name, a `pysiaf.Siaf`."""
    # Importing pysiaf asks the network for its newest version, waits for the answer and warns without one.
    logging.getLogger("pysiaf").setLevel(logging.ERROR)
    with mock.patch("requests.get", side_effect=OSError("no look for newer versions")):
        import pysiaf
    return pysiaf.Siaf("NIRCam")


def aperture_name(detector: str, subarray: str) -> str:
    """SIAF's name of a detector's aperture; SIAF calls the long-wavelength detectors NRCA5 and NRCB5.

    Parameters
    ----------
    detector
        Detector as headers have it, e.g. ``NRCB1`` or ``NRCBLONG``.
    subarray
        ``FULL``, ``SUB640``, ``SUB320`` or ``SUB160``.
    """
    return f"{detector.replace('LONG', '5')}_{subarray}"
