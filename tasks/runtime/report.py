"""Report of a run: the rows of the run table, the summary artifact, the table on the terminal."""

import hashlib
import os
import sys
import time
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any
from uuid import UUID

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.states import Cancelled, Completed, Failed, State
from rich.box import SIMPLE_HEAD
from rich.table import Table

from cosmosaic.artefacts.steps import FlagPersistence, MaskRegions
from cosmosaic.astrometry.solution import JUDGED
from cosmosaic.calibrate.steps import CalibrateRamp, CalibrateRate, CleanCalibrated
from cosmosaic.exposures.origin import calibration_columns
from cosmosaic.exposures.search import FoundExposures
from cosmosaic.lineage import StepLineage, write_lineage
from cosmosaic.preview.thumbnails import THUMBNAIL_SUFFIX
from cosmosaic.processes import workers
from cosmosaic.records import Exposure
from cosmosaic.run_table import CANCELLED, COLUMNS, RUNNING, mark_crashed, write_run
from cosmosaic.steps.manifest import write_manifest
from cosmosaic.steps.publication import Published
from cosmosaic.steps.retention import record_use, shrink
from cosmosaic.storage import store
from cosmosaic.survey import Survey
from tasks.runtime.cancellation import no_error_for_cancelled_steps
from tasks.runtime.cost import cost_columns, cost_of, told
from tasks.runtime.graph import placed
from tasks.runtime.leftovers import end_temporary_servers, let_servers_give_way
from tasks.runtime.liveness import bury, dead_runs, showing_life
from tasks.runtime.run import Ledger, Publication, Run, counted, plan_workers
from tasks.runtime.runners import open_runner

FAILED_IN_PART = "Failed in part"

WARNED_FACTS = {
    "implausible_pixels": "{} pixels with implausible values are flagged and not used",
    "groups_without_search": "Stage 1 did not search for cosmic rays, which needs three groups; NGROUPS is {}",
    "dark_left": "no dark current was subtracted: there is no dark, or it does not fit NFRAMES and GROUPGAP",
    "errors_unmeasured": "errors of its one group cannot be measured and are the ramp fit's; check VAR_POISSON and DQ",
    "planes_different": '{} planes of the count rate differ from the jwst package\'s; use exposures.engine = "jwst"',
    "persistence_unknown": "{} earlier exposures of its detector could not be calibrated, and are not followed",
    "ids_moved": "{} sources with ids have nothing within 0.3 arcsec any more, but a source within 3: positions have "
    "moved, and sources get new ids; go back to the former alignment, or remove the table of ids to number all anew",
    "unaligned": "{} exposures share too few stars and keep the WCS of their headers",
}
"""Warnings for facts of steps."""
MOST_LOGGED = 30
"""Warnings of steps that are told: ten thousand exposures may lack the same keyword."""
EARLY_STEPS = (CalibrateRamp, CalibrateRate, CleanCalibrated, FlagPersistence, MaskRegions)


_LISTENERS: list[Callable[[Ledger], None]] = []


@contextmanager
def listening(hear: Callable[[Ledger], None]) -> Iterator[None]:
    """Hand over the ledger of each run that is opened within this context."""
    _LISTENERS.append(hear)
    try:
        yield
    finally:
        _LISTENERS.remove(hear)


@contextmanager
def open_run(survey: Survey) -> Iterator[Run]:
    """Open a run; however it ends, it is recorded in the run table and its child processes are stopped."""
    plan = plan_workers(survey)
    let_servers_give_way()
    no_error_for_cancelled_steps()
    run = Run(survey, plan)
    for hear in _LISTENERS:
        hear(run.ledger)
    with _recorded_as_under_way(run):
        try:
            workers.check_resources(plan)
            with open_runner(survey.resources, plan) as run.runner, _children(run):
                yield run
        except Exception as error:
            record_run(run, [], "Failed", f"{type(error).__name__}: {error}")
            raise
        except BaseException:
            _cancel(run, "a signal")
            raise
        finally:
            run.close()
            with suppress(OSError):
                run.keep_log()


