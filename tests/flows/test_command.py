"""The `cosmosaic` command: what it can do is told without a server, and each subcommand tells its own settings."""

import os
import subprocess
import sys

import pytest

import cosmosaic
from flows.command import FLOWS, OTHERS


def run(*arguments, folder, **environment):
    command = [sys.executable, "-m", "cosmosaic", *arguments]
    known = os.environ | environment
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=known)


def test_help_names_every_command(tmp_path):
    shown = run("--help", folder=tmp_path)
    assert shown.returncode == 0
    assert all(f"  {name} " in shown.stdout for name in FLOWS | OTHERS)


def test_the_version_is_told(tmp_path):
    assert run("--version", folder=tmp_path).stdout == f"cosmosaic {cosmosaic.__version__}\n"


def test_an_unknown_command_is_named_and_costs_nothing(tmp_path):
    shown = run("mosaik", folder=tmp_path)
    assert shown.returncode == 2
    assert "no command 'mosaik'" in shown.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FLOWS)
def test_each_command_tells_its_own_name_and_settings(name, tmp_path):
    shown = run(name, "--help", folder=tmp_path)
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"usage: cosmosaic {name} ")
    assert "--grid.pixel_scale_mas" in shown.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["cleanup", "simulate"])
def test_the_flows_own_files_tell_their_own_names(name, tmp_path, pytestconfig):
    command = [sys.executable, str(pytestconfig.rootpath / "flows" / f"{name}.py"), "--help"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.stdout.startswith(f"usage: python flows/{name}.py ")


def test_the_flow_starts_without_the_packages_that_its_child_processes_work_with(tmp_path, pytestconfig):
    heavy = ("jwst", "stdatamodels", "gwcs", "photutils", "galsim", "numba", "matplotlib", "scipy")
    script = f"import sys, flows.mosaic\nprint([name for name in {heavy} if name in sys.modules])"
    command = [sys.executable, "-c", script]
    shown = subprocess.run(command, cwd=pytestconfig.rootpath, capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


@pytest.mark.parametrize("place", ["file", "below/file/prefect"])
def test_a_prefect_home_that_cannot_be_written_is_told_before_the_work(tmp_path, place):
    home = tmp_path / place
    blocked = home if place == "file" else home.parent
    blocked.parent.mkdir(exist_ok=True)
    blocked.touch()
    told = run("run", "--store", "demo", folder=tmp_path, PREFECT_HOME=str(home))
    assert told.returncode == 1
    assert f"PREFECT_HOME = {home}" in told.stderr
    assert "Traceback" not in told.stderr
    assert not (tmp_path / "demo").exists()


def test_a_temporary_server_that_does_not_come_up_in_time_is_told_in_one_sentence(tmp_path):
    home = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": ""}
    told = run("simulate", folder=tmp_path, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="1", **home)
    assert told.returncode == 1
    assert "temporary server did not come up within 1 s" in told.stderr
    assert "Traceback" not in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1


def test_a_temporary_server_that_the_user_forbids_is_not_started(tmp_path):
    home = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": ""}
    told = run("simulate", folder=tmp_path, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="false", **home)
    assert told.returncode == 1
    assert "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE is false and PREFECT_API_URL is not set" in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1
