"""One run of a flow: its settings, child processes and products, and the outcome of each step."""

import copy
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar, cast
from uuid import UUID

from prefect import Task, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import TaskRunResult
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import State
from prefect.task_runners import TaskRunner

from cosmosaic.check import plan_of
from cosmosaic.exposures.search import FoundExposures
from cosmosaic.processes import workers
from cosmosaic.records import Reference, StoredObject
from cosmosaic.steps.declaration import Made, Outputs, Step
from cosmosaic.steps.files import File, Many
from cosmosaic.steps.publication import Publish, Published
from cosmosaic.steps.result import StepResult
from cosmosaic.storage import store
from cosmosaic.survey import Survey
from tasks.runtime.caching import Given, Work, finished_before, result_of
from tasks.runtime.graph import SKIPPED, Graph, Node, Outcome, settled
from tasks.runtime.progress import Progress
from tasks.runtime.records import result_storage
from tasks.runtime.runners import forget, plan_of_one_worker, room_of
from tasks.runtime.terminal import Terminal
from tasks.steps import TASKS

SHOWN_DEPENDENCIES = 100
"""Arrows to a task in the UI; Prefect refuses the event of a task with some 21,000."""


LOOKUPS = 8
"""Finished steps that are looked up at a time, where each costs a few requests."""

FileKind = TypeVar("FileKind", bound=File)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The outcome of one step in this run."""

    label: str
    result: StepResult | None
    cached: bool
    error: str | None
    function: str = ""
    inputs: tuple[StoredObject, ...] = ()
    references: tuple[Reference, ...] = ()
    ended: datetime = field(default_factory=partial(datetime.now, UTC))


@dataclass
class Ledger:
    """The outcomes of the steps so far, in the order they ended."""

    records: list[StepRecord] = field(default_factory=list)
    submitted: int = 0
    expected: int = 0
    """Steps of the whole run, estimated before they are submitted."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def executed(self) -> list[StepRecord]:
        """Steps whose work was done in this run."""
        return [record for record in self.records if not record.cached and not record.error]

    @property
    def cached(self) -> list[StepRecord]:
        """Steps whose results were found in the cache."""
        return [record for record in self.records if record.cached]

    @property
    def failed(self) -> list[StepRecord]:
        """Steps that failed after all retries, or were skipped because a step they need failed."""
        return [record for record in self.records if record.error]

    @property
    def causes(self) -> list[StepRecord]:
        """Steps that failed, without those skipped for them."""
        return [record for record in self.failed if record.error != SKIPPED]


@dataclass(frozen=True)
class Publication:
    """Products that are published together, and the columns of the run table that all of them show."""

    files: tuple[File | Many, ...]
    published: Published
    columns: Mapping[str, Any]
    described_by: tuple[Outputs, ...]
    """Steps whose columns are shown in each product's row."""


