"""The exposures of a survey and the reference files they need."""

from dataclasses import replace
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact

from cosmosaic.calibrate.references import ResolvedReferences
from cosmosaic.calibrate.references import resolve_references as resolve
from cosmosaic.exposures import search
from cosmosaic.exposures.associations import asked_exposures
from cosmosaic.exposures.doubts import doubtful_settings
from cosmosaic.exposures.exclusion import exclude
from cosmosaic.exposures.search import FoundExposures
from cosmosaic.exposures.table import found_table
from cosmosaic.exposures.unused import unused_settings
from cosmosaic.exposures.windows import exposures_in_tiles, window_like
from cosmosaic.processes import workers
from cosmosaic.records import Exposure, MosaicGrid
from cosmosaic.storage import store
from tasks.runtime.caching import Work
from tasks.runtime.retries import STORING
from tasks.runtime.run import Run, counted

ARTIFACT_COLUMNS = ["uri", "level", "detector", "filter", "exposure_time_s", "status", "reason", "warnings"]


@task(
    name="Find exposures",
    retries=STORING.times,
    retry_delay_seconds=list(STORING.delays_s),
    retry_condition_fn=STORING.condition,
    persist_result=False,
)
def find_exposures(prefix: str, filters: tuple[str, ...], memo: str) -> FoundExposures:
    """List and describe the files under the raw prefix; never cached, since new files can arrive at any time."""
    found = search.find_exposures(prefix, filters, memo)
    table = found_table(found.exposures, found.refused, found.unasked)[ARTIFACT_COLUMNS].astype(object)
    rows: list[dict[str, Any]] = table.where(table.notna(), None).to_dict("records")  # type: ignore[assignment]
    create_table_artifact(rows, key="exposures", description="Exposures found, and files refused")
    return found


@task(name="Resolve references", persist_result=False)
def resolve_references(found: tuple[Exposure, ...], work: Work) -> ResolvedReferences:
    """Ask CRDS for the reference files of each exposure; never cached, since CRDS' cache on disk may change."""
    return workers.run(work.workers, resolve, found).result


def survey_exposures(run: Run, tiles: tuple[MosaicGrid, ...]) -> FoundExposures:
    """Find the exposures of a run's survey that reach the tiles, and report those that were refused, and why."""
    # Imported here: matplotlib and gwcs come with it, which the start of a run does not wait for.
    from cosmosaic.exposures.regions import check_regions

    everywhere = find_exposures(store.absolute_uri(run.survey.url("raw")), run.survey.filters, run.checksums)
    excluded = exclude(everywhere, run.survey.exclude)
    run.excluded = excluded.reasons
    asked = asked_exposures(excluded.found, run.survey.association)
    window = window_like(run.survey)
    reached = exposures_in_tiles(asked.exposures, tiles or ((window,) if window else ()))
    found = replace(asked, exposures=reached)
    run.name_after(found)
    left_out = len(asked.exposures) - len(found.exposures)
    if left_out:
        run.note(f"{counted(left_out, 'exposure')} left out: they reach no {'tile' if tiles else 'pixel of grid.like'}")
    others = f", {len(found.unasked)} of filters not asked for" if found.unasked else ""
    run.note(f"{counted(len(found.exposures), 'exposure')}, {len(found.refused)} refused{others}")
    for refused in found.refused:
        run.note(f"refused {refused.uri}: {refused.reason}")
    for pattern in excluded.unused:
        run.note(f"warning exclude: {pattern} matches no exposure")
    for check in (unused_settings, doubtful_settings, check_regions):
        for warning in check(run.survey, found.exposures):
            run.note(f"warning {warning}")
    for exposure in found.exposures:
        for warning in exposure.warnings:
            run.note(f"warning {exposure.name}: {warning}")
    return found
