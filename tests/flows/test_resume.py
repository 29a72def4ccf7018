"""What is killed is taken up again: the next run does what was unfinished and makes the same products.

`COSMOSAIC_KILLS=20 pytest tests/tasks/test_resume.py` kills the flow twenty times.
"""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from unittest import mock

import pandas as pd
import psutil
import pytest
from astropy.io import fits
from prefect.settings import PREFECT_API_URL, PREFECT_HOME
from support.small_survey import BAND, new_survey
from support.source_ids import different_but_for_ids

import flows.mosaic
from cosmosaic.processes import workers
from tasks.runtime import report

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("COSMOSAIC_KILLS", "2"))
SEED = 20220830
ORPHANS_END_S = 5.0
"""Children look for their parent once a second; until they are gone their scratch folders are not removed."""
STARTING_S = 6.0
"""Before this the flow has not begun: nothing can be lost."""

pytestmark = [pytest.mark.slow, pytest.mark.server]


@pytest.fixture(scope="module", autouse=True)
def children_end_with_their_run():
    workers.stop_workers()
    with mock.patch.object(report, "workers", workers):
        yield


@pytest.fixture(scope="module")
def undisturbed(simulated, tmp_path_factory):
    """Products of a run that nobody disturbed, and how long it took."""
    small = new_survey(simulated, tmp_path_factory.mktemp("undisturbed"))
    start = time.monotonic()
    code, output = start_flow(small).wait(), "see above"
    assert code == 0, output
    return contents(small.products), time.monotonic() - start


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_flow_is_taken_up_and_its_products_are_the_same(simulated, undisturbed, tmp_path, kill):
    products, wall_s = undisturbed
    small = new_survey(simulated, tmp_path)
    flow = start_flow(small)
    time.sleep(random.Random(f"{SEED} {kill}").uniform(STARTING_S, wall_s))
    flow.kill()
    flow.wait()
    time.sleep(ORPHANS_END_S)
    finished = set((small.cache / "results").glob("*")) if small.cache.exists() else set()
    resumed = small.run(resources={"scratch": str(tmp_path / "scratch")})
    assert resumed.state == "Completed"
    assert contents(small.products) == products
    # A step whose record may have been half written is done again; every other one is looked up.
    assert len(resumed.cached) >= len(finished) - 1
    assert list((tmp_path / "scratch").glob("*")) == []
    assert [path for path in small.folder.rglob("*.part") if small.products not in path.parents] == []