class Run:
    """Submits the steps of one survey and keeps the ledger."""

    runner: TaskRunner[Any]
    """Executes the tasks; given before the first step is submitted."""

    def __init__(self, survey: Survey, plan: workers.WorkerPlan) -> None:
        self.survey = survey
        self.id = str(flow_run.id or "")
        self.started = datetime.now(UTC)
        self.clock = time.perf_counter()
        self.sent = store.requests_sent()
        self.context = copy_context()
        self.ledger = Ledger()
        self.terminal = Terminal(survey.name)
        self.work = Work(store.absolute_uri(survey.url("cache")), plan_of_one_worker(survey.resources, plan))
        self.products = store.absolute_uri(survey.url("products"))
        self.publications: list[Publication] = []
        self.excluded: dict[str, str] = {}
        self.recorded = threading.Lock()
        """Taken once, by the recorder of the run's end."""
        for written in (self.work.cache, self.products):
            store.clean(written)
        # This takes several requests to the server, during which exposures are listed.
        self._storage = ThreadPoolExecutor(1).submit(copy_context().run, result_storage, self.work.results)
        self._lookups = ThreadPoolExecutor(LOOKUPS, "lookup")
        self._before = self._lookups.submit(finished_before, self.work, survey.name, self.products)
        self._tasks: dict[type[Step], Task] = {}
        self._progress = Progress(survey.name)
        self._graph = Graph(self._start, self._ended, room_of(survey.resources, plan))

    @property
    def checksums(self) -> str:
        """Prefix under which the checksums of raw objects are remembered."""
        return self.work.checksums

    @property
    def log(self) -> str:
        """URI of the run's log."""
        return store.join(self.products, "runs", f"{self.id}.log")

    @property
    def worker_gb(self) -> float:
        """Memory of one child process."""
        return self.work.workers.share_gb

    def submit(self, step: Step[Made], label: str) -> Made:
        """Submit a step; it starts when its inputs have been made.

        Raises
        ------
        KeyError
            No task is declared for such steps.
        """
        if type(step) not in TASKS:
            raise KeyError(f"no task for {type(step).__name__}: add its line to tasks/steps.py")
        with self.ledger.lock:
            self.ledger.submitted += 1
        return step.outputs.promised(self._graph.add(step, f"{step.title}: {label}"))  # type: ignore[return-value]

    def publish(
        self,
        label: str,
        made: Iterable[Outputs | File | None],
        columns: Mapping[str, Any] | None = None,
        described_by: tuple[Outputs, ...] = (),
    ) -> None:
        """Submit the publication of those files among some outputs that are published kinds.

        Parameters
        ----------
        label
            Their name in the run.
        made
            Outputs of steps, and files.
        columns, described_by
            Columns of the run table for all of these products, in addition to those of the step that made each: values
            by column, and other steps whose columns are shown.
        """
        files: list[File | Many] = []
        for one in made:
            files += [one] if isinstance(one, File) else one.published if one else []
        published = self.submit(Publish(files=tuple(files), target=self.products), label)
        self.publications.append(Publication(tuple(files), published, columns or {}, described_by))

    def results(self, submitted: Mapping[str, Outputs]) -> dict[str, StepResult]:
        """Wait for steps and return the results of the successful ones, by the same names."""
        nodes: dict[str, Node] = {name: outputs.node for name, outputs in submitted.items()}
        self._graph.wait(nodes.values())
        return {name: node.result for name, node in nodes.items() if node.result}

    def stored(self, file: FileKind) -> FileKind:
        """Return a file made by a step that has ended, by its place in the store."""
        return cast(FileKind, settled(file))

    def note(self, text: str) -> None:
        """Write a message to the terminal and to the run's log."""
        self.terminal.say(text)
        get_run_logger().info(text)

    def keep_log(self) -> None:
        """Write the run's log beside its products."""
        self.terminal.close()
        store.publish_bytes("\n".join([*self.terminal.log, ""]).encode(), self.log)

    def name_after(self, found: FoundExposures) -> None:
        """Name the run in the UI after its exposures and filters, and estimate its steps for the progress bar."""
        bands = {exposure.band for exposure in found.exposures}
        name = f"{self.survey.name}: {counted(len(found.exposures), 'exposure')}, {counted(len(bands), 'filter')}"
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(self.id), name=name)
        self.ledger.expected = expected_steps(self.survey, len(found.exposures), len(bands))

    def wait(self) -> None:
        """Wait until every step that was submitted has ended."""
        self._graph.wait()
        self._progress.finish()

    def close(self) -> None:
        """End the threads of the run."""
        self._graph.close()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Start no further steps, and stop those under way."""
        self._graph.close()
        workers.stop_workers()

    def fail(self, label: str, error: str) -> None:
        """Record a failure that happened before a step could be submitted."""
        with self.ledger.lock:
            self.ledger.submitted += 1
        self._enter(StepRecord(label, None, False, error))

    def _start(self, node: Node, step: Step, done: Callable[[Outcome], None]) -> None:
        self._lookups.submit(self._look_up, node, step, done)

    def _look_up(self, node: Node, step: Step, done: Callable[[Outcome], None]) -> None:
        """Take the result of a step that was finished before; only steps to be executed become task runs."""
        try:
            found = result_of(step, self.work, self._before.result())
        except Exception as error:  # every started step needs an outcome
            done(Outcome(None, error=f"{type(error).__name__}: {error}"))
            return
        if found:
            done(Outcome(found, is_cached=True))
        else:
            self._graph.soon(partial(self._execute, node, step, done))

    def _execute(self, node: Node, step: Step, done: Callable[[Outcome], None]) -> None:
        try:
            self._submit(node, step, done)
        except Exception as error:
            done(Outcome(None, error=f"{type(error).__name__}: {error}"))

    def _submit(self, node: Node, step: Step, done: Callable[[Outcome], None]) -> None:
        named = copy.copy(self._stored(type(step)))
        named.task_run_name = node.label
        needed = [other.task_run for other in node.needed if other.task_run][:SHOWN_DEPENDENCIES]
        future: PrefectFuture = self.runner.submit(
            named,
            {"given": Given(step, self.work)},
            dependencies={"given": {TaskRunResult(id=task_run) for task_run in needed}},
        )
        node.task_run = future.task_run_id
        future.add_done_callback(lambda ended: done(_outcome_of(ended)))

    def _stored(self, step: type[Step]) -> Task:
        """Return the task that keeps its records in this run's store; made once, since Prefect inspects its source."""
        if step not in self._tasks:
            self._tasks[step] = TASKS[step].with_options(result_storage=self._storage.result())
        return self._tasks[step]

    def _ended(self, node: Node, outcome: Outcome) -> None:
        if node.task_run:
            forget(self.runner, node.task_run)
        outcome_of = (node.label, outcome.result, outcome.is_cached, outcome.error)
        self._enter(StepRecord(*outcome_of, node.kind.function, node.inputs, node.references))

    def _enter(self, record: StepRecord) -> None:
        with self.ledger.lock:
            self.ledger.records.append(record)
            done = f"[{len(self.ledger.records)}/{self.ledger.submitted}]"
            self.terminal.step(done, f"{record.label}: {_told(record)}", record.error not in (None, SKIPPED))
        expected = max(self.ledger.submitted, self.ledger.expected)
        self.terminal.advance(len(self.ledger.records), expected)
        self._progress.show(len(self.ledger.records), expected)


