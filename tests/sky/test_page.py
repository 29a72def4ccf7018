"""The page of a survey's verdict: whole in itself, small, and drawn by a real browser."""

import re
import subprocess
from html.parser import HTMLParser
from typing import NamedTuple

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from PIL import Image
from support.programs import require_browser
from support.skies import GRID, PIXEL_RMS, SIDE, make_survey

from cosmosaic.cells.units import write_cells
from cosmosaic.geometry.windows import Box, box_of, lattice, tile_name, window_of
from cosmosaic.records import STATES
from cosmosaic.sky.methods import clean, solve_overlaps
from cosmosaic.verdict.judgement import gather_verdict, judge_exposures, judge_tiles
from cosmosaic.verdict.metrics import leniency
from cosmosaic.verdict.page import write_page

TRUE = 0.3 + PIXEL_RMS * np.array([0.0, 0.3, -0.2, 0.1, 0.25, -0.3, 0.15, -0.1])
LARGEST_BYTES = 3_000_000
TILES = tuple(
    window_of(GRID, Box(96 * column, 96 * row, 96, 96), tile_name(column, row)) for row in (0, 1) for column in (0, 1)
)


def reaching(tile):
    """Names of the exposures that have cells in a tile."""
    part = box_of(tile)
    return [
        exposure.name
        for exposure in make_survey(TRUE).exposures
        if part.intersection(Box(exposure.origin[1], exposure.origin[0], SIDE, SIDE)).pixels
    ]


class Cells(NamedTuple):
    """The files of a survey before and after its sky was subtracted, and the judgements on all of it."""

    before: dict
    after: dict
    judgements: dict


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """A survey judged with one exposure whose sky was left in by a tenth of a pixel's noise."""
    folder = tmp_path_factory.mktemp("judged")
    survey = make_survey(TRUE)
    levels = {name: level.value for name, level in solve_overlaps(clean(survey)).levels.items()}
    levels["exposure4"] -= 0.1 * PIXEL_RMS
    before, after = {}, {}
    for exposure in survey.exposures:
        before[exposure.name] = write_cells(exposure, folder / f"{exposure.name}_cells.npz")
        exposure.mean[...] -= levels[exposure.name]
        after[exposure.name] = write_cells(exposure, folder / f"{exposure.name}_cleared.npz")
    files = {
        when: judge_exposures(cells, lattice(GRID), when, folder).files["judgement"]
        for when, cells in (("before", before), ("after", after), ("noise", after))
    }
    return Cells(before, after, files)


@pytest.fixture(scope="module")
def judged(cells, tmp_path_factory):
    """The verdict, each tile judged by the exposures that reach it."""
    folder = tmp_path_factory.mktemp("gathered")
    parts = tuple(judge(cells, reaching(tile), (tile,), folder) for tile in TILES)
    return gather_verdict(cells.judgements, parts, None, "mock_f150w", folder)


def judge(cells, names, tiles, folder):
    """Return the table of some tiles, judged by some exposures."""
    before, after = ({name: files[name] for name in names} for files in (cells.before, cells.after))
    judgements = {when: cells.judgements[when] for when in ("before", "after")}
    return judge_tiles(before, after, judgements, tiles, folder).files["table"]


def test_tiles_are_judged_by_the_exposures_that_reach_them_as_by_all(cells, judged, tmp_path):
    assert {len(reaching(tile)) for tile in TILES} == {7, 8}
    everything = judge(cells, list(cells.before), TILES, tmp_path)
    assert judged.files["tiles"].read_text() == everything.read_text()


def test_a_part_without_tiles_that_are_judged_leaves_the_others_as_they_are(cells, judged, tmp_path):
    far = window_of(GRID, Box(5000, 5000, 96, 96), "far")
    nothing = judge(cells, ["exposure0"], (far,), tmp_path)
    whole = judge(cells, list(cells.before), TILES, tmp_path)
    again = gather_verdict(cells.judgements, (nothing, whole), None, "mock_f150w", tmp_path)
    assert again.files["tiles"].read_text() == judged.files["tiles"].read_text()
    (tmp_path / "none").mkdir()
    without = gather_verdict(cells.judgements, (nothing,), None, "mock_f150w", tmp_path / "none")
    assert len(Table.read(without.files["tiles"], format="ascii.ecsv")) == 0


@pytest.fixture(scope="module")
def page(judged, tmp_path_factory):
    (path,) = write_page(
        *({"F150W": judged.files[name]} for name in ("verdict", "tiles", "skies", "plots")),
        survey="mock",
        links={"F150W": {"i2d.fits": "mock_f150w_30mas_full_i2d.fits", "verdict.ecsv": "mock_f150w_verdict.ecsv"}},
        folder=tmp_path_factory.mktemp("page"),
    ).paths
    return path


