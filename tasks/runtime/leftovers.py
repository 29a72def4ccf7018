"""Temporary Prefect servers: they yield CPU time to the steps, and servers left behind by killed flows are ended.

The server that Prefect starts for a flow without a server is a separate process; a killed flow cannot end it.
"""

import os
from contextlib import suppress

import psutil

MARK = "COSMOSAIC_FLOW_PROCESS"
"""Environment variable that the server inherits: which process it was started for."""

SERVER = "prefect.server.api.server:create_app"
GIVING_WAY = 10
"""Niceness of a temporary server: its records can wait, the steps need the CPU."""


def mark_flow_process() -> None:
    """Mark the servers that this process starts as its own."""
    os.environ[MARK] = _identity(psutil.Process())


def temporary_servers() -> list[psutil.Process]:
    """Return the servers that this process started."""
    return [child for child in psutil.Process().children() if _is_server(child)]


def let_servers_give_way() -> None:
    """Give the temporary server only the CPU time that the steps leave."""
    for server in temporary_servers():
        with suppress(psutil.Error):  # ended meanwhile
            server.nice(GIVING_WAY)


def end_temporary_servers() -> None:
    """End the servers that this process started, at once: it is about to end, and their data are stored."""
    for server in temporary_servers():
        with suppress(psutil.Error):  # ended meanwhile
            server.kill()


def end_orphaned_servers() -> list[int]:
    """End the temporary servers whose flow has ended; return their process numbers."""
    ended = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # ended meanwhile, or somebody else's
            if _is_server(process) and _is_orphan(process.environ().get(MARK)):
                process.kill()
                ended.append(process.pid)
    return ended


def _is_server(process: psutil.Process) -> bool:
    try:
        return SERVER in process.cmdline()
    except psutil.Error:  # ended meanwhile, or somebody else's
        return False


def _is_orphan(mark: str | None) -> bool:
    if mark is None:
        return False
    try:
        return _identity(psutil.Process(int(mark.split("-")[0]))) != mark
    except psutil.NoSuchProcess:
        return True


def _identity(process: psutil.Process) -> str:
    # Process numbers are reused; together with its start time a process is unique.
    return f"{process.pid}-{process.create_time():.2f}"
