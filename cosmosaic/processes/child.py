"""The side of the child process: its preparation, and each call with scratch folder, log and costs."""

import gc
import logging
import multiprocessing
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cosmosaic.processes.memory import keep_freed_memory, peak_memory_mb, reset_peak_memory, return_freed_memory
from cosmosaic.processes.plan import WorkerPlan
from cosmosaic.storage.scratch import scratch_folder

Result = TypeVar("Result")
LOG_LINES_IN_ERROR = 12


class WorkerError(RuntimeError):
    """The work in a child process failed; the message gives the reason and the remedy."""


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """Result of a child process, and its cost."""

    result: Result
    cpu_s: float
    wall_s: float
    peak_mb: float


_child_shared: Path | None = None


def shared_folder() -> Path | None:
    """Return, in a child process, the scratch folder that it shares with its siblings."""
    return _child_shared


def prepare(plan: WorkerPlan, parent: int, shared: Path) -> None:
    """Give a new child its environment, its memory allowance and the folder that it shares with its siblings."""
    global _child_shared
    _child_shared = shared
    keep_freed_memory()
    os.environ.update(
        # One exposure per process: threads inside the libraries would only fight for the cores.
        OMP_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
        # Parameters are set by the settings, not by the parameter references of a CRDS cache.
        STPIPE_DISABLE_CRDS_STEPPARS="true",
        MPLBACKEND="Agg",
    )
    for name, value in plan.environment:
        if value:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)
    allowance = int(plan.memory_gb / plan.processes * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (allowance, resource.RLIM_INFINITY))
    # A lock that a library makes for itself (CRDS does at import) has no name then, which a killed child would leave.
    multiprocessing.set_start_method("fork", force=True)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    threading.Thread(target=_die_with_parent, args=(parent,), daemon=True).start()


def _die_with_parent(parent: int) -> None:
    """End when the parent is gone, even if it was killed: nobody would receive the result."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def do_nothing(folder: Path) -> None:
    """Do nothing: the call only starts a child."""


def call(function: Callable[..., Result], arguments: tuple, scratch: str | None) -> Outcome[Result]:
    """Run ``function(*arguments, folder)`` in an empty scratch folder and measure its cost.

    Raises
    ------
    WorkerError
        The function called ``sys.exit``.
    Exception
        Whatever the function raised.
    """
    with scratch_folder(scratch, "step") as folder:
        _log_to(folder / "step.log")
        # stpipe collects garbage after each of its steps; objects from before this call need not be searched.
        gc.freeze()
        reset_peak_memory()
        wall, cpu = time.perf_counter(), time.process_time()
        previous = Path.cwd()
        try:
            os.chdir(folder)
            result = function(*arguments, folder)
            return Outcome(result, time.process_time() - cpu, time.perf_counter() - wall, peak_memory_mb())
        except SystemExit as error:
            raise WorkerError(
                f"CRDS found no usable reference files and gave up (exit code {error.code}); set "
                "references.crds_path to a CRDS cache and references.crds_context to one of its contexts, or give "
                f"references.crds_server_url. It said:\n{_tail(folder / 'step.log')}"
            ) from None
        finally:
            os.chdir(previous)
            return_freed_memory()


def _log_to(path: Path) -> None:
    """Redirect the process's output, from Python and from C, to a file: the terminal belongs to the run."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_LINES_IN_ERROR:])
