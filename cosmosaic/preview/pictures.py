"""Pictures of mosaics, block for pixel, above a footer with band, scale and directions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clipped_stats
from astropy.visualization import make_lupton_rgb
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cosmosaic.nircam import band_name

LONGEST_SIDE = 1600
"""Larger mosaics are averaged in blocks until no side is longer, in pixels."""
SMALLEST_SIDE = 700
"""Smaller mosaics are enlarged by whole factors until the longer side has this many pixels."""
ROWS_AT_A_TIME = 512
"""Mosaic rows in memory at a time."""
GAP_COLOUR = (0.13, 0.19, 0.36)
"""Colour of pixels without data: blue, which no grey level is."""
SOFTENING_SIGMA = 1.5
"""The asinh stretch is linear within this many sigma of the sky."""
FAINTEST_SIGMA = -5.0
"""Black, relative to the sky."""
BRIGHTEST_SIGMA = 60.0
"""White at the least, relative to the sky; more where the mosaic's brightest percentile asks for it."""
LUPTON_STRETCH_SIGMA = 9.0
LUPTON_Q = 8.0
LUPTON_MINIMUM_SIGMA = -1.2
"""Stretch, softening and black point of colour pictures in sigma of the sky (Lupton et al. 2004, PASP 116, 133)."""

FOOTER = 92
NARROWEST = 820
"""Height of the footer and least width of a picture in pixels."""
DPI = 100
INK = "#e8e8e8"
FAINT_INK = "#9aa0aa"
PAPER = "#101216"
TEXT_LEFT, HEADING, SECOND_LINE, THIRD_LINE = 16, 62, 38, 18
SCALE_LEFT = 362
"""Places in the footer in pixels from the picture's lower left."""
COMPASS = (330.0, 28.0)
SCALE_BARS_ARCSEC = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
TICKS_SIGMA = np.array([-3.0, 0.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0])
"""Levels that the colour bar names, in sigma from the sky."""


RGB = NDArray[np.float64]
Plane = NDArray[np.float32]


@dataclass(frozen=True)
class _Mosaic:
    """What a mosaic's headers say."""

    path: Path
    band: str
    shape: tuple[int, int]
    wcs: WCS

    @property
    def pixel_scale(self) -> float:
        """Pixel scale in arcsec."""
        return float(np.sqrt(np.prod(proj_plane_pixel_scales(self.wcs))) * 3600.0)


@dataclass(frozen=True)
class _Zoom:
    """How mosaic pixels become picture pixels: averaged in blocks, then repeated."""

    block: int
    repeat: int

    @property
    def pixels(self) -> float:
        """Mosaic pixels per picture pixel."""
        return self.block / self.repeat


def write_preview(i2d: Path, png: Path) -> None:
    """Draw a mosaic's surface brightness so that its faint sky can be judged.

    The grey scale is an asinh around the sky level, linear within `SOFTENING_SIGMA` of it: steps of a fifth of the
    pixel noise stand out. Pixels without data are blue.

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
    mosaic = _describe(i2d)
    zoom = _zoom(mosaic.shape)
    plane = _read(mosaic, "SCI", zoom)
    sky, sigma = _sky(plane)
    white = max(BRIGHTEST_SIGMA, float(np.nanpercentile(plane, 99.7) - sky) / sigma)
    black, top = np.arcsinh(np.array([FAINTEST_SIGMA, white]) / SOFTENING_SIGMA)

    def stretch(values: NDArray[np.floating]) -> NDArray[np.floating]:
        return (np.arcsinh((values - sky) / (sigma * SOFTENING_SIGMA)) - black) / (top - black)

    ticks = sky + sigma * TICKS_SIGMA[0.7 * white > TICKS_SIGMA]
    figure = _framed(_colour(stretch(plane), "gray"), mosaic, zoom)
    _write_text(figure, TEXT_LEFT, HEADING, mosaic.band, INK, 15)
    _write_text(figure, TEXT_LEFT, SECOND_LINE, f"sky {sky:.3g}, rms {sigma:.2g} MJy/sr as shown", FAINT_INK)
    _write_text(figure, TEXT_LEFT, THIRD_LINE, _size(mosaic, zoom), FAINT_INK)
    _colour_bar(figure, "gray", stretch(ticks), [f"{tick:.2g}" for tick in ticks], "MJy/sr")
    _save(figure, png)


def write_weight_preview(i2d: Path, png: Path) -> None:
    """Draw a mosaic's drizzle weight, linear from zero; no weight is blue.

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
    mosaic = _describe(i2d)
    zoom = _zoom(mosaic.shape)
    plane = _read(mosaic, "WHT", zoom)
    top = float(np.nanpercentile(plane, 99.9))
    parts = np.linspace(0.0, 1.0, 5)
    figure = _framed(_colour(plane / top, "magma"), mosaic, zoom)
    _write_text(figure, TEXT_LEFT, HEADING, f"{mosaic.band} weight", INK, 15)
    _write_text(figure, TEXT_LEFT, SECOND_LINE, f"median {np.nanmedian(plane):.3g}", FAINT_INK)
    _write_text(figure, TEXT_LEFT, THIRD_LINE, _size(mosaic, zoom), FAINT_INK)
    _colour_bar(figure, "magma", parts, [f"{part * top:.3g}" for part in parts], "WHT")
    _save(figure, png)


