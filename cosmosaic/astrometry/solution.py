"""The corrections of pointing that were found for a survey's exposures, and how they stay when exposures are added.

Exposures that are aligned together all move a little when one is added, and all that was made of them would be made
again. So an exposure that was aligned keeps its correction for as long as it is the same, and a new one is aligned to
the stars of those it overlaps with. The table of corrections that a survey publishes is what is remembered.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy import units
from astropy.table import QTable

from cosmosaic.geometry.sphere import Footprint, footprints_overlap
from cosmosaic.records import Record
from cosmosaic.solved import Moves, Solved, moves_of, staying
from cosmosaic.survey import AlignSettings

CORRECTION_SUFFIX = "_correction.json"
"""Ending of the files with the correction of an exposure."""
SHIFTS = ("shift_x", "shift_y")
MATRIX = ("matrix_xx", "matrix_xy", "matrix_yx", "matrix_yy")


class Correction(Record):
    """A linear map of the tangent plane at an exposure's reference point, x eastward and y northward."""

    matrix: tuple[tuple[float, float], tuple[float, float]]
    shift: tuple[float, float]
    """arcsec; added after the matrix was applied."""


NO_CORRECTION = Correction(matrix=((1.0, 0.0), (0.0, 1.0)), shift=(0.0, 0.0))


class AlignedExposure(Solved):
    """The correction of one exposure; its sha256 is that of the calibrated exposure."""

    correction: Correction
    """Of the WCS that the calibrated exposure has."""


class Alignment(Record):
    """The corrections of the exposures of one filter."""

    asked: str
    """What was asked for: the settings."""
    exposures: tuple[AlignedExposure, ...]
    missing: tuple[str, ...] = ()
    """Exposures of the survey that a fault took."""


class AlignRequest(Record):
    """What an alignment is asked for."""

    settings: AlignSettings
    fwhm_pixels: float
    """Width of a star in detector pixels."""
    exposures: dict[str, str]
    """sha256 of each calibrated exposure by its name."""
    catalog: str = ""
    """sha256 of the reference catalogue, where the user gives a file."""
    missing: tuple[str, ...] = ()
    """Names of exposures of the survey that a fault took."""
    kept: tuple[AlignedExposure, ...] = ()
    """What of an earlier alignment stays as it was."""

    @property
    def asked(self) -> str:
        """What is asked for in words: an alignment that was asked for something else is no earlier one of the same."""
        settings: dict[str, Any] = self.settings.model_dump(exclude={"enabled"})
        if self.catalog:
            settings["reference_catalog"] = self.catalog[:16]
        return ", ".join(f"{name} {value}" for name, value in settings.items())

    @property
    def new(self) -> tuple[str, ...]:
        """Names of the exposures that are to be aligned."""
        known = {one.name for one in self.kept}
        return tuple(name for name in self.exposures if name not in known)


def keeping(request: AlignRequest, earlier: Alignment | None) -> AlignRequest:
    """Add to a request what stays of the alignment that was published."""
    if earlier is None or earlier.asked != request.asked:
        return request
    return request.model_copy(update={"kept": staying(earlier.exposures, earlier.missing, request.exposures)})


def needed_exposures(request: AlignRequest, footprints: Mapping[str, Footprint]) -> tuple[str, ...]:
    """Return, sorted, the exposures whose stars are needed: the new ones, and those kept that they overlap with."""
    neighbours = {
        one.name
        for one in request.kept
        if any(footprints_overlap(footprints[one.name], footprints[name]) for name in request.new)
    }
    return tuple(sorted(neighbours.union(request.new)))


def alignment_table(alignment: Alignment) -> QTable:
    """Return an alignment as the table that is published."""
    exposures = alignment.exposures
    shifts = np.array([one.correction.shift for one in exposures]).reshape(-1, 2)
    matrices = np.array([one.correction.matrix for one in exposures]).reshape(-1, 4)
    table = QTable(
        {
            "exposure": [one.name for one in exposures],
            "shift": np.round(1000.0 * np.hypot(*shifts.T), 3) * units.mas,
            "kept": [one.kept for one in exposures],
            **{name: values * units.arcsec for name, values in zip(SHIFTS, shifts.T, strict=True)},
            **dict(zip(MATRIX, matrices.T, strict=True)),
            "sha256": [one.sha256 for one in exposures],
        }
    )
    table.meta |= {"asked": alignment.asked, "missing": list(alignment.missing)}
    return table


def read_alignment(text: str) -> Alignment:
    """Read a table that a survey published.

    Raises
    ------
    ValueError, KeyError
        It is no such table.
    """
    table = QTable.read(text.splitlines(), format="ascii.ecsv")
    shifts = np.transpose([table[name].to_value(units.arcsec) for name in SHIFTS])
    matrices = np.transpose([table[name] for name in MATRIX]).reshape(-1, 2, 2)
    return Alignment(
        asked=table.meta["asked"],
        missing=tuple(table.meta["missing"]),
        exposures=tuple(
            AlignedExposure(
                name=str(row["exposure"]),
                sha256=str(row["sha256"]),
                kept=bool(row["kept"]),
                correction=correction(matrix, shift),
            )
            for row, matrix, shift in zip(table, matrices, shifts, strict=True)
        ),
    )


def correction(matrix: np.ndarray, shift: np.ndarray) -> Correction:
    """Return a 2 x 2 matrix and a shift in arcsec as a record."""
    (xx, xy), (yx, yy) = matrix.tolist()
    x, y = shift.tolist()
    return Correction(matrix=((xx, xy), (yx, yy)), shift=(x, y))


def moves(earlier: Alignment, now: Alignment) -> Moves:
    """Tell how far the reference points of exposures have moved since an earlier alignment, mas.

    An exposure that was calibrated anew counts as well, with the difference of its corrections.
    """
    after = {one.name: one.correction.shift for one in now.exposures}
    steps = [np.subtract(after[one.name], one.correction.shift) for one in earlier.exposures if one.name in after]
    return moves_of([1000.0 * np.hypot(*step) for step in steps])
