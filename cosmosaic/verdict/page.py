"""The page that answers whether a survey's sky is flat: one HTML file that needs nothing but itself."""

import io
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from PIL import Image

from cosmosaic.records import STATES
from cosmosaic.steps.result import Made
from cosmosaic.verdict.metrics import LIMITS, MEANINGS

WIDEST_PIXELS = 1100
JPEG_QUALITY = 72

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2730;background:#f6f7f8;margin:0}
main{max-width:1120px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:20px;margin:0}
section{background:#fff;border:1px solid #dde2e6;border-radius:8px;padding:18px 20px;margin:22px 0}
header.band{display:flex;gap:12px;align-items:center;flex-wrap:wrap}
.state{border-radius:999px;padding:2px 12px;font-weight:600;color:#fff}
.pass{background:#2c7a4b}.warn{background:#b3700f}.fail{background:#b3261e}
.not-measurable{background:#4a5a78}.not-applicable{background:#7a858d}
table{border-collapse:collapse;margin:12px 0;font-size:14px;width:100%}
th,td{text-align:left;padding:4px 10px 4px 0;border-bottom:1px solid #e7eaed;vertical-align:top}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.wide{overflow-x:auto}img{max-width:100%;height:auto;display:block;margin:10px 0}
ul.reasons{margin:8px 0}.quiet{color:#5b6872}a{color:#1f5f8b}
"""


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
        File name of each product of a filter by what it is called, relative to the products' folder.
    folder
        Gets ``<survey>_sky.html``.
    """
    tables = {band: _read(path) for band, path in verdicts.items()}
    sections = [
        _section(band, table, _read(tiles[band]), (skies[band], plots[band]), _linked(links[band]))
        for band, table in tables.items()
    ]
    states = [table.meta["state"] for table in tables.values()]
    page = folder / f"{survey}_sky.html"
    page.write_text(_document(survey, states, sections), encoding="utf-8")
    return Made(page=page)


def _read(path: Path) -> Table:
    # What is nowhere in particular is masked in ECSV.
    return Table.read(path, format="ascii.ecsv").filled("")


def _document(name: str, states: list[str], sections: list[str]) -> str:
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
    order: list[str] = list(STATES)
    worst = max(states, key=order.index)
    meanings = "".join(f"<tr><td>{escape(key)}</td><td>{escape(text)}</td></tr>" for key, text in MEANINGS.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(name)}: is the sky flat?</title><style>{STYLE}</style></head><body><main>
<h1>{escape(name)}: is the sky flat?</h1>
<p>{_badge(worst)} {len(states)} filters: {counts}.
<span class="quiet">All metrics are in per cent of the rms of one pixel in one exposure.</span></p>
{"".join(sections)}
<section><h2>What the metrics mean</h2><table>{meanings}</table></section>
</main></body></html>
"""


def _section(band: str, table: Table, tiles: Table, images: tuple[Path, ...], links: str) -> str:
    state = table.meta["state"]
    silent = ("pass", "not applicable")
    reasons = "".join(f"<li>{escape(str(row['message']))}</li>" for row in table if row["state"] not in silent)
    said = f'<ul class="reasons">{reasons}</ul>' if reasons else '<p class="quiet">Nothing stands out.</p>'
    skies, plots = (
        _embedded(path, title) for path, title in zip(images, (f"{band} sky", f"{band} plots"), strict=True)
    )
    return f"""<section id="{escape(band)}"><header class="band"><h2>{escape(band)}</h2>
{_badge(state)}<span class="quiet">method {escape(table.meta["method"])}; before:
{escape(table.meta["state_before"])}</span></header>
{said}{skies}
<div class="wide">{_metrics(table)}</div>{plots}<div class="wide">{_apertures(table)}</div>
<div class="wide">{_tiles(tiles)}</div>
<p>{links}</p></section>
"""


def _metrics(table: Table) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(row['metric']))}</td>{_number(row['before'])}"
        f"{_with_error(row['after'], row['error'], row['state'])}{_number(row['noise'])}"
        f'<td class="number">{LIMITS[row["metric"]].warn:g} / {LIMITS[row["metric"]].fail:g}</td>'
        f"<td>{escape(str(row['where']))}</td><td>{_badge(row['state'])}</td></tr>"
        for row in table
    )
    heads = ("metric", "before", "after", "pure noise", "warn / fail above", "where", "verdict")
    return _table(heads, rows, {"before", "after", "pure noise", "warn / fail above"})


def _apertures(table: Table) -> str:
    rows = ""
    for when in ("before", "after", "noise"):
        facts = table.meta[when]
        scatter = "".join(_number(each["scatter_pct"]) for each in facts["apertures"])
        rows += (
            f"<tr><td>{when}</td>{_number(facts['steps_pct'])}{_number(facts['steps_in_errors'])}"
            f"{_number(facts['levels_pct'])}{scatter}{_number(facts['aperture_growth'])}</tr>"
        )
    sides = [f"scatter {each['cells']}x{each['cells']}" for each in table.meta["after"]["apertures"]]
    heads = ("", "rms step", "in errors", "rms level", *sides, "growth / sqrt N")
    return _table(heads, rows, set(heads[1:]))


def _tiles(table: Table) -> str:
    """What the tiles have, worst first; and the metrics of a part of a mosaic."""
    shown = [name for name in LIMITS if name in table.colnames]
    order: list[str] = list(STATES)
    rows = "".join(
        f'<tr><td>{escape(str(row["tile"]))}</td><td class="number">{row["exposures"]}</td>'
        f"<td>{escape(str(row['state_before']))}</td>"
        f"{''.join(_with_error(row[name], row[f'{name}_error'], row[f'{name}_state']) for name in shown)}"
        f"<td>{_badge(row['state'])}</td></tr>"
        for row in sorted(table, key=lambda row: -order.index(row["state"]))
    )
    return _table(("tile", "exposures", "before", *shown, "verdict"), rows, {"exposures", *shown})


def _table(heads: tuple[str, ...], rows: str, numeric: set[str]) -> str:
    top = "".join(f"<th{' class=number' if head in numeric else ''}>{escape(head)}</th>" for head in heads)
    return f"<table><tr>{top}</tr>{rows}</table>"


def _badge(state: str) -> str:
    return f'<span class="state {state.replace(" ", "-")}">{state}</span>'


def _number(value: Any) -> str:
    known = value is not None and np.isfinite(float(value))
    return f'<td class="number">{f"{float(value):.2f}" if known else "-"}</td>'


def _with_error(value: float, error: float, state: str) -> str:
    """A value with its error; where there is none, why."""
    return f'<td class="number">{f"{value:.2f} ± {error:.2f}" if np.isfinite(value + error) else state}</td>'


def _linked(links: Mapping[str, str]) -> str:
    return " · ".join(f'<a href="{escape(target)}">{escape(label)}</a>' for label, target in links.items())


def _embedded(path: Path, title: str) -> str:
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((WIDEST_PIXELS, 2 * WIDEST_PIXELS))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    data = b64encode(buffer.getvalue()).decode()
    return (
        f'<img alt="{escape(title)}" width="{small.width}" height="{small.height}" src="data:image/jpeg;base64,{data}">'
    )