def write_colour_composite(paths_by_band: Mapping[str, Path], png: Path) -> None:
    """Draw mosaics of several filters as one colour picture, the shortest wavelength blue, the longest red.

    Each filter is scaled by its own noise, then combined as Lupton et al. (2004, PASP 116, 133) do, which keeps the
    colours of bright cores. Where a filter has no data the others are shown in grey. Coarser mosaics whose pixels nest
    in the finest one's are repeated. One filter makes a grey picture; of two, green is the mean.

    Parameters
    ----------
    paths_by_band
        Mosaics of the same piece of sky by the name of their band, as F150W or F444W-F470N.
    png
        The picture to write.

    Raises
    ------
    ValueError
        No mosaic is given, a band's name tells no wavelength, a mosaic has no data, or the grids do not nest.
    """
    if not paths_by_band:
        raise ValueError("a colour composite needs one mosaic at least; none was given")
    bands = sorted(paths_by_band, key=wavelength)
    mosaics = [_describe(paths_by_band[band]) for band in bands]
    finest = min(mosaics, key=lambda mosaic: mosaic.pixel_scale)
    factors = [_nesting(mosaic, finest) for mosaic in mosaics]
    zoom = _zoom(finest.shape, multiple=int(np.lcm.reduce(factors)))
    planes = [_read(mosaic, "SCI", _coarser(zoom, factor)) for mosaic, factor in zip(mosaics, factors, strict=True)]
    weights = channel_weights(len(bands))
    figure = _framed(_lupton(planes, weights), finest, zoom)
    _write_band_names(figure, bands, weights)
    _write_text(figure, TEXT_LEFT, SECOND_LINE, "each filter scaled by its noise", FAINT_INK)
    _write_text(figure, TEXT_LEFT, THIRD_LINE, _size(finest, zoom), FAINT_INK)
    _save(figure, png)


def wavelength(band: str) -> int:
    """Wavelength of a band in hundredths of a micron: that of the pupil's filter where it holds one.

    Parameters
    ----------
    band
        As F150W or F444W-F470N.

    Raises
    ------
    ValueError
        The name holds no wavelength.
    """
    digits = "".join(character for character in band.split("-")[-1] if character.isdigit())
    if len(digits) < 3:
        raise ValueError(f"band {band!r} tells no wavelength; give names as F150W or F444W-F470N")
    return int(digits[:3])


def channel_weights(n: int) -> NDArray[np.float64]:
    """Share of each filter, ordered from short to long, in red, green and blue.

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
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    finite = np.isfinite(blocks)
    total = np.where(finite, blocks, 0.0).sum(axis=(1, 3), dtype=np.float64)
    count = finite.sum(axis=(1, 3))
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0).astype(np.float32)


def _describe(path: Path) -> _Mosaic:
    with fits.open(path, memmap=True) as hdus:
        if "SCI" not in hdus:
            raise ValueError(f"{path}: no extension SCI; give a mosaic (_i2d.fits)")
        primary = hdus[0].header
        band = band_name(f"{primary.get('FILTER', '')}-{primary.get('PUPIL') or 'CLEAR'}")
        return _Mosaic(path=path, band=band, shape=hdus["SCI"].shape, wcs=WCS(hdus["SCI"].header))


def _read(mosaic: _Mosaic, extension: str, zoom: _Zoom) -> Plane:
    """Read one plane in picture pixels; NaN where there are no data."""
    with fits.open(mosaic.path, memmap=True) as hdus:
        if extension not in hdus:
            raise ValueError(f"{mosaic.path}: no extension {extension}; give a mosaic (_i2d.fits)")
        plane = block_mean(hdus[extension], zoom.block)
    if extension == "WHT":
        plane[plane == 0] = np.nan
    if not np.isfinite(plane).any():
        raise ValueError(f"{mosaic.path}: no pixel of {extension} has data; the mosaic is empty")
    return plane.repeat(zoom.repeat, axis=0).repeat(zoom.repeat, axis=1)


def _zoom(shape: tuple[int, int], multiple: int = 1) -> _Zoom:
    """Choose blocks, a multiple of some number of pixels, for a large mosaic, or repeats for a small one."""
    block = int(np.ceil(max(shape) / LONGEST_SIDE))
    if block > 1:
        return _Zoom(block=-(-block // multiple) * multiple, repeat=1)
    return _Zoom(block=1, repeat=max(1, round(SMALLEST_SIDE / max(shape))))


def _coarser(zoom: _Zoom, factor: int) -> _Zoom:
    """The same picture pixels for a mosaic whose pixels are ``factor`` times larger."""
    if zoom.block > 1:
        return _Zoom(block=zoom.block // factor, repeat=1)
    return _Zoom(block=1, repeat=zoom.repeat * factor)


def _nesting(mosaic: _Mosaic, finest: _Mosaic) -> int:
    """How many times larger the pixels are than the finest mosaic's, in which they nest."""
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


