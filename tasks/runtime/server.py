"""The temporary Prefect server of a command line, if the user has set none.

Prefect would start it too, when it is first asked for a client, but imports the whole server into the flow's process to
do so, which costs 1.5 CPU seconds.
"""

import atexit
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from socket import create_server
from typing import IO

import httpx
import prefect
from prefect.settings import (
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
)

from tasks.runtime.leftovers import SERVER

HOST = "127.0.0.1"
AS_PREFECT_DOES = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""Without pages and without the services of a lasting server."""
POLL_S, ENDING_S = 0.1, 5.0
LAST_CHARACTERS = 2000
"""Of its output, where it does not start."""


class TemporaryServerError(RuntimeError):
    """The temporary server did not start, or must not; the message gives the remedy."""


def start_temporary_server() -> str:
    """Start a server with the current settings, which ends with this process; return the address of its API.

    Raises
    ------
    TemporaryServerError
        It does not answer in time, or the user's settings forbid it.
    """
    _check_allowed()
    with create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    # Its own output: it may outlive a flow that is killed, and would keep the terminal open.
    said = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the server)
    server = subprocess.Popen(
        _command(port), env=_environment(), stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
    )
    # Not before: Prefect sends its last log lines at exit too, which is registered later and so done earlier.
    atexit.register(_end, server)
    url = f"http://{HOST}:{port}/api"
    _wait_for(server, url, said)
    return url


def _check_allowed() -> None:
    ephemeral = get_current_settings().server.ephemeral
    # Prefect's own default is false too, outside the profile that a new installation has.
    if "enabled" in ephemeral.model_fields_set and not ephemeral.enabled:
        raise TemporaryServerError(
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE is false and PREFECT_API_URL is not set, so no Prefect server is "
            "there: set PREFECT_API_URL to the address of one, or allow a temporary server"
        )


def _command(port: int) -> list[str]:
    uvicorn = ["-m", "uvicorn", "--app-dir", str(prefect.__module_path__.parent), "--factory", SERVER]
    return [sys.executable, *uvicorn, "--host", HOST, "--port", str(port), "--log-level", "error", "--lifespan", "on"]


def _environment() -> dict[str, str]:
    return os.environ | AS_PREFECT_DOES | get_current_settings().to_environment_variables(exclude_unset=True)


def _wait_for(server: subprocess.Popen, url: str, said: IO[bytes]) -> None:
    limit = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    end = time.monotonic() + limit
    with httpx.Client() as client:
        while time.monotonic() < end:
            if server.poll() is not None:
                said.seek(0)
                raise TemporaryServerError(
                    f"Prefect's temporary server ended at its start (exit code {server.returncode}); start "
                    "`prefect server start` and set PREFECT_API_URL; it said:\n"
                    + said.read().decode(errors="replace")[-LAST_CHARACTERS:]
                )
            with suppress(httpx.TransportError):
                if client.get(f"{url}/health").is_success:
                    return
            time.sleep(POLL_S)
    raise TemporaryServerError(
        f"Prefect's temporary server did not come up within {limit} s: run the command again, raise "
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, or start `prefect server start` and set PREFECT_API_URL"
    )


def _end(server: subprocess.Popen) -> None:
    server.terminate()
    try:
        server.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
