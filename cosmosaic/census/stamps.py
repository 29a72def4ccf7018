"""Stamps of single sources in all filters, read from the mosaics part by part."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cosmosaic.catalog.image import MosaicImage, MosaicSet, open_mosaics

WIDEST_PIXELS = 960
LARGEST_PIXELS = 96
"""Widths of a row of stamps and of each stamp; with many filters they are smaller."""
GAP = 2
GAP_COLOUR = (33, 48, 92)
"""Of pixels without data: blue, unlike any grey level; as in the previews."""
SIDES_ARCSEC = (2.4, 15.0)
RADII = 8.0
"""Side of a stamp in half-light radii, within the bounds."""
SKY_PERCENTILE = 25.0
BLACK, SOFT, WHITE = -2.0, 3.0, 30.0
"""Stretch in sigma of the sky: linear up to `SOFT`, logarithmic above."""


def side_arcsec(radius_arcsec: float) -> float:
    """Return the side of a source's stamps, given its half-light radius; NaN gives the least."""
    return float(np.clip(np.nan_to_num(RADII * radius_arcsec), *SIDES_ARCSEC))


def draw_stamps(
    mosaics: Mapping[str, Path], bands: Sequence[str], places: NDArray[np.float64], sides: Sequence[float]
) -> NDArray[np.uint8]:
    """Draw sources in all filters side by side, along the mosaics' axes, rows upwards.

    Parameters
    ----------
    mosaics
        Mosaics (``_i2d``) of one window by filter; only what is shown is read.
    bands
        Filters in the order of the stamps; a filter without a mosaic is shown as without data.
    places
        Column and row of each source on the finest grid, from 0, shape ``(n, 2)``.
    sides
        Sides of the stamps in arcsec.

    Returns
    -------
    stamps
        Shape ``(n, height, width, 3)``.

    Raises
    ------
    ValueError
        A file is not a mosaic, or they do not have the same window on the sky.
    """
    pixels = min(LARGEST_PIXELS, WIDEST_PIXELS // max(len(bands), 1) - GAP)
    drawn = np.zeros((len(places), pixels, len(bands) * (pixels + GAP), 3), np.uint8)
    drawn[:] = 255
    if not len(places):
        return drawn
    seen = open_mosaics({band: mosaics[band] for band in bands if band in mosaics}) if mosaics else None
    for number, (place, side) in enumerate(zip(places, sides, strict=True)):
        images = _read(seen, place, side) if seen else {}
        for column, band in enumerate(bands):
            left = column * (pixels + GAP)
            drawn[number, :, left : left + pixels] = _drawn(images.get(band), pixels)
    return drawn


def _read(seen: MosaicSet, place: NDArray[np.float64], side: float) -> dict[str, MosaicImage]:
    """Read the surroundings of a place, whole pixels of the coarsest grid, and fill up what lies beyond the window."""
    coarsest = int(np.lcm.reduce(list(seen.factors.values())))
    half = max(side / seen.scale_arcsec / 2, 1.0)
    bounds, beyond = [], []
    for centre, length in zip(place[::-1], seen.shape, strict=True):
        start, stop = (round(end / coarsest) * coarsest for end in (centre + 0.5 - half, centre + 0.5 + half))
        stop = max(stop, start + coarsest)
        inside = slice(min(max(start, 0), length), max(min(stop, length), 0))
        bounds.append(inside)
        beyond.append((inside.start - start, stop - inside.stop))
    if any(axis.stop <= axis.start for axis in bounds):
        return {}
    images = seen.read((bounds[0], bounds[1]))
    return {
        band: replace(
            image,
            sci=np.pad(image.sci, beyond, constant_values=np.nan),
            err=np.pad(image.err, beyond, constant_values=np.nan),
            valid=np.pad(image.valid, beyond),
        )
        for band, image in images.items()
    }


def _drawn(image: MosaicImage | None, pixels: int) -> NDArray[np.uint8]:
    if image is None or not image.valid.any():
        return np.broadcast_to(np.array(GAP_COLOUR, np.uint8), (pixels, pixels, 3))
    # Of a stamp that a galaxy fills, the median would be of the galaxy.
    sky, sigma = np.percentile(image.sci[image.valid], SKY_PERCENTILE), np.median(image.err[image.valid])
    values = np.where(image.valid, (image.sci - sky) / sigma, BLACK)
    low, high = (np.arcsinh(end / SOFT) for end in (BLACK, WHITE))
    grey = np.clip((np.arcsinh(values / SOFT) - low) / (high - low), 0.0, 1.0)
    coloured = np.repeat((255 * grey).astype(np.uint8)[..., None], 3, axis=2)
    coloured[~image.valid] = GAP_COLOUR
    # Upwards as in the previews: the first row of a picture is its top.
    return np.asarray(Image.fromarray(coloured[::-1]).resize((pixels, pixels), Image.Resampling.BOX))
