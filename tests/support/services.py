"""The parts of a production as plain processes: PostgreSQL, Prefect server and worker."""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import yaml

from support.programs import require_program
from support.s3_server import free_ports

ROOT = Path(__file__).parents[2]
POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
"""Where Debian keeps the programs of its PostgreSQL versions."""

START_LIMIT_S = 120.0
FAST = {
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
}
"""Waits that are there to spare large servers."""

COMPOSE = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())
TUNED = {
    name: str(value)
    for name, value in COMPOSE["services"]["server"]["environment"].items()
    if name.startswith("PREFECT_SERVER_SERVICES_")
}
"""What the server of a production is told besides."""


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL server on an empty database; gives its URL for Prefect."""
    initdb = require_program("initdb", *POSTGRESQL)
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    # It refuses to be run by root.
    owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    (port,) = free_ports(1)
    try:
        options = ["--no-sync", "--auth=trust", "--username=prefect", "--encoding=UTF8", "--locale=C"]
        subprocess.run([initdb, *options, folder / "data"], check=True, capture_output=True, cwd=folder, **user)
        settings = [
            "listen_addresses=127.0.0.1",
            f"port={port}",
            f"unix_socket_directories={folder}",
            "fsync=off",
            "max_connections=200",
        ]
        command = [initdb.with_name("postgres").resolve(), "-D", folder / "data"]
        command += [argument for setting in settings for argument in ("-c", setting)]
        with process([str(part) for part in command], folder / "log", dict(os.environ), cwd=folder, **user):
            ready = [str(initdb.resolve().with_name("pg_isready")), "-h", "127.0.0.1", "-p", str(port)]
            wait_for(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, folder / "log")
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def prefect_server(database: str, home: Path) -> Iterator[str]:
    """Run a Prefect server on a database, from an empty PREFECT_HOME; gives the URL of its API."""
    (port,) = free_ports(1)
    environment = {
        **os.environ,
        **FAST,
        **TUNED,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}/api"
    with process(command, home / "server.log", environment):
        wait_for(lambda: httpx.get(f"{url}/health").is_success, home / "server.log")
        yield url


@contextmanager
def process_worker(pool: str, environment: dict[str, str], folder: Path) -> Iterator[Path]:
    """Run a worker of a process pool from a folder of its own; gives its log."""
    log = folder / "worker.log"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--limit", "6", "--with-healthcheck"]
    (port,) = free_ports(1)
    with process(command, log, {**environment, **FAST, "PREFECT_WORKER_WEBSERVER_PORT": str(port)}, cwd=folder):
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{port}/health").is_success, log)
        yield log


@contextmanager
def process(command: list[str], log: Path, environment: dict[str, str], **options) -> Iterator[subprocess.Popen]:
    """Run a program until the context ends, with all that it started."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        running = subprocess.Popen(
            command, stdout=stream, stderr=stream, env=environment, start_new_session=True,
            preexec_fn=_end_with_parent, **options,
        )  # fmt: skip
        try:
            yield running
        finally:
            running.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                running.wait(20)
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def wait_for(condition: Callable[[], object], log: Path | None = None, limit_s: float = START_LIMIT_S):
    """Ask again and again until a condition holds; returns what it said."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        with suppress(httpx.TransportError):
            if said := condition():
                return said
        time.sleep(0.3)
    raise TimeoutError(f"nothing after {limit_s:g} s" + (f":\n{log.read_text()[-4000:]}" if log else ""))


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
