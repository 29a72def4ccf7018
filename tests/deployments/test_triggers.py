"""What starts a run, that it costs what is new alone, and that runs of one survey never overlap."""

import functools
import json
import time
from datetime import UTC, datetime
from uuid import uuid4

import pandas as pd
import pytest
import yaml
from fsspec.implementations.local import LocalFileSystem
from support.services import ROOT, wait_for
from support.source_ids import assert_same_sources, different_but_for_ids

from tasks.watch import ARRIVED

pytestmark = [pytest.mark.server, pytest.mark.s3, pytest.mark.slow]

QUIET_S = 8.0
"""Longer than the tests' wait after an event: what has not started by then does not start."""


@pytest.fixture(scope="module")
def after_event(impatient, first_run):
    """The runs that a new exposure started, which was told of by a burst of notifications."""
    since = datetime.now(UTC)
    uri = impatient.arrive(impatient.frames[2])
    impatient.notify(uri, uri)
    time.sleep(1.0)
    impatient.notify(uri)
    return impatient.settle("mosaic/survey", since, 1), since


def test_a_burst_of_notifications_makes_one_run(impatient, after_event):
    _, since = after_event
    time.sleep(QUIET_S)
    assert len(impatient.settle("mosaic/survey", since, 1)) == 1


def test_a_new_exposure_costs_its_own_steps_and_those_it_touches(impatient, after_event):
    (run,), _ = after_event
    assert run["name"] == "small: 3 exposures, 1 filter"
    states = impatient.task_runs(run["id"])
    first, second, new = (frame.name.removesuffix("_uncal.fits") for frame in impatient.frames)
    # Levels that were solved stay, so that the exposures that had them are not drizzled again.
    for step in ("Calibrate", "Cells", "Drizzle"):
        assert states[f"{step}: {new}"] == "Completed"
        # Only what is executed becomes a task run.
        assert not {f"{step}: {old}" for old in (first, second)} & states.keys()
    assert states["Mosaic: F444W"] == "Completed"
    with impatient.store.open(f"{impatient.bucket}/small/products/summary.csv") as table:
        row = pd.read_csv(table).set_index("flow_run_id").loc[[run["id"]]].iloc[0]
    assert row["steps_cached"] >= 8


def test_a_survey_that_grew_and_is_solved_anew_has_the_products_of_one_that_was_whole(
    impatient, after_event, small_products, small_folder
):
    """Run by a worker in two parts, or on one machine at once: the bytes are the same, but for the ids of sources."""
    survey = impatient.deployment("mosaic/survey")["parameters"]["survey"]
    impatient.finish(impatient.start("mosaic/survey", survey=survey | {"resolve": True}))
    grown = impatient.products()
    assert different_but_for_ids(grown, small_products) == set()
    with (
        impatient.store.open(f"{impatient.bucket}/small/products/small_full_cat.parquet") as of_grown,
        LocalFileSystem().open(f"{small_folder}/small_full_cat.parquet") as of_whole,
    ):
        assert_same_sources(of_grown, of_whole)


def test_an_object_elsewhere_starts_nothing(impatient, after_event):
    since = datetime.now(UTC)
    impatient.notify("s3://team/rawish/frame.fits", "s3://team/small/products/small_f444w_30mas_full_i2d.fits")
    time.sleep(QUIET_S)
    assert impatient.runs("mosaic/survey", since) == []


def test_a_look_at_the_prefix_tells_of_new_exposures_once(impatient, after_event):
    since = datetime.now(UTC)
    looks = [impatient.finish(impatient.start("watch/new-exposures")) for _ in range(2)]
    assert [look["state"]["message"] for look in looks] == [
        "3 new exposures under s3://team/raw",
        "0 new exposures under s3://team/raw",
    ]
    (run,) = impatient.settle("mosaic/survey", since, 1)
    assert run["state"]["message"] == "1 mosaic, 0 steps executed"