def plan_workers(survey: Survey) -> workers.WorkerPlan:
    """Plan a run's child processes, and check access to its stores.

    Raises
    ------
    OSError
        A store refuses access, does not exist or does not answer.
    """
    plan = plan_of(survey)
    check_stores(survey)
    return plan


def expected_steps(survey: Survey, exposures: int, filters: int) -> int:
    """Estimate the steps of a survey by their declarations; each filter counts as one mosaic of one tile."""
    number = {"exposure": exposures, "filter": filters, "mosaic": filters, "tile": filters, "survey": 1}
    return sum(number[step.per] for step in TASKS if step.is_asked_for(survey))


def counted(number: int, thing: str) -> str:
    """Write a number with its noun, in the plural where needed."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _outcome_of(future: PrefectFuture) -> Outcome:
    try:
        future.wait()
        state = future.state
        if not state.is_completed():
            return Outcome(None, error=describe_failure(state))
        return Outcome(state.result(), state.name == "Cached")
    except Exception as lost:  # every started step needs an outcome
        return Outcome(None, error=f"{type(lost).__name__}: {lost}")


def _told(record: StepRecord) -> str:
    if record.error == SKIPPED:
        return SKIPPED
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
    """Check access to a survey's stores, so that wrong credentials are reported before a server is started.

    Raises
    ------
    OSError
        A store refuses access, does not exist or does not answer; the message says which and what to check.
    """
    store.check_access(survey.url("cache"))
    store.check_access(survey.url("products"))
