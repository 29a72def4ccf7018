"""One mosaic, read from an ``_i2d.fits`` file."""

from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.io.fits import Header
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

PIXEL_UNIT = u.MJy / u.sr


@dataclass(frozen=True)
class MosaicImage:
    """The planes of a mosaic for photometry, shape ``(ny, nx)`` each, and its WCS."""

    sci: NDArray[np.float32]
    """Surface brightness in MJy/sr."""
    err: NDArray[np.float32]
    """Standard error of ``sci`` in MJy/sr."""
    wht: NDArray[np.float32]
    """Drizzle weight."""
    valid: NDArray[np.bool_]
    """Where science, error and weight are all usable."""
    wcs: WCS
    pixel_area_sr: float
    """Nominal pixel area (``PIXAR_SR``), which converts surface brightness to flux."""
    exposures: NDArray[np.float32] | None = None
    """Number of exposures that reach a pixel, where the mosaic tells."""

    @property
    def pixel_scale_arcsec(self) -> float:
        """Pixel scale in arcsec."""
        return float(np.sqrt(np.prod(proj_plane_pixel_scales(self.wcs))) * 3600.0)

    def pixels(self, arcsec: float) -> float:
        """Convert an angle in arcsec to pixels."""
        return arcsec / self.pixel_scale_arcsec


def read_mosaic(path: Path) -> MosaicImage:
    """Read the planes of a mosaic.

    Parameters
    ----------
    path
        A mosaic in the format of jwst's resample, with the extensions SCI (MJy/sr), ERR and WHT.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ValueError
        An extension or ``PIXAR_SR`` is missing, the unit is wrong, or no pixel has data.
    """
    with fits.open(path, memmap=True) as hdus:
        missing = [name for name in ("SCI", "ERR", "WHT") if name not in hdus]
        if missing:
            raise ValueError(
                f"{path}: no extension {', '.join(missing)}; give a mosaic that resample wrote (_i2d.fits)"
            )
        header = hdus["SCI"].header
        pixel_area = _pixel_area(header, path)
        sci, err, wht = (np.array(hdus[name].data, dtype=np.float32) for name in ("SCI", "ERR", "WHT"))
        exposures = np.array(hdus["NEXP"].data, dtype=np.float32) if "NEXP" in hdus else None
    valid = np.isfinite(sci) & np.isfinite(err) & (err > 0) & (wht > 0)
    if not valid.any():
        raise ValueError(f"{path}: no pixel has finite SCI, positive ERR and positive WHT; the mosaic is empty")
    return MosaicImage(
        sci=sci, err=err, wht=wht, valid=valid, wcs=WCS(header), pixel_area_sr=pixel_area, exposures=exposures
    )


def _pixel_area(header: Header, path: Path) -> float:
    unit = header.get("BUNIT", "MJy/sr")
    if u.Unit(unit) != PIXEL_UNIT:
        raise ValueError(f"{path}: BUNIT is {unit!r} in SCI; only surface brightness in MJy/sr can be measured")
    area = header.get("PIXAR_SR")
    if area is None or not area > 0:
        raise ValueError(f"{path}: PIXAR_SR is {area!r} in SCI; run resample on frames that went through photom")
    return float(area)
