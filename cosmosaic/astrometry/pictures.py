"""Maps and plots of the verdict on astrometry."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy import units as u
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cosmosaic.astrometry.matching import tangent_axes
from cosmosaic.astrometry.network import Seen
from cosmosaic.astrometry.verdict import Judged, Labels, cells_of, differences, telescope_axes
from cosmosaic.geometry.sphere import ARCSEC_PER_RADIAN
from cosmosaic.pages.plots import COLOURS, save_figure

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

FEWEST_OF_ARROW = 3
"""Stars behind an arrow, at least."""
TYPICAL_PART = 0.12
"""Length of the rms of a map's arrows, or of its key if that is longer, as a part of its width."""
LONGEST_PART = 0.16
"""Length of the longest arrow at most, likewise: the margin about the places, so that none is cut off."""
NO_FILTER = -1


class Arrows(NamedTuple):
    """Mean offsets of groups of detections from the others."""

    places: Floats
    """Of each, in the map's unit, shape ``(N, 2)``."""
    offsets: Floats
    """mas along the map's axes, shape ``(N, 2)``."""
    bands: Integers
    """Number of the filter; `NO_FILTER` for all filters."""


def draw_maps(exposures: Sequence[Seen], judged: Mapping[str, Judged], png: Path) -> None:
    """Draw offsets of exposures on the sky, of detectors in the focal plane and of filters in cells, as arrows.

    Parameters
    ----------
    exposures
        All exposures.
    judged
        The stars that judge, by the title of their column.
    png
        The picture to write.
    """
    figure = Figure(figsize=(9.4, 12.6), layout="constrained")
    axes = figure.subplots(3, len(judged), squeeze=False)
    bands = sorted({one.band for one in exposures})
    for column, (when, each) in enumerate(judged.items()):
        rows = (
            ("exposures against each other", "east / arcmin", _of_exposures(exposures, each, bands)),
            ("detectors against each other", "V2 / arcmin", _of_detectors(exposures, each)),
            ("filters against each other, in cells", "east / arcmin", _of_cells(exposures, each, bands)),
        )
        for axis, (title, along, arrows) in zip(axes[:, column], rows, strict=True):
            _draw_arrows(axis, arrows)
            axis.set_title(f"{when}: {title}", fontsize=10)
            axis.set_xlabel(along)
            axis.set_ylabel("V3 / arcmin" if along.startswith("V2") else "north / arcmin")
            if along.startswith("east"):
                axis.invert_xaxis()
    for number, band in enumerate(bands):
        axes[0, 0].plot([], [], "s", color=f"C{number % 10}", label=band)
    if bands:
        figure.legend(loc="outside lower center", ncols=min(len(bands), 8), frameon=False)
    save_figure(figure, png)


def draw_plots(exposures: Sequence[Seen], judged: Mapping[str, Judged], png: Path) -> None:
    """Draw the differences between exposures in units of their errors and against brightness, and the metrics."""
    figure = Figure(figsize=(11.0, 3.4), layout="constrained")
    pulls, faint, metrics = figure.subplots(1, 3)
    for when, each in judged.items():
        usable, offsets, sigma = differences(_pointings(exposures, each), each.detections, each.stars, _sky_axes(each))
        edges = np.linspace(-6, 6, 25)
        scaled = np.clip((offsets / sigma[:, None])[usable].ravel(), -6, 6)
        if len(scaled):
            pulls.hist(scaled, list(edges), histtype="stepfilled", alpha=0.55, color=COLOURS[when], label=when)
            x = np.linspace(-6, 6, 121)
            if when == "after":
                pulls.plot(x, len(scaled) * 0.5 * np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), color="black", lw=1)
            magnitudes = (each.detections.fluxes[usable] * u.nJy).to_value(u.ABmag)
            faint.plot(magnitudes, np.hypot(*offsets[usable].T), ".", ms=3, alpha=0.6, color=COLOURS[when], label=when)
    pulls.set_xlabel("difference from other exposures / its error")
    pulls.set_ylabel("stars, both axes (line: noise alone)")
    faint.set_xlabel("AB magnitude")
    faint.set_ylabel("difference from other exposures / mas")
    faint.set_yscale("log")
    for axis in (pulls, faint):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8)
    _draw_metrics(metrics, judged)
    save_figure(figure, png)


def _draw_metrics(axis: Axes, judged: Mapping[str, Judged]) -> None:
    for place, (when, each) in enumerate(judged.items()):
        shown = [one for one in each.metrics if one.unit == "mas"]
        rows = np.arange(len(shown)) + (place - 0.5) * 0.4
        # Unknown values have no bar.
        values, errors = (np.nan_to_num([getattr(one, part) for one in shown]) for part in ("value", "error"))
        axis.barh(rows, values, 0.4, xerr=errors, color=COLOURS[when])
        axis.set_yticks(np.arange(len(shown)), [one.name for one in shown])
    axis.set_xscale("symlog", linthresh=1.0)
    axis.set_xlim(0, None)
    axis.invert_yaxis()
    axis.set_xlabel("worst of each kind / mas")


