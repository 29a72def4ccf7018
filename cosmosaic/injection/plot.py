"""The plot of the injection: completeness, flux bias, pulls and purity of one filter."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

COLOURS = ("#1f5f8b", "#c2542d", "#3f7d4e", "#7a5195")
DPI = 110
NO_SOFTWARE = {"Software": None}
PULL_BINS = [round(-5.0 + 0.25 * step, 2) for step in range(41)]


def draw_injection(
    completeness: Table,
    pulls: NDArray[np.float64],
    purity: Sequence[Mapping[str, float | int | None]],
    title: str,
    png: Path,
) -> None:
    """Draw the results of the injection in one filter.

    Parameters
    ----------
    completeness
        By sample and magnitude, see `cosmosaic.injection.judgement.completeness_table`.
    pulls
        Errors of fluxes in units of their stated errors.
    purity
        By measured S/N, see `cosmosaic.injection.judgement.purity_table`.
    title
        Filter and verdict.
    png
        The picture to write.
    """
    figure = Figure(figsize=(11.0, 7.0), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(2, 2).ravel()
    draw_completeness(axes[0], completeness)
    _draw_bias(axes[1], completeness)
    draw_pulls(axes[2], pulls)
    _draw_purity(axes[3], purity)
    figure.savefig(png, dpi=DPI, metadata=NO_SOFTWARE)


def _curves(table: Table) -> Iterator[tuple[str, str, Table]]:
    """Label, colour and rows of each sample."""
    names = [_label(row["sample"], row["radius_low"], row["radius_high"]) for row in table]
    for label, colour in zip(dict.fromkeys(names), COLOURS, strict=False):
        yield label, colour, table[np.array(names) == label]


def _label(sample: str, low: float, high: float) -> str:
    if sample == "stars":
        return sample
    return f"{sample}, above {low:g} arcsec" if high is np.ma.masked else f"{sample}, {low:g} to {high:g} arcsec"


def draw_completeness(axis: Axes, table: Table) -> None:
    """Draw the completeness of each sample against the true magnitude, with its 68 % interval."""
    for label, colour, rows in _curves(table):
        middle = (rows["mag_low"] + rows["mag_high"]) / 2
        axis.plot(middle, rows["completeness"], "o-", color=colour, label=label, markersize=4)
        axis.fill_between(middle, rows["completeness_low"], rows["completeness_high"], color=colour, alpha=0.15)
    axis.set(xlabel="true magnitude [AB]", ylabel="fraction found", ylim=(-0.03, 1.05))
    if len(table):
        axis.legend(fontsize=8)


def _draw_bias(axis: Axes, table: Table) -> None:
    for _, colour, rows in _curves(table):
        rows = rows[np.asarray(rows["measured"]) > 1]
        middle = (rows["mag_low"] + rows["mag_high"]) / 2
        axis.errorbar(middle, rows["bias"], rows["bias_err"], fmt="o-", color=colour, markersize=4)
    axis.axhline(0.0, color="0.6", linewidth=0.8)
    axis.set(xlabel="true magnitude [AB]", ylabel="total minus true magnitude")


def draw_pulls(axis: Axes, pulls: NDArray[np.float64]) -> None:
    """Draw errors in units of their stated errors, and what right errors would give; beyond 5 they are at the rim."""
    if len(pulls):
        axis.hist(np.clip(pulls, PULL_BINS[0], PULL_BINS[-1]), PULL_BINS, density=True, color=COLOURS[0], alpha=0.6)
    axis.plot(PULL_BINS, np.exp(-(np.array(PULL_BINS) ** 2) / 2) / np.sqrt(2 * np.pi), color="0.2")
    axis.set(xlabel=f"error / stated error of {len(pulls)} stars", ylabel="density")


def _draw_purity(axis: Axes, purity: Sequence[Mapping[str, float | int | None]]) -> None:
    labels = [f"{row['snr_low']:g}+" for row in purity]
    values = [np.nan if row["purity"] is None else row["purity"] for row in purity]
    axis.bar(labels, values, color=COLOURS[2], alpha=0.6)
    axis.set(xlabel="S/N from, to the next", ylabel="purity, from the negative image", ylim=(0.0, 1.05))
