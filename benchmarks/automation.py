"""The shipped automation for dead runs, with its own waits: ``python benchmarks/automation.py --json FILE``.

A flow is served as a worker does it, with the frequency of heartbeats that the guide sets, on a Prefect server with
PostgreSQL that has the shipped automation. A run of ten minutes must complete; one whose process is killed must be
marked as crashed, ``killed_marked_s`` after that; one that failed and is retried as the UI does it must complete too.
It takes some twelve minutes, nearly all of them waiting.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from support.services import postgresql, prefect_server, process, wait_for  # noqa: E402

UNDISTURBED_S = 600.0
RETRIED_S = 400.0
"""Longer than the automation waits."""
KILLED_AFTER_S = 60.0
LIMIT_S = 1200.0
ENVIRONMENT = (ROOT / "deployments" / "cosmosaic.env.example").read_text()
FREQUENCY = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
FLOW = """
import os
import sys
import time
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run


@flow
def waiting(seconds: float, fails_first: bool = False):
    if fails_first and flow_run.run_count == 1:
        raise RuntimeError("the first time")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(str(flow_run.id))
    time.sleep(seconds)


if __name__ == "__main__":
    waiting(1000) if len(sys.argv) > 1 else waiting.serve("waiting", limit=10)
"""


class Server:
    """The API of a Prefect server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """Return the answer to a request."""
        answer = httpx.request(method, f"{self.url}/{path}", json=body or None, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def start(self, **parameters: Any) -> str:
        """Start a run of the flow; return its id."""
        deployment = self.ask("GET", "deployments/name/waiting/waiting")["id"]
        return self.ask("POST", f"deployments/{deployment}/create_flow_run", parameters=parameters)["id"]

    def state(self, run: str) -> str:
        """Return the type of a run's state."""
        return self.ask("GET", f"flow_runs/{run}")["state"]["type"]

    def wait(self, run: str, *states: str) -> str:
        """Wait until a run has one of some states; return which."""
        return wait_for(lambda: (found := self.state(run)) in states and found, limit_s=LIMIT_S)


def measure(server: Server, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Start the three runs; return what became of them."""
    undisturbed = server.start(seconds=UNDISTURBED_S)
    retried = server.start(seconds=RETRIED_S, fails_first=True)
    # By itself: the process that serves runs would notice, as it does not when its machine dies.
    told = folder / "run"
    with process([sys.executable, "waiting.py", str(told)], folder / "killed.log", environment, cwd=folder) as dying:
        killed = wait_for(lambda: told.exists() and told.read_text(), folder / "killed.log")
        server.wait(retried, "FAILED")
        server.ask("POST", f"flow_runs/{retried}/set_state", state={"type": "SCHEDULED", "name": "AwaitingRetry"})
        time.sleep(KILLED_AFTER_S)
        dying.kill()
    died, ended = time.monotonic(), ("CRASHED", "FAILED", "COMPLETED")
    return {
        "killed": server.wait(killed, *ended),
        "killed_marked_s": round(time.monotonic() - died, 1),
        "undisturbed_s": UNDISTURBED_S,
        "undisturbed": server.wait(undisturbed, *ended),
        "retried": server.wait(retried, *ended),
    }


def main() -> None:
    """Run it and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    arguments = parser.parse_args()
    (frequency,) = (line.split("=")[1] for line in ENVIRONMENT.splitlines() if line.startswith(f"{FREQUENCY}="))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cosmosaic-automation-")))
        url = stack.enter_context(prefect_server(stack.enter_context(postgresql()), folder / "server"))
        environment = {**os.environ, "PREFECT_API_URL": url, "PREFECT_HOME": str(folder / "home"), FREQUENCY: frequency}
        create = ["automation", "create", "--from-file", str(ROOT / "deployments" / "automations.yaml")]
        subprocess.run([sys.executable, "-m", "prefect", *create], env=environment, check=True)
        (folder / "waiting.py").write_text(FLOW)
        log = folder / "serving.log"
        stack.enter_context(process([sys.executable, "waiting.py"], log, environment, cwd=folder))
        server = Server(url)
        wait_for(lambda: httpx.get(f"{url}/deployments/name/waiting/waiting").is_success, log)
        figures = measure(server, folder, environment)
    arguments.json.write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
