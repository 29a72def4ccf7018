"""Pictures of one mosaic: its surface brightness around the sky, and its weight."""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from cosmosaic.preview.footer import (
    FAINT_INK,
    GAP_COLOUR,
    HEADING,
    INK,
    SECOND_LINE,
    TEXT_LEFT,
    THIRD_LINE,
    draw_colour_bar,
    save,
    size_text,
    with_footer,
    write_text,
)
from cosmosaic.preview.images import RGB, choose_zoom, describe, read_plane, sky_level

SOFTENING_SIGMA = 1.5
"""The asinh stretch is linear within this many sigma of the sky."""
FAINTEST_SIGMA = -5.0
"""Black, relative to the sky."""
BRIGHTEST_SIGMA = 60.0
"""White, relative to the sky; higher if the mosaic's brightest pixels need it."""
TICKS_SIGMA = np.array([-3.0, 0.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0])
"""Levels labelled on the colour bar, in sigma from the sky."""


def write_preview(i2d: Path, png: Path) -> None:
    """Draw a mosaic's surface brightness so that its sky can be judged.

    The grey scale is an asinh around the sky level, linear within `SOFTENING_SIGMA` of it: steps of a fifth of the
    pixel noise are visible. Pixels without data are blue.

    Parameters
    ----------
    i2d
        A mosaic with SCI in MJy/sr; read a few rows at a time.
    png
        The picture to write.

    Raises
    ------
    ValueError
        The file has no SCI extension, or no pixel of it has data.
    """
    mosaic = describe(i2d)
    zoom = choose_zoom(mosaic.shape)
    plane = read_plane(mosaic, "SCI", zoom)
    sky, sigma = sky_level(plane)
    white = max(BRIGHTEST_SIGMA, float(np.nanpercentile(plane, 99.7) - sky) / sigma)
    black, top = np.arcsinh(np.array([FAINTEST_SIGMA, white]) / SOFTENING_SIGMA)

    def stretch(values: NDArray[np.floating]) -> NDArray[np.floating]:
        return (np.arcsinh((values - sky) / (sigma * SOFTENING_SIGMA)) - black) / (top - black)

    ticks = sky + sigma * TICKS_SIGMA[0.7 * white > TICKS_SIGMA]
    figure = with_footer(_colour(stretch(plane), "gray"), mosaic, zoom)
    write_text(figure, TEXT_LEFT, HEADING, mosaic.band, INK, 15)
    write_text(figure, TEXT_LEFT, SECOND_LINE, f"sky {sky:.3g}, rms {sigma:.2g} MJy/sr as shown", FAINT_INK)
    write_text(figure, TEXT_LEFT, THIRD_LINE, size_text(mosaic, zoom), FAINT_INK)
    draw_colour_bar(figure, "gray", stretch(ticks), [f"{tick:.2g}" for tick in ticks], "MJy/sr")
    save(figure, png)


def write_weight_preview(i2d: Path, png: Path) -> None:
    """Draw a mosaic's drizzle weight, linear from zero; pixels without weight are blue.

    Parameters
    ----------
    i2d
        A mosaic with WHT; read a few rows at a time.
    png
        The picture to write.

    Raises
    ------
    ValueError
        The file has no WHT extension, or no pixel has weight.
    """
    mosaic = describe(i2d)
    zoom = choose_zoom(mosaic.shape)
    plane = read_plane(mosaic, "WHT", zoom)
    top = float(np.nanpercentile(plane, 99.9))
    parts = np.linspace(0.0, 1.0, 5)
    figure = with_footer(_colour(plane / top, "magma"), mosaic, zoom)
    write_text(figure, TEXT_LEFT, HEADING, f"{mosaic.band} weight", INK, 15)
    write_text(figure, TEXT_LEFT, SECOND_LINE, f"median {np.nanmedian(plane):.3g}", FAINT_INK)
    write_text(figure, TEXT_LEFT, THIRD_LINE, size_text(mosaic, zoom), FAINT_INK)
    draw_colour_bar(figure, "magma", parts, [f"{part * top:.3g}" for part in parts], "WHT")
    save(figure, png)


def _colour(levels: NDArray[np.floating], name: str) -> RGB:
    """Turn levels from 0 to 1 into colours; NaN into the colour of gaps."""
    return colormaps[name].with_extremes(bad=GAP_COLOUR)(np.ma.masked_invalid(levels))[..., :3]
