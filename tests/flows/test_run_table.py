"""Each product's row of the run table shows the columns of the step that made it."""

from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from prefect import flow
from prefect.context import FlowRunContext
from support.exposure_files import put

from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.exposures.search import FoundExposures
from cosmosaic.steps.declaration import Outputs, Step
from cosmosaic.steps.files import File
from cosmosaic.storage import store
from cosmosaic.survey import ReferenceSettings, Survey
from tasks.runtime.caching import TASKS, step_task
from tasks.runtime.report import finish_run, open_run
from tasks.runtime.retries import COMPUTING

pytestmark = [pytest.mark.slow, pytest.mark.server]


JWST = version_of("jwst")


class Text(File, suffix=".txt", kind="text"):
    """A text."""


@dataclass(frozen=True)
class Joined(Outputs):
    """Texts in one."""

    joined: Text


@dataclass(frozen=True, kw_only=True)
class Join(Step[Joined]):
    """Join texts."""

    title = "Join"
    version = 1
    function = "support.children:join_files"
    per = "exposure"
    columns: ClassVar = {"files": "sources"}

    parts: tuple[Text, ...]
    word: str


@pytest.fixture
def join_task():
    yield step_task(Join, COMPUTING)
    del TASKS[Join]


def test_products_published_together_have_columns_of_their_own(prefect_server, join_task, tmp_path):
    survey = Survey(name="small", store=str(tmp_path / "store"), raw=str(tmp_path))
    parts = []
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(name)
        parts.append(Text(store.publish(tmp_path / f"{name}.txt", str(tmp_path / "parts" / f"{name}.txt"))))

    @flow
    def join():
        with open_run(survey) as run:
            made = run.submit(Join(parts=tuple(parts), word=" "), "all")
            run.publish("texts", [parts[0], made], {"filter": "F444W"})
            return finish_run(run, FoundExposures((), ()))

    join(return_state=True)
    rows = pd.read_csv(tmp_path / "store" / "products" / "summary.csv")
    sources = {Path(row["product"]).name: row["sources"] for _, row in rows.iterrows()}
    assert sources == {"a.txt": pytest.approx(np.nan, nan_ok=True), "joined.txt": 3}
    assert set(rows["filter"]) == {"F444W"}


@pytest.mark.parametrize(
    ("levels", "version", "context"),
    [
        (("cal",), "1.11.4", "jwst_1140.pmap"),
        (("cal", "uncal"), f"1.11.4; {JWST}", "jwst_0001.pmap; jwst_1140.pmap"),
        (("uncal",), JWST, "jwst_0001.pmap"),
    ],
)
def test_a_row_tells_what_its_own_exposures_were_calibrated_with(
    prefect_server, join_task, tmp_path, levels, version, context
):
    exposures = tuple(
        describe_exposure(str(put(tmp_path / "raw", number, level, CAL_VER="1.11.4", CRDS_CTX="jwst_1140.pmap")))
        for number, level in enumerate(levels, 1)
    )
    references = ReferenceSettings(crds_path=str(tmp_path), crds_context="jwst_0001.pmap")
    survey = Survey(name="small", store=str(tmp_path / "store"), raw=str(tmp_path / "raw"), references=references)
    file = tmp_path / f"{exposures[0].name}_a.txt"
    file.write_text("a")
    text = Text(store.publish(file, str(tmp_path / "parts" / file.name)))

    @flow
    def join():
        with open_run(survey) as run:
            run.publish("first", [text])
            run.publish("all", [run.submit(Join(parts=(text,), word=" "), "all")])
            return finish_run(run, FoundExposures(exposures, ()))

    join(return_state=True)
    rows = pd.read_csv(tmp_path / "store" / "products" / "summary.csv")
    of_first = rows["product"].str.contains(file.name)
    whole = rows[~of_first].iloc[0]
    assert (whole["calibration_version"], whole["crds_context"]) == (version, context)
    first = rows[of_first].iloc[0]
    expected = ("1.11.4", "jwst_1140.pmap") if levels[0] == "cal" else (JWST, "jwst_0001.pmap")
    assert (str(first["calibration_version"]), first["crds_context"]) == expected
    assert set(rows["jwst_version"]) == {JWST}


def test_prefect_keeps_nothing_of_a_step_that_has_ended(prefect_server, join_task, tmp_path):
    survey = Survey(name="small", store=str(tmp_path / "store"), raw=str(tmp_path))
    (tmp_path / "a.txt").write_text("a")
    part = Text(store.publish(tmp_path / "a.txt", str(tmp_path / "parts" / "a.txt")))
    kept = []

    @flow
    def join():
        with open_run(survey) as run:
            for word in ("b", "c"):
                run.submit(Join(parts=(part,), word=word), word)
            run.wait()
            kept.extend(map(len, (FlowRunContext.get().run_results, run.runner._cancel_events, run.ledger.executed)))
            return finish_run(run, FoundExposures((), ()))

    join(return_state=True)
    assert kept == [0, 0, 2]
