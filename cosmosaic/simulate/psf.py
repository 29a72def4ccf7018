"""The point spread function: diffraction at JWST's segmented mirror, integrated over square pixels.

Telescope coordinates: u along -V2 and v along +V3, in arcsec, a picture of the sky turned by V3's position angle.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage, special

from cosmosaic.nircam import PASSBANDS

Floats = NDArray[np.floating]

PRIMARY_DIAMETER_M = 6.6
SAMPLES_PER_FRINGE = 6
"""Samples of a PSF image per wavelength over primary diameter; two would contain all of its information."""

RADIUS_IN_FRINGES = 48
"""Radius of a PSF in wavelengths over primary diameter; it contains all of the light."""

_SEGMENT_M = 1.32
"""Hexagonal mirror segments, flat to flat."""

_SEGMENT_PITCH_M = _SEGMENT_M + 0.007
_STRUT_M = 0.10
_STRUT_ANGLES_DEG = (90.0, 240.0, 300.0)
"""The secondary mirror's struts, seen from it, counter-clockwise from -V2."""

_PUPIL_SAMPLES = 1320
_WAVELENGTHS_PER_PASSBAND = 5
_FWHM_SEARCH_ARCSEC = 0.4


class PsfImage(NamedTuple):
    """A finely sampled PSF, centred on the middle pixel, with sum 1."""

    image: Floats
    scale_arcsec: float


@cache
def effective_psf(filter_name: str, pixel_scale_arcsec: float) -> PsfImage:
    """The light of a star in a pixel at every offset: the optical PSF integrated over a square pixel.

    Fraunhofer diffraction at an 18-segment primary with the secondary's struts and about 45 nm of wavefront error,
    at five wavelengths across the passband.

    Parameters
    ----------
    filter_name
        A key of `PASSBANDS`.
    pixel_scale_arcsec
        Side of the pixel; its sides lie along V2 and V3, as NIRCam's do within a degree.

    Returns
    -------
    PsfImage
        Read-only image of odd size, its axes (x, y) along -V2 and +V3.

    Raises
    ------
    ValueError
        The filter is not one of NIRCam's.
    """
    if filter_name not in PASSBANDS:
        raise ValueError(f"no PSF for filter {filter_name}; the simulator knows {', '.join(PASSBANDS)}")
    band = PASSBANDS[filter_name]
    scale = fringe_arcsec(filter_name) / SAMPLES_PER_FRINGE
    middles = (np.arange(_WAVELENGTHS_PER_PASSBAND) + 0.5) / _WAVELENGTHS_PER_PASSBAND - 0.5
    optical = sum(_monochromatic(band.pivot_um, wavelength) for wavelength in band.pivot_um + middles * band.width_um)
    frequency = fft.fftfreq(_PUPIL_SAMPLES, d=scale)
    pixel = np.sinc(frequency * pixel_scale_arcsec)
    convolved = fft.ifft2(fft.fft2(fft.ifftshift(optical)) * pixel * pixel[:, None]).real
    radius = RADIUS_IN_FRINGES * SAMPLES_PER_FRINGE
    middle = slice(_PUPIL_SAMPLES // 2 - radius, _PUPIL_SAMPLES // 2 + radius + 1)
    image = fft.fftshift(convolved)[middle, middle]
    offset = np.arange(-radius, radius + 1)
    image = np.where(np.hypot(offset, offset[:, None]) <= radius, image, 0.0)
    image /= image.sum()
    image.setflags(write=False)
    return PsfImage(image, scale)


def fringe_arcsec(filter_name: str) -> float:
    """Pivot wavelength over the diameter of the primary mirror, in arcsec."""
    return float(np.degrees(PASSBANDS[filter_name].pivot_um * 1e-6 / PRIMARY_DIAMETER_M) * 3600)


def encircled_energy(filter_name: str, radii_arcsec: ArrayLike, pixel_scale_arcsec: float) -> Floats:
    """Fraction of a star's light within circles about it, on an image with these pixels.

    Parameters
    ----------
    filter_name
        A key of `PASSBANDS`.
    radii_arcsec
        Radii, any shape.
    pixel_scale_arcsec
        Side of the detector's pixel, with which the PSF is convolved.

    Returns
    -------
    ndarray
        Fractions, of the radii's shape; 1 where the PSF ends.
    """
    psf = effective_psf(filter_name, pixel_scale_arcsec)
    size = fft.next_fast_len(2 * psf.image.shape[0])
    along_y, along_x = (2 * np.pi * frequency(size) for frequency in (fft.fftfreq, fft.rfftfreq))
    wavenumber = np.hypot(along_x, along_y[:, None])
    centre = psf.image.shape[0] // 2
    transform = fft.rfft2(np.roll(np.pad(psf.image, (0, size - psf.image.shape[0])), (-centre, -centre), (0, 1))).real
    transform[:, 1:] *= 2  # the other half plane
    needed = np.abs(transform) > 1e-9
    transform, wavenumber = transform[needed], wavenumber[needed]

    def within(radius: float) -> float:
        # The integral over a disc, exact for a band-limited image: its transform times the disc's.
        disc = np.full(wavenumber.shape, np.pi * radius**2)
        waves = wavenumber > 0
        disc[waves] = 2 * np.pi * radius * special.j1(wavenumber[waves] * radius) / wavenumber[waves]
        return float((transform * disc).sum() / size**2)

    # Beyond the PSF's edge the disc would include its periodic repetitions.
    in_samples = np.minimum(np.asarray(radii_arcsec, dtype=float) / psf.scale_arcsec, psf.image.shape[0])
    return np.array([within(radius) for radius in in_samples.ravel()]).reshape(in_samples.shape)


def psf_fwhm_arcsec(filter_name: str, pixel_scale_arcsec: float) -> float:
    """Full width at half maximum of the azimuthally averaged, pixel-convolved PSF, in arcsec."""
    psf = effective_psf(filter_name, pixel_scale_arcsec)
    radius = np.linspace(0, _FWHM_SEARCH_ARCSEC, 400)
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)[:, None]
    centre = psf.image.shape[0] // 2
    around = [centre + radius / psf.scale_arcsec * np.sin(angle), centre + radius / psf.scale_arcsec * np.cos(angle)]
    profile = ndimage.map_coordinates(psf.image, around, order=3).mean(axis=0)
    beyond = int(np.argmax(profile < profile[0] / 2))
    outer, inner = profile[beyond], profile[beyond - 1]
    step = radius[1]
    return float(2 * (radius[beyond - 1] + step * (inner - profile[0] / 2) / (inner - outer)))


