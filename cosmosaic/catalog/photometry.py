"""Positions, shapes and fluxes of the detected sources, the same apertures in every filter.

Shapes and Kron apertures come from the detection image, once. Fluxes are sums over these apertures in each filter: in
circles on the mosaic as it is, in the Kron aperture and in the circle that suits the source's size on the mosaic with
the PSF of the widest filter, so that colours compare equal parts of a source.

Errors are ``sqrt(sum ERR^2)``, with the variance of the sky replaced by that of empty apertures of the same size at the
same depth (`cosmosaic.catalog.noise`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle, SkyCoord
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.wcs import WCS
from numpy.typing import NDArray
from photutils.segmentation import SegmentationImage, SourceCatalog
from scipy import signal

from cosmosaic.catalog.apertures import Ellipses, Sums, circles, find_peaks, sum_apertures
from cosmosaic.catalog.columns import Columns, aperture_suffixes
from cosmosaic.catalog.detection import BandImage, Detection
from cosmosaic.catalog.image import pixel_scale_arcsec
from cosmosaic.catalog.medians import scatter
from cosmosaic.catalog.noise import (
    DEPTH_DIAMETER_ARCSEC,
    ApertureNoise,
    distance_from,
    measure_noise,
    measure_noise_of_both,
)
from cosmosaic.catalog.psf import Psf, convolved, matching_kernel
from cosmosaic.catalog.smoothing import gaussian
from cosmosaic.catalog.windows import centroid_errors, windowed_centroids
from cosmosaic.survey import CatalogSettings

KRON_SCALE = 2.5
"""Kron apertures reach this many Kron radii (Kron 1980, ApJS 43, 305; SExtractor's PHOT_AUTOPARAMS)."""
KRON_MINIMUM = 1.4
"""Least Kron radius in units of the source's axes."""
KRON_MINIMUM_ARCSEC = 0.2
"""Kron apertures are not smaller than a circle of this radius."""
GROWTH_STEPS = np.linspace(0.05, 1.0, 20)
"""Radii at which the light is summed for the half-light radius, in units of the Kron aperture's."""
WINDOW_PIXELS = (0.7, 1.0, 1.5, 2.5, 4.0, 7.0)
"""Widths of windows for which the noise of centroids is measured."""
LEAST_WINDOW_PIXELS = 0.5
"""Least half-light radius that the width of a window is taken from."""
UPPER_LIMIT_SIGMA = 3.0
CONCENTRATION_ARCSEC = (0.2, 0.5)
"""Diameters whose flux ratio identifies point sources."""


@dataclass(frozen=True)
class Sources:
    """The detected sources and their apertures."""

    labels: NDArray[np.int32]
    segments: NDArray[np.int32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    kron: Ellipses
    columns: Columns
    kron_undefined: NDArray[np.bool_]

    def summed(self, plane: NDArray) -> NDArray[np.float64]:
        """Sum a plane over the segments, shape ``(n,)``."""
        values = plane.ravel()[self._inside].astype(np.float64)
        return np.bincount(self.segments.ravel()[self._inside], values)[self.labels].astype(np.float64)

    @cached_property
    def _inside(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.segments)

    @property
    def pixels(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of the pixels at the centres."""
        return tuple(
            np.clip(np.rint(place).astype(int), 0, length - 1)
            for place, length in zip((self.y, self.x), self.segments.shape, strict=True)
        )


@dataclass(frozen=True)
class BandSums:
    """Sums of one filter over the sources' apertures, in nJy, with errors; shape ``(n,)`` each."""

    columns: Columns
    kron: Sums
    matched: dict[float, NDArray[np.float64]]
    """PSF-matched flux by diameter."""
    matched_err: dict[float, NDArray[np.float64]]
    matched_propagated: dict[float, NDArray[np.float64]]
    kron_flux: NDArray[np.float64]
    kron_err: NDArray[np.float64]
    psf: Psf
    """Of the matched image."""
    noise: ApertureNoise
    weight: float
    """Of this filter in sums over filters."""
    covered: NDArray[np.bool_]


def find_shapes(detection: Detection, segments: SegmentationImage) -> Sources:
    """Measure positions, shapes and Kron apertures on the detection image."""
    sources = SourceCatalog(
        detection.stack,
        segments,
        convolved_data=detection.significance,
        mask=~(detection.valid | detection.holes),
        kron_params=(KRON_SCALE, KRON_MINIMUM, 0.0),
    )
    x, y, x_err, y_err = _positions(sources, segments.data, detection)
    wcs, scale = detection.wcs, pixel_scale_arcsec(detection.wcs)
    major, minor = sources.semimajor_axis.value, sources.semiminor_axis.value
    theta, radius = sources.orientation.to_value(u.rad), sources.kron_radius.value
    undefined = ~np.isfinite(radius)
    reach = KRON_SCALE * np.where(undefined, KRON_MINIMUM, radius)
    least = KRON_MINIMUM_ARCSEC / scale
    small = undefined | ~(reach * np.sqrt(major * minor) > least)
    kron = Ellipses(x, y, np.where(small, least, reach * major), np.where(small, least, reach * minor), theta)
    sky = wcs.pixel_to_world(x, y).icrs
    columns: Columns = {
        "id": sources.labels,
        "name": designation(sky),
        "ra": sky.ra.deg,
        "dec": sky.dec.deg,
        "x": x,
        "y": y,
        "area": sources.segment_area.value * scale**2,
        "semimajor": major * scale,
        "semiminor": minor * scale,
        "axis_ratio": minor / major,
        "orientation": position_angle(x, y, theta, wcs),
        "kron_radius": kron.semimajor * scale,
        "peak_snr": find_peaks(detection.significance, segments.data, sources.labels).value,
    }
    columns["ra_err"], columns["dec_err"] = _sky_errors(x_err, y_err, wcs, scale)
    found = Sources(sources.labels, segments.data, x, y, kron, columns, undefined)
    columns["half_light_radius"] = _half_light_radius(found, detection) * scale
    return found


def _positions(
    sources: SourceCatalog, segments: NDArray[np.int32], detection: Detection
) -> tuple[NDArray[np.float64], ...]:
    """Windowed centroids (x, y) and their errors in pixels; those of the segment where a window leaves the source."""
    radius = np.atleast_1d(sources.flux_radius(0.5).value)
    start = np.atleast_1d(sources.x_centroid), np.atleast_1d(sources.y_centroid)
    blocked = ~(detection.valid | detection.holes)
    sigma = 2.0 * gaussian_fwhm_to_sigma * np.maximum(radius, LEAST_WINDOW_PIXELS)
    x, y = windowed_centroids(detection.stack, blocked, segments, sources.labels, start, sigma)
    dx, dy = start[0] - x, start[1] - y
    shape = (np.atleast_1d(axis.value) for axis in (sources.ellipse_cxx, sources.ellipse_cxy, sources.ellipse_cyy))
    outside = sum(term * square for term, square in zip(shape, (dx**2, dx * dy, dy**2), strict=True)) > 1.0
    lost = outside | ~(np.isfinite(x) & np.isfinite(y))
    x, y = np.where(lost, start[0], x), np.where(lost, start[1], y)
    width = np.clip(2.0 * gaussian_fwhm_to_sigma * np.nan_to_num(radius), 0.5, 20.0)
    x_err, y_err = centroid_errors(detection.stack, detection.variance, x, y, width)
    factor = _gradient_noise(detection, width)
    return x, y, factor * x_err, factor * y_err


def _gradient_noise(detection: Detection, widths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Noise of centroids in windows of some widths (sigma in pixels), over that of independent pixels of variance 1.

    A windowed centroid of noise is its gradient on the window's scale: the image filtered with the derivative of a
    Gaussian, which scatters by ``1 / (sqrt(8 pi) s^2)`` where pixels are independent.
    """
    if not detection.empty.any():
        return np.ones_like(widths)
    noise = [
        float(scatter(gaussian(detection.stack, width, order=1)[detection.empty])) * np.sqrt(8.0 * np.pi) * width**2
        for width in WINDOW_PIXELS
    ]
    return np.interp(np.log(widths), np.log(WINDOW_PIXELS), noise)


def _sky_errors(
    x_err: NDArray[np.float64], y_err: NDArray[np.float64], wcs: WCS, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn errors along the pixel axes, which are independent, to errors along right ascension and declination."""
    turn = (wcs.pixel_scale_matrix / (scale / 3600.0)) ** 2
    return tuple(scale * np.sqrt(turn[axis, 0] * x_err**2 + turn[axis, 1] * y_err**2) for axis in (0, 1))


def _half_light_radius(sources: Sources, detection: Detection) -> NDArray[np.float64]:
    """Radius in pixels of the circle with half of the Kron aperture's light."""
    zeros, usable = np.zeros_like(detection.stack), detection.valid | detection.holes

    def light(apertures: Ellipses, some: NDArray[np.integer]) -> NDArray[np.float64]:
        return sum_apertures(detection.stack, zeros, usable, apertures, sources.segments, sources.labels[some]).flux

    half = 0.5 * light(sources.kron, np.arange(len(sources.labels)))
    radii, below, inner = np.full(half.shape, np.nan), np.zeros_like(half), np.zeros_like(half)
    left = np.flatnonzero(half > 0)
    for step in GROWTH_STEPS:
        outer = step * sources.kron.semimajor[left]
        within = light(circles(sources.x[left], sources.y[left], outer), left)
        is_half = within > half[left]
        share = (half[left] - below[left])[is_half] / (within - below[left])[is_half]
        radii[left[is_half]] = inner[left][is_half] + share * (outer - inner[left])[is_half]
        below[left], inner[left] = within, outer
        left = left[~is_half]
    return radii


def designation(places: SkyCoord) -> NDArray[np.str_]:
    """Name positions as ``J100027.916+021203.50``: truncated, not rounded, as the IAU asks."""
    ra = Angle(np.floor(places.ra.hour * 3.6e6) / 3.6e6, u.hour).to_string(sep="", precision=3, pad=True)
    dec = Angle(np.trunc(places.dec.deg * 3.6e5) / 3.6e5, u.deg)
    return np.char.add(np.char.add("J", ra), dec.to_string(sep="", precision=2, pad=True, alwayssign=True))


def position_angle(
    x: NDArray[np.float64], y: NDArray[np.float64], theta: NDArray[np.float64], wcs: WCS
) -> NDArray[np.float64]:
    """Convert the axes' directions on the pixel grid to position angles, degrees east of north, 0 to 180."""
    centre = wcs.pixel_to_world(x, y)
    ahead = wcs.pixel_to_world(x + np.cos(theta), y + np.sin(theta))
    return centre.position_angle(ahead).deg % 180.0


def measure_band(band: BandImage, sources: Sources, psf: Psf, target: Psf, settings: CatalogSettings) -> BandSums:
    """Sum one filter over the sources' apertures.

    Parameters
    ----------
    band
        The filter.
    sources
        The apertures.
    psf, target
        PSF of the filter, and of the filter that all are matched to.
    settings
        Diameters of the circles.
    """
    image, kernel = band.image, None if psf is target else matching_kernel(psf, target)
    empty = distance_from(band.source_mask | (sources.segments > 0) | ~image.valid)
    if kernel is None:
        data, variance, matched = band.residual, image.err**2, psf
        noise = matched_noise = measure_noise(data, band.sky_error, empty)
    else:
        data = convolved(band.residual, image.valid, kernel)
        # Noise on scales wider than the kernel stays; ERR is the noise on such scales.
        variance = gaussian(np.where(image.valid, image.err, np.float32(0)) ** 2, 1.0)
        noise, matched_noise = measure_noise_of_both(band.residual, data, band.sky_error, empty)
        matched = Psf(signal.oaconvolve(psf.image, kernel, mode="same"), psf.scale_arcsec, psf.origin)
    rows, places = sources.pixels
    sky_error = band.sky_error[rows, places].astype(np.float64)
    covered = image.valid[rows, places] | _in_hole(sources, image.valid)
    columns = _circular_columns(band, sources, psf, noise, settings) | _isophotal_columns(band, sources, noise)
    area = np.pi * image.pixels(DEPTH_DIAMETER_ARCSEC / 2) ** 2
    scatter = sky_error * np.sqrt(area) * noise.factors(area, sky_error) * image.to_njy
    columns |= {
        "exposures": np.full(len(rows), np.nan) if image.exposures is None else image.exposures[rows, places],
        "depth": _magnitude(5.0 * scatter),
        "background": band.background[rows, places],
    }

    def summed(apertures: Ellipses) -> tuple[Sums, NDArray[np.float64], NDArray[np.float64]]:
        sums = sum_apertures(data, variance, image.valid, apertures, sources.segments, sources.labels)
        return sums, _error(sums, matched_noise, sky_error) * image.to_njy, np.sqrt(sums.variance) * image.to_njy

    kron, kron_err, _ = summed(sources.kron)
    circular = {
        diameter: summed(circles(sources.x, sources.y, image.pixels(diameter / 2)))
        for diameter in settings.aperture_diameters_arcsec
    }
    return BandSums(
        columns=columns,
        kron=kron,
        matched={diameter: sums.flux * image.to_njy for diameter, (sums, _, _) in circular.items()},
        matched_err={diameter: error for diameter, (_, error, _) in circular.items()},
        matched_propagated={diameter: error for diameter, (_, _, error) in circular.items()},
        kron_flux=kron.flux * image.to_njy,
        kron_err=kron_err,
        psf=matched,
        noise=noise,
        weight=float(1.0 / np.median(band.sky_error[image.valid] * image.to_njy) ** 2) if image.valid.any() else 0.0,
        covered=covered,
    )


def _in_hole(sources: Sources, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a source's own segment has some data though its centre has none, as in a saturated star."""
    return sources.summed(valid) / sources.summed(np.ones_like(valid)) > 0.3


def _error(sums: Sums, noise: ApertureNoise, sky_error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Propagated error with the sky's part replaced by that of empty apertures."""
    factor = noise.factors(sums.area, sky_error)
    variance = sums.variance + (factor**2 - 1.0) * sums.area * sky_error**2
    return np.sqrt(np.maximum(variance, 0.25 * sums.variance))


def _circular_columns(
    band: BandImage, sources: Sources, psf: Psf, noise: ApertureNoise, settings: CatalogSettings
) -> Columns:
    image, columns = band.image, Columns()
    rows, places = sources.pixels
    sky_error = band.sky_error[rows, places].astype(np.float64)
    variance = image.err**2
    for diameter, suffix in aperture_suffixes(settings).items():
        apertures = circles(sources.x, sources.y, image.pixels(diameter / 2))
        sums = sum_apertures(band.residual, variance, image.valid, apertures, sources.segments, sources.labels)
        scale = image.to_njy / psf.within(diameter / 2)
        columns[f"aper_flux_{suffix}"] = sums.flux * scale
        columns[f"aper_flux_err_{suffix}"] = _error(sums, noise, sky_error) * scale
    return columns


def _isophotal_columns(band: BandImage, sources: Sources, noise: ApertureNoise) -> Columns:
    image = band.image
    rows, places = sources.pixels
    sky_error = band.sky_error[rows, places].astype(np.float64)
    variance = np.where(image.valid, image.err, np.float32(0)) ** 2
    flux, squares, area = (sources.summed(plane) for plane in (band.residual, variance, image.valid))
    empty = np.zeros_like(area)
    error = _error(Sums(flux, squares, np.maximum(area, 1.0), empty, empty), noise, sky_error)
    return {"iso_flux": flux * image.to_njy, "iso_flux_err": error * image.to_njy}


def total_columns(
    measured: Mapping[str, BandSums], sources: Sources, settings: CatalogSettings, scale_arcsec: float
) -> tuple[Columns, dict[str, Columns]]:
    """Combine the filters: the aperture that suits each source, the factor to total flux, and the fluxes.

    The factor is the ratio of Kron to aperture flux in the sum of the filters, at least a point source's, over the
    fraction of a point source's light in the Kron aperture. It is the same in all filters, so that colours are those of
    the aperture.
    """
    diameters = np.array(sorted(settings.aperture_diameters_arcsec))
    wanted = np.maximum(2.0 * np.nan_to_num(sources.columns["half_light_radius"]), diameters[0])
    chosen = np.minimum(np.searchsorted(diameters, wanted), len(diameters) - 1)
    chosen = np.maximum(chosen, min(1, len(diameters) - 1))

    def of_chosen(by_diameter: Mapping[float, NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.array([by_diameter[diameter] for diameter in diameters])[chosen, np.arange(len(chosen))]

    kron, aperture = (
        _weighted(measured, fluxes, errors)
        for fluxes, errors in (
            (lambda band: band.kron_flux, lambda band: band.kron_err),
            (lambda band: of_chosen(band.matched), lambda band: of_chosen(band.matched_err)),
        )
    )
    axes = [axis * scale_arcsec for axis in (sources.kron.semimajor, sources.kron.semiminor)]
    common: Columns = {"aperture": diameters[chosen]}
    bands: dict[str, Columns] = {}
    reference = next(iter(measured.values())).psf
    in_kron, in_circle = (
        reference.within_ellipses(axes[0], axes[1], sources.kron.theta),
        reference.within(diameters / 2)[chosen],
    )
    growth, growth_err = _growth(kron, aperture, in_kron / in_circle)
    common |= {"total_factor": growth / in_kron, "total_factor_err": growth_err / in_kron}
    for name, band in measured.items():
        # Matched PSFs differ by the imperfection of the kernel.
        own = band.psf.within(diameters / 2)[chosen]
        factor = common["total_factor"] * in_circle / own
        own_kron = band.psf.within_ellipses(axes[0], axes[1], sources.kron.theta)
        columns = dict(band.columns)
        columns["flux"] = factor * of_chosen(band.matched)
        columns["flux_err"] = factor * of_chosen(band.matched_err)
        columns["flux_err_propagated"] = factor * of_chosen(band.matched_propagated)
        columns |= {"kron_flux": band.kron_flux / own_kron, "kron_flux_err": band.kron_err / own_kron}
        columns |= _magnitudes(columns["flux"], columns["flux_err"])
        bands[name] = {
            column: np.where(band.covered, np.asarray(values, np.float64), np.nan) for column, values in columns.items()
        }
    return common, bands


def _weighted(
    measured: Mapping[str, BandSums],
    fluxes: Callable[[BandSums], NDArray[np.float64]],
    errors: Callable[[BandSums], NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum over the filters that cover a source, weighted by their depth, and its variance."""
    flux, variance = np.zeros(1), np.zeros(1)
    for band in measured.values():
        flux = flux + band.weight * np.where(band.covered, fluxes(band), 0.0)
        variance = variance + band.weight**2 * np.where(band.covered, errors(band), 0.0) ** 2
    return flux, variance


def _growth(
    kron: tuple[NDArray[np.float64], NDArray[np.float64]],
    aperture: tuple[NDArray[np.float64], NDArray[np.float64]],
    point: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ratio of Kron to aperture flux, and its error, given the flux and variance of each and a point source's ratio.

    What the ratio is above a point source's counts as far as it is more than noise, by ``s = x^2 / (x^2 + sigma^2)``:
    noise alone would make every second star brighter, and each by another factor.
    """
    usable = aperture[0] > 0
    light = np.where(usable, aperture[0], 1.0)
    ratio = np.where(usable, kron[0] / light, 0.0)
    # The Kron aperture is the circle and a ring of noise of its own.
    variance = (np.maximum(kron[1] - aperture[1], 0.0) + (ratio - 1.0) ** 2 * aperture[1]) / light**2
    excess = np.maximum(ratio - point, 0.0)
    sure = np.divide(excess**2, excess**2 + variance, out=np.zeros_like(excess), where=excess > 0)
    return point + sure * excess, (3.0 - 2.0 * sure) * sure * np.sqrt(variance)


def _magnitudes(flux: NDArray[np.float64], error: NDArray[np.float64]) -> Columns:
    """AB magnitude, its error, and an upper limit where the flux is not significant."""
    positive = np.where(flux > 0, flux, np.nan)
    limit = np.maximum(flux, 0.0) + UPPER_LIMIT_SIGMA * error
    return {
        "mag": _magnitude(flux),
        "mag_err": 2.5 / np.log(10.0) * error / positive,
        "mag_limit": _magnitude(np.where(flux < UPPER_LIMIT_SIGMA * error, limit, np.nan)),
    }


def _magnitude(flux: NDArray[np.float64]) -> NDArray[np.float64]:
    """AB magnitude of a flux in nJy; NaN where it is not positive."""
    return (np.where(flux > 0, flux, np.nan) * u.nJy).to_value(u.ABmag)
