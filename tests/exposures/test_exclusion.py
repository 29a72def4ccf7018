"""Exposures that the user leaves out are named with the reason, and nothing else is left out."""

import pytest

from cosmosaic.exposures.exclusion import exclude
from cosmosaic.exposures.search import FoundExposures
from cosmosaic.records import Exposure, StoredObject


def exposure(name, level="cal"):
    stored = StoredObject(uri=f"/raw/{name}_{level}.fits", sha256="", size=1)
    return Exposure(
        object=stored, level=level, program="1", observation="1", visit="1", exposure="1",
        detector=name.rsplit("_", 1)[-1].upper(), filter="F150W", pupil="CLEAR", subarray="FULL",
        start="2023-01-01T00:00:00", exposure_time=1.0, footprint=((0.0, 0.0), (0.0, 1.0), (1.0, 0.0)),
    )  # fmt: skip


FOUND = FoundExposures(
    tuple(exposure(f"jw01_{number}_{detector}") for number in (1, 2) for detector in ("nrca1", "nrca3")), ()
)


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("jw01_1_nrca3", ["jw01_1_nrca1", "jw01_2_nrca1", "jw01_2_nrca3"]),
        ("*_nrca3", ["jw01_1_nrca1", "jw01_2_nrca1"]),
        ("jw01_2_nrca1_cal.fits", ["jw01_1_nrca1", "jw01_1_nrca3", "jw01_2_nrca3"]),
    ],
)
def test_what_matches_is_left_out_with_its_reason(pattern, left):
    excluded = exclude(FOUND, {pattern: "scattered light"})
    assert [each.name for each in excluded.found.exposures] == left
    assert len(excluded.found.refused) == 4 - len(left)
    assert {entry.reason for entry in excluded.found.refused} == {"is excluded: scattered light"}
    assert set(excluded.reasons.values()) == {"scattered light"}
    assert not excluded.unused


def test_a_pattern_that_matches_nothing_is_named():
    excluded = exclude(FOUND, {"*_nrcb1": "bad", "*_nrca3": "claws"})
    assert excluded.unused == ("*_nrcb1",)


def test_to_exclude_everything_is_refused():
    with pytest.raises(ValueError, match="matches all 4 exposures"):
        exclude(FOUND, {"*": "all of it"})
