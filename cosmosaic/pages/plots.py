"""The look of plots that compare before and after."""

from pathlib import Path

from matplotlib.figure import Figure

COLOURS = {"before": "#c2542d", "after": "#1f5f8b"}
DPI = 110


def save_figure(figure: Figure, png: Path) -> None:
    """Write a figure as PNG, equal bytes for equal figures."""
    figure.savefig(png, dpi=DPI, metadata={"Software": None})
