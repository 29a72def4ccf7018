"""Sources put into the exposures of a survey: what is repeated, what stays, and what is told."""

import hashlib
import re

import numpy as np
import pytest
from astropy.table import Table
from support.small_survey import BAND, SmallSurvey, new_survey, observe

from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.geometry.grid import sky_to_pixel, survey_grid
from cosmosaic.geometry.windows import lattice
from cosmosaic.records import STATES
from cosmosaic.run_table import read_runs
from cosmosaic.survey import GridSettings
from flows.inject import inject

pytestmark = [pytest.mark.slow, pytest.mark.server]

SETTINGS = {"sources": 12, "per_arcmin2": 200.0}
REPEATED = {"Drizzle", "Reference", "Outliers", "Combine", "Mosaic", "Catalogue", "Inject", "Draw sources"}


def products(small: SmallSurvey) -> dict[str, str]:
    """The sha256 of the survey's own products, without the run table."""
    files = (path for path in small.products.rglob("[!.]*") if path.is_file())
    names = {str(path.relative_to(small.products)): path for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not name.startswith(("runs/", "summary", "injection/"))
    }


def injected(small: SmallSurvey) -> Table:
    return Table.read(small.products / "injection" / "small_injected.ecsv")


@pytest.fixture(scope="module")
def tested(small):
    """The survey's products before its injection, and the steps of the injection."""
    assert small.run().state == "Completed"
    before = products(small)
    return before, observe(small.survey(injection=SETTINGS), inject)


def test_the_survey_itself_is_neither_repeated_nor_changed(small, tested):
    before, observed = tested
    assert observed.state == "Completed"
    assert observed.failed == {}
    assert products(small) == before
    once = {label for label in observed.executed if ", injection " not in label}
    assert once == {
        f"Verdict on catalogue: {BAND}", "Negative: full", "Match injected: 12 sources", "Publish: injected sources",
        f"Publish: {BAND} injection", "Corrections: full", "Publish: corrections full",
    }  # fmt: skip
    assert {label.split(":")[0] for label in observed.executed - once} == REPEATED


def test_what_became_of_each_source_is_told(small, tested):
    table = injected(small)
    assert 10 <= len(table) <= 12
    assert set(table["round"]) == set(range(1, 1 + max(table["round"])))
    bright = (table["f444w_snr"] > 30) & table["isolated"]
    assert table["found"][bright].all()
    ratio = (table["f444w_aper_flux"] / table["f444w_true_flux"])[bright & (table["kind"] == "star")]
    assert len(ratio)
    assert np.ma.allclose(ratio, 1.0, atol=0.1)
    verdict = Table.read(small.products / "injection" / f"small_{BAND.lower()}_injection.ecsv")
    assert list(verdict["name"]) == ["completeness", "bias", "galaxy_bias", "pull_width"]
    runs = read_runs(str(small.products))
    rows = runs[runs["kind"] == "injection verdict"]
    assert set(rows["injection_verdict"]) == {verdict.meta["state"]}
    assert verdict.meta["state"] in STATES
    assert set(rows["filter"]) == {BAND}
    assert set(rows["injected_sources"]) == {len(table)}


def test_the_corrections_have_the_rows_of_the_survey_s_catalogue(small, tested):
    table = Table.read(small.products / "injection" / "small_full_corrections.ecsv")
    catalog = Table.read(small.products / "small_full_cat.ecsv")
    assert table["id"].tolist() == catalog["id"].tolist()
    # Twelve injected sources tell nothing.
    assert table["completeness"].mask.all()


def test_the_same_injection_is_looked_up_also_as_a_part_of_the_survey(small, tested):
    assert observe(small.survey(injection=SETTINGS), inject).executed == set()
    again = observe(small.survey(injection=SETTINGS | {"with_products": True}))
    assert again.state == "Completed"
    # Only the page tells more than before.
    assert again.executed == {f"Catalogue page: {BAND}", "Publish: catalogue page"}
    assert f"Verdict on catalogue: {BAND}" in again.cached
    verdict = Table.read(small.products / "injection" / f"small_{BAND.lower()}_injection.ecsv").meta["state"]
    runs = read_runs(str(small.products))
    assert runs[runs["kind"] == "catalogue page"]["injection_verdict"].iloc[-1] == verdict
    page = (small.products / "small_catalogue.html").read_text(encoding="utf-8")
    assert f">{verdict}</span>" in page
    assert "not measured" not in page.partition("</style>")[2]
    links = [link for link in re.findall(r'href="([^"]*)"', page) if link.startswith("injection/")]
    assert len(links) == 4
    assert all((small.products / link).is_file() for link in links)


def test_another_seed_injects_other_sources(small, tested):
    before = {(row["ra"], row["dec"]) for row in injected(small)}
    assert observe(small.survey(injection=SETTINGS | {"seed": 2}), inject).state == "Completed"
    after = {(row["ra"], row["dec"]) for row in injected(small)}
    assert not before & after


def test_mosaics_without_errors_have_no_catalogue_to_test(small, tested):
    before = set(read_runs(str(small.products))["run_id"])
    state = inject(small.survey(injection=SETTINGS, drizzle={"errors": "none"}), return_state=True)
    assert state.is_failed()
    assert "drizzle.errors" in str(state.result(raise_on_failure=False))
    # It was refused before anything was done.
    assert set(read_runs(str(small.products))["run_id"]) == before


def test_a_survey_without_room_for_sources_is_made_all_the_same(simulated, tmp_path):
    small = new_survey(simulated, tmp_path)
    tangent = {"tangent_ra": 150.11, "tangent_dec": 2.2, "rotation": 20.0}
    footprints = {path.name: read_footprint(path) for path in small.frames}
    whole = lattice(survey_grid(GridSettings(**tangent), footprints))
    corners = np.concatenate([sky_to_pixel(whole, footprint) for footprint in footprints.values()])
    # Sources keep off the rim, on which this tile lies.
    x, y = np.rint(corners[np.argmin(corners[:, 0])]) - 4
    tiles = Table({"name": ["rim"], "crpix_x": [-x - 0.5], "crpix_y": [-y - 0.5], "nx": [8], "ny": [8]})
    tiles.write(tmp_path / "tiles.ecsv", format="ascii.ecsv")
    grid = tangent | {"tiles": str(tmp_path / "tiles.ecsv")}
    observed = observe(small.survey(grid=grid, injection=SETTINGS | {"with_products": True}))
    assert (observed.state, observed.failed) == ("Completed", {})
    (log,) = small.products.glob("runs/*.log")
    assert "no room for injected sources" in log.read_text()
    page = (small.products / "small_catalogue.html").read_text(encoding="utf-8")
    assert "the injection gave no result; the log of the run says why" in " ".join(page.split())
    assert ">pass</span>" not in page
