"""Runners of a run's tasks: threads of the flow's process, or the workers of a Dask cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

from prefect.context import FlowRunContext
from prefect.task_runners import TaskRunner

from cosmosaic.processes.workers import WorkerPlan
from cosmosaic.survey import ResourceSettings


@contextmanager
def open_runner(resources: ResourceSettings, plan: WorkerPlan) -> Iterator[TaskRunner[Any]]:
    """Open the task runner that the settings select.

    Raises
    ------
    RuntimeError
        Called outside a flow, or Dask is selected and prefect-dask is not installed.
    OSError
        No Dask scheduler answers at ``resources.scheduler``.
    """
    if resources.runner == "dask":
        with _dask_runner(resources.scheduler, plan) as runner:
            yield runner
        return
    flow = FlowRunContext.get()
    if flow is None:
        raise RuntimeError("a run can only be opened in a flow")
    yield flow.task_runner


def plan_of_one_worker(resources: ResourceSettings, plan: WorkerPlan) -> WorkerPlan:
    """Return the child processes of each process that executes tasks.

    A Dask worker executes one task at a time (start it with one thread) in a single child process.
    """
    if resources.runner == "local":
        return plan
    return replace(plan, processes=1, children=1, memory_gb=plan.share_gb)


@contextmanager
def _dask_runner(scheduler: str | None, plan: WorkerPlan) -> Iterator[TaskRunner[Any]]:
    try:
        import dask

        from tasks.runtime.cluster import ClusterRunner
    except ImportError as missing:
        raise RuntimeError(
            "resources.runner is dask: `pip install 'cosmosaic[dask]'` here and on the workers"
        ) from missing
    if scheduler:
        with ClusterRunner(address=scheduler) as runner:
            yield runner
        return
    # A step runs in a child process of the worker, which must not be daemonic to have one.
    with dask.config.set({"distributed.worker.daemon": False}):
        cluster = {"n_workers": plan.processes, "threads_per_worker": 1, "dashboard_address": None}
        with ClusterRunner(cluster_kwargs=cluster) as runner:
            yield runner


def forget(runner: TaskRunner[Any], task_run: UUID) -> None:
    """Let Prefect forget a task that has ended.

    Until the flow ends it keeps the states of all tasks by their results, to find out which task was given which, and
    the means to cancel each: 4 kB a task, of which a survey has a hundred thousand. A run tells dependencies itself.
    """
    if flow := FlowRunContext.get():
        flow.run_results.clear()
    getattr(runner, "_cancel_events", {}).pop(task_run, None)


STEPS_PER_PROCESS = 4
"""Steps under way per child process: while one works, others are looked up, fetched and published."""
LEAST_ROOM = 16
CLUSTER_ROOM = 256
"""Steps submitted at once to a cluster, whose number of workers varies."""


def room_of(resources: ResourceSettings, plan: WorkerPlan) -> int:
    """Return how many steps may be under way at once: each takes a thread of the flow's process."""
    if resources.runner == "dask":
        return CLUSTER_ROOM
    return max(LEAST_ROOM, STEPS_PER_PROCESS * plan.children)
