"""E(B-V) of the Milky Way at positions, from a map that the user names.

A map is a HEALPix table (Gorski et al. 2005, ApJ 622, 759), such as Planck's, or an image with a celestial WCS, such as
those of Schlegel et al. 1998, ApJ 500, 525. Values are interpolated linearly between the four nearest pixels, and only
these are read: a map has up to 50 million.
"""

import re
from pathlib import Path
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from astropy_healpix import bilinear_interpolation_weights
from numpy.typing import NDArray

SETTING = "catalog.extinction_map"
COLUMNS = ("EBV", "E(B-V)", "E_BV", "EB-V", "REDDENING")
"""Names of the column of E(B-V) in a table with several."""
FRAMES = {
    "G": "galactic", "GALACTIC": "galactic",
    "C": "icrs", "Q": "icrs", "EQUATORIAL": "icrs", "CELESTIAL": "icrs", "ICRS": "icrs", "FK5": "icrs",
}  # fmt: skip
"""Frames by the values of COORDSYS."""
ORDERS = {"NESTED": "nested", "NEST": "nested", "RING": "ring"}
AROUND = ("CAR", "CEA", "MER")
"""Projections whose columns repeat after a whole turn."""
UNSEEN = -1e30
"""Values below this mark pixels without data: HEALPix writes -1.6375e30."""


class ExtinctionMapError(ValueError):
    """A file cannot be used as a map of E(B-V)."""


class _Neighbours(NamedTuple):
    """The four pixels nearest to each position, shape ``(4, n)`` both."""

    values: NDArray[np.float64]
    weights: NDArray[np.float64]


