"""What may pass is tried again, what will not is not."""

import inspect

import pytest
from prefect.states import Failed

from cosmosaic.exposures.headers import RefusalError
from cosmosaic.processes.workers import LostChildError, WorkerError
from cosmosaic.storage.scratch import ScratchError
from cosmosaic.storage.store import AlteredObjectError
from tasks.runtime.retries import COMPUTING, STORING


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (LostChildError("the process died"), True),
        (ConnectionError("the store does not answer"), True),
        (TimeoutError("read timed out"), True),
        (OSError(121, "InternalError"), True),
        (WorkerError("took longer than 7200 s"), False),
        (PermissionError("the store refuses access"), False),
        (FileNotFoundError("does not exist"), False),
        (AlteredObjectError("was written again"), False),
        (ScratchError("2.50 GB are missing"), False),
        (RefusalError("is truncated"), False),
    ],
    ids=lambda value: getattr(type(value), "__name__", value),
)
def test_a_step_is_tried_again_after_what_is_transient_alone(error, again):
    assert COMPUTING.condition(None, None, Failed(data=error)) is again


@pytest.mark.parametrize("retries", [COMPUTING, STORING])
def test_prefect_can_call_the_condition(retries):
    """It asks plain functions alone; anything else it takes for a refusal."""
    assert inspect.isfunction(retries.condition)