def test_a_clean_up_takes_what_the_survey_has_outgrown(impatient, after_event):
    survey = impatient.deployment("cleanup/clean-cache")["parameters"]["survey"]
    before = set(impatient.store.find(f"{impatient.bucket}/small/cache"))
    for dry_run, verb in ((True, "could be"), (False, "were")):
        cleanup = {"older_than_days": 0, "dry_run": dry_run}
        run = impatient.finish(impatient.start("cleanup/clean-cache", survey=survey | {"cleanup": cleanup}))
        assert f" {verb} removed" in run["state"]["message"]
        gone = before - set(impatient.store.find(f"{impatient.bucket}/small/cache"))
        assert bool(gone) is not dry_run
    assert any("/assemble_mosaic/" in path for path in gone)
    assert not any("/calibrate_ramp/" in path for path in gone)


def test_two_triggers_at_once_run_one_after_the_other(impatient, after_event):
    runs = [impatient.start("mosaic/survey") for _ in range(2)]
    first, second = sorted((impatient.finish(run) for run in runs), key=lambda run: run["start_time"])
    assert {run["state"]["message"] for run in (first, second)} == {"1 mosaic, 0 steps executed"}
    assert datetime.fromisoformat(first["end_time"]) <= datetime.fromisoformat(second["start_time"])


def test_the_next_nights_are_scheduled(production):
    def nights():
        found = production.ask(
            "POST", "flow_runs/filter",
            deployments={"id": {"any_": [production.deployment("mosaic/survey")["id"]]}},
            flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}},
        )  # fmt: skip
        return [run["expected_start_time"] for run in found if run["auto_scheduled"]]

    assert all("T03:00:00" in night for night in wait_for(nights))


def test_a_shortened_schedule_makes_a_run(impatient, after_event):
    deployment = impatient.deployment("mosaic/survey")
    (nightly,) = deployment["schedules"]
    assert (nightly["slug"], nightly["schedule"]["cron"], nightly["active"]) == ("nightly", "0 3 * * *", True)
    now = datetime.now(UTC)
    address = f"deployments/{deployment['id']}/schedules"
    often = {"interval": 15, "anchor_date": now.isoformat(), "timezone": "UTC"}
    (made,) = impatient.ask("POST", address, [{"schedule": often, "active": True}])
    try:
        begun = wait_for(lambda: [run for run in impatient.runs("mosaic/survey", now) if has_begun_by_itself(run)])
    finally:
        # Its runs that have not begun go with it.
        impatient.answer("DELETE", f"{address}/{made['id']}").raise_for_status()
    assert impatient.finish(begun[0]["id"])["state"]["message"] == "1 mosaic, 0 steps executed"


def has_begun_by_itself(run):
    return run["auto_scheduled"] and run["state"]["type"] != "SCHEDULED"


def test_amazons_notifications_become_events_that_the_server_takes(production):
    written = json.loads((ROOT / "deployments" / "eventbridge.json").read_text())["InputTransformer"]
    sent = {
        "id": str(uuid4()),
        "time": "2026-01-02T03:04:05Z",
        "detail": {
            "bucket": {"name": "elsewhere"},
            "object": {"key": "raw/jw01727001001_02101_00001_nrca1_uncal.fits"},
        },
    }
    template = written["InputTemplate"]
    for name, path in written["InputPathsMap"].items():
        value = functools.reduce(lambda inside, key: inside[key], path.removeprefix("$.").split("."), sent)
        template = template.replace(f"<{name}>", value)
    (event,) = json.loads(template)
    assert event["event"] == ARRIVED
    assert event["resource"]["prefect.resource.id"].startswith("s3://elsewhere/raw/jw0172")
    assert production.answer("POST", "events", [event]).status_code == 204


def test_the_written_waits_cover_a_burst():
    """A run starts after the time in which further events are ignored: it sees their exposures too."""
    deployments = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]
    (trigger,) = [trigger for deployment in deployments for trigger in deployment.get("triggers", [])]
    assert trigger["schedule_after"] > trigger["within"]
