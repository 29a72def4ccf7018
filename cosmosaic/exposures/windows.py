"""The windows of a survey: the whole of it, and the tiles that the user names, in the pixels of each filter."""

from collections.abc import Iterable

from cosmosaic.geometry.grid import survey_grid
from cosmosaic.geometry.sphere import GridError
from cosmosaic.geometry.windows import clipped_to, in_larger_pixels, read_tiles, touched_tiles
from cosmosaic.nircam import is_long_wavelength
from cosmosaic.records import Exposure, MosaicGrid, Windows
from cosmosaic.storage import store
from cosmosaic.survey import Survey


def named_tiles(survey: Survey) -> tuple[MosaicGrid, ...]:
    """Read the tiles that the user names, if any.

    Raises
    ------
    cosmosaic.geometry.sphere.GridError
        The table is not fit for use.
    """
    source = survey.grid.tiles
    return read_tiles(store.read_bytes(source).decode(), source, survey.grid) if source else ()


def exposures_in_tiles(exposures: tuple[Exposure, ...], tiles: tuple[MosaicGrid, ...]) -> tuple[Exposure, ...]:
    """Keep the frames that reach a tile that the user named; all frames where none is named.

    Raises
    ------
    cosmosaic.geometry.sphere.GridError
        No frame reaches any.
    """
    if not tiles:
        return exposures
    touched = touched_tiles(tiles, {exposure.name: exposure.footprint for exposure in exposures})
    inside = tuple(exposure for exposure in exposures if touched[exposure.name])
    if exposures and not inside:
        raise GridError(
            f"none of {len(exposures)} frames reaches any of the {len(tiles)} tiles of grid.tiles; check the tiles' "
            f"crpix, grid.tangent_ra, grid.tangent_dec and grid.rotation"
        )
    return inside


def survey_windows(exposures: Iterable[Exposure], survey: Survey, tiles: tuple[MosaicGrid, ...]) -> dict[str, Windows]:
    """Return the windows of each filter: the same sky for all, in larger pixels at long wavelengths where asked.

    A frame that could not be calibrated counts too, so that its repair does not move the grid.
    """
    exposures = list(exposures)
    footprints = {exposure.name: exposure.footprint for exposure in exposures}
    factors = {
        exposure.band: survey.grid.long_wavelength_factor if is_long_wavelength(exposure.band) else 1
        for exposure in exposures
    }
    windows: dict[str, Windows] = {}
    for band, factor in factors.items():
        whole, larger = survey_grid(survey.grid, footprints, factor), tuple(in_larger_pixels(t, factor) for t in tiles)
        windows[band] = Windows(clipped_to(whole, larger), larger) if larger else Windows(whole)
    return windows