@contextmanager
def _children(run: Run) -> Iterator[None]:
    """Start child processes, and stop them at the end."""
    workers.start(run.work.workers)
    try:
        yield
    except Exception:
        run.wait()  # the next run looks up the steps that end meanwhile
        raise
    except BaseException:
        run.stop()
        raise
    finally:
        workers.stop_workers()


_UNDER_WAY: list[Run] = []


@contextmanager
def _recorded_as_under_way(run: Run) -> Iterator[None]:
    """Write the run's first row, and mark earlier runs whose process died before they could write their last one."""
    write_run([_columns(run, RUNNING, "")], run.products, run.id)
    with showing_life(run.products, run.id):
        for dead in dead_runs(run.products):
            if mark_crashed(run.products, dead):
                run.note(f"run {dead} died; the run table now shows it as crashed")
            bury(run.products, dead)
        _UNDER_WAY.append(run)
        try:
            yield
        finally:
            _UNDER_WAY.remove(run)


def cancel_runs(cause: str) -> None:
    """Cancel the runs of this process, which is about to end."""
    if not _UNDER_WAY:
        print(f"cancelled by {cause} before the run began", file=sys.stderr)
    for run in _UNDER_WAY:
        _cancel(run, cause)
        # The address of a temporary server is known in the run's own context.
        run.context.run(_tell_server, run)
    end_temporary_servers()


def _cancel(run: Run, cause: str) -> None:
    """Stop a run; finished steps are kept."""
    run.stop()
    done = len(run.ledger.executed) + len(run.ledger.cached)
    run.terminal.close()
    run.terminal.say(
        f"cancelled by {cause}: {counted(done, 'step')} finished and kept; the same command continues from there"
    )
    record_run(run, [], CANCELLED, f"cancelled by {cause}")
    bury(run.products, run.id)
    with suppress(OSError):
        run.keep_log()


def _tell_server(run: Run) -> None:
    with suppress(Exception), get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(run.id), Cancelled(message="cancelled on the command line"), force=True)


def finish_run(run: Run, found: FoundExposures, rows_of: Mapping[str, Mapping[str, Any]] | None = None) -> State:
    """Wait for the products, record the run, print its summary, return its final state.

    Parameters
    ----------
    run, found
        The run and its exposures.
    rows_of
        Additional columns of the run table for all products of a filter, by filter.
    """
    run.wait()
    rows = [row for publication in run.publications for row in _rows(publication, run)]
    rows = [row | dict((rows_of or {}).get(row.get("filter", ""), {})) for row in rows]
    early = _early(run)
    rows = [row | early[_name_of(row["product"])] for row in rows]
    state = _state(run, rows)
    record_run(run, rows, state.name or "", state.message or "", found)
    _shrink_cache(run)
    create_markdown_artifact(_markdown(run, rows), key="summary", description=f"Products of {run.survey.name}")
    create_markdown_artifact(_pictures(run), key="previews", description=f"Previews of {run.survey.name}")
    create_markdown_artifact(_sky(rows), key="sky", description=f"Is the sky of {run.survey.name} flat?")
    if astrometry := _astrometry(rows):
        create_markdown_artifact(astrometry, key="astrometry", description=f"Do the stars of {run.survey.name} agree?")
    _print_summary(run, rows, state)
    return state


def _shrink_cache(run: Run) -> None:
    """Keep the cache within its limit, if it has one."""
    largest = run.survey.resources.cache_gb
    if largest is None:
        return
    removed = shrink(run.work.cache, largest, (record.result for record in run.ledger.records if record.result))
    if removed.uris:
        run.note(f"cache: {removed.size / 1e9:.3g} GB removed, to keep it within {largest:g} GB")


