"""The sky in an exposure: sources, sky level and a user's image on the pixels of one detector."""

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import galsim
import numpy as np
from astropy.io import fits
from astropy.table import Row, Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage

from cosmosaic.geometry.interpolation import LATTICE_STEP_PIXELS, LatticeSplines
from cosmosaic.nircam import PASSBANDS, drawn_pixel_arcsec
from cosmosaic.simulate.geometry import (
    exposure_shape,
    local_jacobian,
    pixel_area_sr,
    pixel_to_sky,
    sky_to_pixel,
    true_view,
    v3_position_angle,
)
from cosmosaic.simulate.plan import PlannedExposure
from cosmosaic.simulate.psf import effective_psf
from cosmosaic.simulate.scene import positions_at
from cosmosaic.simulate.stamps import DRAWING, PsfEnvelope, Stamp, draw_stamps, galaxy_profile, profile_reach_arcsec

MJY_PER_NJY = 1e-15

_SKY_SPECTRUM_UM = (0.7, 0.9, 1.15, 1.5, 2.0, 2.8, 3.6, 4.4, 4.8)
_SKY_SPECTRUM = (1.10, 1.05, 1.00, 0.95, 0.80, 0.60, 0.65, 1.15, 1.40)
_SPLINE_MARGIN_PIXELS = 16
_MOST_POINTS_PER_PIXEL = 8


def surface_brightness(
    exposure: PlannedExposure, scene: Table, sky_mjy_sr: float = 0.0, image: Path | None = None
) -> NDArray[np.float32]:
    """Surface brightness in every pixel of an exposure.

    Parameters
    ----------
    exposure
        The exposure, with its true view of the sky.
    scene
        Sources, as `cosmosaic.simulate.scene` describes them.
    sky_mjy_sr
        Uniform sky in the exposure's filter, MJy/sr; see `sky_level`.
    image
        FITS image added to the sources, see `sample_image`.

    Returns
    -------
    ndarray
        MJy/sr with shape (ny, nx).
    """
    brightness = render_flux(exposure, scene) * (MJY_PER_NJY / pixel_area_sr(exposure)) + sky_mjy_sr
    if image is not None:
        brightness += sample_image(exposure, image)
    return brightness.astype(np.float32)


def sky_level(filter_name: str, sky_mjy_sr: float) -> float:
    """Surface brightness of the sky in a filter, MJy/sr.

    Parameters
    ----------
    filter_name
        A key of `PASSBANDS`.
    sky_mjy_sr
        Level at 1.15 micrometres; zodiacal light falls towards 3 micrometres, thermal emission rises beyond.
    """
    return sky_mjy_sr * float(np.interp(PASSBANDS[filter_name].pivot_um, _SKY_SPECTRUM_UM, _SKY_SPECTRUM))


def render_flux(exposure: PlannedExposure, scene: Table) -> NDArray[np.float32]:
    """Flux of the scene's sources in every pixel of an exposure.

    Sersic profiles and stars, convolved with the PSF and the pixel, under the local scale and shear of the
    distorted detector. Sources beyond the edges contribute the wings that reach in, from up to half a detector away.

    Parameters
    ----------
    exposure
        The exposure, with its true view of the sky.
    scene
        Sources, as `cosmosaic.simulate.scene` describes them, with a flux in the exposure's filter.

    Returns
    -------
    ndarray
        nJy with shape (ny, nx).
    """
    return draw_stamps(_stamps(exposure, scene), exposure_shape(exposure))


def sample_image(exposure: PlannedExposure, path: Path) -> NDArray[np.float32]:
    """Surface brightness of a FITS image at an exposure's pixels.

    The image is taken as the sky with the telescope's PSF; no PSF is applied. Where its pixels are finer than
    the detector's, several points in each detector pixel are averaged. Sky outside of the image, and its NaN
    pixels, are 0.

    Parameters
    ----------
    exposure
        The exposure, with its true view of the sky.
    path
        FITS file; the first extension with a two-dimensional image counts.

    Returns
    -------
    ndarray
        MJy/sr with shape (ny, nx).

    Raises
    ------
    ValueError
        The file has no image, no celestial WCS or a distorted one, a unit other than MJy/sr, or does not cover any of
        the exposure.
    """
    ny, nx = exposure_shape(exposure)
    with fits.open(path) as hdus:
        hdu = _image_hdu(hdus, path)
        lattice = _ImageLattice(exposure, _undistorted_wcs(hdu, path))
        window = lattice.window(hdu.shape)
        if window is None:
            raise ValueError(
                f"{path}: the image does not overlap with exposure {exposure.name} at RA {exposure.ra:.5f}, "
                f"Dec {exposure.dec:.5f}; set simulation.pointings to its sky, or leave simulation.image out"
            )
        data = np.nan_to_num(np.asarray(hdu.data[window], dtype=float), nan=0.0, posinf=0.0, neginf=0.0)
    coefficients = ndimage.spline_filter(data, order=3)
    points = lattice.points_per_pixel
    offsets = (np.arange(points) + 0.5) / points - 0.5
    total = np.zeros((ny, nx))
    for y_offset in offsets:
        for x_offset in offsets:
            row, column = lattice.positions(np.arange(ny) + y_offset, np.arange(nx) + x_offset)
            place = [row - window[0].start, column - window[1].start]
            total += ndimage.map_coordinates(coefficients, place, order=3, prefilter=False)
    return (total / points**2).astype(np.float32)


