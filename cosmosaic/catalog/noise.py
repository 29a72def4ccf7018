"""The noise of a mosaic: scatter of its pixels and of empty apertures compared with its error map."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.stats import mad_std
from numpy.typing import NDArray
from photutils.aperture import CircularAperture, aperture_photometry

from cosmosaic.catalog.image import MosaicImage
from cosmosaic.mosaic.noise import noise_correlation
from cosmosaic.records import Record

DEPTH_RADIUS_ARCSEC = 0.15
"""Radius of the apertures that the depth refers to."""
EMPTY_APERTURES = 2000
"""Empty apertures wanted; the scatter is then known to about 2 %."""
DRAWS = 10
"""Number of attempts at drawing so many places."""
FEWEST_APERTURES = 20
"""With fewer empty apertures no depth is given."""
NJY_PER_MJY = 1e15


class MosaicStatistics(Record):
    """Sky, noise and depth of one mosaic."""

    sky_median: float
    """Median of the source-free pixels in MJy/sr."""
    sky_rms: float
    """Robust scatter of the source-free pixels in MJy/sr."""
    noise_factor: float | None
    """Robust scatter of source-free pixels over ERR; below 1 because drizzled pixels are correlated."""
    aperture_error_ratio: float | None
    """Scatter of empty apertures of 0.15 arcsec radius over their propagated error; 1 where errors are right."""
    depth_5sigma_ab: float | None
    """AB magnitude of five times the scatter of empty apertures of 0.15 arcsec radius, not corrected to total flux."""
    coverage_arcmin2: float
    """Area with data in square arcminutes."""
    n_sources: int


@dataclass(frozen=True)
class EmptyApertures:
    """Fluxes and propagated errors in nJy of apertures on blank sky, shape ``(n,)`` each."""

    flux: NDArray[np.float64]
    error: NDArray[np.float64]

    @property
    def scatter(self) -> float:
        """Robust standard deviation of the fluxes in nJy."""
        return float(mad_std(self.flux))

    @property
    def error_ratio(self) -> float:
        """Robust standard deviation of flux over error."""
        return float(mad_std(self.flux / self.error))

    @property
    def depth_5sigma_ab(self) -> float:
        """AB magnitude of five times the scatter."""
        return float((5.0 * self.scatter * u.nJy).to_value(u.ABmag))


def empty_apertures(
    image: MosaicImage, background: NDArray[np.float32], mask: NDArray[np.bool_], radius_arcsec: float
) -> EmptyApertures:
    """Measure circular apertures at random places without sources and gaps.

    Parameters
    ----------
    image
        The mosaic.
    background
        Its background in MJy/sr, shape ``(ny, nx)``.
    mask
        True on sources.
    radius_arcsec
        Radius of the apertures.

    Returns
    -------
    apertures
        At most `EMPTY_APERTURES`; the places are the same for the same mosaic.
    """
    radius = image.pixels(radius_arcsec)
    blocked = mask | ~image.valid
    centres = CircularAperture(_clear_places(blocked, radius), radius) if not blocked.all() else None
    if centres is None or len(centres) == 0:
        return EmptyApertures(np.zeros(0), np.zeros(0))
    sums = aperture_photometry(image.sci - background, centres, error=image.err)
    scale = image.pixel_area_sr * NJY_PER_MJY
    return EmptyApertures(
        np.asarray(sums["aperture_sum"]) * scale,
        np.asarray(sums["aperture_sum_err"]) * scale,
    )


def _clear_places(blocked: NDArray[np.bool_], radius: float) -> NDArray[np.float64]:
    """Draw places (x, y) whose aperture of ``radius`` pixels touches no blocked pixel; shape ``(n, 2)``."""
    reach = int(np.ceil(radius))
    size = (blocked.shape[1] - 2 * reach - 1, blocked.shape[0] - 2 * reach - 1)
    if min(size) <= 0:
        return np.zeros((0, 2))
    generator = np.random.default_rng(0)
    clear = np.zeros((0, 2))
    for _ in range(DRAWS):
        places = reach + generator.random((EMPTY_APERTURES, 2)) * size
        places = places[~blocked[np.round(places[:, 1]).astype(int), np.round(places[:, 0]).astype(int)]]
        masks = CircularAperture(places, radius).to_mask() if len(places) else []
        touched = np.array([mask.get_values(blocked).any() for mask in masks], dtype=bool)
        clear = np.concatenate([clear, places[~touched]])
        if len(clear) >= EMPTY_APERTURES:
            break
    return clear[:EMPTY_APERTURES]


def mosaic_statistics(
    image: MosaicImage, background: NDArray[np.float32], mask: NDArray[np.bool_], n_sources: int
) -> MosaicStatistics:
    """Summarise sky, noise and depth of a mosaic.

    Parameters
    ----------
    image
        The mosaic.
    background
        Its background in MJy/sr, shape ``(ny, nx)``.
    mask
        True on sources.
    n_sources
        Number of catalogued sources.
    """
    clear = image.valid & ~mask
    sky = image.sci[clear if clear.any() else image.valid]
    apertures = empty_apertures(image, background, mask, DEPTH_RADIUS_ARCSEC)
    enough = len(apertures.flux) >= FEWEST_APERTURES
    return MosaicStatistics(
        sky_median=float(np.median(sky)),
        sky_rms=float(mad_std(sky)),
        noise_factor=noise_correlation(image.sci - background, image.err, ~clear) if clear.any() else None,
        aperture_error_ratio=apertures.error_ratio if enough else None,
        depth_5sigma_ab=apertures.depth_5sigma_ab if enough else None,
        coverage_arcmin2=float(image.valid.sum()) * image.pixel_scale_arcsec**2 / 3600.0,
        n_sources=n_sources,
    )
