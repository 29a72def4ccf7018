"""The sky background of exposures: measured here, kept as a small table, applied when exposures are combined."""

from pathlib import Path

import numpy as np
from astropy import units
from astropy.table import QTable

from cosmosaic.records import Made
from cosmosaic.sky.methods import METHODS, measure_levels

SURFACE_BRIGHTNESS = units.MJy / units.sr


def measure_sky(paths: list[Path], method: str, stem: str, folder: Path) -> Made:
    """Measure the sky level of each exposure of one filter.

    Parameters
    ----------
    paths
        ``_cal`` files of one filter; for ``user`` the table of levels as well.
    method
        A key of `cosmosaic.sky.methods.METHODS`.
    stem
        Name of the table without extension.
    folder
        Where the table goes (ECSV; columns ``exposure``, and ``level`` and ``error`` in MJy/sr; the error is NaN
        where the method gives none).

    Raises
    ------
    cosmosaic.sky.methods.UnknownMethodError
        There is no such method.
    cosmosaic.sky.cells.NoSkyError
        An exposure has no sky to measure.
    """
    levels = measure_levels(paths, method, folder.parent)
    table = QTable(
        {
            "exposure": list(levels),
            "level": np.array([level.value for level in levels.values()]) * SURFACE_BRIGHTNESS,
            "error": np.array([level.error for level in levels.values()]) * SURFACE_BRIGHTNESS,
        }
    )
    table.meta["method"] = method
    table.meta["source"] = METHODS[method].source
    path = folder / f"{stem}.ecsv"
    table.write(path, format="ascii.ecsv")
    return Made([path], {name: level.value for name, level in levels.items()})


def read_levels(path: Path) -> dict[str, float]:
    """Read a table of sky levels: exposure name to level in MJy/sr."""
    table = QTable.read(path, format="ascii.ecsv")
    return dict(zip(table["exposure"], table["level"].to_value(SURFACE_BRIGHTNESS), strict=True))
