"""What orchestration costs, and what the server bears.

    python benchmarks/orchestration.py --json orchestration.json

The synthetic demo survey is run from raw exposures to products: by the flow with its temporary server, and by the same
library calls made directly, in the same order and on as many child processes, without Prefect; after one run that does
not count, in pairs, in one order and then in the other, since what runs first after a clean-up is slower.
`overhead_pct` is the mean difference in wall time, the flow's start apart, `overhead_error_pct` the standard error over
twos of pairs; `overhead_cpu_s` what flow process and server use beyond the process that makes the calls directly;
`startup_s` is what `python flows/mosaic.py` takes beyond
its run when all is cached. Then six surveys run at once on one server with PostgreSQL, which is needed for it; `failed`
counts those that did not complete.
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.production import POOL, Production  # noqa: E402
from support.s3_server import S3Server  # noqa: E402
from support.services import postgresql, prefect_server, process_worker  # noqa: E402

import tasks.runtime.caching  # noqa: E402
import tasks.runtime.report  # noqa: E402
import tasks.steps  # noqa: E402
from cosmosaic.calibrate import references  # noqa: E402
from cosmosaic.calibrate.references import SIMULATED_CONTEXT  # noqa: E402
from cosmosaic.exposures.search import find_exposures  # noqa: E402
from cosmosaic.processes import workers  # noqa: E402
from cosmosaic.run_table import read_runs, write_run  # noqa: E402
from cosmosaic.steps import execution, publication  # noqa: E402
from cosmosaic.steps.declaration import Step  # noqa: E402
from cosmosaic.steps.files import stored_in  # noqa: E402
from cosmosaic.steps.result import StepResult  # noqa: E402
from cosmosaic.steps.retention import record_use  # noqa: E402
from cosmosaic.storage import store  # noqa: E402
from cosmosaic.survey import Survey  # noqa: E402
from flows.mosaic import mosaic  # noqa: E402
from tasks.runtime.environment import prefect_defaults  # noqa: E402
from tasks.runtime.leftovers import temporary_servers  # noqa: E402

PAIRS = 8
AT_ONCE = 6
SMALL = {
    "detectors": ["NRCBLONG"],
    "filter_pairs": [{"short": "F150W", "long": "F444W"}],
    "subarray": "SUB160",
    "groups": 3,
}


class Cost(NamedTuple):
    """Wall and CPU seconds of a run."""

    wall_s: float
    cpu_s: float


class Calls:
    """The library calls of a flow run, as they were made."""

    def __init__(self) -> None:
        self.started = 0.0
        self.cpu_before = 0.0
        self.made: list[tuple[Step, StepResult, bool]] = []
        """Step, what came of it, and whether it was done in a child process."""
        self.rows: list[dict[str, Any]] = []
        """Of the run table."""


@contextmanager
def recorded() -> Iterator[Calls]:
    """Note the library calls that tasks make."""
    calls, run = Calls(), tasks.runtime.report.Run

    class Watched(run):
        def __init__(self, *arguments: Any) -> None:
            calls.started, calls.cpu_before = time.perf_counter(), cpu_around_steps()
            super().__init__(*arguments)

    def execute(step: Step, *arguments: Any) -> StepResult:
        result = execution.execute(step, *arguments)
        calls.made.append((step, result, True))
        return result

    def publish(step: Step, *arguments: Any) -> StepResult:
        result = publication.publish(step, *arguments)
        calls.made.append((step, result, False))
        return result

    def write_rows(rows: list[dict[str, Any]], *arguments: Any) -> None:
        calls.rows = rows
        write_run(rows, *arguments)

    tasks.runtime.report.Run, tasks.runtime.caching.execute, tasks.steps.publish = Watched, execute, publish
    tasks.runtime.report.write_run = write_rows
    try:
        yield calls
    finally:
        tasks.runtime.report.Run, tasks.runtime.caching.execute = run, execution.execute
        tasks.steps.publish = publication.publish
        tasks.runtime.report.write_run = write_run


def survey_of(observed: Path, folder: Path) -> Survey:
    """Return a survey of exposures that were simulated before."""
    return Survey(
        store=str(folder),
        raw=str(observed / "raw"),
        references={"crds_path": str(observed / "crds"), "crds_context": SIMULATED_CONTEXT},
    )


def run_flow(survey: Survey) -> tuple[Cost, Calls]:
    """Run the flow in this process; return what it cost after its start, and its library calls."""
    with prefect_defaults(), recorded() as calls:
        state = mosaic(survey, return_state=True)
        wall = time.perf_counter() - calls.started
        cpu = cpu_around_steps() - calls.cpu_before
    if not state.is_completed():
        raise RuntimeError(str(state))
    return Cost(wall, cpu), calls


def cpu_around_steps() -> float:
    """Return the CPU seconds that this process and its temporary server have used."""
    return time.process_time() + sum(sum(server.cpu_times()[:2]) for server in temporary_servers())


def run_directly(survey: Survey, calls: Calls) -> Cost:
    """Make the same library calls, each as soon as what it needs is there; return what they cost."""
    resources, target = survey.resources, store.absolute_uri(survey.url("cache"))
    start, cpu_before = time.perf_counter(), time.process_time()
    plan = workers.plan_workers(
        resources.processes, resources.memory_gb, resources.time_limit_s, None, references.crds_environment(survey)
    )
    found = find_exposures(store.absolute_uri(survey.url("raw")), (), store.join(target, "checksums"))
    workers.run(plan, references.resolve_references, found.exposures)
    makers = {stored.uri: number for number, (_, result, _) in enumerate(calls.made) for stored in result.objects}
    futures: list[Future[StepResult]] = []

    def call(step: Step, in_child: bool) -> StepResult:
        for uri in {stored.uri for stored in stored_in(tuple(step.inputs.values()))} & set(makers):
            futures[makers[uri]].result()
        if in_child:
            return execution.execute(step, target, plan)
        return publication.publish(dataclasses.replace(step, target=str(Path(survey.store) / "products")), None)

    with ThreadPoolExecutor(len(calls.made)) as pool:
        for step, _, in_child in calls.made:
            futures.append(pool.submit(call, step, in_child))
        for future in futures:
            future.result()
    write_run(calls.rows, str(Path(survey.store) / "products"), "direct")
    record_use(target, "direct", survey.name, {result.key for _, result, _ in calls.made})
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_before
    workers.stop_workers()
    return Cost(wall, cpu)


def measure_startup(observed: Path, folder: Path) -> float:
    """Return what the command takes beyond its run, from an empty PREFECT_HOME, when every step is cached."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    settings = folder / "survey.toml"
    settings.write_text(
        f'store = "{folder}"\nraw = "{observed / "raw"}"\n'
        f'[references]\ncrds_path = "{observed / "crds"}"\ncrds_context = "{SIMULATED_CONTEXT}"\n'
    )
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "flows" / "mosaic.py"), str(settings)]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    wall = time.perf_counter() - start
    table = read_runs(str(folder / "products"))
    if set(table[table["run_id"] == table["run_id"].iloc[-1]]["steps_executed"]) != {0}:
        raise RuntimeError("not every step was cached")
    return wall - float(table["wall_s"].iloc[-1])


