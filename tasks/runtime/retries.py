"""When a failed step is retried.

Transient failures (a store that times out, a child process that was killed) are worth a retry. Others (a broken
file, a wrong gain map, a missing reference, wrong credentials, a full disk, a step that exceeds its time or memory)
fail the same way each time. The store has tried each request several times before a step
sees an error.
"""

from dataclasses import dataclass
from typing import Any

from prefect.client.schemas.objects import State, TaskRun

from cosmosaic.processes.workers import LostChildError
from cosmosaic.storage.scratch import ScratchError
from cosmosaic.storage.store import AlteredObjectError

PERMANENT = (
    FileNotFoundError,
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
    AlteredObjectError,
    ScratchError,
)


def is_transient(error: BaseException | None) -> bool:
    """Return whether a retry may help: after input/output errors and lost child processes."""
    if isinstance(error, PERMANENT):
        return False
    return isinstance(error, OSError | TimeoutError | ConnectionError | LostChildError)


@dataclass(frozen=True)
class Retries:
    """Number of retries of a step, and the wait before each."""

    times: int
    delays_s: tuple[float, ...]

    @staticmethod
    def condition(task: Any, task_run: TaskRun, state: State) -> bool:
        """Tell Prefect whether to retry; a plain function, since Prefect reads a bound method as "never"."""
        return is_transient(state.result(raise_on_failure=False))


COMPUTING = Retries(times=1, delays_s=(2.0,))
"""For work in a child process: one retry, since a child may be killed by accident; after a second death the step itself
is at fault."""

STORING = Retries(times=4, delays_s=(1.0, 4.0, 16.0, 60.0))
"""For listing and copying, where only the store can fail: cheap to repeat, and outages of a store are often short."""
