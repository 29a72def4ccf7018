"""The whole job on a real S3 server: raw frames in, products out, the same as in a folder."""

import hashlib
import io
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import s3fs
from bad_network import between

ROOT = Path(__file__).parents[2]
SMALL = """
name = "small"
[simulation]
detectors = ["NRCBLONG"]
filter_pairs = [{short = "F150W", long = "F444W"}]
subarray = "SUB160"
groups = 3
"""

pytestmark = [pytest.mark.s3, pytest.mark.slow]


@dataclass(frozen=True)
class Called:
    """One call of the command line."""

    code: int
    output: str
    wall_s: float


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "small.toml").write_text(SMALL)
    return folder


@pytest.fixture(scope="module")
def on_disk(workplace) -> dict[str, str]:
    """Products of the small survey, made in a folder: sha256 by name."""
    called = run_job(workplace, "disk")
    assert called.code == 0, called.output
    products = workplace / "disk" / "products"
    files = [path for path in products.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {
        str(path.relative_to(products)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if is_product(str(path.relative_to(products)))
    }


def run_job(folder: Path, store: str, **environment: str) -> Called:
    """Run `python flows/mosaic.py` as a user does."""
    cleared = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PREFECT_API"))}
    command = [sys.executable, str(ROOT / "flows" / "mosaic.py"), "small.toml", "--store", store]
    start = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env={**cleared, "PREFECT_HOME": str(folder / "prefect"), **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Called(done.returncode, done.stdout + done.stderr, time.monotonic() - start)


def is_product(name: str) -> bool:
    return not name.startswith(("runs/", "summary."))


def products_of(bucket: str) -> dict[str, str]:
    filesystem = s3fs.S3FileSystem(use_listings_cache=False)
    root = f"{bucket[5:]}/demo/products/"
    names = [path.removeprefix(root) for path in filesystem.find(root)]
    return {name: hashlib.sha256(filesystem.cat_file(root + name)).hexdigest() for name in names if is_product(name)}


def last_run(bucket: str) -> pd.Series:
    content = s3fs.S3FileSystem(use_listings_cache=False).cat_file(f"{bucket}/demo/products/summary.parquet")
    return pd.read_parquet(io.BytesIO(content)).iloc[-1]


def test_the_same_products_as_in_a_folder_and_a_second_run_does_nothing(s3, bucket, workplace, on_disk):
    first = run_job(workplace, f"{bucket}/demo", **s3.environment)
    assert first.code == 0, first.output
    assert products_of(bucket) == on_disk
    second = run_job(workplace, f"{bucket}/demo", **s3.environment)
    assert second.code == 0, second.output
    assert last_run(bucket)["steps_executed"] == 0
    assert products_of(bucket) == on_disk


def test_the_same_products_over_a_bad_network(s3, bucket, workplace, on_disk):
    with between(s3.port) as network:
        network.fault_rate, network.seed = 0.2, 20220830
        called = run_job(workplace, f"{bucket}/demo", **{**s3.environment, "AWS_ENDPOINT_URL": network.endpoint})
    assert called.code == 0, called.output
    assert products_of(bucket) == on_disk
    faults = sum(count for fault, count in network.faults.items() if fault)
    assert faults / network.requests == pytest.approx(0.2, abs=0.03)


def test_wrong_keys_are_one_clear_error_within_ten_seconds(s3, bucket, workplace):
    called = run_job(workplace, f"{bucket}/demo", **{**s3.environment, "AWS_SECRET_ACCESS_KEY": "wrong"})
    assert called.code != 0
    assert called.output.count("refuses access") == 1
    assert "AWS_SECRET_ACCESS_KEY" in called.output
    assert "Traceback" not in called.output
    assert called.wall_s < 10


def test_keys_are_nowhere_but_in_the_environment(s3, bucket, workplace):
    """Neither in what is printed nor in products, tables, cache records, artifacts and Prefect's database."""
    called = run_job(workplace, f"{bucket}/demo", **s3.environment)
    assert called.code == 0
    filesystem = s3fs.S3FileSystem(use_listings_cache=False)
    stored = {path: filesystem.cat_file(path) for path in filesystem.find(f"{bucket}/demo")}
    local = {str(path): path.read_bytes() for path in workplace.rglob("*") if path.is_file()}
    assert any("prefect.db" in path for path in local)
    assert any("/cache/results/" in path for path in stored)
    for secret in (s3.secret_key, s3.access_key):
        places = [path for path, content in {**stored, **local}.items() if secret.encode() in content]
        assert places == []
        assert secret not in called.output
