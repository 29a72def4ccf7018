"""The flux scale of each detector in each filter, which is kept when exposures are added."""

import json

import numpy as np
from astropy.table import QTable

from cosmosaic.records import Record
from cosmosaic.solved import Moves, moves_of

FLUX_SUFFIX = "_flux.json"
"""Ending of the files with the factor of an exposure."""
Detector = tuple[str, str]
"""Filter and detector."""


class FluxCorrection(Record):
    """By how much the exposures of a detector in one filter are made brighter."""

    band: str
    detector: str
    correction: float
    """mag."""

    @property
    def factor(self) -> float:
        """The same in flux."""
        return float(10 ** (0.4 * self.correction))


class DetectorScale(FluxCorrection):
    """How bright stars are on a detector in one filter, against the mean of the detectors that share stars with it."""

    offset: float
    """mag by which stars are fainter on this detector; NaN if this run could not measure it."""
    error: float
    """mag."""
    stars: int
    """Stars that another detector has, too."""
    group: int
    """Detectors with one number share stars; `offset` is against their mean. -1 without an offset."""
    kept: bool
    """Whether the correction is that of an earlier run."""


class FluxSolution(Record):
    """The flux scales of a survey."""

    scales: tuple[DetectorScale, ...]
    exposures: dict[str, str]
    """sha256 of each calibrated exposure by its name."""
    missing: tuple[str, ...] = ()
    """Exposures of the survey that could not be calibrated."""
    is_applied: bool = False
    """Whether exposures were multiplied with the factors."""


class FluxRequest(Record):
    """The request for flux scales."""

    exposures: dict[str, str]
    """sha256 of each calibrated exposure by its name."""
    detectors: dict[str, Detector]
    """Filter and detector of each exposure."""
    missing: tuple[str, ...] = ()
    is_applied: bool = False
    """Whether exposures are multiplied with the factors: the verdict judges them so."""
    kept: tuple[FluxCorrection, ...] = ()
    """Corrections of an earlier run that stay."""


def keeping_scales(request: FluxRequest, earlier: FluxSolution | None) -> FluxRequest:
    """Add to a request the corrections of the published table that stay.

    A correction that was applied stays while one exposure that it was measured with is unchanged. If all exposures are
    the same as then, or one is back that was missing, only what was kept then is kept: the work is repeated and gives
    the same bytes.

    Parameters
    ----------
    request
        The exposures.
    earlier
        The published scales, if there are any.
    """
    if earlier is None or not (earlier.is_applied and request.is_applied):
        return request
    is_repeated = earlier.exposures == request.exposures or not set(earlier.missing).isdisjoint(request.exposures)
    same = {
        request.detectors[name] for name, digest in request.exposures.items() if earlier.exposures.get(name) == digest
    }
    kept = tuple(
        FluxCorrection(band=one.band, detector=one.detector, correction=one.correction)
        for one in earlier.scales
        if (one.kept or not is_repeated) and (one.band, one.detector) in same
    )
    return request.model_copy(update={"kept": kept})


def flux_table(solution: FluxSolution) -> QTable:
    """Return flux scales as the published table."""
    names = tuple(DetectorScale.model_fields)
    rows = [tuple(one.model_dump().values()) for one in solution.scales]
    kinds = ("U32", "U8", float, float, float, int, int, bool)
    table = QTable(rows=rows or None, names=names, dtype=kinds)
    table.meta |= {
        "exposures": dict(solution.exposures),
        "missing": list(solution.missing),
        "is_applied": solution.is_applied,
    }
    return table


def read_fluxes(text: str) -> FluxSolution:
    """Read a published table.

    Raises
    ------
    ValueError, KeyError
        It is not such a table.
    """
    table = QTable.read(text.splitlines(), format="ascii.ecsv")
    columns = {name: np.asarray(table[name]).tolist() for name in DetectorScale.model_fields}
    return FluxSolution(
        scales=tuple(
            DetectorScale(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)
        ),
        exposures=table.meta["exposures"],
        missing=tuple(table.meta["missing"]),
        is_applied=table.meta["is_applied"],
    )


def flux_moves(earlier: FluxSolution, now: FluxSolution, band: str) -> Moves:
    """Return how far the corrections of a filter's detectors have moved since an earlier solution, mag."""
    before = {one.detector: one.correction for one in earlier.scales if one.band == band}
    return moves_of(
        [one.correction - before[one.detector] for one in now.scales if one.band == band and one.detector in before]
    )


def factor_text(factor: float) -> str:
    """Return the content of an exposure's file."""
    return json.dumps({"factor": factor})


def read_factor(text: str) -> float:
    """Read the content of an exposure's file."""
    return float(json.loads(text)["factor"])
