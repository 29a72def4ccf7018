"""The step that judges the sky of one filter, before and after it was taken out, and what it leaves for the page."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.table import Table

from cosmosaic.cells.cells import CellSurvey, read_cells, stack
from cosmosaic.geometry.wcs import wcs_header
from cosmosaic.records import STATES, MosaicGrid
from cosmosaic.sky.methods import clean, solve_overlaps, values_of
from cosmosaic.source_light import write_mask
from cosmosaic.steps.result import Made
from cosmosaic.verdict.pictures import draw_plots, draw_skies
from cosmosaic.verdict.verdict import Judge, Verdict, make_judge, part_of, pure_noise

DIGITS = 4
NULL_SEED = 1
"""Of the draw of pure noise."""


def judge_sky(
    before: Mapping[str, Path],
    after: Mapping[str, Path],
    levels: Path | None,
    grid: MosaicGrid,
    tiles: tuple[MosaicGrid, ...],
    stem: str,
    folder: Path,
) -> Made:
    """Judge how flat the sky of one filter is, as a whole and tile by tile.

    Parameters
    ----------
    before, after
        ``_cells.npz`` and ``_cleared.npz`` files of all exposures by name: before and after their sky was subtracted.
    levels
        The table of sky levels, where there is one.
    grid
        The lattice that the cells lie on.
    tiles
        Windows of the mosaic.
    stem
        Name of the products without ending.
    folder
        Gets ``_verdict.ecsv``, ``_tiles.ecsv`` with a row for each tile, the mask of sources ``_skymask.fits``, and
        for the page ``_skies.png`` (before and after at one stretch) and ``_skyplots.png``.
    """
    surveys = {when: read_cells(list(files.values()), grid) for when, files in (("before", before), ("after", after))}
    noise = pure_noise(surveys["after"], NULL_SEED)
    judges = {when: make_judge(survey) for when, survey in (surveys | {"noise": noise}).items()}
    subtracted = {
        "before": _one_level(judges["before"]),
        "after": dict.fromkeys(surveys["after"].names, 0.0),
        "noise": values_of(solve_overlaps(clean(noise)).levels),
    }
    verdicts = {when: judge.judge(subtracted[when]) for when, judge in judges.items()}
    skies = {when: _sky(judges[when].survey, subtracted[when]) for when in ("before", "after")}
    table = folder / f"{stem}_verdict.ecsv"
    verdict_table(verdicts, _method(levels)).write(table, format="ascii.ecsv")
    by_tile = folder / f"{stem}_tiles.ecsv"
    tile_table({when: (judges[when], subtracted[when]) for when in ("before", "after")}, tiles).write(
        by_tile, format="ascii.ecsv"
    )
    mask = write_mask(judges["after"].sources, wcs_header(surveys["after"].grid), folder / f"{stem}_skymask.fits")
    pictures = folder / f"{stem}_skies.png", folder / f"{stem}_skyplots.png"
    draw_skies(skies, pictures[0])
    draw_plots({when: verdicts[when] for when in ("before", "after")}, pictures[1])
    return Made(
        verdict=table,
        tiles=by_tile,
        mask=mask,
        skies=pictures[0],
        plots=pictures[1],
        facts=_facts(verdicts["after"]),
    )


def verdict_table(verdicts: dict[str, Verdict], method: str) -> Table:
    """Write verdicts as a table: a row per figure, and in its metadata what is not a figure.

    Parameters
    ----------
    verdicts
        ``before`` and ``after``, and what pure ``noise`` gives.
    method
        How the sky was measured.
    """
    before, after = verdicts["before"], verdicts["after"]
    table = Table(
        {
            "figure": [figure.name for figure in after.figures],
            "before": [round(figure.value, DIGITS) for figure in before.figures],
            "after": [round(figure.value, DIGITS) for figure in after.figures],
            "noise": [round(figure.value, DIGITS) for figure in verdicts["noise"].figures],
            "error": [round(figure.error, DIGITS) for figure in after.figures],
            "state": [figure.state for figure in after.figures],
            "where": [figure.where for figure in after.figures],
            "words": [figure.words for figure in after.figures],
        }
    )
    for name in ("before", "after", "noise", "error"):
        table[name].info.description = "per cent of the rms of one pixel in one exposure"
    table.meta["method"] = method
    table.meta["state"] = after.state
    table.meta["state_before"] = before.state
    for when, verdict in verdicts.items():
        table.meta[when] = {
            "steps_in_errors": round(verdict.steps_in_errors, DIGITS),
            "steps_pct": round(verdict.steps, DIGITS),
            "levels_pct": round(verdict.score, DIGITS),
            "aperture_growth": round(verdict.growth, DIGITS),
            "apertures": [
                {"cells": each.cells, "number": each.number, "bias_pct": _rounded(each.bias)}
                | {"scatter_pct": _rounded(each.scatter)}
                for each in verdict.apertures
            ],
        }
    return table


def tile_table(judged: dict[str, tuple[Judge, dict[str, float]]], tiles: tuple[MosaicGrid, ...]) -> Table:
    """Judge each tile by what lies in it: all exposures there as if they had ended at its rim.

    Parameters
    ----------
    judged
        ``before`` and ``after``: the judge of the whole, and the levels that are taken out.
    tiles
        Windows of the mosaic; those that no exposure reaches with enough cells are left out.

    Returns
    -------
    Table
        Name, number of exposures, states and figures before and after with the latter's errors (NaN where a tile is
        too small to tell), and the reasons in words.
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
        for old, new in zip(before.figures, after.figures, strict=True):
            row |= {f"{new.name}_before": round(old.value, DIGITS), new.name: round(new.value, DIGITS)}
            # What cannot be measured in a tile has an infinite error, which ECSV readers do not share.
            row[f"{new.name}_error"] = round(new.error, DIGITS) if np.isfinite(new.error) else float("nan")
        rows.append(row | {"words": "; ".join(after.reasons)})
    table = Table(rows=rows) if rows else Table(names=["tile", "state"], dtype=["U1", "U1"])
    table.meta["unit"] = "figures are in per cent of the rms of one pixel in one exposure"
    return table


def _method(levels: Path | None) -> str:
    return str(Table.read(levels, format="ascii.ecsv").meta["method"]) if levels else "none"


def _rounded(value: float) -> float | None:
    return round(value, DIGITS) if np.isfinite(value) else None


def _one_level(judge: Judge) -> dict[str, float]:
    """The same level for all exposures: what is left shows every difference between them."""
    level = float(np.median(list(values_of(judge.reference).values())))
    return dict.fromkeys(judge.survey.names, level)


def _sky(survey: CellSurvey, levels: dict[str, float]) -> np.ndarray:
    return 100.0 / survey.pixel_rms * stack(survey, levels)


def _facts(verdict: Verdict) -> dict[str, float]:
    figures = {f"{figure.name}_pct": round(figure.value, DIGITS) for figure in verdict.figures}
    return figures | {
        "state": float(STATES.index(verdict.state)),
        "levels_pct": round(verdict.score, DIGITS),
        "steps_pct": round(verdict.steps, DIGITS),
    }
