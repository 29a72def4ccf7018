"""``cosmosaic check``: the problems of a survey, and the needs of a run; no server is started."""

import sys

from rich.console import Console
from rich.table import Table

from cosmosaic.calibrate.references import NamedReferences
from cosmosaic.check import (
    PROBLEMS,
    Needs,
    exposures_by_filter,
    find_problems,
    free_gb,
    look_ahead,
    plan_of,
)
from cosmosaic.survey import Survey
from tasks.runtime.command import SUCCESS, USAGE, settings_of
from tasks.runtime.run import counted, expected_steps

PROGRAM = "cosmosaic check"
SHOWN = 20
"""Number of refused files and reference files that are listed by name; the rest are counted."""


def main(arguments: list[str]) -> int:
    """Check a survey; return the exit code."""
    survey = settings_of(arguments, PROGRAM, "List a survey's problems and the needs of a run, without running it.")
    if isinstance(survey, int):
        return survey
    problems = find_problems(survey)
    needs = None
    if not problems and not survey.is_synthetic:
        try:
            needs = look_ahead(survey)
        except PROBLEMS as error:
            problems.append(str(error))
    if needs and needs.references:
        problems += needs.references.missing
    if needs:
        _show(survey, needs)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        return USAGE
    print("no errors; `cosmosaic run` makes it" if needs else "no errors; the exposures are simulated by the run")
    return SUCCESS


def _show(survey: Survey, needs: Needs) -> None:
    found, console = needs.found, Console(soft_wrap=True, highlight=False, markup=False)
    table = Table("filter", title=f"{survey.name}: {counted(len(found.exposures), 'exposure')}", title_justify="left")
    for heading in ("exposures", "visits", "exp. time [s]", "mosaic [pixels]", "scale [mas]"):
        table.add_column(heading, justify="right")
    for band, number, visits, seconds in exposures_by_filter(found.exposures):
        whole = needs.windows[band].whole
        table.add_row(
            band,
            str(number),
            str(visits),
            f"{seconds:.0f}",
            f"{whole.shape[1]} x {whole.shape[0]}",
            f"{whole.pixel_scale_mas:g}",
        )
    console.print(table)
    lines = _refused(needs) + _costs(survey, needs) + _crds(needs.references)
    for line in lines + [f"warning {warning}" for warning in needs.warnings]:
        console.print(line)


def _refused(needs: Needs) -> list[str]:
    found = needs.found
    lines = [f"{counted(len(found.unasked), 'exposure')} of filters that are not asked for"] if found.unasked else []
    lines += [f"refused {entry.uri}: {entry.reason}" for entry in found.refused[:SHOWN]]
    if len(found.refused) > SHOWN:
        lines.append(f"... and {len(found.refused) - SHOWN} more refused")
    return lines


def _costs(survey: Survey, needs: Needs) -> list[str]:
    plan = plan_of(survey)
    tiles = max(len(made.tiles) for made in needs.windows.values())
    lines = [f"named tiles: {tiles}"] if tiles else []
    lines.append(f"steps: about {expected_steps(survey, len(needs.found.exposures), len(needs.windows))}")
    lines.append(f"memory: {plan.memory_gb:.1f} GB for {plan.children} child processes")
    for part, needed in (("products", needs.products_gb), ("cache", needs.cache_gb)):
        uri = survey.url("products" if part == "products" else "cache")
        free = free_gb(uri)
        room = "" if free is None else f", {free:.1f} GB free"
        lines.append(f"{part}: about {needed:.2f} GB in {uri}{room}")
        if free is not None and free < needed:
            lines.append(f"warning {part}: {needed - free:.1f} GB are missing in {uri}")
    return lines


def _crds(references: NamedReferences | None) -> list[str]:
    if references is None:
        return []
    total = len(references.local) + len(references.absent)
    lines = [f"CRDS: context {references.context}, {len(references.local)} of {total} reference files are here"]
    lines += [f"to be fetched: {name}" for name in references.absent[:SHOWN]]
    if len(references.absent) > SHOWN:
        lines.append(f"... and {len(references.absent) - SHOWN} more to be fetched")
    return lines
