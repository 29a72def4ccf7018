"""One run of a flow: its settings, its child processes, and what became of each step."""

import copy
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from prefect import Task, get_run_logger
from prefect.client.orchestration import get_client
from prefect.filesystems import LocalFileSystem, RemoteFileSystem
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import State
from prefect.task_runners import TaskRunner
from rich.console import Console

from cosmosaic.calibrate import references
from cosmosaic.exposures.search import FoundFrames
from cosmosaic.processes import workers
from cosmosaic.steps.step import StepResult
from cosmosaic.storage import remote, store
from cosmosaic.survey import Survey
from tasks.runtime.progress import Progress
from tasks.runtime.runners import plan_of_one_worker

STEPS_PER_FRAME = 5
"""Stage 1, Stage 2, cells, drizzle and outliers."""

STEPS_PER_FILTER = 12
"""Association, sky and its page, tiles, mosaic, catalogue, preview, publication, roughly: a progress bar is no more."""

NOT_BEGUN = "not begun, since a step that it needs failed"


@dataclass(frozen=True)
class StepRecord:
    """What became of one step in this run."""

    label: str
    result: StepResult | None
    cached: bool
    error: str | None


@dataclass
class Ledger:
    """What became of the steps so far, in the order they ended."""

    records: list[StepRecord] = field(default_factory=list)
    submitted: int = 0
    expected: int = 0
    """Steps of the whole run, estimated before they are submitted."""
    lock: threading.Condition = field(default_factory=threading.Condition)

    def wait(self) -> None:
        """Wait until every step that was submitted is recorded: a step's future is done a moment before its record."""
        with self.lock:
            self.lock.wait_for(lambda: len(self.records) == self.submitted)

    @property
    def executed(self) -> list[StepRecord]:
        """Steps whose work was done in this run."""
        return [record for record in self.records if not record.cached and not record.error]

    @property
    def cached(self) -> list[StepRecord]:
        """Steps that were looked up."""
        return [record for record in self.records if record.cached]

    @property
    def failed(self) -> list[StepRecord]:
        """Steps that failed for good, or that were not begun because what they need had failed."""
        return [record for record in self.records if record.error]

    @property
    def causes(self) -> list[StepRecord]:
        """Steps that failed by themselves."""
        return [record for record in self.failed if record.error != NOT_BEGUN]


@dataclass(frozen=True)
class Work:
    """What a task needs to do a step: where results are kept and which child processes do it."""

    cache: str
    workers: workers.WorkerPlan

    @property
    def results(self) -> str:
        """Where Prefect keeps the records of finished steps."""
        return store.join(self.cache, "results")

    @property
    def checksums(self) -> str:
        """Where the checksums of raw objects are remembered."""
        return store.join(self.cache, "checksums")


class Given:
    """What a task need not wait for.

    A class of its own: tuples, records and dataclasses Prefect searches for futures, field by field for each step.
    """

    def __init__(self, parameters: dict[str, Any], work: Work) -> None:
        self.parameters = parameters
        self.work = work


