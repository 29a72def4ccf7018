"""The shipped automation on a real server: a run that beats stays, a dead one is marked, a retry lives.

The beats are sent as a run sends them, in seconds instead of minutes.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest
import yaml
from support.services import ROOT, wait_for

pytestmark = [pytest.mark.server, pytest.mark.slow]

FILE = ROOT / "deployments" / "automations.yaml"
WITHIN_S = 10
"""What the automation waits for here: the shortest that Prefect allows."""
ENVIRONMENT = (ROOT / "deployments" / "cosmosaic.env.example").read_text()
COMPOSE = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())


class Run:
    """A flow run as the server sees it."""

    def __init__(self, api: str) -> None:
        self.api = api
        flow = self.ask("POST", "flows/", name="mosaic")["id"]
        self.id = self.ask("POST", "flow_runs/", flow_id=flow, state={"type": "RUNNING"})["id"]

    def ask(self, method: str, path: str, **body):
        answer = httpx.request(method, f"{self.api}/{path}", json=body or None, timeout=60)
        answer.raise_for_status()
        return answer.json()

    @property
    def state(self) -> str:
        return self.ask("GET", f"flow_runs/{self.id}")["state"]["type"]

    def become(self, kind: str) -> None:
        self.ask("POST", f"flow_runs/{self.id}/set_state", state={"type": kind}, force=True)

    def beat(self) -> None:
        event = {
            "event": "prefect.flow-run.heartbeat",
            "occurred": datetime.now(UTC).isoformat(),
            "resource": {"prefect.resource.id": f"prefect.flow-run.{self.id}"},
            "id": str(uuid4()),
        }
        httpx.post(f"{self.api}/events", json=[event], timeout=60).raise_for_status()

    def beat_for(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.beat()
            time.sleep(1.0)


@pytest.fixture(scope="module")
def watched(api, own_environment, tmp_path_factory) -> Iterator[str]:
    """A server with the automation, which waits for seconds; other tests' runs beat every 30 s and must not meet it."""
    text = FILE.read_text()
    assert "within: 300" in text
    file = tmp_path_factory.mktemp("automation") / "automations.yaml"
    file.write_text(text.replace("within: 300", f"within: {WITHIN_S}"))
    command = [sys.executable, "-m", "prefect", "automation", "create", "--from-file", str(file)]
    subprocess.run(command, env=own_environment, check=True, capture_output=True)
    yield api
    automations = httpx.post(f"{api}/automations/filter", json={}, timeout=60).json()
    for automation in automations:
        httpx.delete(f"{api}/automations/{automation['id']}", timeout=60).raise_for_status()


def test_a_run_that_beats_stays_and_one_that_stops_is_marked(watched):
    run = Run(watched)
    run.beat_for(2.5 * WITHIN_S)
    assert run.state == "RUNNING"
    wait_for(lambda: run.state == "CRASHED", limit_s=60)


def test_a_retry_lives_after_a_heartbeat_that_came_later_than_the_failure(watched):
    run = Run(watched)
    run.beat()
    run.become("FAILED")
    run.beat()
    run.become("SCHEDULED")
    run.become("RUNNING")
    time.sleep(2 * WITHIN_S)
    assert run.state == "RUNNING"
    run.beat_for(2)
    wait_for(lambda: run.state == "CRASHED", limit_s=60)


def test_a_run_that_has_ended_keeps_its_state(watched):
    run = Run(watched)
    run.beat()
    run.become("FAILED")
    run.beat()
    time.sleep(2 * WITHIN_S)
    assert run.state == "FAILED"


@pytest.mark.parametrize("place", ["cosmosaic.env.example", "compose.yaml"])
def test_the_automation_waits_for_at_least_four_beats(place):
    name = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
    if place == "compose.yaml":
        every_s = COMPOSE["services"]["worker"]["environment"].get(name) or COMPOSE["x-client"][name]
    else:
        every_s = next(line.split("=")[1] for line in ENVIRONMENT.splitlines() if line.startswith(f"{name}="))
    (automation,) = yaml.safe_load(FILE.read_text())["automations"]
    assert automation["trigger"]["within"] >= 4 * float(every_s)
