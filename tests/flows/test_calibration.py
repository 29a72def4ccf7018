"""What a run tells of the calibration of its exposures."""

import shutil

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import QTable
from support.small_survey import BAND, SmallSurvey, new_survey

from cosmosaic.calibrate.engine import KEYWORD

pytestmark = [pytest.mark.slow, pytest.mark.server]

FUSED = {"exposures": {"engine": "fused", "verify": 3, "publish_rates": True}}


def cut_groups(path, groups):
    """Leave the first groups of a ramp."""
    with fits.open(path) as hdus:
        hdus["SCI"].data = hdus["SCI"].data[:, :groups]
        hdus[0].header["NGROUPS"] = groups
        hdus.writeto(path, overwrite=True)


def repeat_integration(path):
    with fits.open(path) as hdus:
        hdus["SCI"].data = np.repeat(hdus["SCI"].data, 2, axis=0)
        hdus[0].header["NINTS"] = 2
        hdus.writeto(path, overwrite=True)


@pytest.fixture(scope="module")
def calibrated(simulated, prefect_server, tmp_path_factory):
    """A survey of an exposure as usual, one of two groups and one of two integrations; and its run."""
    survey = new_survey(simulated, tmp_path_factory.mktemp("calibration"))
    _, few, twice = survey.frames
    cut_groups(few, 2)
    repeat_integration(twice)
    return survey, survey.run(**FUSED)


@pytest.fixture(scope="module")
def rows(calibrated):
    survey, observed = calibrated
    assert observed.state == "Completed"
    return pd.read_parquet(survey.products / "summary.parquet").sort_values("product")


def test_the_run_table_and_the_header_name_the_engine(calibrated, rows):
    cals = rows[rows["kind"] == "cal"]
    assert list(cals["stage1_engine"]) == ["fused", "fused", "jwst"]
    paths = sorted((calibrated[0].products / "exposures").glob("*_cal.fits"))
    headers = [fits.getheader(path) for path in paths]
    assert [header[KEYWORD] for header in headers] == ["fused", "fused", "jwst"]
    assert "several integrations" in headers[-1].comments[KEYWORD]


def rates_of(survey):
    return sorted((survey.products / "exposures").glob("*_rate.fits"))


def test_count_rates_are_published_where_asked_for_and_written_nowhere_else(calibrated, rows):
    survey, _ = calibrated
    assert [path.name for path in rates_of(survey)] == [path.name.replace("uncal", "rate") for path in survey.frames]
    assert list(rows[rows["kind"] == "rate"]["filter"]) == [BAND] * 3
    before = set(survey.folder.rglob("*_rate.fits"))
    assert survey.run().state == "Completed"
    assert set(survey.folder.rglob("*_rate.fits")) == before


def test_a_count_rate_that_is_supplied_gives_the_same_exposure_as_its_ramp(calibrated, prefect_server, tmp_path):
    """And the exposure is the same whether its count rate is published or not."""
    made, _ = calibrated
    other = SmallSurvey(tmp_path, made.crds)
    other.raw.mkdir()
    for rate in rates_of(made):
        shutil.copy(rate, other.raw)
    observed = other.run()
    assert observed.state == "Completed"
    assert {label for label in observed.executed if label.startswith("Calibrate")} == {
        f"Calibrate rate: {path.name.removesuffix('_rate.fits')}" for path in rates_of(made)
    }
    for settings in (FUSED, {}):
        assert made.run(**settings).state == "Completed"
        assert exposures_in(other) == exposures_in(made)


def exposures_in(survey):
    """Planes and engine of the calibrated exposures, by their names."""
    found = {}
    for path in (survey.products / "exposures").glob("*_cal.fits"):
        with fits.open(path) as hdus:
            planes = tuple(hdus[name].data.tobytes() for name in ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_FLAT"))
            found[path.name] = (*planes, hdus[0].header[KEYWORD])
    return found


def test_exposures_without_search_for_cosmic_rays_are_named(rows):
    assert list(rows[rows["kind"] == "cal"]["groups_without_search"]) == [0, 2, 0]


def test_exposures_drawn_are_compared_with_the_jwst_package(calibrated, rows):
    verified = rows[rows["kind"] == "verification"]
    assert len(verified) == 3
    assert (verified["planes_different"] == 0).all()
    assert (verified["engine_difference"] == 0).all()
    table = QTable.read(next((calibrated[0].products / "exposures").glob("*_verification.ecsv")))
    assert list(table["plane"]) == ["SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE"]


def test_a_difference_between_the_engines_is_found(calibrated):
    from jwst import datamodels

    from cosmosaic.calibrate.verification import compare_planes

    (rate, *_) = rates_of(calibrated[0])
    with datamodels.open(rate) as one, one.copy() as other:
        y, x = np.argwhere(np.isfinite(other.data))[0]
        other.data[y, x] += 1
        other.err[y, x] = np.nan
        found = {name: rest for name, *rest in compare_planes(one, other)}
    assert found["SCI"] == [1, pytest.approx(1.0, rel=1e-5)]
    assert found["ERR"] == [1, np.inf]
    assert found["DQ"] == [0, 0.0]
