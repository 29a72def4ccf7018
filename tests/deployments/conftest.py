"""Fixtures: one production for all tests of this folder."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from support.production import POOL, Production
from support.services import ROOT, postgresql, prefect_server, process_worker

WAITS = {"within: 60": "within: 4", "schedule_after: 75": "schedule_after: 6"}
"""What the deployment file says, and what the tests have the patience for."""


@pytest.fixture(scope="session")
def database() -> str:
    """URL of a PostgreSQL database that has nothing in it yet."""
    with postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def api(database, tmp_path_factory) -> str:
    """URL of a Prefect server that has nothing in it yet."""
    with prefect_server(database, tmp_path_factory.mktemp("home")) as url:
        yield url


@pytest.fixture(scope="session")
def own_environment(api, tmp_path_factory) -> dict[str, str]:
    """Environment of somebody who uses the server; without keys of the store."""
    foreign = ("AWS_", "PREFECT_", "CRDS_", "COSMOSAIC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    home = tmp_path_factory.mktemp("user")
    return {**kept, "PREFECT_HOME": str(home), "PREFECT_API_URL": api, "DO_NOT_TRACK": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session")
def observed(own_environment, tmp_path_factory) -> Path:
    """Three exposures and their reference files, made by the project's own command."""
    folder = tmp_path_factory.mktemp("observed")
    (folder / "small.toml").write_text(SMALL)
    command = [sys.executable, str(ROOT / "flows" / "simulate.py"), "small.toml", "--store", "."]
    subprocess.run(command, cwd=folder, env=own_environment, check=True)
    return folder


@pytest.fixture(scope="session")
def production(api, database, own_environment, observed, s3_server, tmp_path_factory) -> Production:
    """Deployed, and a worker waits for runs."""
    folder = tmp_path_factory.mktemp("worker")
    bucket = "s3://team"
    environment = {
        **own_environment,
        "COSMOSAIC_NAME": "small",
        "COSMOSAIC_STORE": f"{bucket}/small",
        "COSMOSAIC_RAW": f"{bucket}/raw",
    }
    crds = {"CRDS_PATH": str(observed / "crds"), "CRDS_CONTEXT": "jwst_0001.pmap"}
    worker_environment = {**own_environment, **s3_server.environment, **crds}
    frames = tuple(sorted((observed / "raw").glob("*_uncal.fits")))
    made = Production(api, database, environment, worker_environment, s3_server, bucket, frames, folder)
    made.store.mkdir(bucket)
    for frame in frames[:2]:
        made.arrive(frame)
    made.prefect("work-pool", "create", POOL, "--type", "process")
    made.deploy(ROOT / "deployments" / "prefect.yaml")
    with process_worker(POOL, worker_environment, folder):
        yield made


@pytest.fixture(scope="session")
def first_run(production) -> dict[str, Any]:
    """The survey's first run, triggered through the API."""
    return production.finish(production.start("mosaic/survey"))


@pytest.fixture(scope="session")
def impatient(production, tmp_path_factory) -> Production:
    """The production with short waits after an event."""
    text = (ROOT / "deployments" / "prefect.yaml").read_text()
    for said, shorter in WAITS.items():
        assert said in text
        text = text.replace(said, shorter)
    file = tmp_path_factory.mktemp("impatient") / "prefect.yaml"
    file.write_text(text)
    production.deploy(file)
    return production
