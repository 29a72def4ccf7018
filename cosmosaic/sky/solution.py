"""The solved sky of a survey's exposures, and how it is kept when exposures are added.

Levels that are solved together all move a little when an exposure is added, and all products of their exposures would
be made again. So a solved exposure keeps its level and patterns as long as it does not change, and a new one is fitted
to its neighbours. The survey's published table of levels is the memory. Levels first solved while an exposure was
missing because of a failure are solved again when it is back.
"""

from collections.abc import Mapping

import numpy as np
from astropy import units
from astropy.table import QTable

from cosmosaic.geometry.sphere import Footprint, unit_vectors
from cosmosaic.records import Lattice, Record
from cosmosaic.solved import Moves, Solved, moves_of, staying
from cosmosaic.survey import SkyZero

LOCAL_METHODS = ("overlap",)
"""Methods by which an exposure's sky depends on its surroundings alone."""
REACH = 4.0
"""Distance of the exposures that count, in half diagonals of one: neighbours, and their neighbours."""
SURFACE_BRIGHTNESS = units.MJy / units.sr
USERS_LEVELS = "user"
"""The method whose levels are the user's own."""


class SolvedExposure(Solved):
    """The sky of one exposure; its sha256 is that of its cells."""

    level: float
    """MJy/sr."""
    error: float | None
    """None if the method gives none."""
    patterns: str
    """Text of its ``_patterns.json``; empty if it has none."""


class SkySolution(Record):
    """The sky of the exposures of one filter."""

    asked: str
    """The request: method and patterns."""
    method: str
    """The method that was used."""
    exposures: tuple[SolvedExposure, ...]
    missing: tuple[str, ...] = ()
    """Exposures of the survey that were missing because of a failure."""
    zero: str = ""
    """Zero point, if the method searches for empty sky; with kept levels, theirs."""


class SkyRequest(Record):
    """Request for a solution."""

    method: str
    """A key of `cosmosaic.sky.methods.METHODS`, or ``auto``: the method that the verdict ranks first; the table's
    metadata have the scores."""
    slow_stripes: bool
    """Find slow stripes along rows as well."""
    grid: Lattice
    """The lattice of the cells."""
    missing: tuple[str, ...] = ()
    """Names of exposures of the survey that are missing because of a failure."""
    kept: SkySolution | None = None
    """The part of an earlier solution that is kept."""
    zero: SkyZero = "faintest"
    """Zero point of a field without empty sky."""

    @property
    def asked(self) -> str:
        """The request in words: solutions of another request are not kept."""
        asked = f"{self.method}, {'with' if self.slow_stripes else 'without'} slow stripes"
        return asked if self.zero == "faintest" else f"{asked}, zero by {self.zero}"


class MaskedSkyRequest(SkyRequest):
    """Request with the user's mask of sources: with a different mask, levels are solved anew."""

    mask: str
    """Its sha256."""

    @property
    def asked(self) -> str:
        """The request in words."""
        return f"{super().asked}, outside of mask {self.mask[:16]}"


def solution_table(solution: SkySolution, source: str) -> QTable:
    """Return a solution as the table that is published; ``source`` is the reference for the method."""
    exposures = solution.exposures
    errors = np.array([np.nan if one.error is None else one.error for one in exposures])
    table = QTable(
        {
            "exposure": [one.name for one in exposures],
            "level": np.array([one.level for one in exposures]) * SURFACE_BRIGHTNESS,
            "error": errors * SURFACE_BRIGHTNESS,
            "kept": [one.kept for one in exposures],
            "cells_sha256": [one.sha256 for one in exposures],
            "patterns": [one.patterns for one in exposures],
        }
    )
    table.meta |= {"asked": solution.asked, "method": solution.method, "source": source}
    table.meta |= {"missing": list(solution.missing), "zero": solution.zero}
    return table


def read_solution(text: str) -> SkySolution:
    """Read a table that a survey published.

    Raises
    ------
    ValueError, KeyError
        It is not a table of levels.
    """
    table = QTable.read(text.splitlines(), format="ascii.ecsv")
    # An empty text is masked in ECSV.
    patterns = ["" if value is np.ma.masked else str(value) for value in table["patterns"]]
    levels, errors = (table[name].to_value(SURFACE_BRIGHTNESS) for name in ("level", "error"))
    return SkySolution(
        asked=table.meta["asked"],
        method=table.meta["method"],
        missing=tuple(table.meta["missing"]),
        zero=table.meta["zero"],
        exposures=tuple(
            SolvedExposure(
                name=str(row["exposure"]),
                sha256=str(row["cells_sha256"]),
                level=float(level),
                error=None if np.isnan(error) else float(error),
                patterns=pattern,
                kept=bool(row["kept"]),
            )
            for row, level, error, pattern in zip(table, levels, errors, patterns, strict=True)
        ),
    )


def keeping(request: SkyRequest, earlier: SkySolution | None, cells: Mapping[str, str]) -> SkyRequest:
    """Add the kept part of an earlier solution to a request.

    Parameters
    ----------
    request
        The new request.
    earlier
        The published solution.
    cells
        sha256 of the cells of each exposure by its name.
    """
    if earlier is None or earlier.asked != request.asked or request.method == USERS_LEVELS:
        return request
    kept = staying(earlier.exposures, earlier.missing, cells)
    if not kept:
        return request
    return request.model_copy(update={"kept": earlier.model_copy(update={"exposures": kept})})


def measured_exposures(request: SkyRequest, footprints: Mapping[str, Footprint]) -> tuple[str, ...]:
    """Choose the exposures whose cells a solution needs: all, or those around the ones that are not kept.

    A level follows from the exposures that it overlaps with, and from those that these overlap with; levels far away
    stay, whatever is added.

    Parameters
    ----------
    request
        With the part of an earlier solution that is kept.
    footprints
        Corners of all exposures by name.
    """
    every, kept = tuple(footprints), {one.name for one in request.kept.exposures} if request.kept else set()
    if request.method not in LOCAL_METHODS or not kept or kept.issuperset(every):
        return every
    from scipy.spatial import KDTree  # not at the top, which the flow's own process imports

    corners = [unit_vectors(footprint) for footprint in footprints.values()]
    centres = np.array([vectors.mean(axis=0) for vectors in corners])
    half = max(np.linalg.norm(each - centre, axis=1).max() for each, centre in zip(corners, centres, strict=True))
    new = [number for number, name in enumerate(every) if name not in kept]
    near = sorted(
        {number for around in KDTree(centres).query_ball_point(centres[new], REACH * half) for number in around}
    )
    names = tuple(every[number] for number in near)
    # A zero comes from neighbours; without any, from all.
    return every if kept.isdisjoint(names) else names


def moves(earlier: SkySolution, now: SkySolution) -> Moves:
    """Return the changes of levels since an earlier solution, MJy/sr."""
    levels = {one.name: one.level for one in now.exposures}
    return moves_of([levels[one.name] - one.level for one in earlier.exposures if one.name in levels])
