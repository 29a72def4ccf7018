"""What a run made: the rows of the run table, the summary artifact, the table on the terminal."""

import hashlib
import os
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed, State
from rich.table import Table

from cosmosaic.astrometry import solution as alignment
from cosmosaic.exposures.search import FoundFrames
from cosmosaic.preview.thumbnails import THUMBNAIL_SUFFIX
from cosmosaic.processes import workers
from cosmosaic.processes.workers import WorkerPlan
from cosmosaic.records import STATES, Frame, StoredObject
from cosmosaic.run_table import COLUMNS, write_run
from cosmosaic.sky.solution import moves
from cosmosaic.solved import Moves
from cosmosaic.steps.retention import record_use
from cosmosaic.storage import store
from cosmosaic.survey import Survey
from tasks.combine import BandFutures, MosaicFutures
from tasks.runtime.leftovers import let_servers_give_way
from tasks.runtime.run import Run, counted, plan_workers
from tasks.runtime.runners import open_runner, plan_of_one_worker

FAILED_IN_PART = "Failed in part"

KINDS = {
    "_i2d.fits": "i2d",
    "_crf.fits": "crf",
    "_cal.fits": "cal",
    "_asn.json": "asn",
    "_cat.ecsv": "cat",
    "_cat.parquet": "cat",
    "_segm.fits": "segm",
    "_sky.ecsv": "sky",
    "_align.ecsv": "alignment",
    "_verdict.ecsv": "verdict",
    "_tiles.ecsv": "verdict by tile",
    "_skymask.fits": "skymask",
    "_skies.png": "skies",
    "_skyplots.png": "skies",
    "_defects.ecsv": "defects",
    "_wisp.ecsv": "wisp",
    "_wisp.fits": "wisp",
    "_sky.html": "sky page",
    "_compare.ecsv": "comparison",
    "_compare.png": "comparison",
    "_colour.png": "composite",
    ".png": "preview",
}
"""Kinds of products by the end of their names; the first that fits."""


@contextmanager
def open_run(survey: Survey) -> Iterator[Run]:
    """Open a run; however it ends, it is in the run table and its child processes are stopped."""
    plan = plan_workers(survey)
    with open_runner(survey.resources, plan) as runner, _children(plan_of_one_worker(survey.resources, plan)):
        let_servers_give_way()
        run = Run(survey, plan, runner)
        try:
            yield run
        except Exception as error:
            run.wait()  # what is under way is looked up by the next run
            record_run(run, [], "Failed", f"{type(error).__name__}: {error}")
            raise


@contextmanager
def _children(plan: WorkerPlan) -> Iterator[None]:
    """Start child processes, and stop them at the end."""
    workers.start(plan)
    try:
        yield
    finally:
        workers.stop_workers()


def finish_run(
    run: Run, found: FoundFrames, bands: list[BandFutures], shared: Mapping[str, PrefectFuture | None]
) -> State:
    """Wait for the products of each filter and of all together, record the run, tell the user, say how it ended."""
    run.wait()
    frames = {frame.name: frame for frame in found.frames}
    rows = [row for band in bands for row in _band_rows(band, frames, run)]
    waiting = {name: future for name, future in shared.items() if future}
    rows += [_product_row(stored) for made in run.results(waiting).values() for stored in made.objects]
    state = _state(run, rows)
    record_run(run, rows, state.name or "", state.message or "", found)
    create_markdown_artifact(_markdown(run, rows), key="summary", description=f"Products of {run.survey.name}")
    create_markdown_artifact(_pictures(run), key="previews", description=f"Previews of {run.survey.name}")
    create_markdown_artifact(_sky(rows), key="sky", description=f"Is the sky of {run.survey.name} flat?")
    _print_summary(run, rows, state)
    return state


