"""Sources in the light of brighter stars, which the PSF's spikes carry far."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal
from scipy.spatial import KDTree

from cosmosaic.catalog.psf import Psf

FALL = 3.0
"""Beyond the PSF's image the light falls with this power of the distance, as diffraction at an edge does."""


def starlight(
    places: NDArray[np.float64],
    flux: NDArray[np.float64],
    is_star: NDArray[np.bool_],
    psf: Psf,
    diameter_arcsec: float,
    least: float,
) -> NDArray[np.float64]:
    """Return the light of brighter stars in a circle around each source, by the PSF: spikes count as they lie.

    Parameters
    ----------
    places
        Pixels (x, y), shape ``(n, 2)``.
    flux
        Total fluxes, shape ``(n,)``; a star that is brighter than a source in it adds to its light.
    is_star
        Which sources are stars.
    psf
        PSF of the mosaic.
    diameter_arcsec
        Diameter of the circle.
    least
        Light that does not matter: a star's reach ends where its light falls below.

    Returns
    -------
    light : ndarray
        In the unit of ``flux``, corrected to total as the flux of a point source in the circle is.
    """
    light = np.zeros(len(places))
    stars = np.flatnonzero(is_star & (flux > least))
    if not len(stars):
        return light
    image = _in_circles(psf, diameter_arcsec)
    half = len(image) // 2
    rim = max(each.max() for each in (image[0], image[-1], image[:, 0], image[:, -1]))
    reach = np.sqrt(2.0) * half * np.maximum(flux[stars] * rim / least, 1.0) ** (1.0 / FALL)
    near = KDTree(places).query_ball_point(places[stars], reach)
    for star, others in zip(stars, near, strict=True):
        fainter = np.array([each for each in others if flux[each] < flux[star]], dtype=int)
        light[fainter] += flux[star] * _at(image, places[fainter] - places[star])
    return light


def _in_circles(psf: Psf, diameter_arcsec: float) -> NDArray[np.float64]:
    """The PSF's light in circles around each pixel, relative to that in the one at its centre.

    Circles are no wider than a small image of a PSF allows, with a pixel on each side of the centre.
    """
    radius = min(0.5 * diameter_arcsec / psf.scale_arcsec, len(psf.image) // 2 - 1.0)
    size = int(np.ceil(radius))
    y, x = np.indices((2 * size + 1, 2 * size + 1)) - size
    circle = np.clip(radius + 0.5 - np.hypot(x, y), 0.0, 1.0)
    summed = np.maximum(signal.fftconvolve(psf.image, circle, mode="same"), 0.0)
    # The outermost circles are cut by the image's border.
    whole = summed[size:-size, size:-size]
    return whole / whole[len(whole) // 2, len(whole) // 2]


def _at(image: NDArray[np.float64], offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at offsets (x, y) from the middle; beyond the image those of its border in the same direction, fallen."""
    half = len(image) // 2
    beyond = np.maximum(np.abs(offsets).max(axis=1) / half, 1.0)
    x, y = (offsets / beyond[:, None]).T
    return ndimage.map_coordinates(image, [y + half, x + half], order=1, mode="nearest") / beyond**FALL
