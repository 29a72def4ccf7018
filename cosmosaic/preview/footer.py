"""The footer of a picture: band, scale bar, compass and colour bar."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cosmosaic.preview.images import RGB, Mosaic, Zoom

GAP_COLOUR = (0.13, 0.19, 0.36)
"""Colour of pixels without data: blue, unlike any grey level."""
FOOTER = 92
NARROWEST = 820
"""Height of the footer and least width of a picture in pixels."""
DPI = 100
INK = "#e8e8e8"
FAINT_INK = "#9aa0aa"
PAPER = "#101216"
TEXT_LEFT, HEADING, SECOND_LINE, THIRD_LINE = 16, 62, 38, 18
SCALE_LEFT = 362
"""Positions in the footer in pixels from the picture's lower left corner."""
COMPASS = (330.0, 28.0)
COMPASS_ROOM = 44
RIGHT_HALF = 520
"""Left edge of text right of the scale bar."""
HEADING_SIZE, SMALL_SIZES = 15.0, (9.0, 8.0, 7.0, 6.0)
LOWEST_LINE = 6.0
SCALE_BARS_ARCSEC = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


def with_footer(image: RGB, mosaic: Mosaic, zoom: Zoom) -> Figure:
    """Put the picture, pixel for pixel, above a footer with scale bar and compass."""
    height, width = image.shape[:2]
    figure = Figure(figsize=(max(width, NARROWEST) / DPI, (height + FOOTER) / DPI), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    figure.figimage(image, xo=(max(width, NARROWEST) - width) // 2, yo=FOOTER, origin="lower")
    overlay = figure.add_axes((0, 0, 1, 1))
    overlay.set(xlim=(0, max(width, NARROWEST)), ylim=(0, height + FOOTER))
    overlay.set_axis_off()
    _draw_scale_bar(overlay, mosaic.pixel_scale * zoom.pixels, width)
    _draw_compass(overlay, mosaic)
    return figure


def _draw_scale_bar(axes: Axes, arcsec_per_pixel: float, width: int) -> None:
    longest = 0.15 * min(width, NARROWEST) * arcsec_per_pixel
    arcsec = max((nice for nice in SCALE_BARS_ARCSEC if nice <= longest), default=SCALE_BARS_ARCSEC[0])
    length = arcsec / arcsec_per_pixel
    label = f"{arcsec:g}″" if arcsec < 60 else f"{arcsec / 60:g}′"
    axes.plot([SCALE_LEFT, SCALE_LEFT + length], [38, 38], color=INK, linewidth=2.2, solid_capstyle="butt")
    axes.text(SCALE_LEFT + length / 2, 48, label, color=INK, fontsize=9, ha="center")


def north_and_east(mosaic: Mosaic) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the directions (x, y) to the north and east in the middle of a mosaic, of length 1."""
    middle = mosaic.wcs.pixel_to_world((mosaic.shape[1] - 1) / 2, (mosaic.shape[0] - 1) / 2)
    found = []
    for angle in (0.0, 90.0):
        ahead = middle.directional_offset_by(angle * u.deg, mosaic.pixel_scale * u.arcsec)
        x, y = np.subtract(mosaic.wcs.world_to_pixel(ahead), mosaic.wcs.world_to_pixel(middle))
        found.append((float(x / np.hypot(x, y)), float(y / np.hypot(x, y))))
    return found[0], found[1]


def _draw_compass(axes: Axes, mosaic: Mosaic) -> None:
    for name, (along, up) in zip("NE", north_and_east(mosaic), strict=True):
        axes.annotate(
            "",
            xy=(COMPASS[0] + 27 * along, COMPASS[1] + 27 * up),
            xytext=COMPASS,
            arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.2},
        )
        axes.text(COMPASS[0] + 35 * along, COMPASS[1] + 35 * up, name, color=INK, fontsize=8, ha="center", va="center")


def draw_colour_bar(figure: Figure, name: str, ticks: NDArray[np.floating], labels: list[str], unit: str) -> None:
    """Draw the colours at the footer's right, with labels at some of the levels from 0 to 1."""
    width, height = figure.get_size_inches() * DPI
    axes = figure.add_axes((1 - 330 / width, 40 / height, 270 / width, 14 / height))
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=name, aspect="auto", extent=(0, 1, 0, 1))
    axes.set(yticks=[], xticks=ticks, xlim=(0, 1))
    axes.set_xticklabels(labels, color=INK, fontsize=7.5)
    axes.tick_params(axis="x", color=FAINT_INK, length=3)
    axes.spines[:].set_color(FAINT_INK)
    axes.text(1.03, 0.5, unit, color=INK, fontsize=8.5, va="center", transform=axes.transAxes)


def write_text(figure: Figure, x: float, y: float, words: str, colour: Any, size: float = 8.5) -> None:
    """Write text into the footer; the position is in pixels from the lower left corner."""
    width, height = figure.get_size_inches() * DPI
    figure.text(x / width, y / height, words, color=colour, fontsize=size, va="baseline")


def fits_in_heading(figure: Figure, words: Sequence[str]) -> bool:
    """Return whether words fit side by side left of the compass."""
    width = sum(_width(figure, word, HEADING_SIZE) + HEADING_SIZE for word in words)
    return TEXT_LEFT + width < COMPASS[0] - COMPASS_ROOM


def write_heading(figure: Figure, words: Sequence[tuple[str, Any]]) -> None:
    """Write words that fit there side by side as the heading, each in its colour."""
    places = _rows(figure, [word for word, _ in words], TEXT_LEFT, HEADING, HEADING_SIZE)
    for (word, colour), (x, y) in zip(words, places, strict=True):
        write_text(figure, x, y, word, colour, HEADING_SIZE)


def write_rows(figure: Figure, words: Sequence[tuple[str, Any]], left: float, top: float) -> None:
    """Write words side by side, each in its colour, in rows downwards: as large as fits beside the picture's edge."""
    for size in SMALL_SIZES:
        places = _rows(figure, [word for word, _ in words], left, top, size)
        if places[-1][1] >= LOWEST_LINE:
            break
    for (word, colour), (x, y) in zip(words, places, strict=True):
        write_text(figure, x, y, word, colour, size)


def _rows(figure: Figure, words: Sequence[str], left: float, top: float, size: float) -> list[tuple[float, float]]:
    """Positions of words in the footer in pixels."""
    right = figure.get_size_inches()[0] * DPI - TEXT_LEFT
    x, y = left, top
    places = []
    for word in words:
        width = _width(figure, word, size)
        if x > left and x + width > right:
            x, y = left, y - 1.8 * size
        places.append((x, y))
        x += width + size
    return places


def _width(figure: Figure, words: str, size: float) -> float:
    text = figure.text(0, 0, words, fontsize=size)
    width = text.get_window_extent().width
    text.remove()
    return float(width)


def size_text(mosaic: Mosaic, zoom: Zoom) -> str:
    """Return the size of a mosaic on the sky and of its pixels in words."""
    rows, columns = (length * mosaic.pixel_scale / 60 for length in mosaic.shape)
    pixel = f"{1000 * mosaic.pixel_scale:.4g} mas pixels"
    shown = f", shown {zoom.block} × {zoom.block}" if zoom.block > 1 else ""
    return f"{columns:.2f}′ × {rows:.2f}′, {pixel}{shown}"


def save(figure: Figure, png: Path) -> None:
    """Write a picture without the name and version of the program, which would change its bytes."""
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