def record_run(run: Run, rows: list[dict[str, Any]], state: str, error: str, found: FoundFrames | None = None) -> None:
    """Write the run's rows, or one row without a product where nothing was made."""
    executed = [record.result for record in run.ledger.executed if record.result]
    parameters = run.survey.model_dump_json(exclude={"resources", "cleanup"})
    environment = dict(run.work.workers.environment)
    common = {
        "run_id": run.id,
        "flow_run_id": run.id,
        "survey": run.survey.name,
        "state": state,
        "error": error,
        "start": run.started.isoformat(timespec="seconds"),
        "end": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_s": round(time.perf_counter() - run.clock, 3),
        "cpu_s": round(sum(result.cpu_s for result in executed), 3),
        "peak_mb": max((result.peak_mb for result in executed), default=0.0),
        "steps_executed": len(run.ledger.executed),
        "steps_cached": len(run.ledger.cached),
        "steps_failed": len(run.ledger.failed),
        "frames_refused": len(found.refused) if found else None,
        "parameters_sha256": hashlib.sha256(parameters.encode()).hexdigest(),
        "cosmosaic_version": version("cosmosaic"),
        "jwst_version": version("jwst"),
        "crds_context": environment.get("CRDS_CONTEXT") or os.environ.get("CRDS_CONTEXT", ""),
    }
    write_run([common | row for row in rows or [{}]], run.products, run.id)
    used = {record.result.key for record in run.ledger.records if record.result}
    record_use(run.work.cache, run.id, run.survey.name, used)


def _band_rows(band: BandFutures, frames: dict[str, Frame], run: Run) -> list[dict[str, Any]]:
    sky = {name: result.facts for name, result in run.results({"verdict": band.verdict}).items()}.get("verdict", {})
    shared = {
        "filter": band.association.band,
        "sky_verdict": STATES[int(sky["state"])] if sky else None,
        "sky_step_pct": sky.get("step_pct"),
        "sky_steps_pct": sky.get("steps_pct"),
        "sky_levels_pct": sky.get("levels_pct"),
        "sky_zero_pct": sky.get("zero_pct"),
        "sky_rows_pct": sky.get("rows_pct"),
        "sky_columns_pct": sky.get("columns_pct"),
        "sky_detector_pct": sky.get("detector_pct"),
        "sky_halo_pct": sky.get("halo_pct"),
        "sky_growth_pct": sky.get("growth_pct"),
    }
    moved = _moved(band, run)
    if moved:
        shared["sky_moved_mjy_sr"] = moved.largest
    shifted = _shifted(band, run)
    if shifted:
        shared["align_moved_mas"] = shifted.largest
    whole = _mosaic_columns(band.whole, frames, run)
    kept = run.results({"exposures": band.exposures})
    rows = [_product_row(stored) | whole for result in kept.values() for stored in result.objects]
    for each in reversed(band.mosaics):
        columns, made = _mosaic_columns(each, frames, run), run.results({"products": each.published})
        rows = [_product_row(stored) | columns for result in made.values() for stored in result.objects] + rows
    return [row | shared for row in rows]


def _moved(band: BandFutures, run: Run) -> Moves | None:
    """Return how far levels moved since the run before, and tell it where all were solved anew."""
    if not band.sky.levels or not band.sky.earlier:
        return None
    solved = run.results({"levels": band.sky.levels})
    if not solved:
        return None
    moved = moves(band.sky.earlier, solved["levels"].facts)
    if run.survey.solve_anew:
        run.note(
            f"{band.association.band}: sky levels of {counted(moved.exposures, 'exposure')} that were solved before "
            f"moved by {moved.rms:.5f} MJy/sr rms, {moved.largest:.5f} at most"
        )
    return moved


def _shifted(band: BandFutures, run: Run) -> Moves | None:
    """Return how far exposures moved on the sky since the run before, and tell it where all were aligned anew."""
    if not band.alignment.solution or not band.alignment.earlier:
        return None
    solved = run.results({"alignment": band.alignment.solution})
    if not solved:
        return None
    table = store.read_bytes(solved["alignment"].named("_align.ecsv").uri)
    moved = alignment.moves(band.alignment.earlier, alignment.read_alignment(table.decode()))
    if run.survey.solve_anew:
        run.note(
            f"{band.association.band}: {counted(moved.exposures, 'exposure')} that were aligned before moved by "
            f"{moved.rms:.2f} mas rms, {moved.largest:.2f} at most"
        )
    return moved


