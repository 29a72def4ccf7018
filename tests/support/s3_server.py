"""A real S3 server for the tests: OpenStack Swift with its S3 interface, from PyPI, on this machine.

It refuses wrong keys, honours conditional writes and checks checksums, which the small S3 servers for tests do not.
It is installed into an environment of its own, once.
"""

import fcntl
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import s3fs

from cosmosaic.storage import remote

PACKAGES = ("swift", "setuptools")
ACCESS_KEY, SECRET_KEY = "survey:astronomer", "a-secret-that-must-not-be-seen"
START_LIMIT_S = 60.0
STORES = ("account", "container", "object")

PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
user = {user}
log_level = ERROR

[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats bulk s3api tempauth copy slo dlo proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true

[filter:tempauth]
use = egg:swift#tempauth
user_{key_user} = {secret} .admin

[filter:s3api]
use = egg:swift#s3api
location = us-east-1
force_swift_request_proxy_log = false

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""

BACKEND = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
user = {user}
log_level = ERROR
fallocate_reserve = 0

[pipeline:main]
pipeline = {name}-server

[app:{name}-server]
use = egg:swift#{name}
"""


@dataclass(frozen=True)
class S3Server:
    """Where the server listens and who may use it."""

    endpoint: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY

    @property
    def port(self) -> int:
        return int(self.endpoint.rsplit(":", 1)[1])

    @property
    def environment(self) -> dict[str, str]:
        """What a user sets to work with the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def install(folder: Path) -> Path:
    """Return the programs' folder of an environment with the server, made on the first call."""
    programs = folder / "venv" / "bin"
    with (folder / "lock").open("w") as lock:  # sessions at once install it once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder / "venv")], check=True)
            subprocess.run([str(programs / "pip"), "install", "--quiet", *PACKAGES], check=True)
            (folder / "installed").touch()
    return programs


@contextmanager
def serve(programs: Path, folder: Path) -> Iterator[S3Server]:
    """Run the server with its objects in a folder, until the context ends."""
    ports = dict(zip(("proxy", *STORES), free_ports(4), strict=True))
    (folder / "devices" / "disk").mkdir(parents=True)
    for name in STORES:
        _make_ring(programs, folder, name, ports[name])
    with (folder / "log").open("wb") as log:
        processes = [_start(programs, folder, name, port, log) for name, port in ports.items()]
        try:
            server = S3Server(f"http://127.0.0.1:{ports['proxy']}")
            _wait_until_ready(server, processes, folder)
            yield server
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                process.kill()


def forget_stores() -> None:
    """Let the next access to a store look at the environment again."""
    s3fs.S3FileSystem.clear_instance_cache()
    remote._has_credentials.cache_clear()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _make_ring(programs: Path, folder: Path, name: str, port: int) -> None:
    builder = folder / f"{name}.builder"
    for command in (
        ["create", "4", "1", "0"],
        ["add", "--region", "1", "--zone", "1", "--ip", "127.0.0.1", "--port", str(port), "--device", "disk",
         "--weight", "1"],
        ["rebalance"],
    ):  # fmt: skip
        done = subprocess.run(
            [str(programs / "swift-ring-builder"), str(builder), *command], capture_output=True, text=True, check=False
        )
        # 1 is a warning: one copy on one disk is not much of a ring.
        if done.returncode > 1:
            raise RuntimeError(done.stdout + done.stderr)


def _start(programs: Path, folder: Path, name: str, port: int, log) -> subprocess.Popen:
    template = PROXY if name == "proxy" else BACKEND
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    configuration = folder / f"{name}-server.conf"
    key_user = ACCESS_KEY.replace(":", "_")
    configuration.write_text(
        template.format(port=port, folder=folder, name=name, user=user, key_user=key_user, secret=SECRET_KEY)
    )
    (folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\nswift_hash_path_prefix = tests\n")
    command = [str(programs / f"swift-{name}-server"), str(configuration)]
    # swift.conf is read from a fixed place unless the program is told otherwise; prctl(PR_SET_PDEATHSIG, SIGKILL) ends
    # the server with the tests, even killed ones.
    run = (
        "import ctypes, sys, runpy, swift.common.utils as u; ctypes.CDLL(None).prctl(1, 9); "
        f"u.SWIFT_CONF_FILE = {str(folder / 'swift.conf')!r}; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return subprocess.Popen([str(programs / "python"), "-c", run, *command], stdout=log, stderr=log)


def _wait_until_ready(server: S3Server, processes: list[subprocess.Popen], folder: Path) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit and all(process.poll() is None for process in processes):
        try:
            urllib.request.urlopen(server.endpoint, timeout=5)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the S3 server did not start:\n{(folder / 'log').read_text()[-2000:]}")
