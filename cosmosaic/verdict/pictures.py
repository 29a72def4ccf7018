"""Pictures of the sky on cells, and plots of its verdict."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cosmosaic.pages.plots import COLOURS, save_figure
from cosmosaic.verdict.verdict import Verdict

Floats = NDArray[np.floating]

STRETCH_PCT = 25.0
"""Black and white of the pictures in per cent of a pixel's rms: twice the noise of a cell of 64 pixels."""
INCHES = 4.4
MOST_COLUMNS = 4


def draw_skies(skies: Mapping[str, Floats], png: Path) -> None:
    """Draw skies side by side with one stretch, sources white, gaps blue.

    Parameters
    ----------
    skies
        Stacks in per cent of a pixel's rms, north as the survey's grid has it, by title.
    png
        The picture to write.
    """
    rows, columns = -(-len(skies) // MOST_COLUMNS), min(len(skies), MOST_COLUMNS)
    ny, nx = np.max([sky.shape for sky in skies.values()], axis=0)
    width = INCHES * 2 / columns if columns > 2 else INCHES
    size = (width * columns, rows * (width * min(ny / nx, 2.5) + 0.3) + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (title, sky) in zip(axes, skies.items(), strict=False):
        axis.set_facecolor("#cfdbe6")
        drawn = axis.imshow(sky, origin="lower", cmap="gray", vmin=-STRETCH_PCT, vmax=STRETCH_PCT, interpolation="none")
        axis.set_title(title)
        axis.set_xticks([])
        axis.set_yticks([])
    for axis in axes[len(skies) :]:
        axis.set_axis_off()
    figure.colorbar(drawn, ax=list(axes), location="bottom", shrink=0.5, aspect=40, label="% of a pixel's rms")
    save_figure(figure, png)


def draw_plots(verdicts: Mapping[str, Verdict], png: Path) -> None:
    """Draw the steps of the overlaps, the scatter of empty apertures and the metrics of two verdicts."""
    figure = Figure(figsize=(11.0, 3.4), layout="constrained")
    steps, apertures, metrics = figure.subplots(1, 3)
    _draw_steps(steps, verdicts)
    _draw_apertures(apertures, verdicts)
    _draw_metrics(metrics, verdicts)
    save_figure(figure, png)


def _draw_steps(axis: Axes, verdicts: Mapping[str, Verdict]) -> None:
    edges = np.arange(-6.25, 6.5, 0.5)
    for when, verdict in verdicts.items():
        if verdict.pulls:
            inside = np.clip(verdict.pulls, edges[0], edges[-1])
            axis.hist(inside, list(edges), histtype="stepfilled", alpha=0.55, color=COLOURS[when], label=when)
    number = max((len(verdict.pulls) for verdict in verdicts.values()), default=0)
    x = np.linspace(-6, 6, 121)
    axis.plot(x, 0.5 * number * np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), color="black", lw=1, label="noise alone")
    axis.set_xlabel("step between detectors / its error")
    axis.set_ylabel("overlaps (outermost: beyond)")
    axis.legend(frameon=False, fontsize=8)


def _draw_apertures(axis: Axes, verdicts: Mapping[str, Verdict]) -> None:
    for when, verdict in verdicts.items():
        known = [each for each in verdict.apertures if np.isfinite(each.scatter)]
        if known:
            sides, scatter = [each.cells for each in known], [each.scatter for each in known]
            axis.plot(sides, scatter, "o-", color=COLOURS[when], label=when)
            axis.plot(sides, scatter[0] * sides[0] / np.array(sides), "--", lw=1, color=COLOURS[when])
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter("{x:g}")
    axis.set_xlabel("side of empty aperture / cells (dashed: sqrt N)")
    axis.set_ylabel("scatter / % of a pixel's rms")
    if axis.has_data():
        axis.legend(frameon=False, fontsize=8)
    else:
        axis.text(0.5, 0.5, "not measurable", transform=axis.transAxes, ha="center")


def _draw_metrics(axis: Axes, verdicts: Mapping[str, Verdict]) -> None:
    height = 0.8 / len(verdicts)
    for place, (when, verdict) in enumerate(verdicts.items()):
        rows = np.arange(len(verdict.metrics)) + (place - 0.5) * height
        # Unknown values have no bar.
        values, errors = (
            np.nan_to_num([getattr(each, part) for each in verdict.metrics]) for part in ("value", "error")
        )
        axis.barh(rows, values, height, xerr=errors, color=COLOURS[when])
        axis.set_yticks(np.arange(len(verdict.metrics)), [metric.name for metric in verdict.metrics])
    axis.set_xscale("symlog", linthresh=1.0)
    axis.set_xlim(0, None)
    axis.invert_yaxis()
    axis.set_xlabel("% of a pixel's rms")
