"""The page that answers whether a survey's stars are where they are: one HTML file that needs nothing but itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from cosmosaic.astrometry.metrics import LIMITS
from cosmosaic.astrometry.verdict import judge_sharpness, judge_sharpness_of_filters
from cosmosaic.pages import page
from cosmosaic.records import STATES
from cosmosaic.steps.result import Made

MEANINGS = {
    "exposure": "An exposure (all its detectors) against the others.",
    "roll": "Rotation of a visit or an exposure against the others, at its farthest stars (100 arcsec at most).",
    "detector": "A detector against the others, in the focal plane.",
    "module": "Module A against module B: velocity aberration that was left in.",
    "scale": "Distances of detectors against the headers', ppm; aberration that was left in gives 1 - VA_SCALE.",
    "matches": "Detections that contradict the others of their stars.",
    "filter": "A filter against the others.",
    "cell": "A filter against the others in a cell of 2 arcmin.",
    "absolute": "The survey against the reference catalogue.",
    "flux": "Brightness of the same stars on a detector against the mean of its filter's detectors.",
    "width": "FWHM of stars in the mosaic above that in its exposures, each drizzled alone.",
    "ellipticity": "Ellipticity of stars in the mosaic minus that in its exposures.",
}


def write_page(  # noqa: PLR0913
    verdict: Path,
    fluxes: Path,
    maps: Path,
    plots: Path,
    sharpness: Mapping[str, Path],
    survey: str,
    links: Mapping[str, str],
    folder: Path,
) -> Made:
    """Write the verdict on a survey's astrometry as a page: maps and plots before and after, tables, links.

    Parameters
    ----------
    verdict, fluxes, maps, plots
        ``_astrometry.ecsv``, ``_fluxscale.ecsv``, ``_astromaps.png`` and ``_astroplots.png``.
    sharpness
        ``_sharpness.ecsv`` by filter.
    survey
        Its name.
    links
        File name of each product by its description, relative to the products' folder.
    folder
        Gets ``<survey>_astrometry.html``.
    """
    table = _read(verdict)
    metrics = _metrics(table)
    stars = {name: _read(path) for name, path in sharpness.items()}
    bands = [_band(name, each) for name, each in stars.items()]
    parts = _parts(_rows(table) + _rows_of_tiles(stars))
    metrics += [row for band in bands for row in band["metrics"]]
    worst = max((row["state"] for row in metrics), key=_rank, default="not measurable")
    path = page.write_page(
        "cosmosaic.sharpness",
        "astrometry.html",
        folder / f"{survey}_astrometry.html",
        survey=survey,
        worst=worst,
        reasons=[row["message"] for row in metrics if row["state"] in ("warn", "fail")],
        unmeasured=[row["label"] for row in metrics if row["state"] == "not measurable"],
        metrics=metrics,
        parts=parts,
        kinds=[kind for kind in LIMITS if any(kind in part["after"] for part in parts)],
        limits=LIMITS,
        maps=page.embedded(maps),
        plots=page.embedded(plots),
        fluxes=_rows(_read(fluxes)),
        bands=bands,
        meanings=MEANINGS,
        links=links,
    )
    return Made(page=path, facts={"state": float(_rank(worst))})


def _read(path: Path) -> Table:
    # Empty text is masked in ECSV.
    table = Table.read(path, format="ascii.ecsv")
    return table.filled("") if table.has_masked_columns else table


def _rank(state: str) -> int:
    order: list[str] = list(STATES)
    return order.index(state)


def _metrics(table: Table) -> list[dict[str, Any]]:
    """The metrics of the survey after, each with its value before and of noise alone."""
    rows = [row for row in _rows(table) if row["scope"] == "survey"]
    values = {(row["when"], row["name"]): row["value"] for row in rows}
    return [
        row | {"label": row["name"]} | {when: values.get((when, row["name"])) for when in ("before", "noise")}
        for row in rows
        if row["when"] == "after"
    ]


def _rows_of_tiles(sharpness: Mapping[str, Table]) -> list[dict[str, Any]]:
    """The stars of the mosaics in each tile, as rows like those of the verdict: the filter that is worst there."""
    by_tile: dict[str, dict[str, Any]] = {}
    for name, table in sharpness.items():
        for measured in table.meta["tiles"]:
            by_tile.setdefault(measured["tile"], {})[name] = measured
    part = {"when": "after", "scope": "tile", "filter": "", "other_filter": ""}
    return [
        part | {"tile": tile} | metric._asdict()
        for tile, each in by_tile.items()
        for metric in judge_sharpness_of_filters(each)
    ]


def _parts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Filters, pairs of filters and tiles, each with its metrics by name and when; the worst tiles first."""
    parts: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["scope"] != "survey":
            names = (row["filter"], row["other_filter"], row["tile"])
            name = " - ".join(str(one) for one in names if one)
            new = {
                "name": name,
                "scope": row["scope"],
                "state": "not applicable",
                "stars": 0,
                "before": {},
                "after": {},
            }
            part = parts.setdefault(name, new)
            part[row["when"]][row["name"]] = row
            if row["when"] == "after":
                part["state"] = max(part["state"], row["state"], key=_rank)
                part["stars"] = max(part["stars"], row["stars"])
    # A sort keeps the order of equals.
    return sorted(parts.values(), key=lambda part: -_rank(part["state"]) if part["scope"] == "tile" else -len(STATES))


def _band(name: str, table: Table) -> dict[str, Any]:
    """Facts of the stars of one filter's mosaic."""
    judged = judge_sharpness(name, table.meta)
    metrics = [one._asdict() | {"label": f"{one.name} {name}", "before": None, "noise": None} for one in judged]
    return {"name": name, "stars": len(table), "metrics": metrics} | {
        column: float(np.median(table[column])) if len(table) else None for column in ("fwhm", "fwhm_exposures")
    }


def _rows(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.colnames, row, strict=True)) for row in table]
