"""The windows of a survey: the whole survey and the user's tiles, in the pixels of each filter."""

import math
from collections.abc import Iterable, Mapping
from typing import BinaryIO

from astropy.io import fits

from cosmosaic.geometry.grid import survey_grid
from cosmosaic.geometry.like import grid_like
from cosmosaic.geometry.sphere import Footprint, GridError
from cosmosaic.geometry.windows import (
    CORNER,
    WHOLE,
    box_of,
    clipped_to,
    covering,
    in_larger_pixels,
    neighbouring,
    read_tiles,
    tiles_of,
    touched_tiles,
    window_of,
)
from cosmosaic.nircam import is_long_wavelength
from cosmosaic.records import Exposure, MosaicGrid, Windows
from cosmosaic.storage import store
from cosmosaic.survey import Survey


def named_tiles(survey: Survey) -> tuple[MosaicGrid, ...]:
    """Read the user's tiles, if any.

    Raises
    ------
    cosmosaic.geometry.sphere.GridError
        The table cannot be used.
    """
    source = survey.grid.tiles
    if not source:
        return ()
    window = window_like(survey)
    settings, like = on_grid_of_image(survey).grid, window.crpix if window else CORNER
    return read_tiles(store.read_bytes(source).decode(), source, settings, like)


def on_grid_of_image(survey: Survey) -> Survey:
    """Set the grid of a survey to that of the user's image (``grid.like``), if any.

    Raises
    ------
    cosmosaic.geometry.sphere.GridError
        The grid of the image cannot be used.
    """
    window = window_like(survey)
    if window is None:
        return survey
    update = {name: getattr(window, name) for name in ("tangent_ra", "tangent_dec", "rotation", "pixel_scale_mas")}
    return survey.model_copy(update={"grid": survey.grid.model_copy(update=update)})


def window_like(survey: Survey) -> MosaicGrid | None:
    """Return the window of the user's image (``grid.like``), if any.

    Raises
    ------
    cosmosaic.geometry.sphere.GridError
        The grid of the image cannot be used, or the image has more pixels than allowed.
    """
    source = survey.grid.like
    if source is None:
        return None
    with store.open_object(source) as stream:
        window = grid_like(image_header(stream, source), source)
    rows, columns = window.shape
    if rows * columns > 1e6 * survey.grid.largest_mpix:
        raise GridError(
            f"grid.like: {source} has {rows * columns / 1e6:.0f} megapixels, more than grid.largest_mpix = "
            f"{survey.grid.largest_mpix:g}; raise it, or give a cutout of the image"
        )
    factor = survey.grid.long_wavelength_factor
    if rows % factor or columns % factor:
        raise GridError(
            f"grid.like: {source} has {columns} x {rows} pixels, which do not nest in pixels {factor} times larger; "
            f"set grid.long_wavelength_factor = 1"
        )
    return window


def image_header(stream: BinaryIO, name: str) -> fits.Header:
    """Find the header of a file's first image of two axes.

    Raises
    ------
    cosmosaic.geometry.sphere.GridError
        The file is not FITS, or has no such image.
    """
    try:
        with fits.open(stream, memmap=False) as hdus:
            for hdu in hdus:
                if hdu.is_image and len(hdu.shape) == 2:
                    return hdu.header.copy()
    except (OSError, ValueError, fits.VerifyError) as error:
        raise GridError(f"grid.like: {name} cannot be read as FITS: {error}") from error
    raise GridError(f"grid.like: {name} has no two-dimensional image")


def exposures_in_tiles(exposures: tuple[Exposure, ...], tiles: tuple[MosaicGrid, ...]) -> tuple[Exposure, ...]:
    """Keep the exposures that reach the given windows (the user's tiles or image); all exposures without windows.

    Raises
    ------
    cosmosaic.geometry.sphere.GridError
        No exposure reaches a window.
    """
    if not tiles:
        return exposures
    touched = touched_tiles(tiles, {exposure.name: exposure.footprint for exposure in exposures})
    inside = tuple(exposure for exposure in exposures if touched[exposure.name])
    if exposures and not inside:
        is_image = tiles[0].tile == WHOLE
        where = "the image of grid.like" if is_image else f"any of the {len(tiles)} tiles of grid.tiles"
        check = "that it shows this field" if is_image else "the tiles' crpix, grid.tangent_ra, grid.tangent_dec and "
        raise GridError(
            f"none of {len(exposures)} exposures reaches {where}; check {check}{'' if is_image else 'grid.rotation'}"
        )
    return inside


def survey_windows(exposures: Iterable[Exposure], survey: Survey, tiles: tuple[MosaicGrid, ...]) -> dict[str, Windows]:
    """Return the windows of each filter: the same sky for all, with larger pixels at long wavelengths if set.

    Exposures that could not be calibrated count too, so that their repair does not move the grid.
    """
    exposures = list(exposures)
    footprints = {exposure.name: exposure.footprint for exposure in exposures}
    factors = {
        exposure.band: survey.grid.long_wavelength_factor if is_long_wavelength(exposure.band) else 1
        for exposure in exposures
    }
    windows: dict[str, Windows] = {}
    given, settings = window_like(survey), survey.grid
    is_whole_made = settings.whole or not tiles
    if not is_whole_made:
        settings = settings.model_copy(update={"largest_mpix": math.inf})
    for band, factor in factors.items():
        whole = in_larger_pixels(given, factor) if given else survey_grid(settings, footprints, factor)
        larger = tuple(in_larger_pixels(tile, factor) for tile in tiles)
        windows[band] = Windows(clipped_to(whole, larger) if larger else whole, larger, is_whole_made)
    return windows


def parts_of_sky(footprints: Mapping[str, Footprint], windows: Mapping[str, Windows]) -> tuple[MosaicGrid, ...]:
    """Return the parts in which all filters are judged together.

    These are the user's tiles or, without any, squares of up to 4 x 4 tiles (2 arcmin with the default pixels), named
    by their first and last tile.

    Parameters
    ----------
    footprints
        Those of all exposures by name.
    windows
        The windows of each filter.
    """
    if not windows:
        return ()
    finest = min(windows.values(), key=lambda each: each.whole.pixel_scale_mas)
    if finest.tiles:
        return finest.tiles
    tiles = tiles_of(finest.whole)
    reached = {tile.tile for each in touched_tiles(tiles, footprints).values() for tile in each}
    squares = neighbouring([tile for tile in tiles if tile.tile in reached])
    return tuple(
        window_of(finest.whole, covering(map(box_of, square)), f"{square[0].tile}-{square[-1].tile}")
        for square in squares
    )
