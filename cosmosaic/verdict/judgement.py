"""The steps that judge the sky of one filter, before and after its subtraction, and their tables for the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from astropy.table import Table, vstack

from cosmosaic.cells.survey import stack
from cosmosaic.cells.units import read_cells, read_cells_in
from cosmosaic.geometry.wcs import wcs_header
from cosmosaic.records import STATES, Lattice, MosaicGrid
from cosmosaic.sky.methods import Found, find_sources, solve_overlaps, values_of, without_stripes_and_planes
from cosmosaic.source_light import write_mask
from cosmosaic.steps.result import Made
from cosmosaic.verdict.files import Judgement, read_judgement, write_judgement
from cosmosaic.verdict.pictures import draw_plots, draw_skies
from cosmosaic.verdict.verdict import Judge, Verdict, judge_knowing, part_of, pure_noise

When = Literal["before", "after", "noise"]
DIGITS = 4
NULL_SEED = 1
"""Of the draw of pure noise."""


def judge_exposures(cells: Mapping[str, Path], grid: Lattice, when: When, folder: Path) -> Made:
    """Judge how flat the sky of all exposures of a filter is.

    Parameters
    ----------
    cells
        ``_cells.npz`` or ``_cleared.npz`` files by the exposures' names.
    grid
        The lattice that the cells lie on.
    when
        Whether the sky is still in them (``before``) or not (``after``), or nothing but the noise of their pixels is
        judged (``noise``).
    folder
        Gets ``<when>_judgement.npz``.
    """
    survey = read_cells(list(cells.values()), grid, folder.parent)
    if when == "noise":
        survey = pure_noise(survey, NULL_SEED)
    found = find_sources(survey)
    judge = judge_knowing(survey, found)
    subtracted = _subtracted(judge, found, when)
    flags = {"sources": judge.sources, "cores": judge.cores, "deep": judge.empty.deep, "shallow": judge.empty.shallow}
    verdict = judge.judge(subtracted)
    sky = stack(survey, subtracted)
    sky *= 100.0 / survey.pixel_rms
    judgement = Judgement(survey.grid, flags, values_of(judge.levels), subtracted, sky, verdict)
    return Made(judgement=write_judgement(judgement, folder / f"{when}_judgement.npz"))


def judge_tiles(
    before: Mapping[str, Path],
    after: Mapping[str, Path],
    judgements: Mapping[str, Path],
    tiles: tuple[MosaicGrid, ...],
    folder: Path,
) -> Made:
    """Judge some tiles.

    Parameters
    ----------
    before, after
        Cells of the exposures that reach the tiles, by name, before and after their sky was subtracted.
    judgements
        ``_judgement.npz`` files of all exposures, ``before`` and ``after``.
    tiles
        Windows of the mosaic.
    folder
        Gets ``<first tile>_part.ecsv``.
    """
    judged = {}
    for when, files in (("before", before), ("after", after)):
        whole = read_judgement(judgements[when])
        survey = read_cells_in(list(files.values()), whole.grid)
        judged[when] = whole.judge_of(survey), whole.subtracted
    path = folder / f"{tiles[0].tile}_part.ecsv"
    tile_table(judged, tiles).write(path, format="ascii.ecsv")
    return Made(table=path)


def gather_verdict(
    judgements: Mapping[str, Path], parts: tuple[Path, ...], levels: Path | None, stem: str, folder: Path
) -> Made:
    """Write how flat the sky of one filter is, as a whole and tile by tile.

    Parameters
    ----------
    judgements
        ``_judgement.npz`` files: ``before``, ``after`` and ``noise``.
    parts
        Tables of tiles.
    levels
        The table of sky levels, where there is one.
    stem
        Name of the products without ending.
    folder
        Gets ``_verdict.ecsv``, ``_tiles.ecsv`` with a row for each tile, the mask of sources ``_skymask.fits``, and
        for the page ``_skies.png`` (before and after at one stretch) and ``_skyplots.png``.
    """
    judged = {when: read_judgement(judgements[when]) for when in ("before", "after", "noise")}
    verdicts = {when: judgement.verdict for when, judgement in judged.items()}
    table, by_tile = folder / f"{stem}_verdict.ecsv", folder / f"{stem}_tiles.ecsv"
    verdict_table(verdicts, _method(levels)).write(table, format="ascii.ecsv")
    _together([Table.read(part, format="ascii.ecsv") for part in parts]).write(by_tile, format="ascii.ecsv")
    after = judged["after"]
    mask = write_mask(after.flags["sources"], wcs_header(after.grid), folder / f"{stem}_skymask.fits")
    pictures = folder / f"{stem}_skies.png", folder / f"{stem}_skyplots.png"
    draw_skies({when: judged[when].sky for when in ("before", "after")}, pictures[0])
    draw_plots({when: verdicts[when] for when in ("before", "after")}, pictures[1])
    return Made(
        verdict=table, tiles=by_tile, mask=mask, skies=pictures[0], plots=pictures[1], facts=_facts(verdicts["after"])
    )


def _together(parts: list[Table]) -> Table:
    """Join tables of tiles."""
    filled = [part for part in parts if len(part)]
    return vstack(filled) if filled else tile_table({}, ())


def _subtracted(judge: Judge, found: Found, when: When) -> dict[str, float]:
    """Level subtracted from each exposure before it is judged, MJy/sr."""
    if when == "before":
        # The same for all, so that every difference between them remains.
        return dict.fromkeys(judge.survey.names, float(np.median(list(values_of(judge.reference).values()))))
    if when == "after":
        return dict.fromkeys(judge.survey.names, 0.0)
    return values_of(solve_overlaps(without_stripes_and_planes(judge.survey, found, judge.cores)).levels)


def verdict_table(verdicts: dict[str, Verdict], method: str) -> Table:
    """Write verdicts as a table: a row per metric, and all else in its metadata.

    Parameters
    ----------
    verdicts
        ``before`` and ``after``, and that of pure ``noise``.
    method
        Method by which the sky was measured.
    """
    before, after = verdicts["before"], verdicts["after"]
    columns = {when: [_rounded(metric.value) for metric in verdict.metrics] for when, verdict in verdicts.items()}
    table = Table(
        {
            "metric": [metric.name for metric in after.metrics],
            "before": columns["before"],
            "after": columns["after"],
            "noise": columns["noise"],
            "error": [_rounded(metric.error) for metric in after.metrics],
            "state": [metric.state for metric in after.metrics],
            "where": [metric.where for metric in after.metrics],
            "message": [metric.message for metric in after.metrics],
        }
    )
    for name in ("before", "after", "noise", "error"):
        table[name].info.description = "per cent of the rms of one pixel in one exposure; NaN: not measurable"
    table.meta["method"] = method
    table.meta["state"] = after.state
    table.meta["state_before"] = before.state
    for when, verdict in verdicts.items():
        table.meta[when] = {
            "steps_in_errors": _known(verdict.steps_in_errors),
            "steps_pct": _known(verdict.steps),
            "levels_pct": _known(verdict.score),
            "aperture_growth": _known(verdict.growth),
            "apertures": [
                {"cells": each.cells, "number": each.number, "bias_pct": _known(each.bias)}
                | {"scatter_pct": _known(each.scatter)}
                for each in verdict.apertures
            ],
        }
    return table


def tile_table(judged: dict[str, tuple[Judge, dict[str, float]]], tiles: tuple[MosaicGrid, ...]) -> Table:
    """Judge each tile by its own area, as if all exposures ended at its edge.

    Parameters
    ----------
    judged
        ``before`` and ``after``: the judge of the whole, and the levels that are taken out.
    tiles
        Windows of the mosaic; those without an exposure with enough cells are left out.

    Returns
    -------
    Table
        Name, number of exposures, states and metrics before and after with the latter's errors and states (NaN where a
        tile is too small), and the reasons.
    """
    rows: list[dict[str, str | int | float]] = []
    for tile in tiles:
        parts = {when: (part_of(judge, tile), levels) for when, (judge, levels) in judged.items()}
        if not all(part.survey.exposures for part, _ in parts.values()):
            continue
        before, after = (parts[when][0].judge(parts[when][1]) for when in ("before", "after"))
        row: dict[str, str | int | float] = {"tile": tile.tile}
        row |= {
            "exposures": len(parts["after"][0].survey.exposures),
            "state_before": before.state,
            "state": after.state,
        }
        for old, new in zip(before.metrics, after.metrics, strict=True):
            row |= {f"{new.name}_before": _rounded(old.value), new.name: _rounded(new.value)}
            row |= {f"{new.name}_error": _rounded(new.error), f"{new.name}_state": new.state}
        rows.append(row | {"message": "; ".join(after.reasons)})
    table = Table(rows=rows) if rows else Table(names=["tile", "state"], dtype=["U1", "U1"])
    table.meta["unit"] = "metrics are in per cent of the rms of one pixel in one exposure"
    return table


def _method(levels: Path | None) -> str:
    return str(Table.read(levels, format="ascii.ecsv").meta["method"]) if levels else "none"


def _rounded(value: float) -> float:
    """A number for a column: NaN if it is unknown, which all ECSV readers understand."""
    return round(float(value), DIGITS) if np.isfinite(value) else float("nan")


def _known(value: float) -> float | None:
    """A number for the metadata, None if it is unknown."""
    return round(float(value), DIGITS) if np.isfinite(value) else None


def _facts(verdict: Verdict) -> dict[str, float | None]:
    """Numbers for the run table, None for unknown ones, and states as positions in `STATES`."""
    numbers = {f"{metric.name}_pct": metric.value for metric in verdict.metrics}
    numbers |= {"levels_pct": verdict.score, "steps_pct": verdict.steps}
    states = {f"{metric.name}_state": metric.state for metric in verdict.metrics} | {"state": verdict.state}
    return {name: round(float(value), DIGITS) if np.isfinite(value) else None for name, value in numbers.items()} | {
        name: float(STATES.index(state)) for name, state in states.items()
    }
