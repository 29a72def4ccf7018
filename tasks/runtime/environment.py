"""Defaults for the Prefect that a command line starts: quiet, patient with a slow start, no telemetry."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import (
    PREFECT_API_BLOCKS_REGISTER_ON_START,
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_BATCH_INTERVAL,
    PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED,
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE,
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE,
    PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED,
    get_current_settings,
    temporary_settings,
)

from tasks.runtime.leftovers import end_orphaned_servers, mark_flow_process
from tasks.runtime.server import start_temporary_server

DEFAULTS = {
    # The first start on a fresh machine has no compiled modules and took over 30 s.
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
    PREFECT_SERVER_ANALYTICS_ENABLED: False,
    # Each batch of log lines is a request.
    PREFECT_LOGGING_TO_API_BATCH_INTERVAL: 5.0,
    # One by one, the states of the tasks cost the server three times the CPU seconds, which the steps need.
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE: 100,
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE: 100,
    # Runs, states, logs and artifacts are kept. The feed of events is a third of the server's work and has no reader,
    # and a server that ends with the run has no automations.
    PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED: False,
    PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED: False,
}

ALONE = {
    # Heartbeats serve automations, and a temporary server has none; a run's end waits up to a second for their thread.
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    # It imports every installed package of Prefect's family, to list blocks for a form that nobody opens.
    PREFECT_API_BLOCKS_REGISTER_ON_START: False,
    PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION: False,
}
"""Settings without a server of the user's."""


def check_home() -> None:
    """Check that Prefect can write its settings and the database of its temporary server.

    Raises
    ------
    PermissionError
        It cannot.
    """
    home = PREFECT_HOME.value()
    try:
        home.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
    except OSError as error:
        raise PermissionError(
            f"Prefect cannot write to its folder PREFECT_HOME = {home} ({error.strerror}); set PREFECT_HOME to a "
            "folder of yours, e.g. on a local disk"
        ) from error


@contextmanager
def prefect_defaults() -> Iterator[None]:
    """Apply the defaults to settings that the user has not made; without a server, start a temporary one.

    Raises
    ------
    tasks.runtime.server.TemporaryServerError
        It does not come up.
    """
    end_orphaned_servers()
    mark_flow_process()
    os.environ.setdefault("DO_NOT_TRACK", "1")
    chosen = get_current_settings().to_environment_variables(exclude_unset=True)
    defaults = DEFAULTS if PREFECT_API_URL.value() else DEFAULTS | ALONE
    missing = {setting: value for setting, value in defaults.items() if setting.name not in chosen}
    _quiet_console()
    with temporary_settings(missing):
        if PREFECT_API_URL.value():
            yield
            return
        with temporary_settings({PREFECT_API_URL: start_temporary_server()}):
            yield


def _quiet_console() -> None:
    """Keep Prefect's log off the terminal: the run prints its own progress and failures. The UI still has the log."""
    level = os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler):
            handler.setLevel(level)
