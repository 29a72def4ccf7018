"""Child processes for the work with jwst: reused, killable, each with its own environment and memory allowance.

The calling thread waits. A child is killed when it exceeds its time limit, which a thread could not
be while C code runs; and what a child breaks (CRDS calls ``sys.exit``, the kernel kills for memory)
reaches the caller as an exception.
"""

import atexit
import contextlib
import ctypes
import gc
import logging
import multiprocessing
import os
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from cosmosaic.storage.scratch import clean_scratch, open_scratch, require_space, scratch_folder, scratch_root

Result = TypeVar("Result")

EXPOSURE_GB = 3.0
"""Memory that one full-frame exposure asks for at its peak (2.1 GB measured in Stage 1), with a reserve."""

SCRATCH_GB = 2.0
"""Room that one full-frame exposure asks for in the scratch folder, with a reserve."""

LOG_LINES_IN_ERROR = 12

KEPT_BYTES = 1 << 30
"""Freed memory up to this size stays with a process while it works."""
MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_THRESHOLD, MALLOPT_MMAP_MAX, MALLOPT_ARENA_MAX = -1, -3, -4, -8
"""Options of ``mallopt`` in glibc's ``malloc.h``."""


class ResourceError(RuntimeError):
    """The machine has less than the run may use; the message says how much is missing."""


class WorkerError(RuntimeError):
    """The work in a child process did not end well; the message says why and what to do."""


class LostChildError(WorkerError):
    """A child process died; another one may not."""


@dataclass(frozen=True)
class WorkerPlan:
    """How many children there are and what each may use."""

    processes: int
    memory_gb: float
    """Memory for all children together."""
    time_limit_s: float
    scratch: str | None
    environment: tuple[tuple[str, str], ...]
    """Environment variables of the children, e.g. CRDS_PATH; CRDS reads them once per process."""


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What a child made, and what it cost."""

    result: Result
    cpu_s: float
    wall_s: float
    peak_mb: float


def plan_workers(
    processes: int | None,
    memory_gb: float | None,
    time_limit_s: float,
    scratch: str | None,
    environment: dict[str, str],
) -> WorkerPlan:
    """Bound the number of children by cores and by memory, at least one."""
    memory_gb = memory_gb or 0.75 * psutil.virtual_memory().total / 1e9
    affordable = max(1, int(memory_gb / EXPOSURE_GB))
    processes = min(processes or len(os.sched_getaffinity(0)), affordable)
    return WorkerPlan(processes, memory_gb, time_limit_s, scratch, tuple(sorted(environment.items())))


def check_resources(plan: WorkerPlan) -> None:
    """Check before the work starts that the machine has the memory and the scratch folder the room for it.

    Raises
    ------
    ResourceError
        The children may use more memory than the machine has.
    cosmosaic.storage.scratch.ScratchError
        The scratch folder cannot be written to or its disk has too little room.
    """
    total = psutil.virtual_memory().total / 1e9
    if plan.memory_gb > total:
        raise ResourceError(
            f"resources.memory_gb is {plan.memory_gb:.1f} GB and this machine has {total:.1f} GB: "
            f"{plan.memory_gb - total:.1f} GB are missing"
        )
    require_space(scratch_root(plan.scratch), plan.processes * SCRATCH_GB * 1e9, f"{plan.processes} child processes")


def start(plan: WorkerPlan) -> None:
    """Start the children of a plan without waiting for them, which takes a second."""
    threading.Thread(target=run, args=(plan, _do_nothing), daemon=True).start()


def run(plan: WorkerPlan, function: Callable[..., Result], *arguments: Any) -> Outcome[Result]:
    """Run ``function(*arguments, folder)`` in a child process and wait for it.

    Parameters
    ----------
    plan
        The pool to use; pools live until the process ends and are shared by all callers with the same plan.
    function
        A module-level function. Its last argument is an empty scratch folder, which is also its working
        directory.

    Raises
    ------
    LostChildError
        The child died.
    WorkerError
        The child exceeded its time limit, ran out of memory, called ``sys.exit`` or was stopped.
    Exception
        Whatever the function raised.
    """
    name = getattr(function, "__name__", str(function))
    with _keep(plan) as pool:
        future = pool.schedule(plan, function, arguments)
        try:
            return future.result()
        except CancelledError as error:
            raise WorkerError(f"{name} was stopped with its run; the next run does it") from error
        except TimeoutError as error:
            raise WorkerError(
                f"{name} took longer than {plan.time_limit_s:g} s and was stopped; "
                "raise resources.time_limit_s if it needs longer"
            ) from error
        except ProcessExpired as error:
            raise LostChildError(
                f"the process that ran {name} died (exit code {error.exitcode}); if the machine ran out of memory, "
                "lower resources.processes"
            ) from error
        except MemoryError as error:
            raise WorkerError(
                f"{name} needs more than {plan.memory_gb / plan.processes:.1f} GB of memory; raise "
                "resources.memory_gb or lower resources.processes"
            ) from error


IDLE_POOLS = 2
"""Pools that are kept for the next step while others are at work: a worker of a cluster serves many surveys."""


@dataclass
class _Pool:
    """The children of one plan, the folder they share, and how many callers wait for them."""

    children: ProcessPool
    shared: Path
    lock: int
    callers: int = 0
    scheduled: list[ProcessFuture] = field(default_factory=list)
    gate: threading.Lock = field(default_factory=threading.Lock)

    def schedule(self, plan: WorkerPlan, function: Callable[..., Any], arguments: tuple) -> ProcessFuture:
        with self.gate:
            self.scheduled = [future for future in self.scheduled if not future.done()]
            future = self.children.schedule(_call, (function, arguments, plan.scratch), timeout=plan.time_limit_s)
            self.scheduled.append(future)
            return future

    def stop(self) -> None:
        with self.gate:
            self.children.stop()
            # A pool that is stopped forgets those who wait for it.
            for future in self.scheduled:
                future.cancel()
        self.children.join()
        shutil.rmtree(self.shared, ignore_errors=True)
        os.close(self.lock)


_POOLS: dict[WorkerPlan, _Pool] = {}
"""The pool that was used last is the last one."""
_LOCK = threading.Lock()
_child_shared: Path | None = None


def shared_folder() -> Path | None:
    """Return, in a child process, the scratch folder that it shares with its siblings."""
    return _child_shared


@contextlib.contextmanager
def _keep(plan: WorkerPlan) -> Iterator[_Pool]:
    with _LOCK:
        pool = _POOLS.pop(plan) if plan in _POOLS else _new_pool(plan)
        _POOLS[plan] = pool
        pool.callers += 1
        _stop_idle_pools()
    try:
        yield pool
    finally:
        with _LOCK:
            pool.callers -= 1


def _new_pool(plan: WorkerPlan) -> _Pool:
    clean_scratch(plan.scratch)
    shared, lock = open_scratch(plan.scratch, "shared")
    # The order of sets reaches files (asdf lists the extensions it used); equal work must give equal bytes.
    os.environ.setdefault("PYTHONHASHSEED", "0")
    with _without_main_module():
        children = ProcessPool(
            max_workers=plan.processes,
            context=multiprocessing.get_context("spawn"),
            initializer=_prepare_child,
            initargs=(plan, os.getpid(), shared),
        )
        children.schedule(int).result()
    return _Pool(children, shared, lock)


def _stop_idle_pools() -> None:
    idle = [plan for plan, pool in _POOLS.items() if not pool.callers]
    for plan in idle[:-IDLE_POOLS]:
        _POOLS.pop(plan).stop()


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """Spare the children the import of the caller's script: spawn runs it again in each, Prefect and all."""
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    try:
        for name in kept:
            setattr(main, name, None)
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)


