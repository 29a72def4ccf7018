"""The noise of apertures: the scatter of empty ones, as a function of their size and the local depth."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from astropy.stats import biweight_scale
from numba import njit
from numpy.typing import ArrayLike, NDArray

from cosmosaic.catalog.apertures import sum_clear_circles
from cosmosaic.catalog.image import Part

DEPTH_DIAMETER_ARCSEC = 0.3
"""Diameter of the apertures that depths refer to."""
EMPTY_APERTURES = 6000
"""Empty apertures wanted of each size; the scatter is then known to 1 % if they are apart."""
EMPTY_PIXELS = 2e6
"""Pixels in the empty apertures of one size, at the most: of large ones there are fewer, which soon overlap."""
DRAWS = 180_000
"""Places drawn; most are too near to sources."""
FEWEST_APERTURES = 60
"""With fewer empty apertures a size is left out."""
RADII_PIXELS = (1.7, 2.5, 3.5, 5.0, 7.0, 10.0, 14.0, 20.0, 28.0)
CLEARANCE = 1.5
"""Pixels between an empty aperture and the nearest pixel that is not empty."""
FARTHEST = int(max(RADII_PIXELS) + CLEARANCE) + 1
"""Distances are measured up to this many pixels."""
UNEVEN = 1.15
"""Ratio of upper to lower half of the local noise from which its own effect on the scatter is measured."""


@dataclass(frozen=True)
class ApertureNoise:
    """Scatter of empty apertures over the error that independent pixels would give them."""

    area: NDArray[np.float64]
    """Areas in pixels, increasing."""
    factor: NDArray[np.float64]
    """Of apertures of these areas at the typical local noise."""
    slope: float
    """Power of the local noise by which the factor grows."""
    typical: float
    """Typical local noise."""

    def factors(self, area: ArrayLike, sky_error: ArrayLike) -> NDArray[np.float64]:
        """Return the factor of apertures of some areas in pixels where the sky's error per pixel is as given."""
        place = np.log(np.maximum(np.asarray(area, np.float64), 1e-3))
        by_size = np.exp(np.interp(place, np.log(self.area), np.log(self.factor)))
        return by_size * (np.maximum(sky_error, 1e-30) / self.typical) ** self.slope

    @property
    def power(self) -> float:
        """Exponent b of the power law scatter ~ N^b closest to the measured scatter; 0.5 for independent pixels."""
        return float(0.5 + np.polyfit(np.log(self.area), np.log(self.factor), 1)[0]) if len(self.area) > 1 else 0.5


INDEPENDENT = ApertureNoise(np.ones(1), np.ones(1), 0.0, 1.0)
"""Noise if no empty aperture can be measured."""


@dataclass(frozen=True)
class EmptyApertures:
    """Apertures of one size on blank sky, shape ``(n,)`` each, in units of the image."""

    flux: NDArray[np.float64]
    sky_error: NDArray[np.float64]
    """Of a pixel at the centre."""
    area: float
    """In pixels."""

    @property
    def pulls(self) -> NDArray[np.float64]:
        """Flux over the error that independent pixels would give it."""
        return self.flux / (self.sky_error * np.sqrt(self.area))


class Places(NamedTuple):
    """Random places of an image."""

    places: NDArray[np.float64]
    """Pixels (x, y), shape ``(n, 2)``."""
    distance: NDArray[np.float64]
    """Of the pixel at each place from the nearest blocked one and the image's border, in pixels; up to `FARTHEST`."""
    share: float = 1.0
    """Of the apertures that are wanted, if these places are of a part of a window."""

    def clear(self, radius: float) -> NDArray[np.float64]:
        """Return the places farther than this from blocked pixels."""
        return self.places[self.distance > radius + CLEARANCE]


def distance_from(blocked: NDArray[np.bool_], part: Part | None = None, share: float = 1.0) -> Places:
    """Draw random places, and measure their distance from blocked pixels and from the image's border.

    Parameters
    ----------
    blocked
        Pixels in which no aperture may lie, shape ``(ny, nx)``.
    part
        Rows and columns in which places are drawn; by default, all.
    share
        Of the places of a window that are drawn here.
    """
    rows, columns = part or (slice(0, blocked.shape[0]), slice(0, blocked.shape[1]))
    low, high = (np.array([getattr(columns, end), getattr(rows, end)]) for end in ("start", "stop"))
    drawn = low + _drawn()[: round(DRAWS * share)] * (high - low - 1)
    nearest = np.rint(drawn).astype(np.int64)
    return Places(drawn, _distances(blocked, nearest[:, 1], nearest[:, 0], FARTHEST), share)


