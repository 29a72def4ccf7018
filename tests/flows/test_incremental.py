"""An exposure that is added costs what it touches: what was solved of the others stays."""

import hashlib
import shutil

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from support.small_survey import BAND, SIMULATION, new_survey

from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.geometry.grid import survey_grid
from cosmosaic.geometry.windows import make_plan
from cosmosaic.survey import GridSettings, Survey
from flows.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.server]

TANGENT = {"tangent_ra": 150.11, "tangent_dec": 2.2}
TILE_PIXELS = 128


@pytest.fixture(scope="module")
def grown(prefect_server, tmp_path_factory):
    """A survey of two exposures, and what happened when the third arrived.

    Its exposures have four times the pixels of the others' in this folder: 160 by 160 tell a level to 0.015 MJy/sr.
    """
    simulation = SIMULATION.model_copy(update={"subarray": "SUB320"})
    made = tmp_path_factory.mktemp("made")
    assert simulate(Survey(store=str(made), simulation=simulation), return_state=True).is_completed()
    survey = new_survey(made, tmp_path_factory.mktemp("grown"))
    survey.settings |= {"grid": TANGENT, "resources": {"tile_pixels": TILE_PIXELS}}
    late = survey.frames[1]
    aside = survey.folder / late.name
    shutil.move(late, aside)
    assert survey.run().failed == {}
    survey.before, survey.sources_before = levels(survey), sources(survey)
    shutil.move(aside, late)
    survey.added = survey.run()
    survey.name_of_late = late.name.removesuffix("_uncal.fits")
    survey.after, survey.sources_after = levels(survey), sources(survey)
    survey.digest = digest(survey)
    return survey


def levels(survey):
    table = QTable.read(survey.products / f"small_{BAND.lower()}_sky.ecsv")
    return {str(row["exposure"]): (float(row["level"].value), str(row["patterns"]), bool(row["kept"])) for row in table}


def sources(survey):
    return QTable.read(survey.products / "small_full_cat.ecsv")


def digest(survey):
    (mosaic,) = survey.products.glob("*_i2d.fits")
    return hashlib.sha256(mosaic.read_bytes()).hexdigest()


def executed(observed, step):
    """Exposures or tiles of one kind of step that was executed."""
    return {
        label.split(": ")[1].removeprefix(f"{BAND} ") for label in observed.executed if label.startswith(f"{step}:")
    }


def test_only_the_new_exposure_is_measured_and_drizzled(grown):
    for step in ("Calibrate", "Aberration", "Cells", "Drizzle"):
        assert executed(grown.added, step) == {grown.name_of_late}, step


def test_only_the_tiles_that_it_touches_are_made_again(grown):
    footprints = {path.name.removesuffix("_uncal.fits"): read_footprint(path) for path in grown.frames}
    plan = make_plan(footprints, survey_grid(GridSettings(**TANGENT), footprints), TILE_PIXELS)
    touched = {tile.tile for tile in plan.tiles_of_exposure[grown.name_of_late]}
    assert len(touched) < len(plan.tiles)
    for step in ("Reference", "Combine"):
        assert executed(grown.added, step) <= touched, step
    assert executed(grown.added, "Combine")


def test_levels_and_stripes_that_were_solved_stay(grown):
    for name, (level, patterns, kept) in grown.before.items():
        assert not kept
        assert grown.after[name] == (level, patterns, True)
    assert not grown.after[grown.name_of_late][2]


def test_sources_that_were_there_keep_their_ids_and_names(grown):
    before, after = grown.sources_before, grown.sources_after
    places = [SkyCoord(table["ra"], table["dec"]) for table in (before, after)]
    row, distance, _ = places[0].match_to_catalog_sky(places[1])
    back, _, _ = places[1].match_to_catalog_sky(places[0])
    # Two that have become one, because deblending sees more, cannot both be there.
    there = (distance.arcsec < 0.1) & (back[row] == np.arange(len(before)))
    assert there.sum() > 0.7 * len(before) > 5
    for name in ("id", "name"):
        assert after[name][row[there]].tolist() == before[name][there].tolist()
    # The late exposure shows sources that no other has seen, and none gets an id that was another's.
    new = set(after["id"]) - set(before["id"])
    assert new
    assert min(new) > max(before["id"])
    ids = QTable.read(grown.products / "small_ids.ecsv")
    assert set(ids["id"]) == set(before["id"]) | set(after["id"])
    (segments,) = grown.products.glob("*_segm.fits")
    assert set(np.unique(fits.getdata(segments, "SEGM"))) - {0} == set(after["id"])


def test_a_rebuild_with_the_published_table_gives_the_same_bytes(grown):
    assert grown.run().executed == set()
    for record in (grown.cache / "results").iterdir():
        if b"calibrate" not in record.read_bytes():
            record.unlink()
    again = grown.run()
    assert not executed(again, "Stage")
    assert executed(again, "Drizzle") == set(grown.after)
    assert digest(grown) == grown.digest


def test_a_new_solution_of_all_is_asked_for_and_tells_how_far_levels_moved(grown):
    anew = grown.run(resolve=True)
    assert f"Sky: {BAND}" in anew.executed
    solved = levels(grown)
    assert not any(kept for _, _, kept in solved.values())
    moved = max(abs(solved[name][0] - level) for name, (level, _, _) in grown.after.items())
    rows = pd.read_parquet(grown.products / "summary.parquet").sort_values("start", kind="stable")
    told = rows.loc[rows["kind"] == "i2d", "sky_moved_mjy_sr"]
    assert told.iloc[-1] == pytest.approx(moved, abs=1e-9)
    # What the zero of all makes of two exposures and of three apart, both are solutions of the same sky.
    shifts = np.array([solved[name][0] - level for name, (level, _, _) in grown.after.items()])
    assert np.abs(shifts - shifts.mean()).max() < 0.01