def test_a_flow_that_breaks_while_steps_are_under_way_ends_and_is_in_the_run_table(simulated, tmp_path, monkeypatch):
    small = new_survey(simulated, tmp_path)

    def broken(*_):
        raise ValueError("broken on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(flows.mosaic, "show_all_filters", broken)
        assert flows.mosaic.mosaic(small.survey(), return_state=True).name == "Failed"
    row = pd.read_parquet(small.products / "summary.parquet").iloc[-1]
    assert (row["state"], row["error"]) == ("Failed", "ValueError: broken on purpose")
    again = small.run()
    assert again.state == "Completed"
    assert len(again.cached) >= row["steps_executed"]


def test_two_runs_at_once_make_the_same_products_and_each_says_what_it_did(simulated, undisturbed, tmp_path):
    small = new_survey(simulated, tmp_path)
    flows = [start_flow(small) for _ in range(2)]
    assert [flow.wait() for flow in flows] == [0, 0]
    assert contents(small.products) == undisturbed[0]
    steps = pd.read_parquet(small.products / "summary.parquet").groupby("run_id")[["steps_executed", "steps_cached"]]
    counts = steps.first()
    assert len(counts) == 2
    # Each run either did a step or found it done: none is lost, and no run does more than all of them.
    assert counts.sum(axis="columns").nunique() == 1
    assert counts["steps_executed"].sum() >= counts.iloc[0].sum()
    again = small.run()
    assert (again.state, again.executed) == ("Completed", set())


def test_a_killed_child_is_replaced_and_its_step_done_again(simulated, undisturbed, tmp_path):
    small = new_survey(simulated, tmp_path)
    killed = []

    def kill_a_child():
        while not killed:
            time.sleep(0.2)
            at_work = children() if (small.cache / "calibrate_ramp").exists() else []
            if at_work:
                at_work[0].kill()
                killed.append(at_work[0].pid)

    killer = threading.Thread(target=kill_a_child, daemon=True)
    killer.start()
    observed = small.run()
    killed.append(0)
    killer.join()
    assert len(killed) == 2, "no child was caught at work"
    assert (observed.state, observed.failed) == ("Completed", {})
    assert contents(small.products) == undisturbed[0]


def test_a_lost_scratch_folder_costs_no_more_than_the_next_run(simulated, undisturbed, tmp_path):
    small = new_survey(simulated, tmp_path)
    scratch = tmp_path / "scratch"
    resources = {"scratch": str(scratch)}
    lost = threading.Event()

    def lose_scratch():
        while not (small.cache / "calibrate_ramp").exists():
            time.sleep(0.1)
        shutil.rmtree(scratch, ignore_errors=True)
        lost.set()

    threading.Thread(target=lose_scratch, daemon=True).start()
    small.run(resources=resources)
    assert lost.is_set()
    assert small.run(resources=resources).state == "Completed"
    # The first run may have given ids to the sources of the exposures that it had.
    assert different_but_for_ids(contents(small.products), undisturbed[0]) == set()


def test_an_exposure_that_fails_for_good_is_left_out_by_name_and_added_when_repaired(simulated, tmp_path):
    small = new_survey(simulated, tmp_path)
    broken = small.frames[0]
    whole = broken.read_bytes()
    name = broken.name.removesuffix("_uncal.fits")
    with fits.open(broken, mode="update") as hdus:
        # What is wrong shows when the exposure is calibrated: no pixel has a ramp.
        hdus["SCI"].data[:] = 65535
    partial = small.run()
    assert partial.state == "Failed in part"
    assert f"Inspect: {name}" in partial.failed
    assert all(name in label for label in partial.failed)
    assert f"Mosaic: {BAND}" in partial.executed
    broken.write_bytes(whole)
    repaired = small.run()
    assert repaired.state == "Completed"
    assert f"Calibrate: {name}" in repaired.executed
    others = {path.name.removesuffix("_uncal.fits") for path in small.frames[1:]}
    assert {f"Calibrate: {other}" for other in others} <= repaired.cached


def start_flow(small) -> subprocess.Popen:
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "PREFECT_HOME": str(PREFECT_HOME.value())}
    command = [sys.executable, str(ROOT / "flows" / "mosaic.py"), str(small.settings_file())]
    return subprocess.Popen(command, env=environment, cwd=small.folder, stderr=subprocess.DEVNULL)


def contents(products: Path) -> dict[str, str]:
    return {
        str(path.relative_to(products)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(products.rglob("*"))
        if path.is_file()
        and not path.name.startswith((".", "summary."))
        and path.parent.name not in ("summary.parquet", "runs")
    }


def children() -> list[psutil.Process]:
    """Child processes of the pool that are alive."""
    found = []
    for each in psutil.Process().children():
        with suppress(psutil.Error):
            if "--multiprocessing-fork" in each.cmdline():
                found.append(each)
    return found


def test_a_run_that_fails_at_its_start_has_its_row(simulated, tmp_path):
    small = new_survey(simulated, tmp_path)
    state = flows.mosaic.mosaic(small.survey(resources={"memory_gb": 1e6}), return_state=True)
    assert state.name == "Failed"
    (row,) = pd.read_parquet(small.products / "summary.parquet").to_dict("records")
    assert row["state"] == "Failed"
    assert "resources.memory_gb" in row["error"]