@njit(cache=True, nogil=True)
def _distances(blocked, rows, columns, farthest):  # type: ignore[no-untyped-def]
    """Distances of places from the nearest blocked pixel: along columns first, and from there along the rows."""
    along = np.empty(blocked.shape, np.uint8)
    height, width = blocked.shape
    for column in range(width):
        along[0, column] = 0 if blocked[0, column] else 1
        along[-1, column] = 0 if blocked[-1, column] else 1
    for row in range(1, height):
        for column in range(width):
            along[row, column] = 0 if blocked[row, column] else min(along[row - 1, column] + 1, farthest)
    last = height - 1
    for column in range(width):
        along[last, column] = min(along[last, column], 1)
    for row in range(height - 2, -1, -1):
        for column in range(width):
            along[row, column] = min(along[row, column], along[row + 1, column] + 1)
    distances = np.empty(len(rows))
    for place in range(len(rows)):
        row, column = rows[place], columns[place]
        least = farthest**2
        for step in range(-farthest, farthest + 1):
            at = column + step
            across = along[row, at] if 0 <= at < width else 0
            least = min(least, step**2 + np.int64(across) ** 2)
        distances[place] = np.sqrt(least)
    return distances


def empty_apertures(
    data: NDArray[np.float32], sky_error: NDArray[np.float32], places: Places, radius: float
) -> EmptyApertures:
    """Sum circular apertures at random places without sources and gaps.

    Parameters
    ----------
    data
        Image without background, shape ``(ny, nx)``.
    sky_error
        Standard error of its pixels without that of sources.
    places
        Random places with their distance from sources and gaps (`distance_from`).
    radius
        In pixels.

    Returns
    -------
    apertures
        At most `EMPTY_APERTURES`, of `EMPTY_PIXELS` together; the places are the same where the mask is.
    """
    return _empty_apertures(data, data, sky_error, places, radius)[0]


def _empty_apertures(
    one: NDArray[np.float32],
    other: NDArray[np.float32],
    sky_error: NDArray[np.float32],
    places: Places,
    radius: float,
) -> tuple[EmptyApertures, EmptyApertures]:
    """Sum the same apertures in two images."""
    area = np.pi * radius**2
    clear = places.clear(radius)[: int(places.share * min(EMPTY_APERTURES, EMPTY_PIXELS / area))]
    fluxes = sum_clear_circles(one, other, clear, radius)
    rows, columns = np.rint(clear[:, ::-1]).astype(int).T
    error = sky_error[rows, columns].astype(np.float64)
    return EmptyApertures(fluxes[0], error, area), EmptyApertures(fluxes[1], error, area)


@cache
def _drawn() -> NDArray[np.float64]:
    """Random places of an image whose sides are 1, shape ``(DRAWS, 2)``."""
    return np.random.default_rng(0).random((DRAWS, 2))


def joined(parts: Sequence[EmptyApertures]) -> EmptyApertures:
    """Put the apertures of one size of several parts of a window together."""
    flux, error = (np.concatenate([getattr(one, name) for one in parts]) for name in ("flux", "sky_error"))
    return EmptyApertures(flux, error, parts[0].area)


def measure_noise(data: NDArray[np.float32], sky_error: NDArray[np.float32], places: Places) -> ApertureNoise:
    """Measure the scatter of empty apertures by size, and how it changes with the local noise.

    The idea of JADES' fifth release: a regression on size and local weight, beside the error that grows as the root of
    the number of pixels.

    Parameters
    ----------
    data, sky_error
        Image without background, and the standard error of its pixels without that of sources.
    places
        Random places with their distance from sources and gaps (`distance_from`).
    """
    return measure_noise_of_both(data, data, sky_error, places)[0]


def measure_noise_of_both(
    one: NDArray[np.float32], other: NDArray[np.float32], sky_error: NDArray[np.float32], places: Places
) -> tuple[ApertureNoise, ApertureNoise]:
    """Measure the noise of two images of the same filter, in the same apertures; see `measure_noise`."""
    apertures = [_empty_apertures(one, other, sky_error, places, radius) for radius in RADII_PIXELS]
    return noise_of([pair[0] for pair in apertures]), noise_of([pair[1] for pair in apertures])


def noise_of(measured: Sequence[EmptyApertures]) -> ApertureNoise:
    """Return the noise that empty apertures of increasing sizes tell."""
    measured = [apertures for apertures in measured if len(apertures.flux) >= FEWEST_APERTURES]
    if not measured:
        return INDEPENDENT
    slopes = [slope for slope in map(_slope, measured) if slope is not None]
    slope, typical = float(np.mean(slopes)) if slopes else 0.0, float(np.median(measured[0].sky_error))
    factors = [_scatter(each.pulls / (each.sky_error / typical) ** slope) for each in measured]
    return ApertureNoise(np.array([each.area for each in measured]), np.array(factors), slope, typical)


def _slope(apertures: EmptyApertures) -> float | None:
    """Power of the local noise that the scatter has beyond proportion; None if the depth is even."""
    noisy = apertures.sky_error > np.median(apertures.sky_error)
    if min(noisy.sum(), (~noisy).sum()) < FEWEST_APERTURES:
        return None
    levels, scatters = (
        [float(statistic(values[half])) for half in (~noisy, noisy)]
        for statistic, values in ((np.median, apertures.sky_error), (_scatter, apertures.pulls))
    )
    if levels[1] / levels[0] < UNEVEN:
        return None
    return float(np.log(scatters[1] / scatters[0]) / np.log(levels[1] / levels[0]))


def _scatter(values: NDArray[np.float64]) -> float:
    """Robust standard deviation; as certain as the median absolute deviation of twice as many values."""
    return float(biweight_scale(values))
