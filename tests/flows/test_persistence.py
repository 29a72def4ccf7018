"""A run that follows persistence: what it tells, and what a new exposure costs."""

import shutil

import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import QTable
from stdatamodels.jwst.datamodels.dqflags import pixel
from support.small_survey import new_survey

pytestmark = [pytest.mark.slow, pytest.mark.server]

FOLLOWED = {"exposures": {"persistence": True, "persistence_dn_s": 50.0}}


@pytest.fixture(scope="module")
def grown(simulated, prefect_server, tmp_path_factory):
    """A survey of the first and the last of three exposures, and then of all three; and its two runs."""
    survey = new_survey(simulated, tmp_path_factory.mktemp("persistence"))
    first, new, _ = survey.frames
    saturate(first)
    shutil.move(new, survey.folder / new.name)
    before = survey.run(**FOLLOWED)
    shutil.move(survey.folder / new.name, new)
    return survey, before, survey.run(**FOLLOWED)


def saturate(ramp):
    """Fill some pixels of a ramp in its last group."""
    with fits.open(ramp, mode="update") as hdus:
        hdus["SCI"].data[:, -1, 70:75, 60:66] = 65535


def flagging(run, title):
    return {label.rsplit("_", 2)[-2] for label in run.executed if label.startswith(f"{title}: ")}


def test_a_new_exposure_costs_its_own_list_and_the_flagging_of_those_after_it(grown):
    _, before, after = grown
    assert before.state == after.state == "Completed"
    assert flagging(before, "Bright pixels") == {"00001", "00003"}
    assert flagging(before, "Persistence") == {"00003"}
    assert flagging(after, "Bright pixels") == {"00002"}
    assert flagging(after, "Persistence") == {"00002", "00003"}


def test_the_run_table_and_a_table_tell_how_much_was_flagged(grown):
    survey, *_ = grown
    rows = pd.read_parquet(survey.products / "summary.parquet").sort_values(["start", "product"], kind="stable")
    cals = rows[(rows["run_id"] == rows["run_id"].iloc[-1]) & (rows["kind"] == "cal")]
    assert list(cals["persistence_exposures"].fillna(0)) == [0, 1, 2]
    for row in cals.iloc[1:].itertuples():
        flags = fits.getdata(row.product, "DQ")
        assert ((flags[70:75, 60:66] & pixel["PERSISTENCE"]) > 0).mean() > 0.8
        assert ((flags & pixel["PERSISTENCE"]) > 0).sum() == row.persistence_pixels
        table = QTable.read(row.product.replace("_cal.fits", "_persistence.ecsv"))
        assert table["flagged"][-1] > 20
        assert table["earlier"][-1].rsplit("_", 2)[-2] == "00001"
    assert not (fits.getdata(cals["product"].iloc[0], "DQ") & pixel["PERSISTENCE"]).any()
