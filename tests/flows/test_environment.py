"""What a command line asks of the Prefect that it starts."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import psutil
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


def test_a_temporary_server_is_one_process_whose_code_the_flow_does_not_load_and_gets_its_last_log(tmp_path):
    script = """
import sys
from prefect import flow, get_run_logger
from tasks.runtime.environment import prefect_defaults
from tasks.runtime.leftovers import temporary_servers
@flow
def last_words():
    get_run_logger().info("the last line")
with prefect_defaults():
    last_words()
print(*(server.pid for server in temporary_servers()), "prefect.server.api.server" in sys.modules)
"""
    foreign = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**foreign, "PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    server, is_loaded = said.stdout.split()
    assert is_loaded == "False"
    assert not psutil.pid_exists(int(server))
    assert "Error logging to API" not in said.stderr
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as database:
        assert database.execute("select count(*) from log where message = 'the last line'").fetchone() == (1,)