def record_run(
    run: Run, rows: list[dict[str, Any]], state: str, error: str, found: FoundExposures | None = None
) -> None:
    """Write the run's last rows, or one row without a product if nothing was made; only the first call does so."""
    if not run.recorded.acquire(blocking=False):
        return
    common = _columns(run, state, error, found)
    calibrations = _calibrations(found, common)
    shown = [common | _calibration(row, calibrations) | row for row in rows or [{}]]
    write_run(shown, run.products, run.id)
    results = [record.result for record in run.ledger.records if record.result]
    if results:
        write_lineage(run.products, run.id, run.survey.name, run.started, _lineage(run.ledger))
    record_use(run.work.cache, run.id, run.survey.name, {result.key for result in results})
    write_manifest(run.work.cache, run.survey.name, results, run.products)


def _lineage(ledger: Ledger) -> Iterator[StepLineage]:
    """The files of each step that did not fail."""
    return (
        StepLineage(
            record.function, record.result.key, record.inputs, record.references, record.result.objects, record.ended
        )
        for record in ledger.records
        if record.result
    )


def _columns(run: Run, state: str, error: str, found: FoundExposures | None = None) -> dict[str, Any]:
    """Columns common to all rows of a run."""
    executed = [record.result for record in run.ledger.executed if record.result]
    parameters = run.survey.model_dump_json(exclude={"resources", "cleanup", "cost"})
    environment = dict(run.work.workers.environment)
    return {
        "run_id": run.id,
        "flow_run_id": run.id,
        "survey": run.survey.name,
        "state": state,
        "error": error,
        "start": run.started.isoformat(timespec="milliseconds"),
        "end": "" if state == RUNNING else datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_s": round(time.perf_counter() - run.clock, 3),
        **cost_columns(cost_of(run.ledger), run.survey.cost),
        "requests": store.requests_sent() - run.sent + sum(result.requests for result in executed),
        "peak_mb": max((result.peak_mb for result in executed), default=0.0),
        "steps_executed": len(run.ledger.executed),
        "steps_cached": len(run.ledger.cached),
        "steps_failed": len(run.ledger.failed),
        "frames_refused": len(found.refused) if found else None,
        "frames_excluded": "; ".join(f"{name}: {reason}" for name, reason in run.excluded.items()),
        "parameters_sha256": hashlib.sha256(parameters.encode()).hexdigest(),
        "cosmosaic_version": version("cosmosaic"),
        "jwst_version": version("jwst"),
        "crds_context": environment.get("CRDS_CONTEXT") or os.environ.get("CRDS_CONTEXT", ""),
    }


def _calibrations(found: FoundExposures | None, common: Mapping[str, Any]) -> dict[str | None, dict[str, str]]:
    """Calibration of each exposure by its name, of all exposures of a filter by the filter, and of all by None."""
    groups: dict[str | None, list[Exposure]] = defaultdict(list)
    for exposure in found.exposures if found else ():
        for group in (exposure.name, exposure.band, None):
            groups[group].append(exposure)
    versions = common["jwst_version"], common["crds_context"]
    return {group: calibration_columns(exposures, *versions) for group, exposures in groups.items()}


def _calibration(row: Mapping[str, Any], calibrations: Mapping[str | None, dict[str, str]]) -> dict[str, str]:
    """Calibration of a product's exposure, or of all exposures of its filter, or of all if it has no filter."""
    name = _name_of(row.get("product", ""))
    return calibrations.get(name) or calibrations.get(row.get("filter"), {})


def _rows(publication: Publication, run: Run) -> list[dict[str, Any]]:
    """The rows of products that were published together; none if they could not be published."""
    results = run.results({"products": publication.published})
    if not results:
        return []
    shared = dict(publication.columns)
    for outputs in publication.described_by:
        shared |= outputs.node.row
    products = Published.of(results["products"]).products
    return [
        {
            "kind": file.kind,
            "product": products[place].stored.uri,
            "sha256": products[place].stored.sha256,
            "size": products[place].stored.size,
        }
        | shared
        | (maker.row if maker else {})
        for place, (file, maker) in placed(publication.files).items()
    ]


