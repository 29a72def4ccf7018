"""Exposures of one detector in the order of time: what a pixel saw before."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from cosmosaic.exposures.keywords import DAY_S, instant
from cosmosaic.records import Exposure, Record

MOST_EARLIER = 100
"""Earlier exposures that are taken into account: a detector that is read out fully takes fewer in two hours."""


class Earlier(Record):
    """An exposure that the same detector took before another one."""

    name: str
    gap_s: float
    """From its end to the start of the other, in seconds."""


class _Span(NamedTuple):
    end_s: float
    name: str


def earlier_exposures(exposures: Iterable[Exposure], window_s: float) -> dict[str, tuple[Earlier, ...]]:
    """List for each exposure those of its detector that ended shortly before it started, the latest first.

    The order is that of their starts, whatever their programme, filter or subarray. Exposures that overlap in time, as
    in simulations that give all the same date, do not count for each other.

    Parameters
    ----------
    exposures
        All exposures of a survey.
    window_s
        Longest time from the end of one to the start of the other in seconds.

    Returns
    -------
    dict
        By name; exposures whose headers do not tell their start are missing.
    """
    spans: dict[str, list[_Span]] = defaultdict(list)
    starts: dict[str, float] = {}
    timed = list(exposures)
    for exposure in timed:
        start = instant(exposure.start)
        if start is not None:
            starts[exposure.name] = start * DAY_S
            spans[exposure.detector].append(_Span(start * DAY_S + exposure.exposure_time, exposure.name))
    for of_detector in spans.values():
        of_detector.sort()
    return {
        exposure.name: _before(starts[exposure.name], spans[exposure.detector], window_s)
        for exposure in timed
        if exposure.name in starts
    }


def _before(start_s: float, spans: list[_Span], window_s: float) -> tuple[Earlier, ...]:
    first = bisect_left(spans, start_s - window_s, key=lambda span: span.end_s)
    last = bisect_right(spans, start_s, key=lambda span: span.end_s)
    latest = spans[max(first, last - MOST_EARLIER) : last]
    # Times in MJD are exact to a microsecond.
    return tuple(Earlier(name=name, gap_s=round(start_s - end, 3)) for end, name in reversed(latest))
