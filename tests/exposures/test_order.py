"""The exposures that a detector took before another one, in the order of time."""

from datetime import datetime, timedelta

import pytest

from cosmosaic.exposures.order import MOST_EARLIER, Earlier, earlier_exposures
from cosmosaic.records import Exposure, StoredObject

START = datetime(2023, 1, 5, 12)
WINDOW_S = 1000.0


def taken(name: str, at_s: float | None, duration_s: float = 100.0, **facts: str) -> Exposure:
    """An exposure of NRCB1 that began some seconds after noon; None: nobody knows when."""
    start = "" if at_s is None else (START + timedelta(seconds=at_s)).isoformat(timespec="milliseconds")
    return Exposure(
        **{
            "object": StoredObject(uri=f"{name}_cal.fits", sha256="", size=0), "level": "cal", "program": "01727",
            "observation": "001", "visit": "001", "exposure": "02101_00001", "detector": "NRCB1", "filter": "F150W",
            "pupil": "CLEAR", "subarray": "FULL", "start": start, "exposure_time": duration_s, "footprint": (),
        }
        | facts
    )  # fmt: skip


def names(earlier: tuple[Earlier, ...]) -> list[str]:
    return [one.name for one in earlier]


def test_they_are_ordered_by_start_whatever_their_name_programme_and_filter() -> None:
    first, second = taken("z", 0, program="09999", filter="F444W"), taken("y", 160, subarray="SUB640")
    found = earlier_exposures([taken("a", 300), first, second], WINDOW_S)
    assert found == {
        "z": (),
        "y": (Earlier(name="z", gap_s=60.0),),
        "a": (Earlier(name="y", gap_s=40.0), Earlier(name="z", gap_s=200.0)),
    }


def test_other_detectors_and_those_long_before_do_not_count() -> None:
    exposures = [taken("other", 0, detector="NRCB2"), taken("long", -1000), taken("just", -900), taken("now", 200)]
    assert names(earlier_exposures(exposures, WINDOW_S)["now"]) == ["just"]


def test_exposures_that_overlap_in_time_do_not_count_for_each_other() -> None:
    found = earlier_exposures([taken("a", 0), taken("b", 0), taken("c", 99.9), taken("d", 100)], WINDOW_S)
    assert [names(found[name]) for name in "abcd"] == [[], [], [], ["b", "a"]]


@pytest.mark.parametrize("start", ["", "yesterday", "0000-00-00T00:00:00"])
def test_an_exposure_without_a_start_is_not_placed(start: str) -> None:
    lost = taken("lost", 0, start=start)
    found = earlier_exposures([lost, taken("now", 200)], WINDOW_S)
    assert found == {"now": ()}


def test_the_number_of_earlier_exposures_is_bounded() -> None:
    exposures = [taken(f"{number:05d}", 0.02 * number, 0.01) for number in range(1000)]
    found = earlier_exposures(exposures, WINDOW_S)
    assert names(found["00999"]) == [f"{number:05d}" for number in range(998, 998 - MOST_EARLIER, -1)]
    assert max(map(len, found.values())) == MOST_EARLIER
