"""On a Dask cluster the same products come out, and a worker that dies costs the step it was doing.

The scheduler and the workers are processes of their own that share the store alone.
"""

import re
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, suppress

import psutil
import pytest
from support.s3_server import free_ports
from support.services import ROOT, process, wait_for

pytestmark = [pytest.mark.server, pytest.mark.s3, pytest.mark.slow]

GUIDE = (ROOT / "docs" / "operations.md").read_text()
DONE = re.compile(r"(?P<step>[\w ]+: .+): [\d.]+ s, \d+ MB at the peak")


@pytest.fixture(scope="module")
def cluster(production, tmp_path_factory):
    """Address of a scheduler, and its two workers, which can be killed."""
    folder = tmp_path_factory.mktemp("dask")
    (port,) = free_ports(1)
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    (line,) = re.findall(r"^dask worker tcp://scheduler:8786 (.+)$", GUIDE, re.MULTILINE)
    (daemon,) = re.findall(r"^export (DASK_\w+)=(\w+)", GUIDE, re.MULTILINE)
    worker = ["worker", address, *line.replace("--nworkers 8", "--nworkers 1").split(), "--no-dashboard"]
    with ExitStack() as stack:

        def start(name: str, arguments: list[str], ready: str) -> subprocess.Popen:
            place, log = folder / name, folder / f"{name}.log"
            place.mkdir()
            command = [sys.executable, "-m", "dask", *arguments]
            environment = {**production.worker_environment, daemon[0]: daemon[1]}
            started = stack.enter_context(process(command, log, environment, cwd=place))
            wait_for(lambda: ready in log.read_text(), log)
            return started

        start("scheduler", scheduler, "Scheduler at")
        yield address, [start(f"worker{number}", worker, "Registered to") for number in range(2)]


def start_run(production, name: str, **resources: str) -> str:
    """Start a run on Dask that reads all exposures from the bucket and keeps all it makes in a folder of its own."""
    raw = f"{production.bucket}/{name}/raw"
    for frame in production.frames:
        production.store.put_file(str(frame), f"{raw}/{frame.name}")
    survey = {
        "name": "small",
        "store": f"{production.bucket}/{name}",
        "raw": raw,
        "resources": {"runner": "dask", **resources},
    }
    return production.start("mosaic/demo", survey=survey)


@pytest.fixture(scope="module")
def disturbed(production, cluster):
    """A run on the cluster, one worker of which is killed when it has done some steps and is at another."""
    address, workers = cluster
    run = start_run(production, "dask", scheduler=address)
    wait_for(lambda: any(line.startswith("Drizzle: ") for line in production.logs(run)), limit_s=300)
    # The worker, and its nanny, which would start it again.
    victims = [*psutil.Process(workers[1].pid).children(recursive=True), workers[1]]
    workers[1].kill()
    for victim in victims[:-1]:
        with suppress(psutil.NoSuchProcess):
            victim.kill()
    return production.finish(run)


def test_the_products_are_those_of_a_run_on_one_machine(production, disturbed, small_products):
    assert disturbed["state"]["type"] == "COMPLETED", disturbed["state"]
    assert production.products("dask") == small_products


def test_the_worker_that_died_cost_no_step_that_was_done(production, disturbed):
    done = Counter(match["step"] for line in production.logs(disturbed["id"]) if (match := DONE.fullmatch(line)))
    assert len(done) > 20
    again = {step: times for step, times in done.items() if times > 1}
    # It may have died between the end of its one step and the record of it.
    assert sum(again.values()) <= 2, again


def test_without_a_scheduler_a_cluster_of_its_own_makes_the_same_products(production, small_products):
    run = production.finish(start_run(production, "own-cluster"))
    assert run["state"]["type"] == "COMPLETED", run["state"]
    assert production.products("own-cluster") == small_products