def run_at_once(production: Production, observed: Path, folder: Path) -> list[str]:
    """Run six surveys of three small exposures at the same time; return the states they ended in."""
    surveys = {
        f"survey-{number}": {
            "name": f"survey-{number}",
            "store": str(folder / f"survey-{number}"),
            "raw": str(observed / "raw"),
            "references": {"crds_path": str(observed / "crds"), "crds_context": SIMULATED_CONTEXT},
            "resources": {"processes": 1},
        }
        for number in range(AT_ONCE)
    }
    file = folder / "prefect.yaml"
    deployments = [
        {
            "name": name,
            "entrypoint": "flows.mosaic:mosaic",
            "parameters": {"survey": survey},
            "work_pool": {"name": POOL},
        }
        for name, survey in surveys.items()
    ]
    file.write_text(yaml.safe_dump({"pull": [], "deployments": deployments}))
    production.prefect("work-pool", "create", POOL, "--type", "process")
    production.deploy(file)
    with process_worker(POOL, production.worker_environment, folder):
        runs = [production.start(f"mosaic/{name}") for name in surveys]
        return [production.finish(run)["state"]["name"] for run in runs]


def simulate(folder: Path, environment: dict[str, str], simulation: dict[str, Any]) -> Path:
    """Make the exposures of a survey; return the folder that holds them."""
    folder.mkdir(parents=True)
    command = [sys.executable, str(ROOT / "flows" / "simulate.py"), "--store", str(folder)]
    settings = {f"COSMOSAIC_SIMULATION__{name}": _text(value) for name, value in simulation.items()}
    subprocess.run(command, env=environment | settings, check=True)
    return folder


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def measure_at_once(work: Path) -> dict[str, Any]:
    """Run six surveys at once; say how many did not complete."""
    cleared = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with postgresql() as database, prefect_server(database, work / "server") as api:
        environment = cleared | {"PREFECT_HOME": str(work / "home"), "PREFECT_API_URL": api, "PYTHONPATH": str(ROOT)}
        production = Production(api, database, environment, environment, S3Server(""), "", (), work)
        observed = simulate(work / "small", environment, SMALL)
        folder = work / "at-once"
        folder.mkdir()
        start = time.perf_counter()
        states = run_at_once(production, observed, folder)
        wall = round(time.perf_counter() - start, 1)
    failed = sum(state != "Completed" for state in states)
    return {"surveys_at_once": AT_ONCE, "failed": failed, "at_once_s": wall}


