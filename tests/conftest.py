"""The synthetic survey that the tests share: made once per session by the README's own command."""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from astropy.table import QTable, Table
from support.s3_server import S3Server, install, serve

from cosmosaic.processes import workers

ROOT = Path(__file__).parents[1]
REUSED = os.environ.get("COSMOSAIC_TEST_DEMO")
"""Folder of a survey made earlier, which spares its making while tests are written."""

BANDS = ("F115W", "F150W", "F277W", "F444W")

SMALL = """
name = "small"
[simulation]
detectors = ["NRCBLONG"]
filter_pairs = [{short = "F150W", long = "F444W"}]
subarray = "SUB160"
groups = 3
"""
"""A survey of three small exposures."""

SERVER_MARKERS = ("s3", "server")
"""Tests with real servers: minutes each, so a plain `pytest` on a laptop leaves them to CI and to `pytest -m`."""


SHARED = {"demo", "s3_server", "api", "prefect_server"}
"""Fixtures that take minutes, or a server of their own: what uses none of them is a unit test."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if _is_unit(item):
            item.add_marker(pytest.mark.unit)
    if os.environ.get("CI") or config.option.markexpr or config.option.file_or_dir:
        return
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in SERVER_MARKERS)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _is_unit(item: pytest.Item) -> bool:
    shared = SHARED.intersection(getattr(item, "fixturenames", ()))
    marked = any(item.get_closest_marker(name) for name in SERVER_MARKERS)
    return not shared and not marked and item.path.parent.name != "flows"


@dataclass(frozen=True)
class FlowRun:
    """One call of `python flows/mosaic.py`."""

    code: int
    output: str


@dataclass(frozen=True)
class Demo:
    """The synthetic survey, its products and its truth."""

    folder: Path
    run: FlowRun

    @property
    def store(self) -> Path:
        return self.folder / "demo"

    @property
    def products(self) -> Path:
        return self.store / "products"

    def product(self, ending: str) -> Path:
        """The one product whose name ends so."""
        (path,) = self.products.rglob(f"*{ending}")
        return path

    def mosaic(self, band: str) -> Path:
        return self.product(f"{band.lower()}_30mas_full_i2d.fits")

    @property
    def catalog(self) -> QTable:
        return QTable.read(self.product("_full_cat.ecsv"))

    def cals(self, band: str) -> list[Path]:
        members = pd.read_parquet(self.product(f"{band.lower()}_30mas_full_members.parquet"))
        return [self.products / "exposures" / f"{name}_cal.fits" for name in members["exposure"]]

    @property
    def sources(self) -> QTable:
        return QTable.read(self.store / "truth" / "sources.ecsv")

    @property
    def frames(self) -> Table:
        return Table.read(self.store / "truth" / "exposures.ecsv")


def run_flow(
    folder: Path, *arguments: str, flow: str = "mosaic", prefect_home: Path | None = None, api_url: str | None = None
) -> FlowRun:
    """Run a flow as a user does, from a folder of its own."""
    home = prefect_home or Path(os.environ.get("PREFECT_HOME", folder / ".prefect"))
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "CRDS_PATH": "/nonexistent",
        "CRDS_SERVER_URL": "https://no",
    }
    environment.pop("PREFECT_API_URL", None)
    if api_url:
        environment["PREFECT_API_URL"] = api_url
    command = [sys.executable, str(ROOT / "flows" / f"{flow}.py"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return FlowRun(done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="session")
def s3_server(pytestconfig, tmp_path_factory) -> S3Server:
    """A real S3 server for the session."""
    programs = install(pytestconfig.cache.mkdir("swift"))
    with serve(programs, tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory):
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def demo(tmp_path_factory, prefect_home) -> Demo:
    """Made by the README's command; or, with COSMOSAIC_TEST_DEMO, the folder in which it was run before."""
    if REUSED:
        return Demo(Path(REUSED).absolute(), FlowRun(0, ""))
    folder = tmp_path_factory.mktemp("survey")
    run = run_flow(folder, prefect_home=prefect_home)
    assert run.code == 0, run.output
    return Demo(folder, run)


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory, prefect_home) -> Path:
    """The products of the small survey, made on this machine."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.toml").write_text(SMALL)
    run = run_flow(folder, "small.toml", "--store", "disk", prefect_home=prefect_home)
    assert run.code == 0, run.output
    return folder / "disk" / "products"


@pytest.fixture(scope="session")
def small_products(small_folder) -> dict[str, str]:
    """The sha256 of each product of the small survey, by name."""
    files = [path for path in small_folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {
        name: hashlib.sha256((small_folder / name).read_bytes()).hexdigest()
        for name in (str(path.relative_to(small_folder)) for path in files)
        if is_product(name)
    }


def is_product(name: str) -> bool:
    """Tell products from what differs from run to run: the run table."""
    return not name.startswith(("runs/", "summary."))


@pytest.fixture(scope="session")
def crds(demo) -> dict[str, str]:
    """The environment in which CRDS uses the survey's own cache; an empty value unsets a variable."""
    return {
        "CRDS_PATH": str(demo.store / "crds"),
        "CRDS_CONTEXT": "jwst_0001.pmap",
        "CRDS_READONLY_CACHE": "1",
        "CRDS_SERVER_URL": "",
    }


@pytest.fixture(scope="session")
def children(crds) -> workers.WorkerPlan:
    """A child process for the work with jwst, which all tests share: importing jwst takes seconds."""
    return workers.plan_workers(1, None, 600.0, None, crds)