def test_the_table_tells_before_after_and_what_is_wrong(judged):
    table = Table.read(judged.files["verdict"])
    step = table[table["metric"] == "step"][0]
    assert (step["state"], step["where"], table.meta["state"]) == ("fail", "exposure4", "fail")
    assert step["after"] == pytest.approx(10, abs=1.5)
    assert step["before"] > 20
    assert step["noise"] < 1.5
    assert "too little was taken out of exposure4" in step["message"]
    assert STATES[int(judged.facts["state"])] == STATES[int(judged.facts["step_state"])] == "fail"


def test_each_tile_has_a_verdict_of_its_own_before_and_after(judged):
    table = Table.read(judged.files["tiles"])
    # Exposure 4 lies in rows 70 to 166 and columns 90 to 186 of 192: most of it in the upper right of the four tiles.
    states = dict(zip(table["tile"], table["state"], strict=True))
    assert set(states) == {"e0n0", "e1n0", "e0n1", "e1n1"}
    assert states["e1n1"] == "fail"
    assert "exposure4" in table[table["tile"] == "e1n1"]["message"][0]
    # A corner of six exposures, too small to tell the level of each.
    assert states["e0n0"] == "not measurable"
    # A tile has fewer overlaps than the whole: its metrics come with their errors.
    failed = table[table["tile"] == "e1n1"][0]
    assert 0 < failed["step_error"] < 0.3 * failed["step"]
    assert all(table["step_before"] > table["step"])
    assert set(table["state_before"]) == {"fail"}


def test_the_mask_lies_on_the_sky_that_its_header_says(judged):
    with fits.open(judged.files["mask"]) as hdus:
        mask, wcs = hdus["SOURCES"].data, WCS(hdus["SOURCES"].header)
    # The middle of cell (60, 60) of the lattice, where the broad galaxy stands; a cell is 250 mas wide.
    place = SkyCoord(10.0 - 60.5 * 0.25 / 3600, 60.5 * 0.25 / 3600, unit="deg")
    x, y = wcs.world_to_pixel(place)
    assert mask[round(float(y)), round(float(x))] == 1
    assert 0.02 < mask.mean() < 0.4


class Addresses(HTMLParser):
    """All that a page points at."""

    def __init__(self):
        super().__init__()
        self.loaded, self.linked = [], []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "src" or (tag == "link" and name == "href"):
                self.loaded.append(value)
            elif name == "href":
                self.linked.append(value)


def test_the_page_is_small_and_loads_nothing_from_elsewhere(page):
    text = page.read_text()
    assert len(text) < LARGEST_BYTES
    addresses = Addresses()
    addresses.feed(text)
    assert len(addresses.loaded) == 2
    assert all(address.startswith("data:image/jpeg;base64,") for address in addresses.loaded)
    assert "mock_f150w_30mas_full_i2d.fits" in addresses.linked
    assert not [address for address in addresses.linked if ":" in address or address.startswith("/")]
    assert not re.search(r"https?://|@import|url\(", text)


def test_a_value_beyond_a_limit_that_may_be_chance_is_told_in_words():
    assert "lies above 3 but not by 4 errors above 1" in leniency("step", 3.5, 0.9, "warn")
    assert "lies above 1 but not 4 errors above 0" in leniency("step", 1.5, 0.5, "pass")
    assert [leniency("step", *row) for row in ((3.5, 0.1, "fail"), (1.5, 0.1, "warn"), (0.5, 0.1, "pass"))] == [""] * 3


def draw(page, folder, width):
    """Return the page as a browser without a network draws it, red, green and blue."""
    picture = folder / "page.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},2000"]
    options += [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command = [require_browser(), *options, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(picture) as drawn:
        return np.asarray(drawn.convert("RGB")).astype(int)


def is_red(pixels):
    """Pixels of the badge "fail"."""
    return np.abs(pixels - (0xB3, 0x26, 0x1E)).max(axis=2) < 12


@pytest.mark.server
def test_a_browser_without_a_network_draws_the_page(page, tmp_path):
    pixels = draw(page, tmp_path, 1180)
    noise = np.abs(np.diff(pixels[..., 0], axis=1)) > 40
    # The badge "fail" is there, and the noise of the two skies fills a good part of the window.
    assert is_red(pixels).sum() > 300
    assert noise.mean() > 0.05


@pytest.mark.server
def test_a_narrow_window_shows_the_verdict_of_each_metric(page, tmp_path):
    red = is_red(draw(page, tmp_path, 500)).any(axis=1)
    # Badges from top to bottom: of the survey, of the filter, and of the metric "step" in the table.
    assert (np.diff(red.astype(int)) == 1).sum() >= 3
