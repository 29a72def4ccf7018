"""The run table: a file per run, nothing lost, one table over all."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from cosmosaic.run_table import COLUMNS, CRASHED, RUNNING, mark_crashed, read_runs, run_frame, write_run


def row(run_id, **values):
    return {"run_id": run_id, "start": f"2022-08-{int(run_id):02d}T00:00:00", "kind": "i2d", "product": "a", **values}


def test_runs_side_by_side_lose_nothing(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_run([row(str(number))] * 3, str(tmp_path), str(number)), range(1, 9)))
    table = read_runs(str(tmp_path))
    assert sorted(table["run_id"]) == sorted(3 * [str(number) for number in range(1, 9)])


def test_table_over_all_runs_is_in_the_order_they_started(tmp_path):
    for run_id in ("3", "1", "10", "2"):
        write_run([row(run_id, steps_executed=0)] * 2, str(tmp_path), run_id)
    for table in (pd.read_parquet(tmp_path / "summary.parquet"), read_runs(str(tmp_path))):
        assert list(table.columns) == list(COLUMNS)
        assert list(table["run_id"]) == ["1", "1", "2", "2", "3", "3", "10", "10"]
        assert set(table["steps_executed"]) == {0}


def test_runs_that_start_in_the_same_second_are_in_order(tmp_path):
    for run_id, start in (("1", "2022-08-01T00:00:00.020+00:00"), ("2", "2022-08-01T00:00:00.010+00:00")):
        write_run([row(run_id) | {"start": start}], str(tmp_path), run_id)
    for table in (pd.read_parquet(tmp_path / "summary.parquet"), read_runs(str(tmp_path))):
        assert list(table["run_id"]) == ["2", "1"]


def test_csv_has_the_rows_of_the_last_run(tmp_path):
    for run_id, made in (("2", 3), ("1", 2)):
        write_run([row(run_id)] * made, str(tmp_path), run_id)
    table = pd.read_csv(tmp_path / "summary.csv")
    assert list(table.columns) == list(COLUMNS)
    assert list(table["run_id"]) == [1, 1]


def test_a_run_writes_what_it_made_and_nothing_of_earlier_runs(tmp_path):
    write_run([row("1")] * 1000, str(tmp_path), "1")
    (first,) = (tmp_path / "summary.parquet").glob("*.parquet")
    before = first.stat()
    write_run([row("2", state="Running")], str(tmp_path), "2")
    write_run([row("2", state="Completed")], str(tmp_path), "2")
    assert (first.stat().st_mtime_ns, first.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert len(list((tmp_path / "summary.parquet").glob("*.parquet"))) == 2
    assert list(read_runs(str(tmp_path))["state"].iloc[-1:]) == ["Completed"]


def test_a_dead_run_is_marked_and_the_csv_stays_that_of_the_last(tmp_path):
    write_run([row("1", state=RUNNING)], str(tmp_path), "1")
    write_run([row("2", state="Completed")], str(tmp_path), "2")
    assert mark_crashed(str(tmp_path), "1")
    assert not mark_crashed(str(tmp_path), "2")
    assert not mark_crashed(str(tmp_path), "3")
    assert list(read_runs(str(tmp_path))["state"]) == [CRASHED, "Completed"]
    assert list(pd.read_csv(tmp_path / "summary.csv")["state"]) == ["Completed"]


def test_the_table_that_earlier_versions_wrote_as_one_file_is_taken_in(tmp_path):
    earlier = run_frame([row("1"), row("2")]).drop(columns=["stage1_engine"]).assign(members_sha256="old")
    earlier.to_parquet(tmp_path / "summary.parquet")
    before = (tmp_path / "summary.parquet").read_bytes()
    assert list(read_runs(str(tmp_path))["run_id"]) == ["1", "2"]
    write_run([row("3") | {"start": "2099-01-01T00:00:00"}], str(tmp_path), "3")
    assert list(pd.read_parquet(tmp_path / "summary.parquet")["run_id"]) == ["1", "2", "3"]
    assert list(read_runs(str(tmp_path))["run_id"]) == ["1", "2", "3"]
    assert (tmp_path / "summary-earlier.parquet").read_bytes() == before


def test_a_file_in_the_place_of_the_table_is_not_written_over(tmp_path):
    (tmp_path / "summary.parquet").write_text("mine")
    with pytest.raises(ValueError, match=r"summary\.parquet: no run table.*move it away"):
        write_run([row("1")], str(tmp_path), "1")
    assert (tmp_path / "summary.parquet").read_text() == "mine"


def test_run_that_made_nothing_is_in_the_table(tmp_path):
    write_run([{"run_id": "1", "start": "2022", "state": "Failed", "error": "no exposures"}], str(tmp_path), "1")
    (line,) = read_runs(str(tmp_path)).to_dict("records")
    assert line["error"] == "no exposures"
    assert pd.isna(line["product"])


def test_unknown_column_is_refused(tmp_path):
    with pytest.raises(KeyError, match="secret"):
        write_run([row("1", secret="x")], str(tmp_path), "1")


def test_module_prints_the_table(tmp_path):
    name = "my-survey_f115w_30mas_full_i2d.fits"
    made = row("1", state="Failed in part", filter="F115W", product=f"/a/{name}", size=123e6, wall_s=123456.7)
    write_run([made, made | {"kind": "catalogue"}], str(tmp_path), "1")
    command = [sys.executable, "-m", "cosmosaic", "summary"]
    shown = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in shown.splitlines() if "Failed in part" in line]
    assert line.split()[:2] == ["2022-08-01", "00:00"]
    assert "123457" in line
    assert name not in shown
    products = subprocess.run(
        [*command, str(tmp_path), "--products"], capture_output=True, text=True, check=True
    ).stdout
    assert products.count(name) == 2
    assert max(len(line) for line in products.splitlines()) <= 80
    everything = subprocess.run([*command, str(tmp_path), "--all"], capture_output=True, text=True, check=True).stdout
    assert f"/a/{name}" in everything
    empty = subprocess.run([*command, str(tmp_path / "no")], capture_output=True, text=True, check=False)
    assert (empty.returncode, "no runs are recorded" in empty.stderr) == (1, True)