def _mosaic_columns(mosaic: MosaicFutures, frames: dict[str, Frame], run: Run) -> dict[str, Any]:
    members = [frames[name] for name in mosaic.members]
    measured = run.results({"catalog": mosaic.catalog}) if mosaic.catalog else {}
    facts = measured["catalog"].facts if measured else {}
    return {
        "tile": mosaic.window.tile,
        "frames": " ".join(mosaic.members),
        "frames_sha256": " ".join(frame.object.sha256 for frame in members),
        "exposure_time_s": sum(frame.exposure_time for frame in members),
        "sky_median_mjy_sr": facts.get("sky_median"),
        "sky_rms_mjy_sr": facts.get("sky_rms"),
        "noise_factor": facts.get("noise_factor"),
        "depth_5sigma_ab": facts.get("depth_5sigma_ab"),
        "sources": facts.get("n_sources"),
    }


def _product_row(stored: StoredObject) -> dict[str, Any]:
    kind = next(kind for suffix, kind in KINDS.items() if stored.name.endswith(suffix))
    return {"kind": kind, "product": stored.uri, "sha256": stored.sha256, "size": stored.size}


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
    return f"{failed} ({counted(others, 'step')} not begun for it)" if others else failed


def _markdown(run: Run, rows: list[dict[str, Any]]) -> str:
    lines = ["| product | kind | filter | size | sha256 |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['product']} | {row['kind']} | {row.get('filter', '')} | {row['size']} | `{row['sha256'][:16]}` |"
        for row in rows
        if row["kind"] not in ("cal", "crf")
    ]
    steps = f"{len(run.ledger.executed)} steps executed, {len(run.ledger.cached)} from cache"
    return f"{steps}, {_failures(run)}.\n\n" + "\n".join(lines)


def _sky(rows: list[dict[str, Any]]) -> str:
    """The verdict of each filter as a table, and where its page is."""
    columns = [name for name in COLUMNS if name.startswith("sky_") and name.endswith(("_verdict", "_pct"))]
    titles = [name.removeprefix("sky_").removesuffix("_pct") for name in columns]
    lines = [f"| filter | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    for row in (row for row in rows if row["kind"] == "verdict"):
        shown = [
            f"{value:.2f}" if isinstance(value, float) else str(value) for value in (row[name] for name in columns)
        ]
        lines.append(f"| {row['filter']} | {' | '.join(shown)} |")
    pages = [row["product"] for row in rows if row["kind"] == "sky page"]
    return "\n".join([*(f"Page: {page}\n" for page in pages), "In per cent of the rms of a pixel.\n", *lines])


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


def _print_summary(run: Run, rows: list[dict[str, Any]], state: State) -> None:
    table = Table(title=f"{run.survey.name}: {state.name}", title_justify="left")
    for heading, side in (
        ("filter", "left"),
        ("mosaic", "left"),
        ("exp. time [s]", "right"),
        ("depth 5σ [AB]", "right"),
    ):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    table.add_column("sources", justify="right")
    table.add_column("sky", justify="right")
    for row in (row for row in rows if row["kind"] == "i2d"):
        depth, sources = row["depth_5sigma_ab"], row["sources"]
        table.add_row(
            row["filter"],
            row["product"].rsplit("/", 1)[-1],
            f"{row['exposure_time_s']:.0f}",
            "-" if depth is None else f"{depth:.2f}",
            "-" if sources is None else f"{sources:.0f}",
            row["sky_verdict"] or "-",
        )
    run.console.print(table)
    for row in (row for row in rows if row["kind"] == "sky page"):
        run.note(f"is the sky flat? {row['product']}")
    ledger, wall = run.ledger, time.perf_counter() - run.clock
    run.note(f"products in {run.products}, run table {run.products}/summary.csv")
    run.note(f"{len(ledger.executed)} steps executed, {len(ledger.cached)} from cache, in {wall:.0f} s")
    if ledger.failed:
        run.note(_failures(run))
    for record in ledger.causes:
        run.note(f"failed: {record.label}: {record.error}")