def stop_workers() -> None:
    """Stop all children at once."""
    with _LOCK:
        pools = list(_POOLS.values())
        _POOLS.clear()
    for pool in pools:
        pool.stop()


atexit.register(stop_workers)


def _prepare_child(plan: WorkerPlan, parent: int, shared: Path) -> None:
    global _child_shared
    _child_shared = shared
    keep_freed_memory()
    os.environ.update(
        # One exposure per process: threads inside the libraries would only fight for the cores.
        OMP_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
        # Parameters are pinned by the settings, not by whatever parameter references a cache holds.
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
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    threading.Thread(target=_die_with_parent, args=(parent,), daemon=True).start()


def keep_freed_memory() -> None:
    """Let arrays reuse memory that the process has freed, until `return_freed_memory` is called.

    By default glibc returns every freed array to the system at once, and the system clears each page of the next one:
    an eighth of the CPU time of Stages 1 and 2.
    """
    tune = _libc_function("mallopt")
    if tune:
        # Before version 2.36, glibc refuses a threshold above 32 MB; it can be told not to map arrays at all.
        _ = tune(MALLOPT_MMAP_THRESHOLD, KEPT_BYTES) or tune(MALLOPT_MMAP_MAX, 0)
        tune(MALLOPT_TRIM_THRESHOLD, KEPT_BYTES)
        # One heap: glibc turns to a second one after a failed allocation, and never returns the end of that.
        tune(MALLOPT_ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Return what the process no longer uses to the system, the holes in its heap included."""
    gc.collect()
    trim = _libc_function("malloc_trim")
    if trim:
        trim(0)


def _libc_function(name: str) -> Any:
    """Find a function of glibc; None on other systems."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def _die_with_parent(parent: int) -> None:
    """End when the parent is gone, even killed: nobody would take the result."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _do_nothing(folder: Path) -> None:
    """What a child does that is only started."""


def _call(function: Callable[..., Result], arguments: tuple, scratch: str | None) -> Outcome[Result]:
    with scratch_folder(scratch, "step") as folder:
        _log_to(folder / "step.log")
        # stpipe collects garbage after each of its steps; what a reused process holds from before need not be searched.
        gc.freeze()
        _reset_peak_memory()
        wall, cpu = time.perf_counter(), time.process_time()
        previous = Path.cwd()
        try:
            os.chdir(folder)
            result = function(*arguments, folder)
            return Outcome(result, time.process_time() - cpu, time.perf_counter() - wall, _peak_memory_mb())
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
    """Send what the process writes, in Python or in C, to a file: the terminal belongs to the run."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_LINES_IN_ERROR:])


def _reset_peak_memory() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mb() -> float:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
