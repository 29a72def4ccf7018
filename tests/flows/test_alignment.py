"""An exposure that is added is aligned to the others, which stay where they are."""

import shutil

import numpy as np
import pandas as pd
import pytest
from support.small_survey import BAND, SIMULATION, new_survey

from cosmosaic.astrometry.solution import moves, read_alignment
from cosmosaic.survey import Survey
from flows.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.server]

FIELD = {"level": "cal", "subarray": "SUB320", "stars_per_arcmin2": 600.0, "pointing_error_mas": 50.0}
SETTINGS = {
    "align": {"enabled": True, "minimum_objects": 5},
    "grid": {"tangent_ra": 150.11, "tangent_dec": 2.2},
    "drizzle": {"errors": "none"},
}


@pytest.fixture(scope="module")
def grown(prefect_server, tmp_path_factory):
    """A survey of two exposures with many stars, and what happened when the third arrived."""
    made = tmp_path_factory.mktemp("stars")
    simulation = SIMULATION.model_copy(update=FIELD)
    assert simulate(Survey(store=str(made), simulation=simulation), return_state=True).is_completed()
    survey = new_survey(made, tmp_path_factory.mktemp("grown"))
    survey.settings |= SETTINGS
    survey.late = sorted(survey.raw.glob("*_cal.fits"))[1]
    survey.aside = survey.folder / survey.late.name
    shutil.move(survey.late, survey.aside)
    assert survey.run().failed == {}
    survey.before = alignment(survey)
    shutil.move(survey.aside, survey.late)
    survey.added = survey.run()
    survey.after = alignment(survey)
    survey.name_of_late = survey.late.name.removesuffix("_cal.fits")
    return survey


def alignment(survey):
    return read_alignment((survey.products / f"small_{BAND.lower()}_align.ecsv").read_text())


def shifts_mas(aligned):
    return 1000.0 * np.array([one.correction.shift for one in aligned.exposures])


def rows(survey):
    table = pd.read_parquet(survey.products / "summary.parquet").sort_values("start", kind="stable")
    return table[table["kind"] == "i2d"]


def executed(observed, step):
    return {label.split(": ")[1] for label in observed.executed if label.startswith(f"{step}: ")}


def test_only_the_new_exposure_is_aligned_and_drizzled(grown):
    assert grown.added.failed == {}
    assert executed(grown.added, "Alignment") == {BAND}
    for step in ("Align", "Cells", "Drizzle"):
        assert executed(grown.added, step) == {grown.name_of_late}, step


def test_corrections_that_were_found_stay(grown):
    before = {one.name: one.correction for one in grown.before.exposures}
    after = {one.name: one for one in grown.after.exposures}
    assert {name: after[name].correction for name in before} == before
    assert {name: one.kept for name, one in after.items()} == {name: name in before for name in after}


def test_the_same_exposures_again_execute_nothing(grown):
    assert grown.run().executed == set()


def test_the_other_engine_takes_the_same_aligned_exposures(grown):
    other = grown.run(engine="jwst", drizzle={"weight_type": "ivm"})
    assert other.failed == {}
    assert executed(other, "Alignment") | executed(other, "Align") == set()


def test_an_exposure_that_goes_moves_no_other(grown):
    shutil.move(grown.late, grown.aside)
    fewer = grown.run()
    shutil.move(grown.aside, grown.late)
    assert fewer.failed == {}
    assert executed(fewer, "Align") == set()
    assert [one.correction for one in alignment(grown).exposures] == [one.correction for one in grown.before.exposures]


def test_a_new_alignment_of_all_is_asked_for_and_tells_how_far_exposures_moved(grown):
    grown.run()
    earlier = alignment(grown)
    assert rows(grown)["align_moved_mas"].iloc[-1] == 0.0
    anew = grown.run(resolve=True)
    assert executed(anew, "Alignment") == {BAND}
    assert not any(one.kept for one in alignment(grown).exposures)
    told = rows(grown)["align_moved_mas"].iloc[-1]
    assert told == pytest.approx(moves(earlier, alignment(grown)).largest)
    # All may have moved together, for nothing but an exposure of the first run says where they lie.
    shifts = shifts_mas(alignment(grown)) - shifts_mas(earlier)
    assert 0.0 < np.abs(shifts - shifts.mean(axis=0)).max() < 10.0