def _draw_arrows(axis: Axes, arrows: Arrows) -> None:
    if not len(arrows.places):
        axis.text(0.5, 0.5, "not measurable", transform=axis.transAxes, ha="center")
        axis.set_xticks([])
        axis.set_yticks([])
        return
    size = np.hypot(*arrows.offsets.T)
    typical = float(np.sqrt(np.mean(size**2)))
    # One, two or five times a power of ten.
    step = 10.0 ** np.floor(np.log10(max(typical, 1e-3)))
    key = float(step * max(one for one in (1, 2, 5) if one * step <= max(typical, step)))
    drawn = axis.quiver(
        *arrows.places.T,
        *arrows.offsets.T,
        color=["0.25" if number == NO_FILTER else f"C{number % 10}" for number in arrows.bands],
        angles="xy",
        scale_units="width",
        scale=max(max(typical, key) / TYPICAL_PART, size.max() / LONGEST_PART),
        width=0.005,
    )
    axis.quiverkey(drawn, 0.86, 0.94, key, f"{key:g} mas", coordinates="axes", labelpos="W")
    axis.text(0.03, 0.03, f"{typical:.1f} mas rms", transform=axis.transAxes, fontsize=9)
    axis.margins(0.25)
    axis.set_aspect("equal", adjustable="datalim")


def _of_exposures(exposures: Sequence[Seen], judged: Judged, bands: Sequence[str]) -> Arrows:
    found = differences(_pointings(exposures, judged), judged.detections, judged.stars, _sky_axes(judged))
    groups = judged.detections.exposure
    return _means(groups, found, _sky_places(judged), _bands(exposures, judged, bands))


def _of_detectors(exposures: Sequence[Seen], judged: Judged) -> Arrows:
    names, numbers = np.unique([one.detector for one in exposures], return_inverse=True)
    axes, places = telescope_axes(exposures, judged.detections)
    groups = numbers[judged.detections.exposure]
    found = differences(Labels(names, groups), judged.detections, judged.stars, axes)
    return _means(groups, found, places, np.full(len(groups), NO_FILTER))


def _of_cells(exposures: Sequence[Seen], judged: Judged, bands: Sequence[str]) -> Arrows:
    own = _bands(exposures, judged, bands)
    found = differences(Labels(np.array(bands), own), judged.detections, judged.stars, _sky_axes(judged))
    groups = cells_of(judged.detections) * len(bands) + own
    arrows = _means(groups, found, _sky_places(judged), own)
    # Filters of one cell stand beside each other.
    width = 0.12 * (arrows.bands - (len(bands) - 1) / 2)
    return arrows._replace(places=arrows.places + np.stack([width, 0 * width], axis=1))


def _means(groups: Integers, found: tuple[NDArray[np.bool_], Floats, Floats], places: Floats, own: Integers) -> Arrows:
    """Weighted mean offset of each group with enough stars, at the middle of its stars."""
    usable, offsets, sigma = found
    arrows = []
    for group in np.unique(groups[usable]):
        of = usable & (groups == group)
        if of.sum() >= FEWEST_OF_ARROW:
            middle = np.median(offsets[of], axis=0)
            near = np.hypot(*(offsets[of] - middle).T) < 6 * np.median(np.hypot(*(offsets[of] - middle).T)) + 1e-9
            mean = np.average(offsets[of][near], axis=0, weights=sigma[of][near] ** -2.0)
            arrows.append((*places[of].mean(axis=0), *mean, own[of][0]))
    table = np.array(arrows).reshape(-1, 5)
    return Arrows(table[:, :2], table[:, 2:4], table[:, 4].astype(int))


def _pointings(exposures: Sequence[Seen], judged: Judged) -> Labels:
    names, numbers = np.unique([f"{one.visit} {one.pointing}" for one in exposures], return_inverse=True)
    return Labels(names, numbers[judged.detections.exposure])


def _bands(exposures: Sequence[Seen], judged: Judged, bands: Sequence[str]) -> Integers:
    return np.array([bands.index(one.band) for one in exposures], dtype=int)[judged.detections.exposure]


def _sky_axes(judged: Judged) -> Floats:
    return np.stack(tangent_axes(judged.detections.vectors))


def _sky_places(judged: Judged) -> Floats:
    """(East, north) of detections in arcmin from their middle."""
    vectors = judged.detections.vectors
    if not len(vectors):
        return np.zeros((0, 2))
    middle = vectors.mean(axis=0)
    east, north = (axis[0] for axis in tangent_axes(middle[None] / np.linalg.norm(middle)))
    return np.stack([vectors @ east, vectors @ north], axis=1) * ARCSEC_PER_RADIAN / 60
