"""Tasks whose results are content-addressed: same key, nothing runs.

Prefect keeps a record of each finished step under the step's key and uses it unchecked. The record
only points to objects in the store, which may have been deleted or altered since: they are checked
before the record is used, and an invalid record is removed.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from prefect import Task, get_run_logger
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.context import TaskRunContext
from prefect.results import ResultRecord
from prefect.runtime import task_run

from cosmosaic.processes import workers
from cosmosaic.steps.declaration import Step
from cosmosaic.steps.execution import execute, is_intact, key_of
from cosmosaic.steps.manifest import RESULTS, read_manifest
from cosmosaic.steps.result import StepResult
from cosmosaic.storage import store
from tasks.runtime.retries import Retries


@dataclass(frozen=True)
class Work:
    """Needs of a task that executes a step: the place of the results and the child processes."""

    cache: str
    workers: workers.WorkerPlan

    @property
    def results(self) -> str:
        """Prefix of Prefect's records of finished steps."""
        return store.join(self.cache, RESULTS)

    @property
    def checksums(self) -> str:
        """Prefix of the remembered checksums of raw objects."""
        return store.join(self.cache, "checksums")


class Given:
    """A step with stored inputs, and the means to execute it.

    A plain class: Prefect searches tuples, records and dataclasses for futures, field by field.
    """

    def __init__(self, step: Step, work: Work) -> None:
        self.step = step
        self.work = work


TASKS: dict[type[Step], Task] = {}
"""The task of each step."""


def step_task(step: type[Step], retries: Retries, perform: Callable[[Any, Work], StepResult] | None = None) -> Task:
    """Make the Prefect task of a declared step.

    Parameters
    ----------
    step
        The declaration.
    retries
        Number of retries, and the errors they are for.
    perform
        Does the step's work; by default in a child process.
    """
    do = perform or (lambda step, work: execute(step, work.cache, work.workers))

    def body(given: Given) -> StepResult:
        result = do(given.step, given.work)
        get_run_logger().info(f"{task_run.name}: {result.wall_s:.1f} s, {result.peak_mb:.0f} MB at the peak")
        return result

    def key(context: TaskRunContext, inputs: dict[str, Any]) -> str:
        return trusted_key(inputs["given"].step, inputs["given"].work)

    body.__name__ = step.function.rpartition(":")[2]
    body.__doc__, body.__module__ = step.__doc__, step.__module__
    TASKS[step] = Task(
        body,
        name=step.title,
        cache_policy=CacheKeyFnPolicy(cache_key_fn=key),
        persist_result=True,
        result_serializer="json",
        retries=retries.times,
        retry_delay_seconds=list(retries.delays_s),
        retry_jitter_factor=0.5,
        retry_condition_fn=retries.condition,
    )
    return TASKS[step]


def trusted_key(step: Step, work: Work) -> str:
    """Return the step's key; first remove a record under it whose objects are missing or altered.

    On a remote store such a record cannot be read, see `tasks.runtime.records`.
    """
    key = key_of(step)
    uri = store.join(work.results, key)
    if store.is_remote(uri):
        return key
    with suppress(FileNotFoundError):
        if trusted(store.read_bytes(uri)) is None:
            store.remove(uri)
    return key


@dataclass(frozen=True)
class Finished:
    """The steps that were finished before a run."""

    keys: frozenset[str] = frozenset()
    """Their keys, by one listing."""
    results: Mapping[str, StepResult] = field(default_factory=dict)
    """Those whose files are known to be unaltered, by their keys."""


def finished_before(work: Work, survey: str, products: str) -> Finished:
    """Return the steps that were finished before; none if the store does not answer."""
    # Each task asks again, and is retried.
    with suppress(OSError):
        keys = frozenset(listed.name for listed in store.list_objects(work.results))
        return Finished(keys, read_manifest(work.cache, survey, products) if keys else {})
    return Finished()


def result_of(step: Step, work: Work, before: Finished) -> StepResult | None:
    """Return the result of a step that was finished before, with its objects unaltered; None if it is to be executed.

    Parameters
    ----------
    step, work
        The step, its inputs stored, and where records are.
    before
        From `finished_before`.
    """
    key = key_of(step)
    if key in before.results or key not in before.keys:
        return before.results.get(key)
    with suppress(OSError):
        return trusted(store.read_bytes(store.join(work.results, key)))
    return None


def trusted(content: bytes) -> StepResult | None:
    """Return the result in a record whose objects are stored, unaltered."""
    try:
        record: ResultRecord[StepResult] = ResultRecord.deserialize(content)
        return record.result if is_intact(record.result) else None
    except (ValueError, KeyError, AttributeError, TypeError):
        # An incomplete record of a killed process, or one of another version.
        return None
