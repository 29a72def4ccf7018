"""Metrics of the agreement of stars, with errors and states."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cosmosaic.records import STATES, State

LIMITS = {
    "exposure": (2.0, 8.0),
    "roll": (2.0, 4.0),
    "detector": (1.5, 5.0),
    "module": (2.0, 8.0),
    "scale": (10.0, 40.0),
    "matches": (10.0, 30.0),
    "filter": (3.0, 8.0),
    "cell": (10.0, 20.0),
    "absolute": (5.0, 15.0),
    "flux": (20.0, 100.0),
    "width": (2.0, 8.0),
    "ellipticity": (2.0, 8.0),
}
"""Largest value that passes, and that does not fail, mas or `UNITS`. A roll counts at the farthest star, 100 arcsec
away at most."""
UNITS = {"scale": "ppm", "matches": "%", "flux": "mmag", "width": "%", "ellipticity": "%"}
"""Units other than mas."""
ONE_AXIS = ("roll", "scale", "matches", "flux", "width")
"""Kinds whose offsets have one component; the others have two, each with the error."""
SIGMA = 4.5
"""The worst of many exposures is this far off by chance."""
WORDS = {
    "exposure": "exposure {} is offset by {:.1f} +- {:.1f} mas from the others",
    "roll": "{} is rotated by {:.1f} +- {:.1f} mas at its farthest stars (at most 100 arcsec) against the others",
    "detector": "detector {} is offset by {:.1f} +- {:.1f} mas from the others",
    "module": "module {} is offset by {:.1f} +- {:.1f} mas from the other; see align.aberration",
    "scale": "distances of detectors differ by {1:.0f} +- {2:.0f} ppm from those in the headers, {0}; see"
    " align.aberration",
    "matches": "{1:.0f} +- {2:.0f} % of the detections contradict the others of their stars: {0} is crowded, or noise"
    " passes for stars; raise align.snr_threshold",
    "filter": "filter {} is offset by {:.1f} +- {:.1f} mas from the others",
    "cell": "filter {} is offset by {:.1f} +- {:.1f} mas from the others in a cell of 2 arcmin",
    "absolute": "{} is offset by {:.1f} +- {:.1f} mas from the reference catalogue; check its epoch and proper motions",
    "flux": "{}: the same stars differ by {:.0f} +- {:.0f} mmag from the mean of the detectors; see"
    " exposures.flux_scale and resolve",
    "width": "{}: stars of the mosaic are {:.1f} +- {:.1f} % wider than those of its exposures",
    "ellipticity": "{}: stars of the mosaic differ in ellipticity by {:.1f} +- {:.1f} % from those of its exposures",
}


class Metric(NamedTuple):
    """The worst of one kind of error."""

    name: str
    value: float
    """NaN if not measurable."""
    error: float
    rms: float
    """Rms over all of the kind, without the part of noise."""
    unit: str
    number: int
    """Number of labels of the kind."""
    where: str
    state: State
    message: str
    in_errors: float = np.nan
    """Rms per axis over all of the kind in units of their errors, for which the detections of a star count as one."""
    stars: int = 0
    """Number of stars that the value rests on."""


class Deviation(NamedTuple):
    """How far one label is off, in the unit of its kind."""

    label: str
    value: float
    error: float
    """Per axis; infinite with too few stars."""
    stars: int


def judge(kind: str, found: Sequence[Deviation]) -> Metric:
    """Judge the worst of one kind."""
    passes, fails = LIMITS[kind]
    unit = UNITS.get(kind, "mas")
    # An uncertain offset is not significant unless it exceeds its uncertainty.
    known = [one for one in found if SIGMA * one.error < max(fails, one.value - passes)]
    if not known or (len(known) < 2 and kind in ("exposure", "detector", "filter")):
        most = max((one.stars for one in found), default=0)
        message = f"too few stars for the {kind}"
        return Metric(kind, np.nan, np.nan, np.nan, unit, len(known), "", "not measurable", message, stars=most)
    values, errors = (np.array([getattr(one, part) for one in known]) for part in ("value", "error"))
    where, value, error, stars = known[int(np.argmax(values - SIGMA * errors))]
    axes = 1 if kind in ONE_AXIS else 2
    rms = float(np.sqrt(max(float(np.mean(values**2 - axes * errors**2)), 0.0)))
    certainly = errors > 0
    pulls = values[certainly] / errors[certainly]
    in_errors = float(np.sqrt(np.mean(pulls**2) / axes)) if certainly.any() else np.nan
    certain = value > SIGMA * error
    state: State = "pass"
    if certain and value > passes:
        state = "fail" if value - SIGMA * error > passes and value > fails else "warn"
    message = WORDS[kind].format(where, value, error)
    return Metric(kind, value, error, rms, unit, len(known), where, state, message, in_errors, stars)


def not_applicable(kind: str) -> Metric:
    """Return the metric of a kind that a survey has only one of."""
    message = f"the survey has nothing to compare the {kind} with"
    return Metric(kind, np.nan, np.nan, np.nan, UNITS.get(kind, "mas"), 1, "", "not applicable", message)


def state_of(metrics: Sequence[Metric]) -> State:
    """The worst state: what could not be measured does not pass."""
    return max((one.state for one in metrics), key=STATES.index, default="not measurable")
