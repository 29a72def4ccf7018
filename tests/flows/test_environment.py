"""What a command line asks of the Prefect that it starts."""

import os
import subprocess
import sys

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    get_current_settings,
    temporary_settings,
)
from support.services import ROOT

from tasks.runtime.environment import prefect_defaults


@pytest.mark.parametrize(("server", "beats"), [(None, False), ("http://127.0.0.1:1/api", True)])
def test_heartbeats_go_to_a_server_that_the_user_named_and_to_no_temporary_one(server, beats):
    with temporary_settings({PREFECT_API_URL: server}), prefect_defaults():
        assert bool(get_current_settings().flows.heartbeat_frequency) == beats


def test_what_the_user_has_set_stays():
    chosen = {PREFECT_API_URL: None, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 60, PREFECT_SERVER_ANALYTICS_ENABLED: True}
    with temporary_settings(chosen), prefect_defaults():
        assert get_current_settings().flows.heartbeat_frequency == 60
        assert get_current_settings().server.analytics_enabled


def test_a_temporary_server_is_one_process_whose_code_the_flow_does_not_load_and_ends_with_it(tmp_path):
    script = """
import sys
from prefect.client.orchestration import get_client
from tasks.runtime.environment import prefect_defaults
from tasks.runtime.leftovers import temporary_servers
with prefect_defaults():
    with get_client(sync_client=True) as client:
        client.hello()
    print(len(temporary_servers()), "prefect.server.api.server" in sys.modules)
print(len(temporary_servers()))
"""
    foreign = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**foreign, "PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1", "False", "0"]
