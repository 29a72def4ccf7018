"""The synthetic survey that the tests share: made once per session by the README's own command."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from astropy.table import QTable, Table

ROOT = Path(__file__).parents[1]
BANDS = ("F115W", "F150W", "F277W", "F444W")


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

    def catalog(self, band: str) -> QTable:
        return QTable.read(self.product(f"{band.lower()}_30mas_full_cat.ecsv"))

    def cals(self, band: str) -> list[Path]:
        members = pd.read_parquet(self.products / "summary.parquet").query("kind == 'i2d' and filter == @band")
        return [self.products / "exposures" / f"{name}_cal.fits" for name in members["frames"].iloc[0].split()]

    @property
    def sources(self) -> QTable:
        return QTable.read(self.store / "truth" / "sources.ecsv")

    @property
    def frames(self) -> Table:
        return Table.read(self.store / "truth" / "frames.ecsv")


def run_flow(folder: Path, *arguments: str, flow: str = "mosaic", prefect_home: Path | None = None) -> FlowRun:
    """Run a flow as a user does, from a folder of its own."""
    home = prefect_home or Path(os.environ.get("PREFECT_HOME", folder / ".prefect"))
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "CRDS_PATH": "/nonexistent",
        "CRDS_SERVER_URL": "https://no",
    }
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, str(ROOT / "flows" / f"{flow}.py"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return FlowRun(done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory):
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def demo(tmp_path_factory, prefect_home) -> Demo:
    folder = tmp_path_factory.mktemp("survey")
    run = run_flow(folder, prefect_home=prefect_home)
    assert run.code == 0, run.output
    return Demo(folder, run)
