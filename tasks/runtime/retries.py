"""When a failed step is tried again.

What is transient (a store that times out, a child process that was killed) deserves another try; what is
not (a broken file, a wrong gain map, a missing reference, wrong keys, a full disk, a step that needs more time or
memory than it may have) fails the same way each time. The store has tried each request several times before a step
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
    """Tell whether trying again may help: input/output trouble and lost child processes."""
    if isinstance(error, PERMANENT):
        return False
    return isinstance(error, OSError | TimeoutError | ConnectionError | LostChildError)


@dataclass(frozen=True)
class Retries:
    """How often a step is tried again and how long to wait before each."""

    times: int
    delays_s: tuple[float, ...]

    @staticmethod
    def condition(task: Any, task_run: TaskRun, state: State) -> bool:
        """Tell Prefect whether to try again; a plain function, since Prefect takes a bound method for "never"."""
        return is_transient(state.result(raise_on_failure=False))


COMPUTING = Retries(times=1, delays_s=(2.0,))
"""For work in a child process: one more try, since a child may be killed by accident once; a second death of the same
step is its own."""

STORING = Retries(times=4, delays_s=(1.0, 4.0, 16.0, 60.0))
"""For listing and copying, which a store alone can fail: cheap to repeat, and a store's bad minute passes."""
