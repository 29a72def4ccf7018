"""The pointing corrections of a survey's exposures, which are kept when exposures are added.

Exposures that are aligned together all move a little when one is added, and all their products would have to be made
again. So an aligned exposure keeps its correction as long as it does not change, and a new one is aligned to the stars
of those it overlaps. The corrections are kept in the table that a survey publishes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from astropy import units
from astropy.table import QTable

from cosmosaic.geometry.sphere import Footprint, sky_to_plane
from cosmosaic.records import Record
from cosmosaic.solved import Moves, Solved, moves_of, staying
from cosmosaic.survey import AlignSettings

CORRECTION_SUFFIX = "_correction.json"
"""Ending of the files with the correction of an exposure."""
JUDGED = ("exposure", "roll", "detector", "module", "filter", "cell", "absolute")
"""Kinds of errors that the verdict judges."""
OF_ONE_FILTER = ("exposure", "roll", "detector", "module", "absolute")
"""Those of which the stars of one filter tell."""
SHIFTS = ("shift_x", "shift_y")
MATRIX = ("matrix_xx", "matrix_xy", "matrix_yx", "matrix_yy")


class Correction(Record):
    """A linear map of the tangent plane at an exposure's reference point, x eastward and y northward."""

    matrix: tuple[tuple[float, float], tuple[float, float]]
    shift: tuple[float, float]
    """arcsec; added after the matrix is applied."""


NO_CORRECTION = Correction(matrix=((1.0, 0.0), (0.0, 1.0)), shift=(0.0, 0.0))


class AlignedExposure(Solved):
    """The correction of one exposure; its sha256 is that of the calibrated exposure."""

    correction: Correction
    """Relative to the WCS of the calibrated exposure."""
    aligned: bool = True
    """Whether stars gave the correction; else the exposure keeps the WCS of its header."""
    error_mas: float | None = None
    """Rms error per axis of its position against the others, by the errors of stars; None if it is not known."""


class Alignment(Record):
    """The corrections of the exposures of one filter."""

    asked: str
    """The settings it was made with."""
    exposures: tuple[AlignedExposure, ...]
    missing: tuple[str, ...] = ()
    """Exposures of the survey that could not be calibrated."""


class AlignRequest(Record):
    """The request for an alignment."""

    settings: AlignSettings
    fwhm_pixels: float
    """Width of a star in detector pixels."""
    exposures: dict[str, str]
    """sha256 of each calibrated exposure by its name."""
    catalog: str = ""
    """sha256 of the reference catalogue, where the user gives a file."""
    missing: tuple[str, ...] = ()
    """Names of exposures of the survey that could not be calibrated."""
    kept: tuple[AlignedExposure, ...] = ()
    """Corrections of an earlier alignment that are kept."""

    @property
    def asked(self) -> str:
        """The settings in words: an earlier alignment with other settings is not used."""
        settings: dict[str, Any] = self.settings.model_dump(exclude={"enabled"})
        if self.catalog:
            settings["reference_catalog"] = self.catalog[:16]
        return ", ".join(f"{name} {value}" for name, value in settings.items())

    @property
    def new(self) -> tuple[str, ...]:
        """Names of the exposures to be aligned."""
        known = {one.name for one in self.kept}
        return tuple(name for name in self.exposures if name not in known)


def keeping(request: AlignRequest, earlier: Alignment | None) -> AlignRequest:
    """Add to a request the corrections of the published alignment that are kept."""
    if earlier is None or earlier.asked != request.asked:
        return request
    stays = staying(earlier.exposures, earlier.missing, request.exposures)
    # The others may share stars with the new exposures.
    return request.model_copy(update={"kept": tuple(one for one in stays if one.aligned)})


def needed_exposures(request: AlignRequest, footprints: Mapping[str, Footprint]) -> tuple[str, ...]:
    """Return, sorted, the exposures whose stars are needed: the new ones, and the kept ones that they overlap."""
    new, kept = request.new, [one.name for one in request.kept]
    if not new or not kept:
        return tuple(sorted(new))
    # Great circles are straight lines in a tangent plane.
    tangent = footprints[new[0]][0]
    added, known = ([_polygon(sky_to_plane(tangent, footprints[name])) for name in names] for names in (new, kept))
    near = shapely.STRtree(known).query(added, predicate="intersects")[1]
    return tuple(sorted({kept[number] for number in near}.union(new)))


def _polygon(corners: np.ndarray) -> shapely.Polygon:
    """A footprint in a tangent plane; empty if it lies on the other half of the sky."""
    return shapely.Polygon(corners) if np.isfinite(corners).all() else shapely.Polygon()


def alignment_table(alignment: Alignment) -> QTable:
    """Return an alignment as the published table."""
    exposures = alignment.exposures
    shifts = np.array([one.correction.shift for one in exposures]).reshape(-1, 2)
    matrices = np.array([one.correction.matrix for one in exposures]).reshape(-1, 4)
    table = QTable(
        {
            "exposure": [one.name for one in exposures],
            "shift": np.round(1000.0 * np.hypot(*shifts.T), 3) * units.mas,
            "error": [np.nan if one.error_mas is None else one.error_mas for one in exposures] * units.mas,
            "aligned": [one.aligned for one in exposures],
            "kept": [one.kept for one in exposures],
            **{name: values * units.arcsec for name, values in zip(SHIFTS, shifts.T, strict=True)},
            **dict(zip(MATRIX, matrices.T, strict=True)),
            "sha256": [one.sha256 for one in exposures],
        }
    )
    table.meta |= {"asked": alignment.asked, "missing": list(alignment.missing)}
    return table


def read_alignment(text: str) -> Alignment:
    """Read a published table.

    Raises
    ------
    ValueError, KeyError
        It is not such a table.
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
                aligned=bool(row["aligned"]) if "aligned" in table.colnames else True,
                error_mas=_known(row["error"].to_value(units.mas)) if "error" in table.colnames else None,
            )
            for row, matrix, shift in zip(table, matrices, shifts, strict=True)
        ),
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def correction(matrix: np.ndarray, shift: np.ndarray) -> Correction:
    """Return a 2 x 2 matrix and a shift in arcsec as a record."""
    (xx, xy), (yx, yy) = matrix.tolist()
    x, y = shift.tolist()
    return Correction(matrix=((xx, xy), (yx, yy)), shift=(x, y))


def moves(earlier: Alignment, now: Alignment) -> Moves:
    """Return how far the reference points of exposures have moved since an earlier alignment, mas.

    An exposure that was calibrated again counts with the difference of its corrections.
    """
    after = {one.name: one.correction.shift for one in now.exposures}
    steps = [np.subtract(after[one.name], one.correction.shift) for one in earlier.exposures if one.name in after]
    return moves_of([1000.0 * np.hypot(*step) for step in steps])
