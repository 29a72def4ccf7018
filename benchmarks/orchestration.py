"""What orchestration costs, and what the server bears.

    python benchmarks/orchestration.py --json orchestration.json

The synthetic demo survey is run twice from raw frames to products: by the flow, and by the same library calls made
directly, in the same order and on as many child processes, without Prefect. `overhead_pct` is the difference in wall
time, the flow's start apart; `startup_s` is what `python flows/mosaic.py` takes beyond its run when everything is
cached, a temporary server included. Then six surveys run at once on one server; `failed` counts those that did not
complete. Needs PostgreSQL, as the tests of the deployments do.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / part) for part in ("", "deployments", "s3"))]

from production import POOL, Production  # noqa: E402
from s3_server import S3Server  # noqa: E402
from services import postgresql, prefect_server, process_worker  # noqa: E402

import tasks.caching  # noqa: E402
import tasks.publish  # noqa: E402
import tasks.report  # noqa: E402
from cosmosaic import frames, references, steps, store, workers  # noqa: E402
from cosmosaic.references import SIMULATED_CONTEXT  # noqa: E402
from cosmosaic.steps import Step, StepResult  # noqa: E402
from cosmosaic.summary import read_runs  # noqa: E402
from cosmosaic.survey import Survey  # noqa: E402
from flows.mosaic import mosaic  # noqa: E402
from tasks.environment import prefect_defaults  # noqa: E402

AT_ONCE = 6
SMALL = {
    "detectors": ["NRCBLONG"],
    "filter_pairs": [{"short": "F150W", "long": "F444W"}],
    "subarray": "SUB160",
    "groups": 3,
}


class Calls:
    """The library calls of a flow run, as they were made."""

    def __init__(self) -> None:
        self.started = 0.0
        self.made: list[tuple[Step, StepResult, bool]] = []
        """Step, what came of it, and whether it was done in a child process."""


@contextmanager
def recorded() -> Iterator[Calls]:
    """Note the library calls that tasks make."""
    calls, run = Calls(), tasks.report.Run

    class Watched(run):
        def __init__(self, *arguments: Any) -> None:
            calls.started = time.perf_counter()
            super().__init__(*arguments)

    def execute(step: Step, *arguments: Any) -> StepResult:
        result = steps.execute(step, *arguments)
        calls.made.append((step, result, True))
        return result

    def publish(step: Step, *arguments: Any) -> StepResult:
        result = steps.publish(step, *arguments)
        calls.made.append((step, result, False))
        return result

    tasks.report.Run, tasks.caching.execute, tasks.publish.publish = Watched, execute, publish
    try:
        yield calls
    finally:
        tasks.report.Run, tasks.caching.execute, tasks.publish.publish = run, steps.execute, steps.publish


def survey_of(observed: Path, folder: Path) -> Survey:
    """Return a survey of frames that were simulated before."""
    return Survey(
        store=str(folder),
        raw=str(observed / "raw"),
        references={"crds_path": str(observed / "crds"), "crds_context": SIMULATED_CONTEXT},
    )


def run_flow(survey: Survey, server: psutil.Process) -> tuple[float, float, Calls]:
    """Run the flow in this process; return wall time after its start, CPU time around the steps, its library calls."""
    with prefect_defaults(), recorded() as calls:
        before = time.process_time() + cpu_of(server)
        state = mosaic(survey, return_state=True)
        wall = time.perf_counter() - calls.started
        cpu = time.process_time() + cpu_of(server) - before
    if not state.is_completed():
        raise RuntimeError(str(state))
    return wall, cpu, calls


def cpu_of(process: psutil.Process) -> float:
    """Return the CPU seconds that a process and its children have used."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def server_process(home: Path) -> psutil.Process:
    """Find the Prefect server that lives in a folder."""
    return next(child for child in psutil.Process().children() if child.environ().get("PREFECT_HOME") == str(home))


