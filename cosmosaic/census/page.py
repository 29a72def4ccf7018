"""The page that answers what the catalogues of a survey hold: one HTML file that needs nothing but itself."""

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from PIL import Image

from cosmosaic.catalog.flags import CatalogFlag, decode_flags
from cosmosaic.census import pictures
from cosmosaic.census.files import RULES, SAMPLE_ROWS
from cosmosaic.census.survey import OddSource, SurveyCensus, add_up
from cosmosaic.injection.judgement import Sample
from cosmosaic.pages import page
from cosmosaic.records import STATES
from cosmosaic.steps.result import Made

NOT_MEASURED = "not measured"
COMPLETE = 0.8
"""Completeness whose magnitude is told."""
FLAG_MEANINGS = {
    CatalogFlag.EDGE: "the segment touches the border of the coverage",
    CatalogFlag.BLENDED: "neighbours cover more than a tenth of the Kron aperture",
    CatalogFlag.SHALLOW: "less than half of the typical weight in some filter",
    CatalogFlag.NO_DATA: "pixels without data inside: fluxes are lower limits",
    CatalogFlag.TRUNCATED: "the Kron aperture reaches pixels without data",
    CatalogFlag.NOT_POSITIVE: "no filter has a positive flux",
    CatalogFlag.KRON_UNDEFINED: "no Kron radius: the smallest aperture is used",
    CatalogFlag.SINGLE_EXPOSURE: "one exposure saw it in every filter that shows it: it may be a cosmic ray",
    CatalogFlag.DEBLENDED: "separated from a neighbour",
    CatalogFlag.NOT_COVERED: "a filter does not cover it",
    CatalogFlag.PSF_FROM_STARS: "the PSF of some filter was made from stars of the field",
    CatalogFlag.REJECTED: "outlier rejection removed a third of an exposure or more from the core",
    CatalogFlag.SATURATED: "a pixel is saturated in some exposure",
    CatalogFlag.NEAR_BRIGHT: "brighter stars add more than a tenth of its flux, and than its error, in some filter",
    CatalogFlag.SHARP: "sharper than a point source in every filter that shows it: a cosmic ray or a bad pixel",
}


def write_page(  # noqa: PLR0913
    census: Mapping[str, Path],
    verdicts: Mapping[str, Path],
    completeness: Mapping[str, Path],
    injected: Path | None,
    survey: str,
    windows: tuple[str, ...],
    is_injection_asked_for: bool,
    links: Mapping[str, Mapping[str, str]],
    injection_links: Mapping[str, Mapping[str, str]],
    folder: Path,
) -> Made:
    """Write what the catalogues of a survey hold as a page: counts, depths, completeness, colours, flags, odd rows.

    Parameters
    ----------
    census
        ``_census.npz`` by window.
    verdicts, completeness
        ``_injection.ecsv`` and ``_completeness.ecsv`` of the injection by filter; what there is.
    injected
        ``_injected.ecsv``; None if there is none.
    survey
        Its name.
    windows
        Names of the windows that should have a catalogue.
    is_injection_asked_for
        Whether the run injects sources.
    links
        File name of each product of a window by its description, relative to the products' folder; those of all
        windows under an empty name.
    injection_links
        The same of the injection's products by filter.
    folder
        Gets ``<survey>_catalogue.html``.
    """
    whole = add_up(census)
    judged = {name: _read(path) for name, path in verdicts.items()}
    tables = {name: _read(path) for name, path in completeness.items()}
    states = {band.name: judged[band.name].meta["state"] if band.name in judged else None for band in whole.bands}
    state = overall(states)
    path = page.write_page(
        "cosmosaic.census",
        "catalogue.html",
        folder / f"{survey}_catalogue.html",
        survey=survey,
        state=state,
        census=whole,
        missing=[window for window in windows if window not in census],
        bands=[_band(place, whole, states, tables) for place in range(len(whole.bands))],
        metrics=_metrics(judged),
        purity={name: table.meta["purity"] for name, table in judged.items()},
        unmeasured=[name for name, each in states.items() if each is None],
        is_injection_asked_for=is_injection_asked_for,
        plots=_plots(whole, tables, injected),
        shown=len(whole.sample.rank),
        largest_sample=SAMPLE_ROWS,
        snr=pictures.SHOWN_SNR,
        reference=whole.bands[_reference(whole)].name if whole.bands else "",
        flags=[
            {"name": flag.name, "value": flag.value, "rows": whole.flags[flag.name or ""], "meaning": meaning}
            for flag, meaning in FLAG_MEANINGS.items()
        ],
        odd=[_odd(source) for source in whole.odd],
        rules=RULES,
        rules_met={rule for source in whole.odd for rule, _ in source.reasons},
        links=links,
        injection_links={name: each for name, each in injection_links.items() if name in judged},
    )
    facts = {"sources": float(whole.sources), "arcmin2": whole.arcmin2}
    return Made(page=path, facts=facts | {"state": None if state == NOT_MEASURED else float(STATES.index(state))})


