"""Pools of child processes: started, called, stopped."""

import atexit
import contextlib
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from multiprocessing import spawn
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from cosmosaic.processes.child import Outcome, Result, WorkerError, call, do_nothing, prepare
from cosmosaic.processes.plan import WorkerPlan
from cosmosaic.storage.scratch import clean_scratch, open_scratch

STOPPED = "was stopped with its run"


class LostChildError(WorkerError):
    """A child process died; the same work may succeed in another one."""


def start(plan: WorkerPlan) -> None:
    """Start the children of a plan without waiting for them, which takes a second."""
    threading.Thread(target=run, args=(plan, do_nothing), daemon=True).start()


def run(
    plan: WorkerPlan, function: Callable[..., Result], *arguments: Any, needed_gb: float | None = None
) -> Outcome[Result]:
    """Run ``function(*arguments, folder)`` in a child process and wait for it.

    Parameters
    ----------
    plan
        The pool to use; pools live until the process ends and are shared by all callers with the same plan.
    function
        A module-level function. Its last argument is an empty scratch folder, which is also its working
        directory.
    needed_gb
        Memory that it needs, by default an equal share: it waits until so much is free, and others wait for it.

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
    allowed_gb = plan.allowed_gb(needed_gb)
    with _keep(plan) as pool:
        try:
            with pool.reserve(plan.memory_gb, plan.reserved_gb(needed_gb)):
                return pool.schedule(plan, function, arguments, allowed_gb).result()
        except CancelledError as error:
            raise WorkerError(f"{name} {STOPPED}; the next run will repeat it") from error
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
                f"{name} needs more than {allowed_gb:.1f} GB of memory; raise "
                "resources.memory_gb or lower resources.processes"
            ) from error


IDLE_POOLS = 2
"""Idle pools that are kept for later steps: a worker of a cluster serves many surveys."""


@dataclass
class _Pool:
    """The children of one plan, the folder they share, and how many callers wait for them."""

    children: ProcessPool
    shared: Path
    lock: int
    callers: int = 0
    scheduled: list[ProcessFuture] = field(default_factory=list)
    gate: threading.Lock = field(default_factory=threading.Lock)
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one caller who waits for memory: those after it do not take what it waits for."""
    freed: threading.Condition = field(default_factory=threading.Condition)
    reserved_gb: float = 0.0
    is_stopped: bool = False

    @contextlib.contextmanager
    def reserve(self, total_gb: float, gb: float) -> Iterator[None]:
        with self.turn, self.freed:
            # The shares of all children may add up to a rounding error more than the whole.
            self.freed.wait_for(lambda: self.is_stopped or self.reserved_gb + gb <= total_gb * (1 + 1e-9))
            if self.is_stopped:
                raise CancelledError
            self.reserved_gb += gb
        try:
            yield
        finally:
            with self.freed:
                self.reserved_gb -= gb
                self.freed.notify_all()

    def schedule(self, plan: WorkerPlan, function: Callable[..., Any], arguments: tuple, gb: float) -> ProcessFuture:
        with self.gate:
            self.scheduled = [future for future in self.scheduled if not future.done()]
            future = self.children.schedule(call, (function, arguments, plan.scratch, gb), timeout=plan.time_limit_s)
            self.scheduled.append(future)
            return future

    def stop(self) -> None:
        with self.freed:
            self.is_stopped = True
            self.freed.notify_all()
        with self.gate:
            self.children.stop()
            # A stopped pool does not notify those who wait for it.
            for future in self.scheduled:
                future.cancel()
        self.children.join()
        shutil.rmtree(self.shared, ignore_errors=True)
        os.close(self.lock)


_POOLS: dict[WorkerPlan, _Pool] = {}
"""By plan, the most recently used pool last."""
_LOCK = threading.Lock()


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
    # The order of sets shows in files (asdf lists the extensions it used); equal work must give equal bytes.
    os.environ.setdefault("PYTHONHASHSEED", "0")
    with _without_main_module():
        children = ProcessPool(
            max_workers=plan.children,
            context=multiprocessing.get_context("spawn"),
            initializer=prepare,
            initargs=(plan, os.getpid(), shared),
        )
        children.schedule(int).result()
    return _Pool(children, shared, lock)


def _stop_idle_pools() -> None:
    idle = [plan for plan, pool in _POOLS.items() if not pool.callers]
    for plan in idle[:-IDLE_POOLS]:
        _POOLS.pop(plan).stop()


_SPAWN_LOCK = threading.Lock()
"""Two that replace the same function at once would put back each other's."""


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """Keep spawn from importing the caller's script, and Prefect with it, in each child.

    The script's module is left alone: Prefect looks at it meanwhile, in another thread.
    """
    with _SPAWN_LOCK:
        whole = spawn.get_preparation_data

        def without_main(name: str) -> dict[str, Any]:
            return {key: value for key, value in whole(name).items() if not key.startswith("init_main_from")}

        spawn.get_preparation_data = without_main
        try:
            yield
        finally:
            spawn.get_preparation_data = whole


def stop_workers() -> None:
    """Stop all children at once."""
    with _LOCK:
        pools = list(_POOLS.values())
        _POOLS.clear()
    for pool in pools:
        pool.stop()


atexit.register(stop_workers)
