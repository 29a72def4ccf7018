"""Plots of the census of a survey."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from cosmosaic.census.files import DEPTH_EDGES, MAGNITUDE_EDGES
from cosmosaic.census.survey import BandTotal, SurveyCensus
from cosmosaic.injection.plot import draw_completeness, draw_pulls
from cosmosaic.pages.plots import COLOURS, save_figure

Floats = NDArray[Any]
Mask = NDArray[np.bool_]

STAR, OTHER = COLOURS["before"], COLOURS["after"]
STAR_PROBABILITY = 0.8
"""Rows above it are drawn as stars."""
SHOWN_SNR = 5.0
"""Least S/N, in each filter concerned, of rows in plots of sizes and colours."""
MOST_FILTERS = 4
"""Of colours: evenly spread in wavelength."""
COLUMNS = 4
WIDTH, HEIGHT = 11.0, 2.7
"""Of a row of plots in inches."""
OUTERMOST = (0.5, 99.5)
"""Percentiles within which the axes lie; points beyond are drawn at the rim."""
MARGIN = 0.25
"""Of the axes beyond them, in units of the range."""


def draw_counts(census: SurveyCensus, png: Path) -> None:
    """Draw the number counts of each filter, with its depth."""

    def draw(axis: Axes, place: int, band: BandTotal) -> None:
        if band.arcmin2:
            _draw_counts(axis, census.counts[place], band.arcmin2)
        else:
            _say(axis, "not measured: no area")
        if band.depths:
            shallow, median, deep = band.depths
            axis.axvspan(shallow, deep, color="0.85", zorder=0)
            axis.axvline(median, color="0.3", linewidth=1.0, linestyle="--")
            axis.set_title(f"{band.name}, 5σ at {median:.2f}", fontsize=9)

    figure = _panels(census.bands, draw, "AB magnitude", "sources / arcmin² / mag")
    used = np.flatnonzero(census.counts.any(axis=(0, 1)))
    if len(used):
        for axis in figure.axes:
            axis.set_xlim(MAGNITUDE_EDGES[used[0]] - 0.5, MAGNITUDE_EDGES[used[-1] + 1] + 0.5)
    save_figure(figure, png)


def _draw_counts(axis: Axes, counts: NDArray[np.int64], arcmin2: float) -> None:
    every, detected = counts / (arcmin2 * np.diff(MAGNITUDE_EDGES))
    axis.stairs(detected, MAGNITUDE_EDGES, fill=True, color=OTHER, alpha=0.35, label="S/N ≥ 5")
    axis.stairs(every, MAGNITUDE_EDGES, color=OTHER, label="all")
    middle, error = (MAGNITUDE_EDGES[1:] + MAGNITUDE_EDGES[:-1]) / 2, every / np.sqrt(np.maximum(counts[0], 1))
    axis.errorbar(middle, np.where(every > 0, every, np.nan), error, fmt="none", color=OTHER, linewidth=0.8)
    if counts.any():
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(NullFormatter())
        # Errors of single sources reach to zero.
        axis.set_ylim(bottom=0.4 * every[every > 0].min())
        axis.legend(frameon=False, fontsize=7, loc="upper left")
    else:
        _say(axis, "no source with a magnitude")


def draw_depths(census: SurveyCensus, png: Path) -> None:
    """Draw the area that is deeper than a magnitude, for each filter."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axis = figure.subplots()
    colours = colormaps["turbo"](np.linspace(0.08, 0.92, max(len(census.bands), 1)))
    limits = [limit for band in census.bands if band.depths for limit in (band.depths[0], band.depths[-1])]
    for place, band in enumerate(census.bands):
        area = census.depths[place]
        if band.depths:
            deeper = np.concatenate([np.cumsum(area[::-1])[::-1], [0.0]])
            axis.plot(DEPTH_EDGES, deeper, color=colours[place], label=band.name)
    if limits:
        axis.set_xlim(min(limits) - 0.7, max(limits) + 0.5)
        axis.set_ylim(bottom=0.0)
        axis.legend(frameon=False, fontsize=8, ncols=1 + len(census.bands) // 12, loc="lower left")
    else:
        _say(axis, "not measured")
    axis.set_xlabel("5σ depth in apertures of 0.3 arcsec / AB magnitude")
    axis.set_ylabel("area at least as deep / arcmin²")
    save_figure(figure, png)


def draw_all_completeness(tables: Mapping[str, Table], census: SurveyCensus, png: Path) -> None:
    """Draw the completeness of each filter, given the injection's tables by filter."""

    def draw(axis: Axes, place: int, band: BandTotal) -> None:
        if band.name not in tables:
            _say(axis, "not measured")
            return
        draw_completeness(axis, tables[band.name])
        if band.depths:
            axis.axvline(band.depths[1], color="0.3", linewidth=1.0, linestyle="--")
        legend = axis.get_legend()
        if legend and place:
            legend.remove()
        elif legend:
            axis.legend(frameon=False, fontsize=6, loc="lower left")

    save_figure(_panels(census.bands, draw, "true AB magnitude", "fraction found"), png)


def draw_all_pulls(pulls: Mapping[str, Floats], census: SurveyCensus, png: Path) -> None:
    """Draw the errors of injected stars in units of their stated errors, by filter."""

    def draw(axis: Axes, place: int, band: BandTotal) -> None:
        if len(pulls.get(band.name, ())):
            draw_pulls(axis, pulls[band.name])
            axis.set_title(f"{band.name}, {len(pulls[band.name])} stars", fontsize=9)
        else:
            _say(axis, "not measured")

    save_figure(_panels(census.bands, draw, "error / stated error", "density"), png)


def draw_sizes(census: SurveyCensus, reference: int, png: Path) -> None:
    """Draw half-light radius and concentration against the magnitude in one filter, given by its place."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    sample, axes = census.sample, figure.subplots(1, 2)
    shown = sample.snr[:, reference] >= SHOWN_SNR
    magnitude, star = sample.magnitude[shown, reference], sample.star[shown] > STAR_PROBABILITY
    label = f"{census.bands[reference].name} / AB magnitude"
    with np.errstate(invalid="ignore", divide="ignore"):
        radius = np.log10(sample.radius[shown])
    _scatter(axes[0], magnitude, radius, star, (label, "log half-light radius / arcsec"))
    _scatter(axes[1], magnitude, sample.concentration[shown], star, (label, "concentration / a star's"))
    axes[1].axhline(1.0, color="0.5", linewidth=0.8)
    save_figure(figure, png)


def draw_colours(census: SurveyCensus, png: Path) -> None:
    """Draw colours against magnitudes and against each other, of filters evenly spread in wavelength."""
    number = min(len(census.bands), MOST_FILTERS)
    places = np.rint(np.linspace(0, len(census.bands) - 1, number)).astype(int)
    names = [census.bands[place].name for place in places]
    magnitude, snr = census.sample.magnitude[:, places], census.sample.snr[:, places]
    detected, star = snr >= SHOWN_SNR, census.sample.star > STAR_PROBABILITY
    rows = 1 + (number > 2)
    figure = Figure(figsize=(WIDTH, 3.5 * rows), layout="constrained")
    axes = figure.subplots(rows, max(number - 1, 1), squeeze=False)
    for blue in range(number - 1):
        red = blue + 1
        shown = detected[:, blue] & detected[:, red]
        colour = magnitude[shown, blue] - magnitude[shown, red]
        labels = (f"{names[red]} / AB magnitude", f"{names[blue]} - {names[red]}")
        _scatter(axes[0, blue], magnitude[shown, red], colour, star[shown], labels)
    for blue in range(number - 2):
        shown = detected[:, blue] & detected[:, blue + 1] & detected[:, blue + 2]
        colours = -np.diff(magnitude[shown, blue : blue + 3], axis=1)
        labels = (f"{names[blue + 1]} - {names[blue + 2]}", f"{names[blue]} - {names[blue + 1]}")
        _scatter(axes[1, blue], colours[:, 1], colours[:, 0], star[shown], labels)
    for axis in axes[1:, number - 2 :].ravel():
        axis.set_axis_off()
    save_figure(figure, png)


def _scatter(axis: Axes, x: Floats, y: Floats, star: Mask, labels: tuple[str, str]) -> None:
    axis.set(xlabel=labels[0], ylabel=labels[1])
    known: Mask = np.isfinite(x + y)
    if not known.any():
        _say(axis, "no source")
        return
    size = float(np.interp(np.log10(known.sum()), (2.0, 4.3), (5.0, 1.2)))
    limits = [_limits(values[known]) for values in (x, y)]
    inside = [np.clip(values, *limit) for values, limit in zip((x, y), limits, strict=True)]
    for of, colour, label in ((~star, OTHER, "others"), (star, STAR, f"stars (above {STAR_PROBABILITY:g})")):
        drawn = known & of
        points = [values[drawn] for values in inside]
        axis.plot(*points, "o", ms=size, mew=0, alpha=0.6, color=colour, label=f"{drawn.sum()} {label}")
    axis.set(xlim=limits[0], ylim=limits[1])
    axis.legend(frameon=False, fontsize=7, markerscale=4.0 / size)


def _limits(values: Floats) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(values, OUTERMOST))
    room = MARGIN * max(high - low, 0.4)
    return low - room, high + room


def _panels(bands: tuple[BandTotal, ...], draw: Callable[[Axes, int, BandTotal], None], along: str, up: str) -> Figure:
    """A plot for each filter."""
    columns = min(max(len(bands), 2), COLUMNS)
    rows = max(-(-len(bands) // columns), 1)
    figure = Figure(figsize=(WIDTH, HEIGHT * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, band in enumerate(bands):
        axes[place].set_title(band.name, fontsize=9)
        draw(axes[place], place, band)
        axes[place].set_xlabel(along if place >= len(bands) - columns else "", fontsize=9)
        axes[place].set_ylabel(up if place % columns == 0 else "", fontsize=9)
        axes[place].tick_params(labelsize=8)
    for axis in axes[len(bands) :]:
        axis.remove()
    return figure


def _say(axis: Axes, words: str) -> None:
    axis.text(0.5, 0.5, words, transform=axis.transAxes, ha="center", fontsize=9, color="0.35")
