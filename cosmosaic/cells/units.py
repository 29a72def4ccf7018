"""The units of work that bin one exposure, and the files that cells are kept in."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cosmosaic.cells.binning import bin_exposure, bin_pixels, pixels_of, source_pixels, usable_pixels
from cosmosaic.cells.stored import open_cells
from cosmosaic.cells.survey import FEWEST_FOR_LEVEL, CellExposure, CellSurvey, placed, window_around
from cosmosaic.geometry.windows import box_of
from cosmosaic.records import Lattice, MosaicGrid
from cosmosaic.steps.result import Made


def bin_one_exposure(exposure: Path, grid: Lattice, folder: Path) -> Made:
    """Bring one exposure onto the survey's lattice of cells.

    Parameters
    ----------
    exposure
        A ``_cal`` file.
    grid
        From `cell_lattice`.
    folder
        Gets ``<exposure>_cells.npz``.

    Raises
    ------
    NoSkyError
        The exposure has no usable pixel; the file is named.
    """
    from jwst import datamodels  # takes long, and the units that bin exposures in memory do not need it

    with datamodels.open(exposure) as model:
        binned = bin_exposure(model, grid)
    return Made(cells=write_cells(binned, folder / f"{binned.name}_cells.npz"))


def bin_masked_exposure(exposure: Path, mask: Path, grid: Lattice, folder: Path) -> Made:
    """Bin one exposure outside of known sources onto the survey's lattice of cells.

    An exposure that they fill comes with all its light, as without a mask, of which a pedestal is an upper limit.

    Parameters
    ----------
    exposure
        A ``_cal`` file.
    mask
        A mask of sources (`cosmosaic.cells.source_masks`).
    grid
        From `cell_lattice`.
    folder
        Gets ``<exposure>_masked.npz``.

    Raises
    ------
    NoSkyError
        The exposure has no usable pixel; the file is named.
    cosmosaic.cells.source_masks.SourceMaskError
        The mask is none.
    """
    from jwst import datamodels

    with datamodels.open(exposure) as model:
        binned, usable = bin_exposure(model, grid), usable_pixels(model)
        free = usable & ~source_pixels(mask, model.meta.wcs, usable.shape)
        outside = bin_pixels(pixels_of(model), free, grid) if free.any() else binned
    if np.count_nonzero(outside.usable) >= FEWEST_FOR_LEVEL:
        binned = outside
    return Made(cells=write_cells(binned, folder / f"{binned.name}_masked.npz"))


def write_cells(exposure: CellExposure, path: Path) -> Path:
    """Write an exposure's cells: not compressed, which would take longer than to measure them and save little."""
    x, y = exposure.detector_position
    np.savez(
        path,
        names=np.array([exposure.name, exposure.detector, exposure.group]),
        numbers=np.array([*exposure.origin, exposure.detector_rows], dtype=np.int64),
        pixel_rms=np.float64(exposure.pixel_rms),
        pixels=exposure.pixels.astype(np.uint8),
        mean=exposure.mean.astype(np.float32),
        variance=exposure.variance.astype(np.float32),
        x=x.astype(np.float32),
        y=y.astype(np.float32),
    )
    return path


def read_cells(paths: Sequence[Path], grid: Lattice, scratch: Path | None = None) -> CellSurvey:
    """Open exposures that `bin_one_exposure` brought onto a lattice, in the order of their names.

    Their cells stay in the files, and are read when an exposure is taken.

    Parameters
    ----------
    paths
        The files.
    grid
        The lattice.
    scratch
        Folder for temporary files; the system's, if there is none.

    Raises
    ------
    cosmosaic.cells.stored.CellsFileError
        A file does not hold the cells of an exposure.
    """
    exposures = open_cells(_in_order(paths), scratch)
    window = window_around([exposure.outline for exposure in exposures], grid)
    box = box_of(window)
    return CellSurvey(window, exposures.moved(-box.y, -box.x))


def read_cells_in(paths: Sequence[Path], window: MosaicGrid) -> CellSurvey:
    """Read some of the exposures that a window of the lattice holds, in the order of their names, into memory."""
    return placed(open_cells(_in_order(paths), None), window)


def _in_order(paths: Sequence[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.name)
