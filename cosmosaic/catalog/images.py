"""Images of other telescopes on the survey's grid, cut and converted so that the catalogue measures them as mosaics."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from cosmosaic.catalog.image import NJY_PER_MJY, PIXEL_UNIT
from cosmosaic.catalog.psf import read_psf, write_psf
from cosmosaic.geometry.grid import pixel_to_sky
from cosmosaic.geometry.sphere import ARCSEC_PER_RADIAN
from cosmosaic.geometry.wcs import wcs_header
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.result import Made

LARGEST_OFFSET_PIXELS = 0.02
"""Largest distance of the image's pixels from the grid's, in pixels of the grid."""
COMPARED_ALONG_AXIS = 5
JANSKY_AB = 8.90
"""AB magnitude of 1 Jy."""
SCATTER_OF_DRIZZLED = (0.2, 3.0)
"""Scatter of pixels in units of their errors; drizzled pixels share noise, so that the scatter is below 1."""
ERRORS = {"error": "ERR", "weight": "WHT"}
"""Extensions of the files that tell errors."""
SAMPLED = 16
"""Every so many pixels tell the scatter."""
FITS_BLOCK = 2880
STRIP_PIXELS = 4_000_000
"""Pixels in memory at a time."""
MAD_TO_SIGMA = 1.4826

log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where a window of the grid lies among the pixels of an image."""

    factor: int
    """Side of the image's pixels in pixels of the grid."""
    column: int
    row: int
    """Of the image's pixel at the window's first."""


class ImageError(ValueError):
    """An image of another telescope cannot be measured."""


