"""Exposures as they go into the mosaic: their flags by either engine, and their cells for the verdict."""

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from jwst import datamodels

from cosmosaic.cells.cells import bin_exposure, write_cells
from cosmosaic.records import Made, MosaicGrid
from cosmosaic.sky.solution import CLEARED_SUFFIX


def flag_and_bin(paths: list[Path], flag: str, arguments: tuple[Any, ...], grid: MosaicGrid, folder: Path) -> Made:
    """Flag exposures, and bring what is left of them onto the survey's lattice of cells.

    Parameters
    ----------
    paths
        What the engine's function takes.
    flag
        Function of an engine (``module:function``) that writes ``_crf`` files.
    arguments
        What it takes between paths and folder.
    grid
        From `cosmosaic.geometry.windows.cell_lattice`.
    folder
        Gets what the function makes and, for each ``_crf`` file, ``<exposure>_cleared.npz``.
    """
    made: Made = resolve_name(flag)(paths, *arguments, folder)
    flagged = [path for path in made.paths if path.name.endswith("_crf.fits")]
    return Made([*made.paths, *(bin_cleared(path, grid, folder) for path in flagged)], made.facts)


def bin_cleared(crf: Path, grid: MosaicGrid, folder: Path) -> Path:
    """Bring one exposure onto the lattice without its sky.

    Parameters
    ----------
    crf
        A ``_crf`` file; a level that its header records without having subtracted it is subtracted first.
    grid
        The lattice.
    folder
        Gets ``<exposure>_cleared.npz``.
    """
    with datamodels.open(crf) as model:
        background = model.meta.background
        if background.level and not background.subtracted:
            model.data -= background.level
        exposure = bin_exposure(model, grid)
    return write_cells(exposure, folder / f"{exposure.name}{CLEARED_SUFFIX}")
