"""Mosaics as input of pictures: their headers, and their planes averaged in blocks."""

import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import block_reduce
from astropy.stats import sigma_clipped_stats
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from cosmosaic.nircam import band_name

LONGEST_SIDE = 1600
"""Larger mosaics are averaged in blocks until no side is longer than this, in pixels."""
SMALLEST_SIDE = 700
"""Smaller mosaics are enlarged by an integer factor until the longer side is about this long, in pixels."""
ROWS_AT_A_TIME = 512
"""Number of mosaic rows in memory at a time."""
RGB = NDArray[np.float64]
"""Red, green and blue from 0 to 1, shape ``(ny, nx, 3)``."""
Plane = NDArray[np.float32]
"""A mosaic's plane in picture pixels."""


@dataclass(frozen=True)
class Mosaic:
    """Description of a mosaic, from its headers."""

    path: Path
    band: str
    shape: tuple[int, int]
    wcs: WCS

    @property
    def pixel_scale(self) -> float:
        """Pixel scale in arcsec."""
        return float(np.sqrt(np.prod(proj_plane_pixel_scales(self.wcs))) * 3600.0)


@dataclass(frozen=True)
class Zoom:
    """Scaling of mosaic pixels to picture pixels: averaged in blocks, then repeated."""

    block: int
    repeat: int

    @property
    def pixels(self) -> float:
        """Mosaic pixels per picture pixel."""
        return self.block / self.repeat


def block_mean(hdu: fits.ImageHDU, factor: int) -> Plane:
    """Average an image in square blocks, ignoring NaN, a few rows at a time.

    Parameters
    ----------
    hdu
        Image extension of shape ``(ny, nx)``.
    factor
        Side of the blocks in pixels; blocks at the upper edges may be cut.

    Returns
    -------
    means
        Shape ``(ceil(ny / factor), ceil(nx / factor))``; NaN where a block holds no data.
    """
    rows, columns = hdu.shape
    step = factor * max(1, ROWS_AT_A_TIME // factor)
    strips = (hdu.section[start : min(start + step, rows), 0:columns] for start in range(0, rows, step))
    return np.concatenate([_strip_mean(strip, factor) for strip in strips])


def _strip_mean(strip: Plane, factor: int) -> Plane:
    fill = [(0, -length % factor) for length in strip.shape]
    padded = np.pad(strip.astype(np.float32), fill, constant_values=np.nan)
    with warnings.catch_warnings():
        # A block without data is NaN, which needs no warning.
        warnings.simplefilter("ignore", RuntimeWarning)
        return block_reduce(padded, factor, partial(np.nanmean, dtype=np.float64)).astype(np.float32)


def describe(path: Path) -> Mosaic:
    """Read a mosaic's headers.

    Raises
    ------
    ValueError
        The file has no SCI extension.
    """
    with fits.open(path, memmap=True) as hdus:
        if "SCI" not in hdus:
            raise ValueError(f"{path}: no extension SCI; give a mosaic (_i2d.fits)")
        primary = hdus[0].header
        band = band_name(f"{primary.get('FILTER', '')}-{primary.get('PUPIL') or 'CLEAR'}")
        return Mosaic(path=path, band=band, shape=hdus["SCI"].shape, wcs=WCS(hdus["SCI"].header))


def read_plane(mosaic: Mosaic, extension: str, zoom: Zoom) -> Plane:
    """Read one plane in picture pixels; NaN marks missing data.

    Raises
    ------
    ValueError
        The mosaic has no such extension, or no pixel of it has data.
    """
    with fits.open(mosaic.path, memmap=True) as hdus:
        if extension not in hdus:
            raise ValueError(f"{mosaic.path}: no extension {extension}; give a mosaic (_i2d.fits)")
        plane = block_mean(hdus[extension], zoom.block)
    if extension == "WHT":
        plane[plane == 0] = np.nan
    if not np.isfinite(plane).any():
        raise ValueError(f"{mosaic.path}: all pixels of {extension} lack data; the mosaic is empty")
    return plane.repeat(zoom.repeat, axis=0).repeat(zoom.repeat, axis=1)


def choose_zoom(shape: tuple[int, int], multiple: int = 1) -> Zoom:
    """Choose blocks, a multiple of some number of pixels, for a large mosaic, or repeats for a small one."""
    block = int(np.ceil(max(shape) / LONGEST_SIDE))
    if block > 1:
        return Zoom(block=-(-block // multiple) * multiple, repeat=1)
    return Zoom(block=1, repeat=max(1, round(SMALLEST_SIDE / max(shape))))


def sky_level(plane: Plane) -> tuple[float, float]:
    """Return the sky level and the noise of the picture's pixels; the noise is never 0."""
    values = plane[np.isfinite(plane)]
    _, sky, sigma = sigma_clipped_stats(values, sigma=3.0, stdfunc="mad_std")
    return float(sky), float(sigma) or float(np.ptp(values)) or 1.0
