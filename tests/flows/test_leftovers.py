"""A killed flow's server is ended by the next flow; a living flow's is not, nor one that somebody started."""

import os
import subprocess
import sys

import psutil
import pytest

from tasks.runtime.leftovers import GIVING_WAY, SERVER, end_orphaned_servers, let_servers_give_way, temporary_servers

SLEEP = "import time; time.sleep(60)"
FLOW = f"""
import subprocess, sys
from tasks.runtime.leftovers import mark_flow_process
mark_flow_process()
print(subprocess.Popen([sys.executable, "-c", "{SLEEP}", "{SERVER}"]).pid, flush=True)
{SLEEP}
"""


@pytest.fixture
def flow():
    """A process that started a server and lives on."""
    flow = subprocess.Popen([sys.executable, "-c", FLOW], stdout=subprocess.PIPE, text=True)
    yield flow, int(flow.stdout.readline())
    flow.kill()
    flow.wait()
    end_orphaned_servers()


def test_the_server_of_a_killed_flow_is_ended_and_that_of_a_living_one_is_not(flow):
    process, server = flow
    assert server not in end_orphaned_servers()
    process.kill()
    process.wait()
    assert server in end_orphaned_servers()


def test_a_server_that_somebody_started_is_left_alone():
    unmarked = {name: value for name, value in os.environ.items() if not name.startswith("COSMOSAIC_")}
    server = subprocess.Popen([sys.executable, "-c", SLEEP, SERVER], env=unmarked)
    try:
        assert server.pid not in end_orphaned_servers()
        assert server.poll() is None
    finally:
        server.kill()
        server.wait()


def test_a_temporary_server_gives_way_to_the_steps_and_nothing_else_does():
    server, other = (
        subprocess.Popen([sys.executable, "-c", SLEEP, name]) for name in (SERVER, "a child that does steps")
    )
    try:
        before = psutil.Process().nice()
        let_servers_give_way()
        assert psutil.Process(server.pid).nice() == GIVING_WAY
        assert psutil.Process(other.pid).nice() == psutil.Process().nice() == before
    finally:
        for started in (server, other):
            started.kill()
            started.wait()


def test_a_child_that_has_just_ended_is_no_server_and_stops_nobody():
    server = subprocess.Popen([sys.executable, "-c", SLEEP, SERVER])
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    try:
        found = {each.pid for each in temporary_servers()}
        assert server.pid in found
        assert ended.pid not in found
    finally:
        for started in (server, ended):
            started.kill()
            started.wait()
