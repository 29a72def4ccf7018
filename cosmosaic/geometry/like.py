"""The pixel grid of an existing image, e.g. an HST mosaic: tangent point, scale, rotation and window."""

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from cosmosaic.geometry.grid import pixel_to_sky
from cosmosaic.geometry.sphere import ARCSEC_PER_RADIAN, GridError, separations_deg, unit_vectors
from cosmosaic.geometry.windows import WHOLE, in_steps
from cosmosaic.records import MosaicGrid

LARGEST_OFFSET_PIXELS = 0.01
SMALLEST_SCALE_MAS, LARGEST_SCALE_MAS = 5.0, 1000.0
"""Bounds of grid.pixel_scale_mas."""
COMPARED_ALONG_AXIS = 5
SCALE_DIGITS = 10
SETTING = "grid.like"


def grid_like(header: fits.Header, name: str) -> MosaicGrid:
    """Read the pixel grid of an image from its header.

    Parameters
    ----------
    header
        Header of a two-dimensional image.
    name
        Name of the image, for messages.

    Raises
    ------
    GridError
        No tangent-plane grid of square pixels matches its pixels to 0.01 pixels.
    """
    wcs = WCS(header, fix=False)
    if not wcs.has_celestial:
        raise GridError(f"{SETTING}: {name} has no celestial WCS; give an image with one")
    if list(wcs.wcs.ctype)[:2] != ["RA---TAN", "DEC--TAN"] or wcs.sip is not None:
        raise GridError(
            f"{SETTING}: {name} has the projection {', '.join(wcs.wcs.ctype)}, not the tangent plane without "
            f"distortion (RA---TAN, DEC--TAN) of the mosaics; resample it, or give another image"
        )
    grid = _square_grid(wcs, (header["NAXIS2"], header["NAXIS1"]))
    _check_scale(grid, name)
    _check_pixels(grid, wcs, name)
    return grid.model_copy(update={"crpix": tuple(in_steps(value) for value in grid.crpix)})


def _square_grid(wcs: WCS, shape: tuple[int, int]) -> MosaicGrid:
    """The grid of square pixels, with x running westward at rotation 0, that is nearest to a WCS."""
    matrix = wcs.pixel_scale_matrix
    scale = float(np.sqrt(abs(np.linalg.det(matrix))))
    tangent = SkyCoord(*wcs.wcs.crval[:2], unit="deg", frame=_frame(wcs)).icrs
    return MosaicGrid(
        tangent_ra=float(tangent.ra.deg),
        tangent_dec=float(tangent.dec.deg),
        rotation=float(np.degrees(np.arctan2(matrix[0, 1] + matrix[1, 0], matrix[1, 1] - matrix[0, 0]))),
        pixel_scale_mas=float(f"{scale * 3.6e6:.{SCALE_DIGITS}g}"),
        crpix=(float(wcs.wcs.crpix[0]) - 1.0, float(wcs.wcs.crpix[1]) - 1.0),
        shape=shape,
        tile=WHOLE,
    )


def _frame(wcs: WCS) -> str:
    return "fk5" if (wcs.wcs.radesys or "ICRS").upper() == "FK5" else "icrs"


def _check_scale(grid: MosaicGrid, name: str) -> None:
    if not SMALLEST_SCALE_MAS <= grid.pixel_scale_mas <= LARGEST_SCALE_MAS:
        raise GridError(
            f"{SETTING}: {name} has pixels of {grid.pixel_scale_mas:g} mas; mosaics have {SMALLEST_SCALE_MAS:g} to "
            f"{LARGEST_SCALE_MAS:g}"
        )


def _check_pixels(grid: MosaicGrid, wcs: WCS, name: str) -> None:
    x, y = (np.linspace(-0.5, length - 0.5, COMPARED_ALONG_AXIS) for length in grid.shape[::-1])
    pixels = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    there = SkyCoord(*wcs.all_pix2world(pixels, 0).T, unit="deg", frame=_frame(wcs)).icrs
    theirs = unit_vectors(np.stack([there.ra.deg, there.dec.deg], axis=1))
    apart = separations_deg(unit_vectors(pixel_to_sky(grid, pixels)), theirs).max()
    offset = float(np.radians(apart) * ARCSEC_PER_RADIAN * 1000.0 / grid.pixel_scale_mas)
    if not offset <= LARGEST_OFFSET_PIXELS:
        raise GridError(
            f"{SETTING}: {name} has pixels that are not square, or run eastward: they are up to {offset:.2g} pixels "
            f"off the nearest grid of square ones; resample it, or give another image"
        )