class _ImageLattice:
    """Positions of an exposure's pixels on an image, computed on a lattice and interpolated with splines."""

    def __init__(self, exposure: PlannedExposure, wcs: WCS) -> None:
        ny, nx = exposure_shape(exposure)
        step = LATTICE_STEP_PIXELS
        self._y, self._x = (np.arange(-step, size + step, step, dtype=float) for size in (ny, nx))
        sky = pixel_to_sky(exposure, true_view(exposure), *np.meshgrid(self._x, self._y))
        self._column, self._row = wcs.wcs_world2pix(*sky, 0)
        self._splines = LatticeSplines(self._y, self._x, (self._row, self._column))

    @property
    def points_per_pixel(self) -> int:
        """Number of points along each axis of a detector pixel that sample every pixel of the image."""
        steps = [np.hypot(*(np.diff(p, axis=axis) for p in (self._column, self._row))).max() for axis in (0, 1)]
        return int(np.clip(np.ceil(max(steps) / LATTICE_STEP_PIXELS), 1, _MOST_POINTS_PER_PIXEL))

    def window(self, shape: tuple[int, int]) -> tuple[slice, slice] | None:
        """Rows and columns of the image that are needed; None if the exposure is outside."""
        low = [max(0, int(p.min()) - _SPLINE_MARGIN_PIXELS) for p in (self._row, self._column)]
        high = [
            min(size, int(p.max()) + 1 + _SPLINE_MARGIN_PIXELS)
            for p, size in zip((self._row, self._column), shape, strict=True)
        ]
        if low[0] >= high[0] or low[1] >= high[1]:
            return None
        return slice(low[0], high[0]), slice(low[1], high[1])

    def positions(self, y: NDArray[np.floating], x: NDArray[np.floating]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Rows and columns on the image, with shape (len(y), len(x))."""
        row, column = self._splines(y, x)
        return row, column


def _image_hdu(hdus: fits.HDUList, path: Path) -> Any:
    for hdu in hdus:
        if not hdu.is_image or len(hdu.shape) != 2:
            continue
        unit = str(hdu.header.get("BUNIT", "")).strip()
        if unit.lower().replace(" ", "") != "mjy/sr":
            raise ValueError(f"{path}: BUNIT is {unit!r}; simulation.image must be in 'MJy/sr'")
        return hdu
    raise ValueError(f"{path}: there is no two-dimensional image; simulation.image must be a FITS image")


def _undistorted_wcs(hdu: Any, path: Path) -> WCS:
    wcs = WCS(hdu.header)
    if not wcs.has_celestial:
        raise ValueError(f"{path}: CTYPE {list(wcs.wcs.ctype)} is not a celestial WCS; simulation.image must have one")
    if wcs.has_distortion:
        raise ValueError(
            f"{path}: CTYPE {list(wcs.wcs.ctype)}: the WCS has distortion; resample the image to a plain one"
        )
    return wcs


def _stamps(exposure: PlannedExposure, scene: Table) -> Iterator[Stamp]:
    """Sources whose light reaches the exposure, prepared for drawing."""
    ny, nx = exposure_shape(exposure)
    view = true_view(exposure)
    ra, dec = positions_at(scene, datetime.fromisoformat(exposure.start))
    x, y = sky_to_pixel(exposure, view, ra, dec)
    outside = np.hypot(np.maximum(0, np.maximum(-x, x - nx + 1)), np.maximum(0, np.maximum(-y, y - ny + 1)))
    position_angle = v3_position_angle(view.attitude, ra, dec)
    pixel_scale = drawn_pixel_arcsec(exposure.detector)
    for index in np.flatnonzero(np.isfinite(x)):
        row = scene[int(index)]
        flux = float(row[f"flux_{exposure.band}"])
        if not flux > 0:
            continue
        envelope = _psf_envelope(exposure.band, pixel_scale)
        reach = envelope.reach_arcsec(flux, pixel_scale) + profile_reach_arcsec(row, flux, pixel_scale)
        if outside[index] * pixel_scale > reach:
            continue
        profile = _profile(row, position_angle[index], exposure.band, pixel_scale) * flux
        yield Stamp(profile, x[index], y[index], reach / pixel_scale, local_jacobian(exposure, x[index], y[index]))


def _profile(row: Row, v3_position_angle_deg: float, filter_name: str, pixel_scale: float) -> galsim.GSObject:
    """A source of flux 1, convolved with PSF and pixel, in telescope coordinates."""
    psf = _psf_profile(filter_name, pixel_scale)
    if row["kind"] == "star":
        return psf
    # Position angles turn from +v (north) to -u (east), galsim's from +u to +v.
    angle = float(row["position_angle"]) - v3_position_angle_deg + 90
    sersic = galaxy_profile(row, angle)
    return galsim.Convolve(sersic, psf, gsparams=DRAWING)


@cache
def _psf_profile(filter_name: str, pixel_scale: float) -> galsim.InterpolatedImage:
    psf = effective_psf(filter_name, pixel_scale)
    image = galsim.ImageD(psf.image, scale=psf.scale_arcsec)
    return galsim.InterpolatedImage(
        image, x_interpolant="quintic", k_interpolant="cubic", pad_factor=2, flux=1.0, gsparams=DRAWING
    )


@cache
def _psf_envelope(filter_name: str, pixel_scale: float) -> PsfEnvelope:
    psf = effective_psf(filter_name, pixel_scale)
    return PsfEnvelope.of(psf.image, psf.scale_arcsec)