def reddening(path: Path, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return E(B-V) at positions.

    Parameters
    ----------
    path
        The map.
    ra, dec
        Positions in degrees, ICRS, shape ``(n,)``.

    Returns
    -------
    ebv : ndarray
        Magnitudes, shape ``(n,)``; NaN where the map does not cover.

    Raises
    ------
    ExtinctionMapError
        The file is not such a map.
    """
    sky = SkyCoord(ra, dec, unit=u.deg, frame="icrs")
    try:
        # Plain maps are mapped into memory; with memmap=True astropy refuses those with BSCALE or BLANK.
        with fits.open(path) as hdus:
            near = _neighbours(hdus, path.name, sky)
    except ExtinctionMapError:
        raise
    except (OSError, EOFError, ValueError, TypeError, LookupError) as error:
        raise ExtinctionMapError(
            f"{path.name} cannot be read as FITS ({error}); {SETTING} takes complete FITS maps"
        ) from error
    unknown = ~np.isfinite(near.values) | (near.values < UNSEEN)
    known = np.sum(np.where(unknown, 0.0, near.values) * near.weights, axis=0)
    return np.where((unknown & (near.weights > 0)).any(axis=0), np.nan, known)


def _neighbours(hdus: fits.HDUList, name: str, sky: SkyCoord) -> _Neighbours:
    for hdu in hdus:
        if isinstance(hdu, fits.BinTableHDU) and ("NSIDE" in hdu.header or hdu.header.get("PIXTYPE") == "HEALPIX"):
            return _healpix(hdu, name, sky)
        if hdu.is_image and len(hdu.shape) == 2:
            return _image(hdu, name, sky)
    raise ExtinctionMapError(
        f"{name} has neither a HEALPix table (PIXTYPE, NSIDE) nor a two-dimensional image; {SETTING} takes these"
    )


def _healpix(hdu: fits.BinTableHDU, name: str, sky: SkyCoord) -> _Neighbours:
    header = hdu.header
    nside = header.get("NSIDE", 0)
    if not (isinstance(nside, int) and nside > 0):
        raise ExtinctionMapError(f"{name}: NSIDE is {nside!r}, which is no resolution of a HEALPix map")
    frame = FRAMES[_known(header, "COORDSYS", tuple(FRAMES), name)]
    order = ORDERS[_known(header, "ORDERING", tuple(ORDERS), name)]
    place = sky.transform_to(frame).spherical
    pixels, weights = bilinear_interpolation_weights(place.lon, place.lat, nside, order=order)
    column = _ebv_column(hdu.columns, name)
    _check_unit(column.unit, name, f"the unit of column {column.name}")
    values = hdu.data[column.name]
    if str(header.get("INDXSCHM", "IMPLICIT")).strip().upper() == "EXPLICIT":
        return _Neighbours(_of_partial_map(hdu, values, pixels), weights)
    if values.size != 12 * nside**2:
        raise ExtinctionMapError(
            f"{name}: {values.size} pixels, but a map with NSIDE = {nside} has {12 * nside**2}; "
            "the file is incomplete, or a partial map without INDXSCHM = 'EXPLICIT'"
        )
    # Some maps have many pixels in a row.
    width = values.size // len(values)
    found = values[pixels // width, pixels % width] if values.ndim > 1 else values[pixels]
    return _Neighbours(found.astype(np.float64), weights)


def _of_partial_map(hdu: fits.BinTableHDU, values: NDArray, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Values of a map that lists its pixels; NaN for those that it does not list."""
    listed = np.asarray(hdu.data[hdu.columns[0].name]).ravel()
    order = np.argsort(listed)
    place = order[np.minimum(np.searchsorted(listed, pixels, sorter=order), len(listed) - 1)]
    return np.where(listed[place] == pixels, values.ravel()[place], np.nan).astype(np.float64)


def _image(hdu: fits.ImageHDU, name: str, sky: SkyCoord) -> _Neighbours:
    wcs = WCS(hdu.header)
    if not wcs.has_celestial:
        raise ExtinctionMapError(f"{name}: no celestial WCS in the header of its image; {SETTING} needs one")
    _check_unit(hdu.header.get("BUNIT"), name, "BUNIT")
    data, (rows, columns) = hdu.data, hdu.shape
    x, y = (np.asarray(axis, dtype=np.float64) for axis in wcs.world_to_pixel(sky))
    if wcs.wcs.ctype[0].endswith(AROUND):
        turn = 360.0 / proj_plane_pixel_scales(wcs)[0]
        x = (x + 0.5) % turn - 0.5
    inside = (x >= -0.5) & (x <= columns - 0.5) & (y >= -0.5) & (y <= rows - 0.5)
    x, y = (np.clip(np.where(inside, axis, 0), 0, size - 1) for axis, size in ((x, columns), (y, rows)))
    left, low = x.astype(int), y.astype(int)
    right, high = np.minimum(left + 1, columns - 1), np.minimum(low + 1, rows - 1)
    values = np.stack([data[low, left], data[low, right], data[high, left], data[high, right]]).astype(np.float64)
    x, y = x - left, y - low
    weights = np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y])
    return _Neighbours(np.where(inside, values, np.nan), weights)


def _ebv_column(columns: fits.ColDefs, name: str) -> fits.Column:
    """Find the column of E(B-V): the only one, besides that of a partial map's pixels, or that with such a name."""
    others = [column for column in columns if column.name.upper() not in ("PIXEL", "PIX", "INDEX")]
    named = [column for column in others if column.name.upper() in COLUMNS]
    if len(named) == 1:
        return named[0]
    if len(others) == 1:
        return others[0]
    raise ExtinctionMapError(
        f"{name}: which of its columns is E(B-V)? It has {', '.join(column.name for column in columns)}; "
        f"name one {COLUMNS[0]}, or make a map of that one alone"
    )


def _known(header: fits.Header, keyword: str, known: tuple[str, ...], name: str) -> str:
    value = str(header.get(keyword, "")).strip().upper()
    if value not in known:
        said = f"{keyword} is {value}" if value else f"there is no {keyword}"
        raise ExtinctionMapError(f"{name}: {said}; it must be one of {', '.join(known)}")
    return value


def _check_unit(unit: str | None, name: str, what: str) -> None:
    if unit and unit.strip() and not re.search(r"\bmag", unit, re.IGNORECASE):
        raise ExtinctionMapError(f"{name}: {what} is {unit}, but E(B-V) is in mag; is it a map of something else?")