def _monochromatic(pivot_um: float, wavelength_um: float) -> Floats:
    """Diffraction image at one wavelength, sampled as for the passband's pivot, with sum 1."""
    # A pupil grid that widens with wavelength keeps the angular step of the Fourier transform.
    step = SAMPLES_PER_FRINGE * PRIMARY_DIAMETER_M / _PUPIL_SAMPLES * wavelength_um / pivot_um
    position = (np.arange(_PUPIL_SAMPLES) - _PUPIL_SAMPLES // 2) * step
    lit = slice(*np.searchsorted(position, [-0.55 * PRIMARY_DIAMETER_M, 0.55 * PRIMARY_DIAMETER_M]))
    x, y = position[lit], position[lit, None]
    field = np.zeros((_PUPIL_SAMPLES, _PUPIL_SAMPLES), dtype=complex)
    field[lit, lit] = _transmission(x, y, step) * np.exp(2j * np.pi / wavelength_um * _wavefront_error_um(x, y))
    image = np.abs(fft.fftshift(fft.fft2(fft.ifftshift(field)))) ** 2
    return image / image.sum()


def _transmission(x: Floats, y: Floats, step: float) -> Floats:
    """Fraction of each pupil sample that passes light: two rings of hexagons without the struts' shadows."""
    edge_angles = np.radians([30.0, 90.0, 150.0])
    centres = _SEGMENT_PITCH_M * _hexagon_centres(edge_angles)

    def softened(depth: Floats) -> Floats:
        return np.clip(0.5 + depth / step, 0, 1)

    open_area = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    for x0, y0 in centres:
        across = [(x - x0) * np.cos(angle) + (y - y0) * np.sin(angle) for angle in edge_angles]
        open_area += softened(_SEGMENT_M / 2 - np.max(np.abs(across), axis=0))
    for angle in np.radians(_STRUT_ANGLES_DEG):
        outward = x * np.cos(angle) + y * np.sin(angle) > 0
        shadow = softened(_STRUT_M / 2 - np.abs(y * np.cos(angle) - x * np.sin(angle)))
        open_area *= 1 - shadow * outward
    return open_area


def _hexagon_centres(edge_angles: Floats) -> Floats:
    """Centres (x, y) of the 6 + 12 hexagons around a missing one, in units of their pitch."""
    first = np.array([np.cos(edge_angles[0]), np.sin(edge_angles[0])])
    second = np.array([np.cos(edge_angles[1]), np.sin(edge_angles[1])])
    steps = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if 1 <= max(abs(i), abs(j), abs(i + j)) <= 2]
    return np.array([i * first + j * second for i, j in steps])


def _wavefront_error_um(x: Floats, y: Floats) -> Floats:
    """Astigmatism and spherical aberration as Zernike polynomials, 45 nm rms together.

    Even in (x, y), without coma or trefoil: except for the struts the PSF is symmetric about its centre, so that all
    definitions of the centre agree to a few per mille of a fringe.
    """
    radius, angle = np.hypot(x, y) / (PRIMARY_DIAMETER_M / 2), np.arctan2(y, x)
    astigmatism = np.sqrt(6) * radius**2 * np.cos(2 * angle)
    spherical = np.sqrt(5) * (6 * radius**4 - 6 * radius**2 + 1)
    return 0.035 * astigmatism + 0.028 * spherical
