"""A run that is cancelled from the UI, which sets the state `Cancelling` as this does."""

from datetime import datetime

import pandas as pd
import pytest
from support.services import wait_for

pytestmark = [pytest.mark.server, pytest.mark.s3, pytest.mark.slow]

ERROR = 40
GRACE_S = 30.0
"""After this Prefect kills the run's process, which is to end by itself."""


def _is_calibrating(production, run: str) -> bool:
    return any(name.startswith("Calibrate") and state == "Running" for name, state in production.task_runs(run).items())


def test_a_run_cancelled_in_the_middle_of_its_steps_ends_by_itself_and_logs_no_error(production):
    anew = production.deployment("mosaic/survey")["parameters"]["survey"] | {"name": "cancelled"}
    anew["store"] = f"{production.bucket}/cancelled"
    run = production.start("mosaic/survey", survey=anew)
    wait_for(lambda: _is_calibrating(production, run))
    production.ask("POST", f"flow_runs/{run}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})
    assert production.finish(run)["state"]["name"] == "Cancelled"
    states = production.ask("GET", f"flow_run_states/?flow_run_id={run}")
    moment = {state["name"]: datetime.fromisoformat(state["timestamp"]) for state in states}
    assert (moment["Cancelled"] - moment["Cancelling"]).total_seconds() < GRACE_S
    found = production.ask("POST", "logs/filter", logs={"flow_run_id": {"any_": [run]}}, limit=200)
    assert "Flow run was cancelled." in [log["message"] for log in found]
    assert [log["message"] for log in found if log["level"] >= ERROR] == []
    with production.store.open(f"{production.bucket}/cancelled/products/summary.csv") as table:
        assert list(pd.read_csv(table)["state"]) == ["Cancelled"]