def run_directly(survey: Survey, calls: Calls) -> float:
    """Make the same library calls, each as soon as what it needs is there; return the wall time."""
    resources, target = survey.resources, store.absolute_uri(survey.url("cache"))
    start = time.perf_counter()
    plan = workers.plan_workers(
        resources.processes, resources.memory_gb, resources.time_limit_s, None, references.crds_environment(survey)
    )
    found = frames.find_frames(store.absolute_uri(survey.url("raw")), (), store.join(target, "checksums"))
    workers.run(plan, references.resolve_references, found.frames)
    makers = {stored.uri: number for number, (_, result, _) in enumerate(calls.made) for stored in result.objects}
    futures: list[Future[StepResult]] = []

    def call(step: Step, in_child: bool) -> StepResult:
        for uri in {stored.uri for stored in step.inputs} & set(makers):
            futures[makers[uri]].result()
        if in_child:
            return steps.execute(step, target, plan)
        return steps.publish(step._replace(target=str(Path(survey.store) / "products")), None)

    with ThreadPoolExecutor(len(calls.made)) as pool:
        for step, _, in_child in calls.made:
            futures.append(pool.submit(call, step, in_child))
        for future in futures:
            future.result()
    wall = time.perf_counter() - start
    workers.stop_workers()
    return wall


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
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    table = read_runs(str(folder / "products"))
    if set(table[table["run_id"] == table["run_id"].iloc[-1]]["steps_executed"]) != {0}:
        raise RuntimeError("not every step was cached")
    return wall - float(table["wall_s"].iloc[-1])


def run_at_once(production: Production, observed: Path, folder: Path) -> list[str]:
    """Run six surveys of three small frames at the same time; return the states they ended in."""
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
    """Make the frames of a survey; return the folder that holds them."""
    folder.mkdir(parents=True)
    command = [sys.executable, str(ROOT / "flows" / "simulate.py"), "--store", str(folder)]
    settings = {f"COSMOSAIC_SIMULATION__{name}": _text(value) for name, value in simulation.items()}
    subprocess.run(command, env=environment | settings, check=True)
    return folder


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def measure_at_once(work: Path, production: Production) -> dict[str, Any]:
    """Run six surveys at once; say how many did not complete."""
    observed = simulate(work / "small", production.environment, SMALL)
    folder = work / "at-once"
    folder.mkdir()
    start = time.perf_counter()
    states = run_at_once(production, observed, folder)
    wall = round(time.perf_counter() - start, 1)
    failed = sum(state != "Completed" for state in states)
    return {"surveys_at_once": AT_ONCE, "failed": failed, "at_once_s": wall}


def measure_overhead(work: Path, production: Production) -> dict[str, Any]:
    """Run the demo survey by the flow and directly, then once more by the command, when all is cached."""
    demo = simulate(work / "demo", production.environment, {})
    flow_s, cpu_s, calls = run_flow(survey_of(demo, work / "flow"), server_process(work / "server"))
    direct_s = run_directly(survey_of(demo, work / "direct"), calls)
    steps_s = sum(result.cpu_s for _, result, _ in calls.made)
    return {
        "overhead_pct": round(100 * (flow_s / direct_s - 1), 1),
        "overhead_cpu_pct": round(100 * cpu_s / steps_s, 1),
        "flow_s": round(flow_s, 1),
        "direct_s": round(direct_s, 1),
        "startup_s": round(measure_startup(demo, work / "flow"), 1),
    }


PARTS = {"at-once": measure_at_once, "overhead": measure_overhead}


def benchmark(work: Path, parts: list[str]) -> dict[str, Any]:
    """Measure on one server."""
    with postgresql() as database, prefect_server(database, work / "server") as api:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {"PREFECT_HOME": str(work / "home"), "PREFECT_API_URL": api, "PYTHONPATH": str(ROOT)}
        production = Production(api, database, environment, environment, S3Server(""), "", (), work)
        # Prefect's threads have the settings of the environment alone.
        os.environ["PREFECT_API_URL"] = api
        with temporary_settings({PREFECT_API_URL: api}):
            return {key: value for part in parts for key, value in PARTS[part](work, production).items()}


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("orchestration.json"))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orchestration-") as work:
        result = benchmark(Path(work), arguments.parts)
    arguments.json.write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
