"""The PSF of a mosaic: from a file, from that of the detector, from the stars of the field, or from the pupil."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import galsim
import numpy as np
from astropy.io import fits
from astropy.nddata import NDData
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import ArrayLike, NDArray
from photutils.psf import EPSFBuilder, EPSFStar, EPSFStars, extract_stars
from photutils.psf_matching import make_wiener_kernel
from scipy import ndimage, signal

from cosmosaic.catalog.apertures import Ellipses, circles, sum_apertures
from cosmosaic.catalog.image import MosaicImage, Part
from cosmosaic.nircam import detector_pixel_arcsec
from cosmosaic.simulate.psf import effective_psf

Origin = Literal["file", "detector", "stars", "model"]

RADIUS_ARCSEC = 3.0
"""Half width of a PSF image."""
CORE_ARCSEC = 0.6
"""Stars of the field, far above the noise there, give the PSF to this radius; the model gives the rest."""
FEWEST_STARS = 8
MOST_STARS = 60
STAR_SNR = 30.0
"""Least significance of a star's brightest pixel."""
ALONE = 0.05
"""Neighbours of a star within `CORE_ARCSEC` are at most this fraction of its peak."""
CONCENTRATION = (0.1, 0.3)
"""Radii in arcsec whose flux ratio separates stars from galaxies and cosmic rays."""
CONCENTRATION_TOLERANCE = 0.12
OVERSAMPLING = 2
FEWEST_PIXELS = 5
LEAST_SUM, LARGEST_SUM = 0.5, 1.05
"""Sides and sums of images that are PSFs of flux 1."""
WITHOUT_PIXEL = ("OVERDIST", "OVERSAMP")
"""Extensions in which STPSF leaves out the detector's pixel, the first preferred: it has the distortion."""
KERNEL_ARCSEC = 1.5
"""Half width of a matching kernel."""
REGULARIZATION = 1e-4
"""Of the Wiener filter, relative to the peak power of the source PSF."""


