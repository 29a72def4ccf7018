"""The page that answers whether a survey's sky is flat: one HTML file that needs nothing but itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from cosmosaic.pages import page
from cosmosaic.records import STATES
from cosmosaic.steps.result import Made
from cosmosaic.verdict.metrics import LIMITS, MEANINGS, leniency

SILENT = ("pass", "not applicable")
"""States that call for no reason on the page."""


def write_page(
    verdicts: Mapping[str, Path],
    tiles: Mapping[str, Path],
    skies: Mapping[str, Path],
    plots: Mapping[str, Path],
    survey: str,
    links: Mapping[str, Mapping[str, str]],
    folder: Path,
) -> Made:
    """Write a survey's verdict as a page: pictures before and after at one stretch, plots, tables, links.

    Parameters
    ----------
    verdicts, tiles, skies, plots
        ``_verdict.ecsv``, ``_tiles.ecsv``, ``_skies.png`` and ``_skyplots.png`` by filter.
    survey
        Its name.
    links
        File name of each product of a filter by its description, relative to the products' folder.
    folder
        Gets ``<survey>_sky.html``.
    """
    bands = [
        _band(name, _read(path), _read(tiles[name]))
        | {"skies": page.embedded(skies[name]), "plots": page.embedded(plots[name]), "links": links[name]}
        for name, path in verdicts.items()
    ]
    states = [band["state"] for band in bands]
    return Made(
        page=page.write_page(
            "cosmosaic.verdict",
            "sky.html",
            folder / f"{survey}_sky.html",
            survey=survey,
            bands=bands,
            worst=max(states, key=_rank),
            counts=", ".join(f"{states.count(state)} {state}" for state in STATES if state in states),
            limits=LIMITS,
            meanings=MEANINGS,
            known=lambda *values: bool(np.isfinite(values).all()),
        )
    )


def _read(path: Path) -> Table:
    # Empty text is masked in ECSV.
    return Table.read(path, format="ascii.ecsv").filled("")


def _rank(state: str) -> int:
    order: list[str] = list(STATES)
    return order.index(state)


def _band(name: str, table: Table, tiles: Table) -> dict[str, Any]:
    """Facts of one filter; its tiles with the worst first."""
    return {
        "name": name,
        "state": table.meta["state"],
        "method": table.meta["method"],
        "state_before": table.meta["state_before"],
        "reasons": [reason for row in table if (reason := _reason(row))],
        "metrics": _rows(table),
        "apertures": {when: table.meta[when] for when in ("before", "after", "noise")},
        "tiles": sorted(_rows(tiles), key=lambda row: -_rank(row["state"])),
        "tile_metrics": [metric for metric in LIMITS if metric in tiles.colnames],
    }


def _rows(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.colnames, row, strict=True)) for row in table]


def _reason(row: Any) -> str:
    """The fault, or the reason why a value beyond a limit is none; empty if there is neither."""
    lenient = leniency(row["metric"], row["after"], row["error"], row["state"])
    said = "" if row["state"] in SILENT else str(row["message"])
    return "; ".join(filter(None, (said, lenient)))