def _sky(plane: Plane) -> tuple[float, float]:
    """Sky level and noise of the picture's pixels; the noise is never 0."""
    values = plane[np.isfinite(plane)]
    _, sky, sigma = sigma_clipped_stats(values, sigma=3.0, stdfunc="mad_std")
    return float(sky), float(sigma) or float(np.ptp(values)) or 1.0


def _lupton(planes: list[Plane], weights: NDArray[np.float64]) -> RGB:
    cube = np.array([(plane - sky) / sigma for plane in planes for sky, sigma in [_sky(plane)]])
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


def _colour(levels: NDArray[np.floating], name: str) -> RGB:
    """Turn levels from 0 to 1 into colours; NaN into the colour of gaps."""
    return colormaps[name].with_extremes(bad=GAP_COLOUR)(np.ma.masked_invalid(levels))[..., :3]


def _framed(image: RGB, mosaic: _Mosaic, zoom: _Zoom) -> Figure:
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


def _draw_compass(axes: Axes, mosaic: _Mosaic) -> None:
    middle = mosaic.wcs.pixel_to_world((mosaic.shape[1] - 1) / 2, (mosaic.shape[0] - 1) / 2)
    for name, angle in (("N", 0.0), ("E", 90.0)):
        ahead = middle.directional_offset_by(angle * u.deg, mosaic.pixel_scale * u.arcsec)
        x, y = np.subtract(mosaic.wcs.world_to_pixel(ahead), mosaic.wcs.world_to_pixel(middle))
        along, up = float(x / np.hypot(x, y)), float(y / np.hypot(x, y))
        axes.annotate(
            "",
            xy=(COMPASS[0] + 27 * along, COMPASS[1] + 27 * up),
            xytext=COMPASS,
            arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.2},
        )
        axes.text(COMPASS[0] + 35 * along, COMPASS[1] + 35 * up, name, color=INK, fontsize=8, ha="center", va="center")


def _colour_bar(figure: Figure, name: str, ticks: NDArray[np.floating], labels: list[str], unit: str) -> None:
    """Draw the colours at the footer's right, with labels at some of the levels from 0 to 1."""
    width, height = figure.get_size_inches() * DPI
    axes = figure.add_axes((1 - 330 / width, 40 / height, 270 / width, 14 / height))
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=name, aspect="auto", extent=(0, 1, 0, 1))
    axes.set(yticks=[], xticks=ticks, xlim=(0, 1))
    axes.set_xticklabels(labels, color=INK, fontsize=7.5)
    axes.tick_params(axis="x", color=FAINT_INK, length=3)
    axes.spines[:].set_color(FAINT_INK)
    axes.text(1.03, 0.5, unit, color=INK, fontsize=8.5, va="center", transform=axes.transAxes)


def _write_text(figure: Figure, x: float, y: float, words: str, colour: Any, size: float = 8.5) -> None:
    width, height = figure.get_size_inches() * DPI
    figure.text(x / width, y / height, words, color=colour, fontsize=size, va="baseline")


def _write_band_names(figure: Figure, bands: list[str], weights: NDArray[np.float64]) -> None:
    """Write the bands' names in the colours that they have in the picture."""
    hues = weights / weights.max(axis=0)
    size = 15 if len(bands) < 4 else 9
    for place, (band, hue) in enumerate(zip(bands, hues.T, strict=True)):
        _write_text(figure, TEXT_LEFT + place * 5.4 * size, HEADING, band, 0.25 + 0.75 * hue, size)


def _size(mosaic: _Mosaic, zoom: _Zoom) -> str:
    rows, columns = (length * mosaic.pixel_scale / 60 for length in mosaic.shape)
    pixel = f"{1000 * mosaic.pixel_scale:.4g} mas pixels"
    shown = f", shown {zoom.block} × {zoom.block}" if zoom.block > 1 else ""
    return f"{columns:.2f}′ × {rows:.2f}′, {pixel}{shown}"


def _save(figure: Figure, png: Path) -> None:
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