class Run:
    """Submits tasks for one survey and keeps the ledger."""

    def __init__(self, survey: Survey, plan: workers.WorkerPlan, runner: TaskRunner[Any]) -> None:
        self.survey = survey
        self.id = str(flow_run.id or "")
        self.started = datetime.now(UTC)
        self.clock = time.perf_counter()
        self.ledger = Ledger()
        self.console = Console(stderr=True)
        self.work = Work(store.absolute_uri(survey.url("cache")), plan_of_one_worker(survey.resources, plan))
        self.products = store.absolute_uri(survey.url("products"))
        for written in (self.work.cache, self.products):
            store.clean(written)
        self._runner = runner
        # Several requests to the server; frames are looked for meanwhile.
        self._storage = ThreadPoolExecutor(1).submit(copy_context().run, result_storage, self.work.results)
        self._tasks: dict[str, Task] = {}
        self._progress = Progress(survey.name)

    def submit(self, task: Task, label: str, **parameters: Any) -> PrefectFuture:
        """Submit a step's task; it starts when the futures among its parameters are done."""
        named = copy.copy(self._stored(task))
        with self.ledger.lock:
            self.ledger.submitted += 1
        named.task_run_name = f"{task.name}: {label}"
        # Prefect asks the server for the state of each future that is a parameter itself, and not of those within one.
        waiting = {name: value for name, value in parameters.items() if _holds_future(value)}
        given = Given({name: value for name, value in parameters.items() if name not in waiting}, self.work)
        future: PrefectFuture = self._runner.submit(named, {"waiting": waiting, "given": given})
        future.add_done_callback(lambda done: self._record(f"{task.name}: {label}", done))
        return future

    def _stored(self, task: Task) -> Task:
        """Return the task that keeps its records in this run's store; made once, since Prefect inspects its source."""
        if task.name not in self._tasks:
            self._tasks[task.name] = task.with_options(result_storage=self._storage.result())
        return self._tasks[task.name]

    def results(self, futures: dict[str, PrefectFuture]) -> dict[str, StepResult]:
        """Wait for futures and return the results of those that did not fail, by the same names."""
        for future in futures.values():
            future.wait()
        ended = {name: future.state for name, future in futures.items()}
        return {name: state.result() for name, state in ended.items() if state.is_completed()}

    def note(self, text: str) -> None:
        """Tell the user something, on the terminal and in the run's log."""
        self.console.print(f"{'':>9} {text}", highlight=False, markup=False, soft_wrap=True)
        get_run_logger().info(text)

    def name_after(self, found: FoundFrames) -> None:
        """Name the run in the UI by what it works on, and tell the progress bar how much that is."""
        bands = {frame.band for frame in found.frames}
        name = f"{self.survey.name}: {counted(len(found.frames), 'frame')}, {counted(len(bands), 'filter')}"
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(self.id), name=name)
        self.ledger.expected = (
            self.ledger.submitted + STEPS_PER_FRAME * len(found.frames) + STEPS_PER_FILTER * len(bands)
        )

    def wait(self) -> None:
        """Wait until every step that was submitted is recorded."""
        self.ledger.wait()
        self._progress.finish()

    def _record(self, label: str, future: PrefectFuture) -> None:
        try:
            future.wait()
            record = _record_of(label, future.state)
        except Exception as lost:  # whatever became of it, a step that was submitted is counted
            record = StepRecord(label, None, False, f"{type(lost).__name__}: {lost}")
        self._enter(record)

    def fail(self, label: str, error: str) -> None:
        """Record that something could not be done before there was a task to do it."""
        with self.ledger.lock:
            self.ledger.submitted += 1
        self._enter(StepRecord(label, None, False, error))

    def _enter(self, record: StepRecord) -> None:
        with self.ledger.lock:
            self.ledger.records.append(record)
            self.ledger.lock.notify_all()
            done = f"[{len(self.ledger.records)}/{self.ledger.submitted}]"
            self.console.print(
                f"{done:>9} {record.label}: {_outcome(record)}", highlight=False, markup=False, soft_wrap=True
            )
        self._progress.show(len(self.ledger.records), max(self.ledger.submitted, self.ledger.expected))


def plan_workers(survey: Survey) -> workers.WorkerPlan:
    """Plan a run's child processes, and check that its stores and its machine can do with it.

    Raises
    ------
    OSError
        A store refuses access, does not exist or does not answer, or the scratch folder is too small.
    cosmosaic.processes.workers.ResourceError
        The machine has less memory than the run may use.
    """
    resources = survey.resources
    plan = workers.plan_workers(
        resources.processes,
        resources.memory_gb,
        resources.time_limit_s,
        resources.scratch,
        references.crds_environment(survey),
    )
    check_stores(survey)
    workers.check_resources(plan)
    return plan


def counted(number: int, thing: str) -> str:
    """Write a number of things as people do."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _holds_future(value: Any) -> bool:
    """Tell whether a parameter is to be waited for."""
    return isinstance(value, PrefectFuture) or (
        isinstance(value, tuple) and any(isinstance(item, PrefectFuture) for item in value)
    )


def _record_of(label: str, state: State) -> StepRecord:
    if state.name == "NotReady":
        return StepRecord(label, None, False, NOT_BEGUN)
    if not state.is_completed():
        return StepRecord(label, None, False, describe_failure(state))
    return StepRecord(label, state.result(), state.name == "Cached", None)


def _outcome(record: StepRecord) -> str:
    if record.error == NOT_BEGUN:
        return NOT_BEGUN
    if record.error:
        return f"failed: {record.error.splitlines()[0]}"
    return "from cache" if record.cached or not record.result else f"{record.result.wall_s:.1f} s"


def describe_failure(state: State) -> str:
    """Return why a task failed, in one message."""
    error = state.result(raise_on_failure=False) if state.is_failed() or state.is_crashed() else None
    return (
        f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else (state.message or str(state.name))
    )


def check_stores(survey: Survey) -> None:
    """Ask a survey's stores for access: wrong keys are told at once, before a server or a child process is started.

    Raises
    ------
    OSError
        A store refuses access, does not exist or does not answer; the message says which and what to check.
    """
    store.check_access(survey.url("cache"))
    store.check_access(survey.url("products"))


def result_storage(url: str) -> LocalFileSystem | RemoteFileSystem:
    """Return the saved Prefect block for the records of finished steps; no keys are kept in it."""
    is_remote = store.is_remote(url)
    block = RemoteFileSystem(basepath=url, settings=remote.options(url)) if is_remote else LocalFileSystem(basepath=url)
    block.save(f"cosmosaic-{sha256(url.encode()).hexdigest()[:16]}", overwrite=True)
    return block