def overall(states: Mapping[str, str | None]) -> str:
    """Return the state of all filters: the worst, but never one that is good where a filter was not measured."""
    known = [state for state in states.values() if state is not None]
    worst = max(known, key=_rank, default=NOT_MEASURED)
    return worst if len(known) == len(states) or worst in ("warn", "fail") else NOT_MEASURED


def magnitude_at(table: Table, share: float) -> float | None:
    """Return the magnitude at which the completeness of stars first falls below a share; None if it does not.

    Parameters
    ----------
    table
        Completeness by sample and magnitude (`cosmosaic.injection.judgement.completeness_table`).
    share
        Between the middles of bins the completeness is taken as linear.
    """
    for (bright, before), (faint, after) in pairwise(_completeness_of_stars(table)):
        if before >= share > after:
            return float(bright + (faint - bright) * (before - share) / (before - after))
    return None


def complete_to(table: Table | None, share: float) -> str:
    """Return `magnitude_at` in words; a bound where the completeness does not fall through the share."""
    points = _completeness_of_stars(table) if table is not None else []
    if table is None or not points:
        return NOT_MEASURED
    magnitude = magnitude_at(table, share)
    if magnitude is not None:
        return f"{magnitude:.2f}"
    (brightest, _), (faintest, last) = points[0], points[-1]
    return f"> {faintest:.2f}" if last >= share else f"< {brightest:.2f}"


def _completeness_of_stars(table: Table) -> list[tuple[float, float]]:
    """Magnitude of the middle of each bin, and the share of its stars that is found; the brightest first."""
    stars = table[np.asarray(table["sample"]) == "stars"]
    stars.sort("mag_low")
    return [((row["mag_low"] + row["mag_high"]) / 2, row["completeness"]) for row in stars]


def _rank(state: str) -> int:
    order: list[str] = list(STATES)
    return order.index(state)


def _read(path: Path) -> Table:
    return Table.read(path, format="ascii.ecsv")


def _band(
    place: int, whole: SurveyCensus, states: Mapping[str, str | None], tables: Mapping[str, Table]
) -> dict[str, Any]:
    band = whole.bands[place]
    return band._asdict() | {
        "state": states[band.name] or NOT_MEASURED,
        "complete": complete_to(tables.get(band.name), COMPLETE),
    }


def _metrics(judged: Mapping[str, Table]) -> list[dict[str, Any]]:
    return [
        {"band": name} | {column: row[column] for column in ("name", "value", "error", "number", "state", "message")}
        for name, table in judged.items()
        for row in table
    ]


def _reference(whole: SurveyCensus) -> int:
    """The filter with the most magnitudes, the first of equals."""
    return int(np.argmax([band.with_magnitude for band in whole.bands]))


def _plots(whole: SurveyCensus, tables: Mapping[str, Table], injected: Path | None) -> dict[str, page.Picture]:
    """The plots that can be drawn, by name."""
    drawn: dict[str, Callable[[Path], None]] = {}
    if whole.bands:
        drawn |= {
            "counts": partial(pictures.draw_counts, whole),
            "depths": partial(pictures.draw_depths, whole),
            "sizes": partial(pictures.draw_sizes, whole, _reference(whole)),
        }
    if len(whole.bands) > 1:
        drawn["colours"] = partial(pictures.draw_colours, whole)
    if tables:
        drawn["completeness"] = partial(pictures.draw_all_completeness, tables, whole)
    pulls = _pulls(injected, tables)
    if any(len(each) for each in pulls.values()):
        drawn["pulls"] = partial(pictures.draw_all_pulls, pulls, whole)
    made = {}
    with tempfile.TemporaryDirectory(prefix="cosmosaic-page-") as folder:
        for name, draw in drawn.items():
            draw(Path(folder) / f"{name}.png")
            made[name] = page.embedded(Path(folder) / f"{name}.png")
    return made


def _pulls(injected: Path | None, tables: Mapping[str, Table]) -> dict[str, NDArray[np.float64]]:
    if injected is None:
        return {}
    table = _read(injected)
    return {name: Sample.of(table, name).pulls for name in tables}


def _odd(source: OddSource) -> dict[str, Any]:
    row = source.row
    return row.model_dump() | {
        "reasons": source.reasons,
        "flag_names": decode_flags(row.flags)[0],
        "bands": source.bands,
        "stamp_width": source.stamp.shape[1] // len(source.bands),
        "picture": page.picture(Image.fromarray(source.stamp)),
    }
