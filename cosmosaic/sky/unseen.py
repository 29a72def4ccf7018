"""Residual light in apparently empty sky, found because exposures have it in common.

Noise, stripes and planes differ from exposure to exposure; faint sources, outskirts of galaxies and nebulae do not. So
the mean product of an exposure and the stack of all others, about their means, is the variance of the sky itself: zero
if the sky is empty, whatever the noise. Such light is positive, so a level measured in it is too high. A shallower mask
of sources shows by how much: with it level and rms are higher, and the level is extrapolated to zero light.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosmosaic.cells.survey import FEWEST_FOR_LEVEL, CellExposure, CellSurvey, differences
from cosmosaic.sky.pedestal import EVEN_SPREAD, Level, plane_of
from cosmosaic.statistics import gaussian_mode

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

SIGNIFICANT_SIGMA = 3.0
"""A variance of the sky below this many of its errors counts as zero."""
LARGEST_RMS = 0.1
"""In units of the pixel rms: if the sky's own light scatters by more, no cell is known to be empty."""
GROWTH = 0.9
"""A level grows with this power of the rms of the light in it: between counts of faint galaxies, which give 0.7 in
simulated deep fields, and residual wisps and stripes, which hardly move it."""
LARGEST_SLOPE = 0.04
"""From edge to edge, in units of the pixel rms: a steeper slope seen by several exposures belongs to the sky."""


class Unseen(NamedTuple):
    """The sky's own light in the apparently empty cells of an exposure."""

    variance: float
    """(MJy/sr)**2."""
    error: float
    """Of the variance."""
    slope: float
    """The steeper slope of those along the detector's x and y from edge to edge, MJy/sr, as far as this exposure and
    the others have it in common: a slope of a single detector does not belong to the sky."""

    @property
    def rms(self) -> float:
        """Rms of the light in MJy/sr; 0 where it is not significant."""
        return float(np.sqrt(self.variance)) if self.variance > SIGNIFICANT_SIGMA * self.error else 0.0


def unseen_light(survey: CellSurvey, levels: Mapping[str, float], sources: Flags) -> dict[str, Unseen]:
    """Measure the sky's own light outside of sources, exposure by exposure.

    Parameters
    ----------
    survey
        Exposures on the lattice.
    levels
        Level of each, MJy/sr; their differences count.
    sources
        Cells that hold sources, shape of the lattice.
    """
    free = ~sources & ~survey.held_out
    return {
        exposure.name: _unseen(exposure, excess, used, free[exposure.window] & exposure.usable)
        for exposure, excess, _, used in differences(survey, levels, free)
    }


def allow_for(deep: Level, shallow: Level, left: Unseen, more: Unseen, pixel_rms: float) -> Level:
    """Correct a pedestal for the residual light in its sky, with half of the correction as an error.

    Parameters
    ----------
    deep, shallow
        Pedestal of an exposure outside of a deep and a shallow mask of sources.
    left, more
        Light outside of the same masks.
    pixel_rms
        Pixel rms of the survey, MJy/sr.
    """
    steep = left.slope if left.slope > LARGEST_SLOPE * pixel_rms else 0.0
    rms = max(left.rms, EVEN_SPREAD * steep)
    if rms >= LARGEST_RMS * pixel_rms:
        return _with_errors(deep, rms, rms / EVEN_SPREAD)
    excess = _excess(shallow.value - deep.value, left.rms, more.rms)
    corrected = deep._replace(value=deep.value - excess)
    return _with_errors(corrected, max(0.5 * excess, EVEN_SPREAD * steep), steep)


def _excess(difference: float, left: float, more: float) -> float:
    """By how much light of some rms lifts a level, if more of it lifts it by a difference more."""
    if not 0 < left < more:
        return 0.0
    gain = max(difference, 0.0) / (more**GROWTH - left**GROWTH)
    return min(gain * left**GROWTH, left)


def _with_errors(level: Level, error: float, slope_error: float) -> Level:
    x, y = (float(np.hypot(known, slope_error)) for known in level.slope_errors)
    return level._replace(error=float(np.hypot(level.error, error)), slope_errors=(x, y))


def shows_empty_sky(unseen: Unseen, pixel_rms: float) -> bool:
    """Return whether the cells of an exposure that pass for empty surely are, but for faint sources."""
    largest = np.sqrt(max(unseen.variance, 0.0) + SIGNIFICANT_SIGMA * unseen.error)
    return bool(max(largest, EVEN_SPREAD * unseen.slope) < LARGEST_RMS * pixel_rms)


def is_full_of_light(unseen: Unseen, pixel_rms: float) -> bool:
    """Return whether light surely fills the cells of an exposure that pass for empty.

    A small exposure may be neither surely empty nor surely lit: its pedestal is then its best zero, because the
    faintest place of a few cells is that of their noise.
    """
    return max(unseen.rms, EVEN_SPREAD * unseen.slope) >= LARGEST_RMS * pixel_rms


def _unseen(exposure: CellExposure, excess: Floats, used: Flags, free: Flags) -> Unseen:
    if np.count_nonzero(free) < FEWEST_FOR_LEVEL:
        # Sources fill it.
        return Unseen(gaussian_mode(exposure.mean[exposure.usable])[1] ** 2, 0.0, 0.0)
    if np.count_nonzero(used) >= FEWEST_FOR_LEVEL:
        own, others = exposure.mean[used], (exposure.mean - excess)[used]
        return Unseen(*_covariance(own, others), _common_slope(exposure, own, others, used))
    # Nothing else sees this sky. Cells above each other share its light, but also wings of sources and stripes: they
    # can show that it is empty, and nothing more, so the pedestal stands.
    both, own = free[1:] & free[:-1], exposure.mean[free]
    shared = Unseen(
        *_covariance(exposure.mean[1:][both], exposure.mean[:-1][both]), _common_slope(exposure, own, own, free)
    )
    is_empty = shows_empty_sky(shared, exposure.pixel_rms)
    return Unseen(0.0, shared.error if is_empty else np.inf, 0.0)


def _covariance(first: Floats, second: Floats) -> tuple[float, float]:
    if first.size < 2:
        return 0.0, np.inf
    products = (first - first.mean()) * (second - second.mean())
    return float(products.mean()), float(products.std() / np.sqrt(products.size))


def _common_slope(exposure: CellExposure, own: Floats, others: Floats, cells: Flags) -> float:
    x, y = exposure.from_middle(cells)
    first, second = plane_of(own, x, y), plane_of(others, x, y)
    return float(np.max(np.where(first * second > 0, np.minimum(np.abs(first), np.abs(second)), 0.0)))