def take_image(
    files: Mapping[str, Path],
    window: MosaicGrid,
    zero_point_ab: float | None,
    band: str,
    stem: str,
    folder: Path,
) -> Made:
    """Write the part of an image that lies in a window as a mosaic in MJy/sr, and its PSF.

    Parameters
    ----------
    files
        ``image``: FITS image, the extension SCI or the first image of the file; ``error``: standard errors in its unit
        (ERR or the first image), or else ``weight``: inverse variances (WHT or the first image); ``psf``: its PSF, in
        the format of `cosmosaic.catalog.psf.read_psf`.
    window
        Part of the survey's grid.
    zero_point_ab
        AB magnitude of one unit of the image in a pixel; None if the header tells the unit.
    band
        Filter.
    stem
        Beginning of the names.
    folder
        Gets ``<stem>_image.fits`` and ``<stem>_psf.fits``, if the image has data in the window.

    Raises
    ------
    ImageError
        A file is no image, its pixels are not those of the survey's grid, or its unit is not known.
    """
    header, name = _header_of(files["image"]), files["image"].name
    place = locate(header, window, name)
    for kind in ERRORS.keys() & files.keys():
        _check_size(files[kind], ERRORS[kind], header)
    coarse = _coarser(window, place.factor)
    pixel_sr = (coarse.pixel_scale_mas / 1000.0 / ARCSEC_PER_RADIAN) ** 2
    unit = unit_mjy_sr(header, zero_point_ab, pixel_sr, name)
    if not _has_data(files, place, coarse):
        return Made(mosaic=None, psf=None)
    cards = wcs_header(coarse)
    cards["BUNIT"], cards["PIXAR_SR"] = PIXEL_UNIT.to_string(), pixel_sr
    mosaic = folder / f"{stem}_image.fits"
    with mosaic.open("wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        for number, extension in enumerate(("SCI", "ERR", "WHT")):
            # The size is told without the pixels: a constant takes no memory.
            plane = np.broadcast_to(np.float32(0), coarse.shape)
            file.write(fits.ImageHDU(plane, header=cards, name=extension).header.tostring().encode("ascii"))
            for pixels in _strips(files, place, coarse):
                file.write(_planes(pixels, unit)[number].astype(">f4").tobytes())
            file.write(b"\0" * (-file.tell() % FITS_BLOCK))
    own = read_psf(files["psf"], coarse.pixel_scale_mas / 1000.0)
    return Made(mosaic=mosaic, psf=write_psf(own, band, folder / f"{stem}_psf.fits"))


def locate(header: fits.Header, window: MosaicGrid, name: str) -> Place:
    """Find a window of the survey's grid among the pixels of an image.

    Parameters
    ----------
    header
        Of the image, with a celestial WCS.
    window
        Part of the survey's grid.
    name
        Name of the image, for messages.

    Raises
    ------
    ImageError
        The image's pixels are not those of the grid, nor blocks of them in which the window nests.
    """
    wcs = WCS(header, fix=False)
    if not wcs.has_celestial:
        raise ImageError(f"{name} has no celestial WCS; give an image on the survey's grid")
    x, y = (np.linspace(0.0, length - 1.0, COMPARED_ALONG_AXIS) for length in window.shape[::-1])
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    sky = SkyCoord(*pixel_to_sky(window, places).T, unit="deg", frame="icrs")
    pixels = np.stack(wcs.world_to_pixel(sky), axis=1)
    if not np.isfinite(pixels).all():
        raise ImageError(f"{name} does not know the pixels of the window {window.tile}; give an image of the same sky")
    across = np.ptp(places[:, 0]) / max(float(np.ptp(pixels[:, 0])), 1e-9)
    factor = max(round(across), 1)
    corner = places - factor * pixels - 0.5 * (factor - 1)
    nearest = np.round(corner.mean(axis=0))
    apart = float(np.abs(corner - nearest).max())
    if apart > LARGEST_OFFSET_PIXELS:
        raise ImageError(
            f"{name} is up to {apart:.2g} pixels off the survey's grid of {window.pixel_scale_mas:g} mas in the window "
            f"{window.tile}; resample it onto the grid, or make the survey on the image's own with grid.like"
        )
    if any(value % factor for value in (*nearest, *window.shape)):
        raise ImageError(
            f"{name} has pixels {factor} times larger than the grid's, and the window {window.tile} of "
            f"{window.shape[1]} x {window.shape[0]} pixels does not nest in them; resample the image"
        )
    return Place(factor, int(-nearest[0] // factor), int(-nearest[1] // factor))


def unit_mjy_sr(header: fits.Header, zero_point_ab: float | None, pixel_sr: float, name: str) -> float:
    """Return the surface brightness in MJy/sr of one unit of an image.

    By the zero point, if one is given; by BUNIT, if it is a flux density in each pixel or a surface brightness; by
    PHOTFLAM and PHOTPLAM of HST, if BUNIT is a count rate (zero points of
    https://www.stsci.edu/hst/instrumentation/acs/data-analysis/zeropoints).

    Raises
    ------
    ImageError
        None of these tells it.
    """
    unit = str(header.get("BUNIT", "")).strip()
    if zero_point_ab is None and "PHOTFLAM" in header and "PHOTPLAM" in header and unit.upper().endswith("/S"):
        zero_point_ab = -2.5 * np.log10(header["PHOTFLAM"]) - 5.0 * np.log10(header["PHOTPLAM"]) - 2.408
    if zero_point_ab is not None:
        return float(10 ** (0.4 * (JANSKY_AB - zero_point_ab)) / 1e6 / pixel_sr)
    try:
        known = u.Unit(unit)
    except ValueError:
        known = u.dimensionless_unscaled
    if known.is_equivalent(u.nJy):
        return float(known.to(u.nJy)) / NJY_PER_MJY / pixel_sr
    if known.is_equivalent(PIXEL_UNIT):
        return float(known.to(PIXEL_UNIT))
    raise ImageError(f"{name} has BUNIT {unit!r}, which is no flux: give zero_point_ab, the AB magnitude of one unit")


class _Pixels(NamedTuple):
    """Pixels of an image and their errors in its unit."""

    sci: NDArray[np.float64]
    err: NDArray[np.float64]
    valid: NDArray[np.bool_]


def _planes(pixels: _Pixels, unit: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """SCI, ERR and WHT of a mosaic."""
    err = np.where(pixels.valid, pixels.err * unit, np.nan)
    weight = np.where(pixels.valid, 1.0 / np.where(pixels.valid, err, 1.0) ** 2, 0.0)
    return np.where(pixels.valid, pixels.sci * unit, np.nan), err, weight


def _strips(files: Mapping[str, Path], place: Place, coarse: MosaicGrid) -> Iterator[_Pixels]:
    """The pixels of an image in a window from bottom to top, some rows at a time."""
    rows, columns = coarse.shape
    step = max(STRIP_PIXELS // columns, 1)
    for first in range(0, rows, step):
        part = (min(step, rows - first), columns)
        corner = (place.row + first, place.column)
        sci = _cut(files["image"], "SCI", corner, part)
        if "error" in files:
            err = _cut(files["error"], "ERR", corner, part)
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                err = 1.0 / np.sqrt(_cut(files["weight"], "WHT", corner, part))
        yield _Pixels(sci, err, np.isfinite(sci) & np.isfinite(err) & (err > 0))


def _has_data(files: Mapping[str, Path], place: Place, coarse: MosaicGrid) -> bool:
    """Return whether an image has data in a window, and warn if its errors cannot be those of its pixels."""
    sampled = []
    for pixels in _strips(files, place, coarse):
        sci, err = pixels.sci[pixels.valid][::SAMPLED], pixels.err[pixels.valid][::SAMPLED]
        sampled.append(np.stack([sci, err]))
    sci, err = np.concatenate(sampled, axis=1)
    if sci.size == 0:
        return False
    scatter = MAD_TO_SIGMA * float(np.median(np.abs((sci - np.median(sci)) / err)))
    least, most = SCATTER_OF_DRIZZLED
    if not least <= scatter <= most:
        kind = "error" if "error" in files else "weight"
        held = "its standard errors" if kind == "error" else "its inverse variances (and not exposure times)"
        text = "%s: its pixels scatter by %.2g of their errors: does %s hold %s?"
        log.warning(text, files["image"].name, scatter, files[kind].name, held)
    return True


def _coarser(window: MosaicGrid, factor: int) -> MosaicGrid:
    """The same window in larger pixels."""
    x, y = ((value + 0.5) / factor - 0.5 for value in window.crpix)
    scale = window.pixel_scale_mas * factor
    rows, columns = (length // factor for length in window.shape)
    return window.model_copy(update={"crpix": (x, y), "pixel_scale_mas": scale, "shape": (rows, columns)})


def _header_of(path: Path) -> fits.Header:
    with fits.open(path) as hdus:
        return _image_in(hdus, "SCI", path).header.copy()


def _check_size(path: Path, extension: str, header: fits.Header) -> None:
    with fits.open(path) as hdus:
        own, size = _image_in(hdus, extension, path).shape, (header["NAXIS2"], header["NAXIS1"])
    if own != size:
        raise ImageError(f"{path.name} has {own[1]} x {own[0]} pixels, the image {size[1]} x {size[0]}")


def _image_in(hdus: fits.HDUList, extension: str, path: Path) -> Any:
    """The extension of a name, or the first image of two axes."""
    images = [hdu for hdu in hdus if hdu.is_image and len(hdu.shape) == 2]
    if not images:
        raise ImageError(f"{path.name} has no two-dimensional image")
    return next((hdu for hdu in images if hdu.name == extension), images[0])


def _cut(path: Path, extension: str, corner: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Read the part of an image from a row and column on; NaN outside the image."""
    (bottom, left), (rows, columns) = corner, shape
    part = np.full(shape, np.nan)
    with fits.open(path) as hdus:
        found = _image_in(hdus, extension, path)
        ny, nx = found.shape
        y0, y1, x0, x1 = max(bottom, 0), min(bottom + rows, ny), max(left, 0), min(left + columns, nx)
        if y0 < y1 and x0 < x1:
            part[y0 - bottom : y1 - bottom, x0 - left : x1 - left] = found.section[y0:y1, x0:x1]
    return part
