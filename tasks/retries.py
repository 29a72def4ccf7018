"""When a failed step is tried again.

What is transient (a store that times out, a child process that was killed) deserves another try; what is
not (a broken file, a wrong gain map, a missing reference) fails the same way each time.
"""

from dataclasses import dataclass
from typing import Any

from prefect.client.schemas.objects import State, TaskRun

from cosmosaic.workers import WorkerError

PERMANENT = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)


def is_transient(error: BaseException | None) -> bool:
    """Tell whether trying again may help: input/output trouble and lost child processes."""
    if isinstance(error, PERMANENT):
        return False
    return isinstance(error, OSError | TimeoutError | ConnectionError | WorkerError)


@dataclass(frozen=True)
class Retries:
    """How often a step is tried again and how long to wait before each."""

    times: int
    delays_s: tuple[float, ...]

    def condition(self, task: Any, task_run: TaskRun, state: State) -> bool:
        """Tell Prefect whether to try again."""
        return is_transient(state.result(raise_on_failure=False))


COMPUTING = Retries(times=1, delays_s=(2.0,))
"""For work in a child process: one more try, since a second death by memory or time limit will not be the last."""

STORING = Retries(times=4, delays_s=(1.0, 4.0, 16.0, 60.0))
"""For copies between stores: cheap to repeat, and a store's bad minute passes."""
