"""The sky background of exposures: measured here, kept as a small table, applied when exposures are combined."""

from pathlib import Path

import numpy as np
from astropy import units
from astropy.table import QTable

from cosmosaic.exposures import open_exposures
from cosmosaic.sky.detector_median import measure_medians
from cosmosaic.sky.skymatch import measure_with_skymatch
from cosmosaic.steps import Made
from cosmosaic.survey import SkyMethod

SURFACE_BRIGHTNESS = units.MJy / units.sr


def measure_sky(paths: list[Path], method: SkyMethod, stem: str, folder: Path) -> Made:
    """Measure the sky level of each exposure of one filter.

    Parameters
    ----------
    paths
        ``_cal`` files of one filter.
    method
        ``median`` or one of skymatch's methods.
    stem
        Name of the table without extension.
    folder
        Where the table (ECSV; columns ``exposure`` and ``level`` in MJy/sr) goes.
    """
    library = open_exposures(paths, folder.parent)
    own = method == "median"
    levels = measure_medians(library) if own else measure_with_skymatch(library, method)
    table = QTable({"exposure": list(levels), "level": np.array(list(levels.values())) * SURFACE_BRIGHTNESS})
    table.meta["method"] = method
    path = folder / f"{stem}.ecsv"
    table.write(path, format="ascii.ecsv")
    return Made([path])


def read_levels(path: Path) -> dict[str, float]:
    """Read a table of sky levels: exposure name to level in MJy/sr."""
    table = QTable.read(path, format="ascii.ecsv")
    return dict(zip(table["exposure"], table["level"].to_value(SURFACE_BRIGHTNESS), strict=True))