def measure_overhead(work: Path) -> dict[str, Any]:
    """Run the demo survey by the flow and directly, then once more by the command, when all is cached."""
    demo = simulate(work / "demo", dict(os.environ), {})
    calls = run_flow(survey_of(demo, work / "first"))[1]
    pairs = [measure_pair(demo, work, calls, number % 2 == 0) for number in range(PAIRS)]
    overheads = [100 * (flow.wall_s / direct.wall_s - 1) for flow, direct in pairs]
    both_orders = [mean(overheads[first : first + 2]) for first in range(0, PAIRS, 2)]
    return {
        "overhead_pct": round(mean(both_orders), 1),
        "overhead_error_pct": round(stdev(both_orders) / len(both_orders) ** 0.5, 1),
        "overhead_cpu_s": round(mean(flow.cpu_s - direct.cpu_s for flow, direct in pairs), 1),
        "flow_s": round(mean(flow.wall_s for flow, _ in pairs), 1),
        "direct_s": round(mean(direct.wall_s for _, direct in pairs), 1),
        "pairs": PAIRS,
        "steps": len(calls.made),
        "startup_s": round(measure_startup(demo, work / "first"), 1),
    }


def measure_pair(demo: Path, work: Path, calls: Calls, flow_first: bool) -> tuple[Cost, Cost]:
    """Run the demo survey by the flow and directly; return what each cost."""
    by_flow, directly = survey_of(demo, work / "flow"), survey_of(demo, work / "direct")
    costs = {}
    for is_flow in (flow_first, not flow_first):
        costs[is_flow] = run_flow(by_flow)[0] if is_flow else run_directly(directly, calls)
    for survey in (by_flow, directly):
        shutil.rmtree(survey.store)
    flow, direct = costs[True], costs[False]
    print(f"flow {flow.wall_s:.1f} s, directly {direct.wall_s:.1f} s", flush=True)
    return flow, direct


PARTS = {"overhead": measure_overhead, "at-once": measure_at_once}


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("orchestration.json"))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orchestration-") as work:
        result = {key: value for part in arguments.parts for key, value in PARTS[part](Path(work)).items()}
    arguments.json.write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
