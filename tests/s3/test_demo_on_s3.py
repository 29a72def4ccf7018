"""The whole job on a real S3 server: raw exposures in, products out, the same as in a folder."""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import s3fs
from conftest import is_product
from support.bad_network import between

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.s3, pytest.mark.slow]


@dataclass(frozen=True)
class Called:
    """One call of the command line."""

    code: int
    output: str


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("workplace")


@pytest.fixture(scope="module")
def on_disk(demo) -> dict[str, str]:
    """Products of the synthetic survey in a folder: sha256 by name."""
    names = {path: str(path.relative_to(demo.products)) for path in demo.products.rglob("*") if path.is_file()}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path, name in names.items()
        if is_product(name) and not path.name.startswith(".")
    }


def run_job(folder: Path, store: str, **environment: str) -> Called:
    """Run `python flows/mosaic.py` as a user does."""
    cleared = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PREFECT_API"))}
    command = [sys.executable, str(ROOT / "flows" / "mosaic.py"), "--store", store]
    done = subprocess.run(
        command, cwd=folder, env={**cleared, "PREFECT_HOME": str(folder / "prefect"), **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Called(done.returncode, done.stdout + done.stderr)


def products_of(bucket: str) -> dict[str, str]:
    filesystem = s3fs.S3FileSystem(use_listings_cache=False)
    root = f"{bucket[5:]}/demo/products/"
    names = [path.removeprefix(root) for path in filesystem.find(root)]
    return {name: hashlib.sha256(filesystem.cat_file(root + name)).hexdigest() for name in names if is_product(name)}


def last_run(bucket: str) -> pd.Series:
    s3fs.S3FileSystem.clear_instance_cache()
    return pd.read_parquet(f"{bucket}/demo/products/summary.parquet").iloc[-1]


def test_the_same_products_as_in_a_folder_over_a_bad_network_and_a_second_run_does_nothing_and_keys_are_nowhere(
    s3, bucket, workplace, on_disk
):
    with between(s3.port) as network:
        network.fault_rate, network.seed = 0.2, 20220830
        first = run_job(workplace, f"{bucket}/demo", **{**s3.environment, "AWS_ENDPOINT_URL": network.endpoint})
    assert first.code == 0, first.output
    assert products_of(bucket) == on_disk
    faults = sum(count for fault, count in network.faults.items() if fault)
    assert faults / network.requests == pytest.approx(0.2, abs=0.03)
    second = run_job(workplace, f"{bucket}/demo", **s3.environment)
    assert second.code == 0, second.output
    assert last_run(bucket)["steps_executed"] == 0
    assert products_of(bucket) == on_disk
    assert places_with_keys(s3, bucket, workplace, first.output + second.output) == []


def test_wrong_keys_are_one_clear_error_before_a_server_is_started(s3, bucket, workplace):
    home = workplace / "never-used"
    keys = {**s3.environment, "AWS_SECRET_ACCESS_KEY": "wrong", "PREFECT_HOME": str(home)}
    called = run_job(workplace, f"{bucket}/demo", **keys)
    assert called.code != 0
    assert called.output.count("refuses access") == 1
    assert "AWS_SECRET_ACCESS_KEY" in called.output
    assert "Traceback" not in called.output
    assert not (home / "prefect.db").exists()


def places_with_keys(s3, bucket: str, workplace: Path, output: str) -> list[str]:
    """Where the keys were written: output, products, tables, cache records, artifacts, Prefect's database."""
    filesystem = s3fs.S3FileSystem(use_listings_cache=False)
    stored = {path: filesystem.cat_file(path) for path in filesystem.find(f"{bucket}/demo")}
    local = {str(path): path.read_bytes() for path in workplace.rglob("*") if path.is_file()}
    assert any("prefect.db" in path for path in local)
    assert any("/cache/results/" in path for path in stored)
    searched = {**stored, **local, "output": output.encode()}
    secrets = [secret.encode() for secret in (s3.secret_key, s3.access_key)]
    return [path for path, content in searched.items() if any(secret in content for secret in secrets)]
