"""What Prefect logs of steps that end because their run was cancelled: no errors, since somebody asked for it."""

import logging

from cosmosaic.processes.workers import STOPPED

ABORTED = "Execution was aborted by a termination signal"
"""How Prefect describes a task that a signal ended."""


def no_error_for_cancelled_steps() -> None:
    """Log such steps as information from now on."""
    logging.getLogger("prefect.task_runs").addFilter(_as_information)


def _as_information(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    if ABORTED in text or STOPPED in text:
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.exc_info = None
    return True
