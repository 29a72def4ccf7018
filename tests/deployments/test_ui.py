"""What a person sees in the Prefect UI, looked at in a real browser.

`COSMOSAIC_SCREENSHOTS=folder pytest tests/deployments/test_ui.py` keeps pictures of the pages.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright
from support.programs import require_browser
from support.services import wait_for

pytestmark = [pytest.mark.server, pytest.mark.s3, pytest.mark.slow]

PATIENCE_MS = 60_000
HIGH = {"width": 1400, "height": 1000}


@pytest.fixture(scope="module")
def browser_page():
    browser = require_browser()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(browser), args=["--no-sandbox"])
        page = running.new_page(viewport=HIGH)
        page.set_default_timeout(PATIENCE_MS)
        yield page
        running.close()


@pytest.fixture
def page(production, browser_page, request):
    """A page whose addresses are below the UI's; a picture of it is kept where that is asked for."""
    yield lambda path: _opened(browser_page, production.api.removesuffix("/api") + path)
    if folder := os.environ.get("COSMOSAIC_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser_page.wait_for_timeout(1000)
        browser_page.screenshot(path=Path(folder) / f"{request.node.name}.png")


def _opened(page: Page, url: str) -> Page:
    page.goto(url)
    return page


def test_the_form_shows_the_settings_in_their_order_with_units_and_choices(production, page):
    deployment = production.deployment("mosaic/survey")
    shown = page(f"/deployments/deployment/{deployment['id']}/run")
    shown.get_by_text("Pixel scale in milliarcseconds.").wait_for()
    text = shown.inner_text("body")
    said = [
        "Name of the survey; products begin with it.",
        "Folder or URL (s3://bucket/prefix) under which raw/, products/ and cache/ lie.",
        "Drizzle kernel.",
        "Memory for all child processes together",
    ]
    places = [text.find(each) for each in said]
    assert -1 not in places
    assert places == sorted(places)
    definitions = deployment["parameter_openapi_schema"]["definitions"]
    described = [
        field["description"]
        for model in ("GridSettings", "SkySettings")
        for field in definitions[model]["properties"].values()
    ]
    assert [each for each in described if " ".join(each.split()) not in text] == []


def test_an_untouched_form_starts_a_run_with_a_name_that_says_what_it_works_on(production, first_run, page):
    since = datetime.now(UTC)
    shown = page(f"/deployments/deployment/{production.deployment('mosaic/survey')['id']}/run")
    shown.get_by_text("Pixel scale in milliarcseconds.").wait_for()
    shown.get_by_role("button", name="Submit").click()
    wait_for(lambda: production.runs("mosaic/survey", since))
    (run,) = production.settle("mosaic/survey", since, 1)
    arrived = len(production.store.find(f"{production.bucket}/raw"))
    assert (run["state"]["type"], run["name"]) == ("COMPLETED", f"small: {arrived} exposures, 1 filter")


def test_the_run_page_shows_the_steps_and_what_they_worked_on(production, first_run, page):
    shown = page(f"/runs/flow-run/{first_run['id']}")
    shown.get_by_text("small: 2 exposures, 1 filter").first.wait_for()
    frame = production.frames[0].name.removesuffix("_uncal.fits")
    shown.get_by_text(f"Calibrate: {frame}: ").first.wait_for()


def test_the_previews_show_as_pictures(production, first_run, page):
    previews = production.artifacts(first_run["id"])["previews"]
    shown = page(f"/artifacts/artifact/{previews['id']}")
    shown.get_by_text("small_f444w_30mas_full.png").wait_for()
    widths = shown.evaluate("[...document.images].filter(i => i.src.startsWith('data:')).map(i => i.naturalWidth)")
    assert len(widths) == 2
    assert min(widths) > 100


@pytest.mark.parametrize(
    ("key", "shown_text"),
    [("exposures", "NRCBLONG"), ("summary", "s3://team/small/products/small_f444w_30mas_full_i2d.fits")],
)
def test_the_tables_of_exposures_and_products_show(production, first_run, page, key, shown_text):
    shown = page(f"/artifacts/artifact/{production.artifacts(first_run['id'])[key]['id']}")
    shown.get_by_text(shown_text).first.wait_for()