@dataclass(frozen=True)
class Psf:
    """The image of a point source of flux 1 on a mosaic's pixels."""

    image: NDArray[np.float64]
    """Odd sides, centred on the middle pixel; its sum is the light within."""
    scale_arcsec: float
    origin: Origin
    stars: int = 0
    """Number of stars that made it."""

    def within_ellipses(self, semimajor: ArrayLike, semiminor: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        """Return the fraction of the light in ellipses about the centre, axes in arcsec, angle from +x in radians.

        Nothing is known outside the image; ellipses end there.
        """
        axes = np.broadcast_arrays(
            *(np.minimum(np.asarray(axis, np.float64), self.reach_arcsec) for axis in (semimajor, semiminor)),
            np.asarray(theta, np.float64),
        )
        a, b, angle = (np.atleast_1d(axis).astype(np.float64) for axis in axes)
        middle = np.full(a.shape, (self.image.shape[0] - 1) / 2)
        ellipses = Ellipses(middle, middle, a / self.scale_arcsec, b / self.scale_arcsec, angle)
        image = self.image.astype(np.float32)
        return sum_apertures(image, np.zeros_like(image), np.ones(image.shape, bool), ellipses).flux

    @property
    def reach_arcsec(self) -> float:
        """Half width of the image."""
        return self.scale_arcsec * (len(self.image) // 2)

    def within(self, radius: ArrayLike) -> NDArray[np.float64]:
        """Return the fraction of the light in circles, radius in arcsec."""
        return self.within_ellipses(radius, radius, 0.0)

    @property
    def fwhm_arcsec(self) -> float:
        """Full width at half maximum: the diameter of the circle whose area is that above half the maximum."""
        core = _middle_of(self.image, min(12, len(self.image) // 2))
        fine = ndimage.zoom(core, 8, order=3)
        return float(2.0 * np.sqrt(np.mean(fine > fine.max() / 2) / np.pi) * core.shape[0] * self.scale_arcsec)


def read_psf(path: Path, scale_arcsec: float) -> Psf:
    """Read the image of a PSF and bring it onto a mosaic's pixels.

    Parameters
    ----------
    path
        FITS file; its first image has one PSF in the middle, and the keyword PIXSCALE or PIXELSCL (arcsec).
        Its orientation is the mosaic's.
    scale_arcsec
        Pixel scale of the mosaic.

    Raises
    ------
    ValueError
        There is no such image, or no pixel scale.
    """
    image, scale, header = read_image(path)
    if header.get("EXTNAME") in WITHOUT_PIXEL:
        raise ValueError(
            f"{path}: {header['EXTNAME']} of STPSF is no PSF of a mosaic, since the detector's pixel is left out; give "
            f"the file as catalog.detector_psfs"
        )
    is_centred = all(side % 2 for side in image.shape)
    if is_centred:
        image = _middle_of(image, min(image.shape) // 2)
    if not is_centred or abs(scale / scale_arcsec - 1.0) > 1e-3:
        image = _drawn(interpolated(image, scale).withFlux(image.sum()), scale_arcsec)
    origin: Origin = header.get("PSFFROM", "file")
    return Psf(image, scale_arcsec, origin, int(header.get("NSTARS", 0)))


def read_image(path: Path, names: Sequence[str] = ()) -> tuple[NDArray[np.float64], float, fits.Header]:
    """Read the image of a PSF, its pixel scale in arcsec, and its header.

    Parameters
    ----------
    path
        FITS file.
    names
        Extensions, the first that is there is used; without any, the file's first image.

    Raises
    ------
    ValueError
        There is no image of a PSF with a sum of 1, or no pixel scale.
    """
    with fits.open(path) as hdus:
        named = [hdus[name] for name in names if name in hdus]
        images = [hdu for hdu in (*named, *hdus) if hdu.is_image and hdu.data is not None]
        found = next((hdu for hdu in images if hdu.data.ndim == 2), None)
        if found is None:
            raise ValueError(f"{path}: no two-dimensional image; give a FITS image of a PSF")
        image, header = np.asarray(found.data, np.float64), found.header
    scale = header.get("PIXSCALE") or header.get("PIXELSCL")
    if not scale:
        raise ValueError(f"{path}: no pixel scale; give PIXSCALE in arcsec in the header")
    if min(image.shape) < FEWEST_PIXELS or not np.isfinite(image).all() or not LEAST_SUM < image.sum() < LARGEST_SUM:
        raise ValueError(
            f"{path}: {image.shape} pixels with a sum of {image.sum():.3g}; give {FEWEST_PIXELS} a side or more, all "
            f"finite, and a sum of 1"
        )
    return image, float(scale), header


def write_psf(psf: Psf, band: str, path: Path, others: Sequence[fits.ImageHDU | fits.BinTableHDU] = ()) -> Path:
    """Write a PSF with its curve of growth (extension GROWTH), and other extensions behind."""
    header = fits.Header()
    header["PIXSCALE"] = (psf.scale_arcsec, "[arcsec] pixel scale")
    header["BAND"] = (band, "filter")
    header["PSFFROM"] = (psf.origin, "file, detector, stars, or model")
    header["NSTARS"] = (psf.stars, "number of stars it is made of")
    header["FWHM"] = (round(psf.fwhm_arcsec, 5), "[arcsec] full width at half maximum")
    radii = np.geomspace(0.02, 0.98 * psf.scale_arcsec * (psf.image.shape[0] // 2), 60)
    growth = Table({"radius": radii, "encircled_energy": psf.within(radii)}, units={"radius": "arcsec"})
    image = fits.PrimaryHDU(psf.image.astype(np.float32), header=header)
    fits.HDUList([image, fits.BinTableHDU(growth, name="GROWTH"), *others]).writeto(path, overwrite=True)
    return path


def model_psf(band: str, scale_arcsec: float, pixfrac: float, angle_deg: float = 0.0) -> Psf:
    """Compute the PSF of a mosaic from the telescope's pupil.

    Diffraction at the 18 segments, the detector's pixel, and the drizzle of pixels shrunk by ``pixfrac``. Real PSFs
    have additional wavefront errors: cores differ by some per cent.

    Parameters
    ----------
    band
        Filter.
    scale_arcsec
        Pixel scale of the mosaic.
    pixfrac
        Of the drizzle.
    angle_deg
        Angle from the mosaic's +y axis to the telescope's V3, towards -x.
    """
    native = detector_pixel_arcsec(band) or scale_arcsec
    optics = effective_psf(band, native)
    parts = [interpolated(optics.image, optics.scale_arcsec), galsim.Pixel(max(native * pixfrac, 1e-3))]
    turned = galsim.Convolve(*parts).rotate(angle_deg * galsim.degrees)
    return Psf(_drawn(galsim.Convolve(turned, galsim.Pixel(scale_arcsec)), scale_arcsec), scale_arcsec, "model")


@dataclass(frozen=True)
class StarCandidates:
    """Bright, isolated peaks of a mosaic or a part of it, as concentrated as stars."""

    brightness: NDArray[np.float64]
    """Of the peaks, shape ``(n,)``."""
    ratio: NDArray[np.float64]
    """Of the light within the two radii of `CONCENTRATION`."""
    cutouts: list[EPSFStar]


def find_candidates(image: MosaicImage, background: NDArray[np.float32], model: Psf, own: Part) -> StarCandidates:
    """Find bright, isolated, unsaturated peaks that are about as concentrated as stars.

    Parameters
    ----------
    image, background
        The mosaic, or a part of it, and its background in MJy/sr.
    model
        Computed PSF on the same pixels.
    own
        Rows and columns in which peaks are searched.
    """
    scale, residual = image.pixel_scale_arcsec, np.where(image.valid, image.sci - background, np.float32(0))
    reach = int(np.ceil(CORE_ARCSEC / scale))
    smoothed = ndimage.gaussian_filter(residual, 1.0)
    typical = np.median(image.err[image.valid]) if image.valid.any() else np.inf
    peaks = np.zeros(image.valid.shape, bool)
    peaks[own] = ((smoothed == ndimage.maximum_filter(smoothed, 5)) & (smoothed > STAR_SNR * typical))[own]
    rows, columns = np.nonzero(peaks)
    inside = (np.minimum(rows, columns) > reach + 3) & (rows < image.valid.shape[0] - reach - 4)
    inside &= columns < image.valid.shape[1] - reach - 4
    rows, columns = rows[inside], columns[inside]
    alone = np.array(
        [_is_alone(smoothed, image.valid, row, column, reach) for row, column in zip(rows, columns, strict=True)], bool
    )
    rows, columns = rows[alone], columns[alone]
    places = _centroids(residual.astype(np.float64), rows, columns)
    inner, outer = (
        sum_apertures(residual, image.err, image.valid, circles(places[:, 0], places[:, 1], radius / scale)).flux
        for radius in CONCENTRATION
    )
    likely = np.abs(inner / outer / np.divide(*model.within(CONCENTRATION)) - 1.0) < CONCENTRATION_TOLERANCE
    cutouts = _cutouts(residual, places[likely], reach + 2)
    return StarCandidates(smoothed[rows, columns][likely], (inner / outer)[likely], cutouts)


def _cutouts(residual: NDArray[np.float32], places: NDArray[np.float64], reach: int) -> list[EPSFStar]:
    if not len(places):
        return []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=AstropyUserWarning)
        found = extract_stars(NDData(residual), Table(places, names=("x", "y")), size=2 * reach + 1)
    # Copies: cutouts would keep the whole image.
    return [
        EPSFStar(np.array(star.data, np.float64), cutout_center=star.cutout_center, origin=star.origin)
        for star in found.all_stars
    ]


def star_psf(candidates: Sequence[StarCandidates], model: Psf) -> Psf | None:
    """Make the PSF of a mosaic from the stars of the field.

    An effective PSF (Anderson & King 2000, PASP 112, 1360) of the isolated, unsaturated stars to `CORE_ARCSEC`; beyond,
    and for the light out there, the model.

    Parameters
    ----------
    candidates
        Of all parts of the mosaic.
    model
        Computed PSF on the same pixels.

    Returns
    -------
    psf
        None if there are fewer than `FEWEST_STARS`.
    """
    brightness, ratio = (np.concatenate([getattr(one, name) for one in candidates]) for name in ("brightness", "ratio"))
    if len(ratio) < FEWEST_STARS:
        return None
    # Real PSFs differ from the model, so the concentration is taken from the stars themselves.
    likely = np.abs(ratio / np.median(ratio) - 1.0) < CONCENTRATION_TOLERANCE / 3
    cutouts = [cutout for one in candidates for cutout in one.cutouts]
    brightest = [number for number in np.argsort(brightness)[::-1].tolist() if likely[number]][:MOST_STARS]
    if len(brightest) < FEWEST_STARS:
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=AstropyUserWarning)
        builder = EPSFBuilder(oversampling=OVERSAMPLING, maxiters=6, progress_bar=False)
        effective, _ = builder(EPSFStars([cutouts[number] for number in brightest]))
    reach = cutouts[0].shape[0] // 2
    offsets = np.arange(-reach, reach + 1, dtype=np.float64)
    core = effective.evaluate(*np.meshgrid(offsets, offsets), flux=1.0, x_0=0.0, y_0=0.0)
    return _joined(core, model, len(brightest))


def _is_alone(smoothed: NDArray, valid: NDArray[np.bool_], row: int, column: int, reach: int) -> bool:
    part = (slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1))
    stamp = smoothed[part]
    distance = np.hypot(*np.indices(stamp.shape) - reach)
    maxima = (stamp == ndimage.maximum_filter(stamp, 5)) & (stamp > ALONE * smoothed[row, column])
    return bool(valid[part].all()) and not (maxima & (distance > 8)).any()


def _centroids(data: NDArray, rows: NDArray, columns: NDArray) -> NDArray[np.float64]:
    """Centroids (x, y) of 5 by 5 pixels about the peaks."""
    offset = np.arange(-2, 3)
    stamps = data[rows[:, None, None] + offset[:, None], columns[:, None, None] + offset]
    total = stamps.sum(axis=(1, 2))
    x = columns + (stamps * offset).sum(axis=(1, 2)) / total
    y = rows + (stamps * offset[:, None]).sum(axis=(1, 2)) / total
    return np.stack([x, y], axis=1)


def _joined(core: NDArray[np.float64], model: Psf, stars: int) -> Psf:
    """Put the stars' core in the model's wings, with the model's fraction of the light inside."""
    image, reach = model.image.copy(), core.shape[0] // 2
    middle = image.shape[0] // 2
    part = (slice(middle - reach, middle + reach + 1),) * 2
    radius = np.hypot(*np.indices(core.shape) - reach) * model.scale_arcsec
    inside, rim = radius < CORE_ARCSEC, (radius > 0.8 * CORE_ARCSEC) & (radius < CORE_ARCSEC)
    wanted, area = image[part][inside].sum(), inside.sum()
    # Two unknowns, scale and pedestal of the stars' wings, from two conditions: the light inside and the rim.
    measured, at_rim, rim_wanted = core[inside].sum(), core[rim].mean(), image[part][rim].mean()
    factor = (wanted - rim_wanted * area) / (measured - at_rim * area)
    image[part] = np.where(inside, factor * (core - at_rim) + rim_wanted, image[part])
    return Psf(image, model.scale_arcsec, "stars", stars)


def matching_kernel(source: Psf, target: Psf) -> NDArray[np.float64]:
    """Compute the kernel that gives one filter's images the PSF of another, by a Wiener filter.

    Its sum is below 1 by the light that the wider PSF has beyond the kernel: the matched PSF is the wider one within.
    """
    largest = min(len(psf.image) // 2 for psf in (source, target))
    reach = min(int(np.ceil(KERNEL_ARCSEC / source.scale_arcsec)), largest)
    sharp, wide = (_middle_of(psf.image, reach) for psf in (source, target))
    kernel = make_wiener_kernel(sharp, wide, regularization=REGULARIZATION, penalty="laplacian")
    return kernel * (wide.sum() / sharp.sum() / kernel.sum())


def convolved(data: NDArray[np.floating], valid: NDArray[np.bool_], kernel: NDArray[np.float64]) -> NDArray[np.float32]:
    """Convolve an image; gaps count as zero and stay gaps."""
    filled = np.where(valid, data, 0.0).astype(np.float32)
    result = signal.oaconvolve(filled, kernel.astype(np.float32), mode="same")
    return np.where(valid, result, np.nan).astype(np.float32)


def _middle_of(image: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Cut a square of side ``2 reach + 1`` out of the middle."""
    row, column = (length // 2 for length in image.shape)
    return image[row - reach : row + reach + 1, column - reach : column + reach + 1]


def interpolated(image: NDArray[np.floating], scale: float) -> galsim.GSObject:
    return galsim.InterpolatedImage(
        galsim.ImageD(np.ascontiguousarray(image, np.float64), scale=scale),
        x_interpolant="quintic",
        gsparams=galsim.GSParams(folding_threshold=0.02, maximum_fft_size=16384),
    )


def _drawn(profile: galsim.GSObject, scale: float) -> NDArray[np.float64]:
    side = 2 * int(np.ceil(RADIUS_ARCSEC / scale)) + 1
    return profile.drawImage(nx=side, ny=side, scale=scale, method="no_pixel", dtype=float).array