def _early(run: Run) -> dict[str, dict[str, Any]]:
    """Columns about each exposure's early steps, whichever later step made its published file."""
    rows: dict[str, dict[str, Any]] = defaultdict(dict)
    for step in EARLY_STEPS:
        title = f"{step.title}: "
        for record in run.ledger.records:
            if record.result and record.label.startswith(title):
                rows[record.label.removeprefix(title)] |= step.row(record.result.facts)
    return rows


def _name_of(product: str) -> str:
    """Name of the exposure that a product is of, if it is of one."""
    return product.rsplit("/", 1)[-1].rpartition("_")[0]


def _state(run: Run, rows: list[dict[str, Any]]) -> State:
    failed = run.ledger.failed
    mosaics = sum(row["kind"] == "i2d" for row in rows)
    if not failed:
        return Completed(message=f"{counted(mosaics, 'mosaic')}, {counted(len(run.ledger.executed), 'step')} executed")
    reasons = "; ".join(f"{record.label}: {(record.error or '').splitlines()[0]}" for record in run.ledger.causes)
    name = FAILED_IN_PART if mosaics else "Failed"
    return Failed(name=name, message=f"{counted(mosaics, 'mosaic')}; {_failures(run)}: {reasons}")


def _failures(run: Run) -> str:
    """Count the steps that failed, and those that needed them."""
    causes = run.ledger.causes
    failed, others = f"{counted(len(causes), 'step')} failed", len(run.ledger.failed) - len(causes)
    return f"{failed} ({counted(others, 'step')} skipped for it)" if others else failed


def _markdown(run: Run, rows: list[dict[str, Any]]) -> str:
    lines = ["| product | kind | filter | size | sha256 |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['product']} | {row['kind']} | {row.get('filter', '')} | {row['size']} | `{row['sha256'][:16]}` |"
        for row in rows
        if row["kind"] not in ("rate", "cal", "crf")
    ]
    steps = f"{len(run.ledger.executed)} steps executed, {len(run.ledger.cached)} from cache"
    return f"{steps}, {_failures(run)}.\n\n" + "\n".join(lines)


