"""The same survey on this machine's runner and on Dask clusters: see ``benchmarks/scale.py``.

Scheduler and workers are processes of their own, which share a folder as their store, and a Prefect server. On each
cluster one worker is killed in the middle of the run, and one is added after it.
"""

import hashlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil
from scale_runs import ROOT, TILE_PIXELS, make_exposures, run

sys.path[:0] = [str(ROOT / "tests")]

from support.s3_server import free_ports  # noqa: E402
from support.services import process, wait_for  # noqa: E402

WORKERS = (2, 4)
KILLED_AT, ADDED_AT = 0.3, 0.5
"""Parts of the exposures that are drizzled by then."""
POLL_S = 0.5


class Cluster:
    """A scheduler and its workers, each a process of its own."""

    def __init__(self, stack: ExitStack, folder: Path, environment: dict[str, str]) -> None:
        self._stack, self._folder, self._environment = stack, folder, environment
        (port,) = free_ports(1)
        self.address = f"tcp://127.0.0.1:{port}"
        scheduler = ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
        self._start("scheduler", scheduler, "Scheduler at")
        self.workers: list[Popen] = []

    def add_worker(self) -> None:
        """Start a worker and wait until the scheduler knows it."""
        arguments = ["worker", self.address, "--nthreads", "1", "--nworkers", "1", "--no-dashboard"]
        self.workers.append(self._start(f"worker{len(self.workers)}", arguments, "Registered to"))

    def kill_worker(self) -> None:
        """Kill the first worker as the end of its machine would, with all its processes."""
        first = psutil.Process(self.workers[0].pid)
        for victim in (first, *first.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                victim.kill()

    def _start(self, name: str, arguments: list[str], ready: str) -> Popen:
        place, log = self._folder / name, self._folder / f"{name}.log"
        place.mkdir(parents=True)
        command = [sys.executable, "-m", "dask", *arguments]
        started = self._stack.enter_context(process(command, log, self._environment, cwd=place))
        wait_for(lambda: ready in log.read_text(), log)
        return started


@contextmanager
def disturbed(cluster: Cluster, drizzled: Path, exposures: int) -> Iterator[None]:
    """Kill a worker and add one while a run is under way, by the number of exposures that it has drizzled."""
    ended = threading.Event()

    def reached(part: float) -> bool:
        while not ended.wait(POLL_S):
            if drizzled.is_dir() and sum(1 for _ in drizzled.iterdir()) >= part * exposures:
                return True
        return False

    def disturb() -> None:
        if reached(KILLED_AT):
            cluster.kill_worker()
        if reached(ADDED_AT):
            cluster.add_worker()
        ended.wait()  # a worker ends with the thread that started it

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def run_on_dask(number: int, raw: Path, store: Path, workers: int) -> dict[str, Any]:
    """Run the flow on a cluster that loses a worker and gets one; return what it cost."""
    cleared = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "COSMOSAIC_"))}
    environment = cleared | {
        "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(store / "home"),
    }
    with ExitStack() as stack:
        cluster = Cluster(stack, store / "cluster", environment)
        for _ in range(workers):
            cluster.add_worker()
        resources = {"tile_pixels": TILE_PIXELS, "runner": "dask", "scheduler": cluster.address}
        with disturbed(cluster, store / "cache" / "drizzle_exposure", number):
            cost = run(raw, store, {"resources": resources})
        if len(cluster.workers) != workers + 1:
            raise RuntimeError("the run ended before a worker was killed and another one added")
    return cost


def products(store: Path) -> dict[str, str]:
    """Checksums of all products but the run table and the logs, by their names."""
    folder = store / "products"
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    names = {str(path.relative_to(folder)): path for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not name.startswith(("runs/", "summary."))
    }


def measure_dask(sizes: Sequence[int]) -> dict[str, Any]:
    """Run one survey on this machine's runner, and on clusters; compare their products."""
    (number,) = sizes
    with tempfile.TemporaryDirectory(prefix="scale-dask-") as work:
        raw = make_exposures(number, Path(work) / "raw")
        runs = {"local": run(raw, Path(work) / "local")}
        expected = products(Path(work) / "local")
        is_equal = bool(expected)
        for workers in WORKERS:
            began = time.strftime("%H:%M:%S")
            store = Path(work) / f"dask{workers}"
            runs[str(workers)] = run_on_dask(number, raw, store, workers)
            made = products(store)
            different = sorted(name for name in expected.keys() | made.keys() if expected.get(name) != made.get(name))
            is_equal &= not different
            print(
                f"{workers} workers, from {began}: {runs[str(workers)]}, {len(different)} products differ", flush=True
            )
            print(*different[:10], sep="\n", flush=True)
    walls = {name: cost["wall_s"] for name, cost in runs.items()}
    return {"dask": walls | {"exposures": number, "products": len(expected), "equal": is_equal}}
