"""One mosaic, read from an ``_i2d.fits`` file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.io.fits import Header
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

PIXEL_UNIT = u.MJy / u.sr
NJY_PER_MJY = 1e15
HIGHEST_FLAG = 128
"""Flags of files that are kept, SATURATED among them; all would take four times the memory."""
STRIP_ROWS = 256
"""Rows of a mosaic that are read or written at once."""


def pixel_scale_arcsec(wcs: WCS) -> float:
    """Pixel scale in arcsec."""
    return float(np.sqrt(np.prod(proj_plane_pixel_scales(wcs))) * 3600.0)


@dataclass(frozen=True)
class MosaicImage:
    """The planes of a mosaic for photometry, shape ``(ny, nx)`` each, and its WCS."""

    sci: NDArray[np.float32]
    """Surface brightness in MJy/sr."""
    err: NDArray[np.float32]
    """Standard error of ``sci`` in MJy/sr."""
    wht: NDArray[np.float32]
    """Drizzle weight."""
    valid: NDArray[np.bool_]
    """True where science, error and weight are all usable."""
    wcs: WCS
    pixel_area_sr: float
    """Nominal pixel area (``PIXAR_SR``), which converts surface brightness to flux."""
    exposures: NDArray[np.uint16] | None = None
    """Number of exposures that contribute to a pixel, if the mosaic has it."""
    dq: NDArray[np.unsignedinteger] | None = None
    """Flags of the pixels (docs/engine.md), if the mosaic has them; from files those up to `HIGHEST_FLAG`."""

    @property
    def pixel_scale_arcsec(self) -> float:
        """Pixel scale in arcsec."""
        return pixel_scale_arcsec(self.wcs)

    def pixels(self, arcsec: float) -> float:
        """Convert an angle in arcsec to pixels."""
        return arcsec / self.pixel_scale_arcsec

    @property
    def to_njy(self) -> float:
        """Flux in nJy of a pixel of 1 MJy/sr."""
        return self.pixel_area_sr * NJY_PER_MJY

    def in_smaller_pixels(self, factor: int) -> "MosaicImage":
        """Divide each pixel into ``factor`` by ``factor``, so that sums over apertures and their errors stay."""
        if factor == 1:
            return self
        wcs = self.wcs.deepcopy()
        wcs.wcs.crpix = (wcs.wcs.crpix - 0.5) * factor + 0.5
        wcs.wcs.cdelt = wcs.wcs.cdelt / factor
        return MosaicImage(
            sci=_divided(self.sci, factor),
            err=_divided(self.err, factor) * np.float32(factor),
            wht=_divided(self.wht, factor),
            valid=_divided(self.valid, factor),
            wcs=wcs,
            pixel_area_sr=self.pixel_area_sr / factor**2,
            exposures=None if self.exposures is None else _divided(self.exposures, factor),
            dq=None if self.dq is None else _divided(self.dq, factor),
        )


def _divided(plane: NDArray, factor: int) -> NDArray:
    return np.repeat(np.repeat(plane, factor, axis=0), factor, axis=1)


Part = tuple[slice, slice]
"""Rows and columns of a mosaic."""


@dataclass(frozen=True)
class MosaicSet:
    """The mosaics of one window in several filters, read part by part on the finest of their grids."""

    paths: Mapping[str, Path]
    factors: Mapping[str, int]
    """Size of each mosaic's pixels in units of the finest."""
    shape: tuple[int, int]
    """Rows and columns of the finest grid."""
    wcs: WCS
    scale_arcsec: float

    def read(self, part: Part) -> "PartOfMosaics":
        """Return a part of the finest grid in each filter; its bounds are multiples of the factors."""
        return PartOfMosaics(self, part)

    def read_band(self, band: str, part: Part) -> MosaicImage:
        """Read a part of the finest grid in one filter."""
        factor = self.factors[band]
        rows, columns = (slice(axis.start // factor, -(-axis.stop // factor)) for axis in part)
        return read_mosaic(self.paths[band], (rows, columns)).in_smaller_pixels(factor)


@dataclass(frozen=True)
class PartOfMosaics(Mapping[str, MosaicImage]):
    """A part of the mosaics of one window by filter, read when asked for and not kept."""

    mosaics: MosaicSet
    part: Part

    def __getitem__(self, band: str) -> MosaicImage:
        return self.mosaics.read_band(band, self.part)

    def __iter__(self) -> Iterator[str]:
        return iter(self.mosaics.paths)

    def __len__(self) -> int:
        return len(self.mosaics.paths)


def open_mosaics(paths: Mapping[str, Path]) -> MosaicSet:
    """Look at the mosaics of one window.

    Raises
    ------
    FileNotFoundError
        A file does not exist.
    ValueError
        A file is not a mosaic, or does not nest in the others' pixels.
    """
    corners = {band: read_mosaic(path, (slice(0, 1), slice(0, 1))) for band, path in paths.items()}
    shapes = {band: _shape(path) for band, path in paths.items()}
    finest = min(corners, key=lambda band: corners[band].pixel_scale_arcsec)
    wcs, scale = corners[finest].wcs, corners[finest].pixel_scale_arcsec
    factors = {}
    for band, corner in corners.items():
        ratio = corner.pixel_scale_arcsec / scale
        factor = max(round(ratio), 1)
        apart = np.abs(corner.in_smaller_pixels(factor).wcs.wcs.crpix - wcs.wcs.crpix).max()
        grown = (shapes[band][0] * factor, shapes[band][1] * factor)
        if abs(ratio - factor) > 1e-3 or grown != shapes[finest] or apart > 0.01:
            raise ValueError(
                f"{paths[band]}: its pixels do not nest in those of {paths[finest]}; the mosaics of one catalogue have "
                f"the same window on the sky"
            )
        factors[band] = factor
    return MosaicSet(paths, factors, shapes[finest], wcs, scale)


def _shape(path: Path) -> tuple[int, int]:
    header = fits.getheader(path, "SCI")
    return header["NAXIS2"], header["NAXIS1"]


def read_mosaic(path: Path, part: Part | None = None) -> MosaicImage:
    """Read the planes of a mosaic, or of a part of it.

    Parameters
    ----------
    path
        A mosaic in the format of jwst's resample, with the extensions SCI (MJy/sr), ERR and WHT.
    part
        Rows and columns; by default, all. A part may be without data.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ValueError
        An extension or ``PIXAR_SR`` is missing, the unit is wrong, or no pixel has data.
    """
    # With memmap=True astropy refuses DQ, whose integers are unsigned (BZERO); sections are read alone in any case.
    with fits.open(path) as hdus:
        missing = [name for name in ("SCI", "ERR", "WHT") if name not in hdus]
        if missing:
            raise ValueError(
                f"{path}: no extension {', '.join(missing)}; give a mosaic that resample wrote (_i2d.fits)"
            )
        header = hdus["SCI"].header
        pixel_area = _pixel_area(header, path)
        rows, columns = part or (slice(None), slice(None))
        sci, err, wht = (_plane(hdus[name], rows, columns) for name in ("SCI", "ERR", "WHT"))
        exposures = _plane(hdus["NEXP"], rows, columns, np.uint16) if "NEXP" in hdus else None
        dq = _plane(hdus["DQ"], rows, columns, np.uint8) if "DQ" in hdus else None
    valid = np.isfinite(sci) & np.isfinite(err) & (err > 0) & (wht > 0)
    if part is None and not valid.any():
        raise ValueError(f"{path}: no pixel has finite SCI, positive ERR and positive WHT; the mosaic is empty")
    wcs = WCS(header)
    return MosaicImage(sci, err, wht, valid, wcs if part is None else wcs.slice(part), pixel_area, exposures, dq)


def _plane(hdu: fits.ImageHDU, rows: slice, columns: slice, dtype: type[np.generic] = np.float32) -> NDArray:
    """Read a part of a plane by strips of whole rows; other parts astropy reads row by row, with an array for each."""
    first, last, _ = rows.indices(hdu.shape[0])
    plane = np.empty((last - first, len(range(*columns.indices(hdu.shape[1])))), dtype)
    for start in range(first, last, STRIP_ROWS):
        end = min(start + STRIP_ROWS, last)
        strip = hdu.section[start:end][:, columns]
        plane[start - first : end - first] = strip & (2 * HIGHEST_FLAG - 1) if dtype is np.uint8 else strip
    return plane


def _pixel_area(header: Header, path: Path) -> float:
    unit = header.get("BUNIT", "MJy/sr")
    if u.Unit(unit) != PIXEL_UNIT:
        raise ValueError(f"{path}: BUNIT is {unit!r} in SCI; only surface brightness in MJy/sr can be measured")
    area = header.get("PIXAR_SR")
    if area is None or not area > 0:
        raise ValueError(f"{path}: PIXAR_SR is {area!r} in SCI; run resample on exposures that went through photom")
    return float(area)
