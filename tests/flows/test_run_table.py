"""Each product's row of the run table shows the columns of the step that made it."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from prefect import flow

from cosmosaic.exposures.search import FoundExposures
from cosmosaic.steps.declaration import Outputs, Step
from cosmosaic.steps.files import File
from cosmosaic.storage import store
from cosmosaic.survey import Survey
from tasks.runtime.caching import TASKS, step_task
from tasks.runtime.report import finish_run, open_run
from tasks.runtime.retries import COMPUTING

pytestmark = [pytest.mark.slow, pytest.mark.server]


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
