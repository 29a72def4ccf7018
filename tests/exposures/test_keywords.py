"""What a header lacks is taken from what it has."""

from datetime import datetime
from pathlib import Path

import pytest
from astropy.io import fits
from astropy.time import Time
from real import real

from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.exposures.keywords import KeywordError, Times, detector_of, group_of, start_of, times_of

NAME = "jw01727001002_02201_00003_nrcalong_cal.fits"
GROUP = ("01727", "001", "002", "02", "2", "01", "00003")
KEYWORDS = dict(zip(("PROGRAM", "OBSERVTN", "VISIT", "VISITGRP", "SEQ_ID", "ACT_ID", "EXPOSURE"), GROUP, strict=True))
START, MJD = "2023-01-05T10:00:00.000", 59949.0 + 10 / 24


@pytest.mark.parametrize(
    ("keywords", "name"),
    [
        (KEYWORDS, "a_cal.fits"),
        ({}, NAME),
        (KEYWORDS | {"EXPOSURE": 3, "PROGRAM": "1727", "VISIT": " 2 "}, "a_cal.fits"),
        ({"VISIT_ID": "01727001002", "VISITGRP": "02", "SEQ_ID": "2", "ACT_ID": "01", "EXPOSURE": "3"}, "a_cal.fits"),
        ({"EXPOSURE": ""}, NAME),
    ],
)
def test_the_exposure_is_known_by_keywords_or_by_name(keywords: dict[str, object], name: str) -> None:
    assert group_of(keywords, name) == GROUP


def test_the_header_counts_before_the_name() -> None:
    assert group_of({"EXPOSURE": "00007"}, NAME)[-1] == "00007"
    assert detector_of({"DETECTOR": "nrcb1"}, NAME) == "NRCB1"
    assert detector_of({}, NAME) == "NRCALONG"
    assert detector_of({}, "a_cal.fits") == ""


def test_what_nothing_tells_is_named() -> None:
    with pytest.raises(KeywordError, match="EXPOSURE") as caught:
        group_of({"VISIT_ID": "01727001002", "VISITGRP": "02", "SEQ_ID": "2", "ACT_ID": "01"}, "a_cal.fits")
    assert caught.value.missing == ("EXPOSURE",)
    for keywords in ({}, {"EFFEXPTM": 0.0}, {"EFFEXPTM": "long"}, {"EFFEXPTM": float("nan")}):
        with pytest.raises(KeywordError, match="EFFEXPTM"):
            times_of(keywords)


@pytest.mark.parametrize(
    "keywords",
    [
        {"DATE-BEG": START},
        {"DATE-OBS": "2023-01-05", "TIME-OBS": "10:00:00.000"},
        {"DATE-OBS": START},
        {"EXPSTART": MJD},
        {"MJD-BEG": MJD},
    ],
)
def test_the_start_is_known_by_any_keyword_that_tells(keywords: dict[str, object]) -> None:
    assert datetime.fromisoformat(start_of(keywords)) == datetime.fromisoformat(START)
    times = times_of(keywords | {"EFFEXPTM": 864.0})
    assert times.start == pytest.approx(Time(START, scale="utc").mjd, abs=1e-8)
    assert times.end == pytest.approx(MJD + 0.01, abs=1e-8)


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"EFFEXPTM": 10.0, "TMEASURE": 8.0, "DURATION": 12.0, "EXPSTART": 1.0, "EXPEND": 2.0}, (10, 8, 12, 1, 2)),
        ({"XPOSURE": 10.0}, (10, None, 10, None, None)),
        ({"DURATION": 12.0}, (12, None, 12, None, None)),
        ({"TMEASURE": 8.0, "EFFEXPTM": 0.0}, (8, 8, 8, None, None)),
        ({"EFFINTTM": 5.0, "NINTS": 3}, (15, None, 15, None, None)),
        ({"EXPSTART": 1.0, "EXPEND": 1.5}, (43200, None, 43200, 1, 1.5)),
    ],
)
def test_times_are_taken_from_others(keywords: dict[str, object], expected: tuple[float | None, ...]) -> None:
    assert times_of(keywords) == Times(*expected)


@pytest.mark.parametrize("detector", ["nrca1", "nrca2"])
def test_what_mirage_made_is_described(tmp_path: Path, detector: str) -> None:
    path = tmp_path / f"jw42424001001_01101_00001_{detector}_rate.fits"
    with fits.open(real(f"mirage/{path.name}.gz")) as hdus:
        hdus.writeto(path)
    exposure = describe_exposure(str(path))
    assert (exposure.level, exposure.detector, exposure.band) == ("rate", detector.upper(), "F090W")
    assert exposure.exposure == "01101_00001"
    assert exposure.start == "2019-10-14T16:44:12.000"
    assert exposure.exposure_time == pytest.approx(9663.093)
