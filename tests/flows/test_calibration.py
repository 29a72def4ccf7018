"""What a run tells of the calibration of its exposures."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import QTable
from support.small_survey import new_survey

from cosmosaic.calibrate.engine import KEYWORD

pytestmark = [pytest.mark.slow, pytest.mark.server]

FUSED = {"exposures": {"engine": "fused", "verify": 3}}


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
    cals = rows.query("kind == 'cal'")
    assert list(cals["stage1_engine"]) == ["fused", "fused", "jwst"]
    paths = sorted((calibrated[0].products / "exposures").glob("*_cal.fits"))
    headers = [fits.getheader(path) for path in paths]
    assert [header[KEYWORD] for header in headers] == ["fused", "fused", "jwst"]
    assert "several integrations" in headers[-1].comments[KEYWORD]


def test_exposures_without_search_for_cosmic_rays_are_named(rows):
    assert list(rows.query("kind == 'cal'")["groups_without_search"]) == [0, 2, 0]


def test_exposures_drawn_are_compared_with_the_jwst_package(calibrated, rows):
    verified = rows.query("kind == 'verification'")
    assert len(verified) == 3
    assert (verified["planes_different"] == 0).all()
    assert (verified["engine_difference"] == 0).all()
    table = QTable.read(next((calibrated[0].products / "exposures").glob("*_verification.ecsv")))
    assert list(table["plane"]) == ["SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE"]


def test_a_difference_between_the_engines_is_found(calibrated, tmp_path):
    from cosmosaic.calibrate.verification import compare_planes

    (rate, *_) = (path for path in (calibrated[0].cache / "calibrate_ramp").rglob("*_rate.fits"))
    other = tmp_path / rate.name
    with fits.open(rate) as hdus:
        y, x = np.argwhere(np.isfinite(hdus["SCI"].data))[0]
        hdus["SCI"].data[y, x] += 1
        hdus["ERR"].data[y, x] = np.nan
        hdus.writeto(other)
    found = {name: rest for name, *rest in compare_planes(rate, other)}
    assert found["SCI"] == [1, pytest.approx(1.0, rel=1e-5)]
    assert found["ERR"] == [1, np.inf]
    assert found["DQ"] == [0, 0.0]
