"""Tasks whose results are content-addressed: same key, nothing runs.

Prefect keeps a record of each finished step under the step's key and believes it without looking. The
record only points at objects in the store, which may have been deleted or altered since: they are
checked before the record is used, and a record that no longer holds is forgotten.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from prefect import Task, get_run_logger
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.context import TaskRunContext
from prefect.results import ResultRecord
from prefect.runtime import task_run

from cosmosaic.steps.step import Step, StepResult, execute, is_intact
from cosmosaic.storage import store
from tasks.runtime.retries import Retries
from tasks.runtime.run import Given, Work


def step_task(
    name: str, retries: Retries, perform: Callable[[Step, Work], StepResult] | None = None
) -> Callable[[Callable[..., Step]], Task]:
    """Make a Prefect task of a function that describes a step.

    Parameters
    ----------
    name
        What users read in the UI.
    retries
        How often to try again, and after which errors.
    perform
        Does the step's work; by default in a child process.
    """
    do = perform or (lambda step, work: execute(step, work.cache, work.workers))

    def decorate(describe: Callable[..., Step]) -> Task:
        def body(waiting: dict[str, Any], given: Given) -> StepResult:
            result = do(describe(**waiting, **given.parameters), given.work)
            get_run_logger().info(f"{task_run.name}: {result.wall_s:.1f} s, {result.peak_mb:.0f} MB at the peak")
            return result

        def key(context: TaskRunContext, inputs: dict[str, Any]) -> str:
            waiting, given = inputs["waiting"], inputs["given"]
            return trusted_key(describe(**waiting, **given.parameters), given.work)

        body.__name__, body.__doc__, body.__module__ = describe.__name__, describe.__doc__, describe.__module__
        return Task(
            body,
            name=name,
            cache_policy=CacheKeyFnPolicy(cache_key_fn=key),
            persist_result=True,
            result_serializer="json",
            retries=retries.times,
            retry_delay_seconds=list(retries.delays_s),
            retry_jitter_factor=0.5,
            retry_condition_fn=retries.condition,
        )

    return decorate


def trusted_key(step: Step, work: Work) -> str:
    """Return the step's key; a record kept under it whose objects are gone or altered is forgotten first."""
    uri = store.join(work.results, step.key)
    with suppress(FileNotFoundError):
        if not _holds(store.read_bytes(uri)):
            store.remove(uri)
    return step.key


def _holds(content: bytes) -> bool:
    try:
        record: ResultRecord[StepResult] = ResultRecord.deserialize(content)
        return is_intact(record.result)
    except (ValueError, KeyError, AttributeError, TypeError):
        # Half a record, which a killed process leaves, or one of another version.
        return False