def _sky(rows: list[dict[str, Any]]) -> str:
    """The verdict of each filter as a table, and the address of its page."""
    columns = [name for name in COLUMNS if name.startswith("sky_") and name.endswith(("_verdict", "_pct"))]
    titles = [name.removeprefix("sky_").removesuffix("_pct") for name in columns]
    lines = [f"| filter | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    for row in (row for row in rows if row["kind"] == "verdict"):
        shown = [
            f"{value:.2f}" if isinstance(value, float) else str(value) for value in (row.get(name) for name in columns)
        ]
        lines.append(f"| {row['filter']} | {' | '.join(shown)} |")
    pages = [row["product"] for row in rows if row["kind"] == "sky page"]
    return "\n".join([*(f"Page: {page}\n" for page in pages), "In per cent of the rms of a pixel.\n", *lines])


def _astrometry(rows: list[dict[str, Any]]) -> str:
    """The verdict on astrometry as tables, and the address of its page; empty if there is none."""
    pages = _of_kind(rows, "astrometry page")
    lines = [f"Verdict: {row['astrometry_verdict']}. Page: {row['product']}\n" for row in pages]
    for row in _of_kind(rows, "astrometry"):
        lines += ["| rms after, without noise | mas |", "|---|---|"]
        lines += [f"| {kind} | {_told(row.get(f'astrometry_{kind}_mas'))} |" for kind in JUDGED]
    if sharp := _of_kind(rows, "sharpness"):
        names = ["star_fwhm_ratio", "star_ellipticity", "sharpness_stars"]
        lines += ["", "| filter | FWHM, mosaic / exposures | change of ellipticity | stars |", "|---|---|---|---|"]
        lines += [f"| {row['filter']} | {' | '.join(_told(row.get(name)) for name in names)} |" for row in sharp]
    return "\n".join(lines)


def _of_kind(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == kind]


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _pictures(run: Run) -> str:
    """Show the previews inside the artifact itself: a browser cannot reach the store."""
    made = [record.result for record in run.ledger.records if record.result]
    thumbnails = {
        stored.name.replace(THUMBNAIL_SUFFIX, ".png"): stored.uri
        for result in made
        for stored in result.objects
        if stored.name.endswith(THUMBNAIL_SUFFIX)
    }
    return "\n\n".join(
        f"**{name}**\n\n![{name}](data:image/jpeg;base64,{b64encode(store.read_bytes(uri)).decode()})"
        for name, uri in sorted(thumbnails.items())
    )


def _warnings(ledger: Ledger) -> list[str]:
    """Warnings by facts, once per exposure or filter whichever of its steps found them, and those that steps logged."""
    found = {
        (record.label.split(": ")[-1], message): int(record.result.facts[fact])
        for record in ledger.records
        for fact, message in WARNED_FACTS.items()
        if record.result and record.result.facts.get(fact)
    }
    logged = list(dict.fromkeys(text for record in ledger.records if record.result for text in record.result.warnings))
    more = [f"{counted(len(logged) - MOST_LOGGED, 'more warning')} of steps"] if len(logged) > MOST_LOGGED else []
    return [
        *(f"warning {name}: {message.format(number)}" for (name, message), number in sorted(found.items())),
        *(f"warning {text}" for text in logged[:MOST_LOGGED]),
        *more,
    ]


def _print_summary(run: Run, rows: list[dict[str, Any]], state: State) -> None:
    run.terminal.close()
    run.terminal.say(f"{run.survey.name}: {state.name}")
    run.terminal.show_table(_mosaics(rows))
    for row in (row for row in rows if row["kind"] == "verdict" and row.get("sky_zero_state") == "not measurable"):
        run.note(f"{row['filter']}: no empty sky to measure the absolute level; see {row['product']}")
    for row in (row for row in rows if row["kind"] == "sky page"):
        run.note(f"is the sky flat? {row['product']}")
    for row in _of_kind(rows, "astrometry page"):
        run.note(f"do the stars agree? {row['astrometry_verdict']}: {row['product']}")
    for row in _of_kind(rows, "catalogue page"):
        run.note(f"what is in the catalogue? {row['product']}; completeness and errors: {row['injection_verdict']}")
    for row in (row for row in rows if row["product"].endswith("_cat.parquet")):
        run.note(f"{counted(round(row['sources']), 'source')} in {row['product']}")
    ledger, wall = run.ledger, time.perf_counter() - run.clock
    run.note(f"products in {run.products}, this run's table {run.products}/summary.csv, log {run.log}")
    run.note(f"{len(ledger.executed)} steps executed, {len(ledger.cached)} from cache, in {wall:.0f} s")
    for line in told(cost_of(ledger), run.survey.cost) + _warnings(ledger):
        run.note(line)
    if ledger.failed:
        run.note(_failures(run))
    for record in ledger.causes:
        run.note(f"failed: {record.label}: {record.error}")


def _mosaics(rows: list[dict[str, Any]]) -> Table:
    """Table of the mosaics in 80 columns, with complete names."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("mosaic", overflow="fold")
    for heading in ("exp. [s]", "5σ [AB]"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("sky", no_wrap=True)
    for row in (row for row in rows if row["kind"] == "i2d"):
        depth = row.get("depth_5sigma_ab")
        table.add_row(
            row["product"].rsplit("/", 1)[-1],
            f"{row['exposure_time_s']:.0f}",
            "-" if depth is None else f"{depth:.2f}",
            row.get("sky_verdict") or "-",
        )
    return table
