"""The pixel grid that all mosaics of a survey share, and its windows."""

from collections.abc import Iterable

from cosmosaic.geometry.grid import survey_grid
from cosmosaic.geometry.windows import clipped_to, in_larger_pixels, read_tiles
from cosmosaic.nircam import is_long_wavelength
from cosmosaic.records import Frame, MosaicGrid, Windows
from cosmosaic.storage import store
from cosmosaic.survey import Survey

Tiles = tuple[MosaicGrid, ...]


def named_tiles(survey: Survey) -> Tiles:
    """Read the tiles that the user names, if any.

    Raises
    ------
    cosmosaic.geometry.grid.GridError
        The table is not fit for use.
    """
    source = survey.grid.tiles
    return read_tiles(store.read_bytes(source).decode(), source, survey.grid) if source else ()


def survey_grids(frames: Iterable[Frame], survey: Survey, tiles: Tiles) -> dict[str, Windows]:
    """Return the windows of each band: the same sky for all, in larger pixels at long wavelengths where asked.

    A frame that could not be calibrated counts too, so that its repair does not move the grid.
    """
    frames = list(frames)
    footprints = {frame.name: frame.footprint for frame in frames}
    factors = {
        frame.band: survey.grid.long_wavelength_factor if is_long_wavelength(frame.band) else 1 for frame in frames
    }
    grids: dict[str, Windows] = {}
    for band, factor in factors.items():
        whole, larger = survey_grid(survey.grid, footprints, factor), tuple(in_larger_pixels(t, factor) for t in tiles)
        grids[band] = Windows(clipped_to(whole, larger), larger) if larger else Windows(whole)
    return grids
