"""The page on catalogues is made whatever becomes of the injection and of other windows."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
from prefect import flow
from support.catalogs import random_columns, write_window

from cosmosaic.catalog.steps import CatalogParquet, DepthMap, Psf
from cosmosaic.census.steps import TakeCensus, WriteCatalogPage
from cosmosaic.exposures.search import FoundExposures
from cosmosaic.injection.steps import CompletenessTable, InjectedTable, InjectionVerdict
from cosmosaic.mosaic.steps import Mosaic
from cosmosaic.steps.declaration import Outputs, Step
from cosmosaic.steps.files import File
from cosmosaic.storage import store
from cosmosaic.survey import Survey
from tasks.runtime.caching import TASKS, step_task
from tasks.runtime.report import finish_run, open_run
from tasks.runtime.retries import COMPUTING

pytestmark = [pytest.mark.slow, pytest.mark.server]

BANDS = ("F150W", "F444W")


@dataclass(frozen=True)
class Broken(Outputs):
    """What is never made."""

    verdict: InjectionVerdict
    completeness: CompletenessTable
    injected: InjectedTable
    catalog: CatalogParquet


@dataclass(frozen=True, kw_only=True)
class Break(Step[Broken]):
    """Fails."""

    title = "Break"
    version = 1
    function = "support.children:promise_breaker"
    per = "survey"
    columns: ClassVar = {}

    parts: tuple[File, ...]
    word: str = " "


@pytest.fixture
def break_task():
    yield step_task(Break, COMPUTING)
    del TASKS[Break]


def test_the_page_is_made_where_the_injection_and_a_window_failed(prefect_server, break_task, tmp_path):
    survey = Survey(name="small", store=str(tmp_path / "store"), raw=str(tmp_path))
    window = write_window(tmp_path / "made", "west", random_columns(80, BANDS), BANDS)

    def kept(kind, path: Path):
        return kind(store.publish(path, str(tmp_path / "kept" / path.name)))

    catalog = kept(CatalogParquet, window.catalog)
    files = {
        name: {band: kept(kind, path) for band, path in getattr(window, name).items()}
        for name, kind in (("mosaics", Mosaic), ("depths", DepthMap), ("psfs", Psf))
    }

    @flow
    def write():
        with open_run(survey) as run:
            broken = run.submit(Break(parts=(catalog,)), "injection")
            census = {
                tile: run.submit(TakeCensus(catalog=one, wavelengths_um={}, window=tile, **files), tile).census
                for tile, one in (("west", catalog), ("east", broken.catalog))
            }
            step = WriteCatalogPage(
                census=census,
                verdicts=dict.fromkeys(BANDS, broken.verdict),
                completeness=dict.fromkeys(BANDS, broken.completeness),
                injected=broken.injected,
                survey="small",
                windows=("west", "east"),
                is_injection_asked_for=True,
                links={},
                injection_links={band: {band: f"injection/{band}"} for band in BANDS},
            )
            run.publish("catalogue page", [run.submit(step, "all")])
            return finish_run(run, FoundExposures((), ()))

    assert write(return_state=True).is_failed()
    products = tmp_path / "store" / "products"
    (row,) = (row for _, row in pd.read_csv(products / "summary.csv").iterrows())
    assert (row["kind"], row["sources"], row["injection_verdict"]) == ("catalogue page", 80, "not measured")
    text = " ".join((products / "small_catalogue.html").read_text(encoding="utf-8").split())
    assert "the injection gave no result; the log of the run says why" in text
    assert "Without a catalogue: east" in text
    assert ">pass</span>" not in text
    assert "injection/" not in text
