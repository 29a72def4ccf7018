"""NIRCam's science instrument aperture file (SIAF), without pysiaf's search for newer versions on the network."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NoReturn

import requests


@cache
def nircam_apertures() -> Any:
    """All of NIRCam's apertures by name, a `pysiaf.Siaf`."""
    # On import pysiaf looks for a newer version on the network, and warns if there is no answer.
    logging.getLogger("pysiaf").setLevel(logging.ERROR)
    with _requests_refused():
        import pysiaf
    return pysiaf.Siaf("NIRCam")


@contextmanager
def _requests_refused() -> Iterator[None]:
    get = requests.get
    requests.get = _refuse
    try:
        yield
    finally:
        requests.get = get


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise OSError("pysiaf need not ask for newer versions")


def aperture_name(detector: str, subarray: str) -> str:
    """SIAF's name of a detector's aperture; SIAF calls the long-wavelength detectors NRCA5 and NRCB5.

    Parameters
    ----------
    detector
        Detector as in headers, e.g. ``NRCB1`` or ``NRCBLONG``.
    subarray
        ``FULL``, ``SUB640``, ``SUB320`` or ``SUB160``.
    """
    return f"{detector.replace('LONG', '5')}_{subarray}"
