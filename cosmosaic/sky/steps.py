"""The step that measures the sky of one filter, and the table it leaves."""

from pathlib import Path

import numpy as np
from astropy import units
from astropy.table import QTable

from cosmosaic.records import Made, MosaicGrid
from cosmosaic.sky.cells import CELLS_SUFFIX, read_cells
from cosmosaic.sky.comparison import choose_method
from cosmosaic.sky.methods import METHODS, Sky, SkyInputs, bright_cells, find_sources, measure, values_of
from cosmosaic.sky.patterns import Patterns, without_patterns, write_patterns
from cosmosaic.sky.stripes import destripe

SURFACE_BRIGHTNESS = units.MJy / units.sr
AUTO = "auto"
LEVEL_DIGITS = 5
"""Decimals of the levels in MJy/sr, a few ten-thousandths of a pixel's noise: exposures far from a new one keep theirs,
and all that was made of them."""


def measure_sky(paths: list[Path], method: str, slow_stripes: bool, grid: MosaicGrid, stem: str, folder: Path) -> Made:
    """Measure the sky of each exposure of one filter.

    Parameters
    ----------
    paths
        ``_cells.npz`` files of all exposures; their ``_cal`` files, for the methods that look at pixels; for ``user``
        the table of levels.
    method
        A key of `cosmosaic.sky.methods.METHODS`, or ``auto``: the one that the verdict ranks first, and why is told
        in the table's metadata.
    slow_stripes
        Find slow stripes along rows as well.
    grid
        The lattice that the cells lie on.
    stem
        Name of the table without extension.
    folder
        Where the table goes (ECSV; columns ``exposure``, and ``level`` and ``error`` in MJy/sr; the error is NaN
        where the method gives none), and ``<exposure>_patterns.json`` of each exposure that has any.

    Raises
    ------
    cosmosaic.sky.methods.UnknownMethodError
        There is no such method.
    cosmosaic.sky.cells.NoSkyError
        An exposure has no sky to measure.
    """
    cells = [path for path in paths if path.name.endswith(CELLS_SUFFIX)]
    exposures = [path for path in paths if path.suffix == ".fits"]
    tables = [path for path in paths if path not in (*cells, *exposures)]
    inputs = SkyInputs(read_cells(cells, grid), exposures, tables[0] if tables else None, folder.parent)
    chosen, sky, scores = choose_method(inputs) if method == AUTO else (method, measure(method, inputs), {})
    levels = {name: round(level.value, LEVEL_DIGITS) for name, level in sky.levels.items()}
    patterns = _with_stripes(inputs, sky) if slow_stripes else sky.patterns
    table = QTable(
        {
            "exposure": list(levels),
            "level": np.array(list(levels.values())) * SURFACE_BRIGHTNESS,
            "error": np.round([level.error for level in sky.levels.values()], LEVEL_DIGITS + 1) * SURFACE_BRIGHTNESS,
        }
    )
    table.meta["method"] = chosen
    table.meta["source"] = METHODS[chosen].source
    if scores:
        table.meta["chosen_for"] = {"score": "rms distance from the levels of the held-out blocks, % of a pixel's rms"}
        table.meta["chosen_for"] |= scores
    path = folder / f"{stem}.ecsv"
    table.write(path, format="ascii.ecsv")
    return Made([path, *(write_patterns(patterns[name], name, folder) for name in sorted(patterns))], levels)


def read_levels(path: Path) -> dict[str, float]:
    """Read a table of sky levels: exposure name to level in MJy/sr."""
    table = QTable.read(path, format="ascii.ecsv")
    return dict(zip(table["exposure"], table["level"].to_value(SURFACE_BRIGHTNESS), strict=True))


def _with_stripes(inputs: SkyInputs, sky: Sky) -> Patterns:
    """Add to a method's patterns the slow stripes that are left without them."""
    survey = without_patterns(inputs.survey, sky.patterns)
    _, levels = find_sources(survey)
    _, stripes = destripe(survey, values_of(levels), ~bright_cells(survey, levels))
    return {name: [*sky.patterns.get(name, ()), *stripes[name]] for name in survey.names}
