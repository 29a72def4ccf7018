"""The table of exposures: one row for each file under the raw prefix."""

from collections.abc import Iterable

import pandas as pd

from cosmosaic.geometry.grid import directions, footprint_centre
from cosmosaic.records import Exposure, RefusedFile

TABLE_COLUMNS = {
    "uri": "string",
    "size": "Int64",
    "level": "string",
    "program": "string",
    "observation": "string",
    "visit": "string",
    "exposure": "string",
    "detector": "string",
    "filter": "string",
    "pupil": "string",
    "subarray": "string",
    "exposure_time_s": "Float64",
    "start": "string",
    "ra": "Float64",
    "dec": "Float64",
    "status": "string",
    "reason": "string",
    "warnings": "string",
    "sha256": "string",
}


def found_table(
    exposures: Iterable[Exposure], refused: Iterable[RefusedFile], unasked: Iterable[RefusedFile] = ()
) -> pd.DataFrame:
    """Tabulate all files under the raw prefix, one row each, sorted by URI.

    ``ra`` and ``dec`` are the middle of the footprint in degrees, ICRS. Unknown values of refused files are missing.
    """
    rows = [_accepted_row(exposure) for exposure in exposures]
    rows += [{"uri": entry.uri, "status": "refused", "reason": entry.reason} for entry in refused]
    rows += [{"uri": entry.uri, "status": "not asked for", "reason": entry.reason} for entry in unasked]
    table = pd.DataFrame(rows, columns=list(TABLE_COLUMNS)).astype(TABLE_COLUMNS)
    return table.sort_values("uri", ignore_index=True)


def _accepted_row(exposure: Exposure) -> dict[str, object]:
    ra, dec = directions(footprint_centre(exposure.footprint))[0]
    same_name = exposure.model_dump(include=set(TABLE_COLUMNS) - {"warnings"})
    return same_name | {
        "uri": exposure.object.uri,
        "size": exposure.object.size,
        "sha256": exposure.object.sha256,
        "exposure_time_s": exposure.exposure_time,
        "ra": float(ra),
        "dec": float(dec),
        "status": "accepted",
        "warnings": "; ".join(exposure.warnings),
    }
