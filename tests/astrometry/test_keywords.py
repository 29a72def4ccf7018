"""The header of a mosaic tells the verdict on the astrometry of its survey."""

import numpy as np
import pytest
from astropy.io import fits

from cosmosaic.astrometry.keywords import KEYWORDS, note_astrometry
from cosmosaic.astrometry.metrics import LIMITS, Metric
from cosmosaic.astrometry.parts import Part, verdict_table


def metric(name, value, state):
    return Metric(name, value, 0.5, value, "mas", 3, "x", state, "a reason")


@pytest.mark.filterwarnings("error::astropy.io.fits.verify.VerifyWarning")
def test_the_header_tells_the_state_and_what_is_known(tmp_path):
    mosaic, table = tmp_path / "mock_i2d.fits", tmp_path / "mock_astrometry.ecsv"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((4, 4), dtype="f4"), name="SCI")]).writeto(mosaic)
    after = (metric("exposure", 1.234, "pass"), metric("module", 2.5, "warn"), metric("roll", np.nan, "not measurable"))
    before = (metric("exposure", 20.0, "fail"), metric("roll", 3.0, "warn"))
    parts = {"after": [(Part("filter", "F115W"), (metric("exposure", 9.0, "fail"),))]}
    verdict_table({"before": before, "after": after}, parts).write(table, format="ascii.ecsv")
    note_astrometry(mosaic, table)
    header = fits.getheader(mosaic, "SCI")
    assert header["ASTSTATE"] == "warn"
    assert {name: header[name] for name in KEYWORDS.values() if name in header} == {"ASTEXP": 1.23, "ASTMOD": 2.5}
    assert header.comments["ASTEXP"].startswith("[mas]")


def test_each_metric_of_the_survey_has_a_keyword():
    assert set(KEYWORDS) == set(LIMITS) - {"width", "ellipticity"}
