"""One colour picture of the mosaics of several filters."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.visualization import make_lupton_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cosmosaic.preview.footer import (
    FAINT_INK,
    GAP_COLOUR,
    HEADING,
    HEADING_SIZE,
    INK,
    RIGHT_HALF,
    SECOND_LINE,
    TEXT_LEFT,
    THIRD_LINE,
    fits_in_heading,
    save,
    size_text,
    with_footer,
    write_heading,
    write_rows,
    write_text,
)
from cosmosaic.preview.images import RGB, Mosaic, Plane, Zoom, choose_zoom, describe, read_plane, sky_level

LUPTON_STRETCH_SIGMA = 9.0
LUPTON_Q = 8.0
LUPTON_MINIMUM_SIGMA = -1.2
"""Stretch, softening and black point of colour pictures in sigma of the sky (Lupton et al. 2004, PASP 116, 133)."""


def write_colour_composite(paths_by_band: Mapping[str, Path], png: Path) -> None:
    """Draw mosaics of several filters as a colour picture, from blue (shortest wavelength) to red (longest).

    Each filter is scaled by its own noise, then combined as Lupton et al. (2004, PASP 116, 133) do, which keeps the
    colours of bright cores. Where a filter has no data, the others are shown in grey. Coarser mosaics whose pixels nest
    in the finest one's are repeated. One filter makes a grey picture; of two, green is the mean.

    Parameters
    ----------
    paths_by_band
        Mosaics of the same area by band, e.g. F150W or F444W-F470N.
    png
        The picture to write.

    Raises
    ------
    ValueError
        No mosaic is given, a band's name contains no wavelength, a mosaic has no data, or the grids do not nest.
    """
    if not paths_by_band:
        raise ValueError("a colour composite needs at least one mosaic; none was given")
    bands = sorted(paths_by_band, key=wavelength)
    mosaics = [describe(paths_by_band[band]) for band in bands]
    finest = min(mosaics, key=lambda mosaic: mosaic.pixel_scale)
    factors = [_nesting(mosaic, finest) for mosaic in mosaics]
    zoom = choose_zoom(finest.shape, multiple=int(np.lcm.reduce(factors)))
    planes = [
        read_plane(mosaic, "SCI", _coarser(zoom, factor)) for mosaic, factor in zip(mosaics, factors, strict=True)
    ]
    weights = channel_weights(len(bands))
    figure = with_footer(_lupton(planes, weights), finest, zoom)
    write_band_names(figure, bands, weights)
    write_text(figure, TEXT_LEFT, SECOND_LINE, "each filter scaled by its noise", FAINT_INK)
    write_text(figure, TEXT_LEFT, THIRD_LINE, size_text(finest, zoom), FAINT_INK)
    save(figure, png)


def wavelength(band: str) -> int:
    """Wavelength of a band in hundredths of a micron: that of the filter in the pupil wheel, if there is one.

    Parameters
    ----------
    band
        Band, e.g. F150W or F444W-F470N.

    Raises
    ------
    ValueError
        The name contains no wavelength.
    """
    digits = "".join(character for character in band.split("-")[-1] if character.isdigit())
    if len(digits) < 3:
        raise ValueError(f"band {band!r} contains no wavelength; use names such as F150W or F444W-F470N")
    return int(digits[:3])


def channel_weights(n: int) -> NDArray[np.float64]:
    """Return the share of each filter, ordered from short to long, in red, green and blue.

    Parameters
    ----------
    n
        Number of filters.

    Returns
    -------
    weights
        Shape ``(3, n)``; rows sum to 1.
    """
    place = np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(1)
    weights = np.array([np.clip(place, 0, None), 1.0 - np.abs(place), np.clip(-place, 0, None)])
    weights[weights.sum(axis=1) == 0] = 1.0
    return weights / weights.sum(axis=1, keepdims=True)


def _coarser(zoom: Zoom, factor: int) -> Zoom:
    """The same picture pixels for a mosaic whose pixels are ``factor`` times larger."""
    if zoom.block > 1:
        return Zoom(block=zoom.block // factor, repeat=1)
    return Zoom(block=1, repeat=zoom.repeat * factor)


def _nesting(mosaic: Mosaic, finest: Mosaic) -> int:
    """Size of the pixels in units of the finest mosaic's, which nest in them."""
    factor = round(mosaic.pixel_scale / finest.pixel_scale)
    corner = mosaic.wcs.pixel_to_world(-0.5, -0.5)
    offset = corner.separation(finest.wcs.pixel_to_world(-0.5, -0.5)).arcsec / finest.pixel_scale
    if tuple(factor * length for length in mosaic.shape) != finest.shape or offset > 0.5:
        raise ValueError(
            f"{mosaic.path}: {mosaic.shape} pixels of {mosaic.pixel_scale:.4f} arcsec do not nest in the "
            f"{finest.shape} of {finest.path} ({finest.pixel_scale:.4f} arcsec, corners {offset:.1f} pixels apart); "
            "make both on one grid"
        )
    return factor


def _lupton(planes: list[Plane], weights: NDArray[np.float64]) -> RGB:
    cube = np.array([(plane - sky) / sigma for plane in planes for sky, sigma in [sky_level(plane)]])
    present = np.isfinite(cube)
    count = present.sum(axis=0)
    filled = np.where(present, cube, 0.0)
    grey = filled.sum(axis=0) / np.maximum(count, 1)
    channels = [np.where(count == len(planes), np.tensordot(weight, filled, axes=1), grey) for weight in weights]
    image = make_lupton_rgb(
        *channels, minimum=LUPTON_MINIMUM_SIGMA, stretch=LUPTON_STRETCH_SIGMA, Q=LUPTON_Q, output_dtype=np.float64
    )
    image[count == 0] = GAP_COLOUR
    return image


def write_band_names(figure: Figure, bands: list[str], weights: NDArray[np.float64]) -> None:
    """Write the bands' names in the colours that they have in the picture: large, or in rows where they are many."""
    names = list(zip(bands, map(tuple, 0.25 + 0.75 * (weights / weights.max(axis=0)).T), strict=True))
    if fits_in_heading(figure, bands):
        write_heading(figure, names)
        return
    write_text(figure, TEXT_LEFT, HEADING, f"{len(bands)} filters", INK, HEADING_SIZE)
    write_rows(figure, names, RIGHT_HALF, HEADING + 8)
