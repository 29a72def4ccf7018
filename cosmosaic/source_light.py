"""Masks of sources for sky work: tiers of detection, from compact cores to the faint outskirts of galaxies.

Each tier smooths the image, detects light at that scale, and grows it. Tiered masks are common practice
in NIRCam surveys (Bagley et al. 2023, ApJL 946, L12); noise and zero of each tier come from its own image here, so
that correlated noise does not count as sources.
"""

import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from cosmosaic.statistics import gaussian_mode

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

SAMPLE = 200_000
"""Pixels that zero and noise of a tier are measured on."""
PIXELS_TOGETHER = 1 << 22
"""Pixels of an image whose boxes are averaged at a time: those of an exposure."""


class Tier(NamedTuple):
    """One scale of detection; all lengths in pixels of the image."""

    smoothing: float
    """Sigma of the Gaussian; 0 for none."""
    threshold: float
    """In sigma of the smoothed image."""
    minimum_pixels: int
    grow: float
    """Radius by which detections are enlarged."""


EXPOSURE_TIERS = (Tier(1.5, 3.0, 6, 5.0), Tier(5.0, 3.0, 40, 8.0), Tier(15.0, 3.0, 300, 16.0))
"""For single exposures in detector pixels."""
COMPACT_TIERS = EXPOSURE_TIERS[:2]
"""Light wider than about an arcsecond is not masked: it may come from the detector, like wisps and stripes."""
CELL_TIERS = (Tier(0.0, 3.0, 1, 1.5), Tier(1.0, 2.5, 4, 1.5), Tier(3.0, 2.5, 20, 2.0))
"""For stacks on cells of eight detector pixels; deeper and wider than the exposures' by the number of pixels."""


def coverage_of(usable: Flags, tiers: Sequence[Tier]) -> tuple[Floats, ...]:
    """Return the weight of usable pixels that each tier's smoothing sees, for `source_mask`.

    Parameters
    ----------
    usable
        Pixels with data, shape ``(ny, nx)``.
    tiers
        Scales of detection.
    """
    weight = usable.astype(np.float32)
    return tuple(
        np.maximum(ndimage.gaussian_filter(weight, tier.smoothing, truncate=3.0), 0.1) if tier.smoothing > 0 else weight
        for tier in tiers
    )


def source_mask(
    image: Floats,
    tiers: Sequence[Tier],
    zero: Floats | float | None = None,
    coverage: Sequence[Floats] | None = None,
) -> Flags:
    """Find the pixels that hold light of sources.

    Parameters
    ----------
    image
        Shape ``(ny, nx)``, NaN where there are no data.
    tiers
        Scales of detection.
    zero
        Background, a number or an image; left out, the mode of each tier's smoothed image.
    coverage
        From `coverage_of`, where several images share their usable pixels.

    Returns
    -------
    ndarray of bool
        True where there are sources, same shape.
    """
    usable = np.isfinite(image)
    # One plane at a time: an image may be the stack of a whole survey.
    data = np.zeros(image.shape, dtype=np.float32)
    np.subtract(image, 0.0 if zero is None else zero, out=data, where=usable, casting="same_kind")
    mask = np.zeros(image.shape, dtype=bool)
    weights = coverage or (coverage_of(usable, [tier])[0] for tier in tiers)
    for tier, weight in zip(tiers, weights, strict=True):
        mask |= _detected(data, usable, tier, weight, measure_zero=zero is None)
    return mask


def smooth_background(image: Floats, mask: Flags, box: int) -> Floats:
    """Estimate light that varies over more than a few boxes.

    Clipped means of boxes, empty boxes filled from their neighbours, median of 3 by 3 boxes, cubic spline between. The
    design is that of photutils' ``Background2D``, whose error is 1.1 to 2.2 times as large on simulated backgrounds
    (boxes of 32 and 64 pixels, images of 100 to 2048 pixels).

    Parameters
    ----------
    image
        Shape ``(ny, nx)``, NaN where there are no data.
    mask
        Pixels to leave out, same shape.
    box
        Side of the boxes in pixels.
    """
    ny, nx = image.shape
    rows, columns = -(-ny // box), -(-nx // box)
    height = box * max(1, PIXELS_TOGETHER // (columns * box**2))
    strips = [slice(first, first + height) for first in range(0, ny, height)]
    means = np.concatenate([_means_of_boxes(image[strip], mask[strip], box) for strip in strips])
    means = ndimage.median_filter(_filled(means), size=3, mode="nearest")
    order = max(1, min(3, rows - 1, columns - 1))
    along_y, along_x = (_between_boxes(*given, box, order) for given in ((ny, rows), (nx, columns)))
    return (along_y @ means @ along_x.T).astype(np.float32)


@lru_cache(maxsize=8)
def _between_boxes(size: int, number: int, box: int, order: int) -> Floats:
    """Matrix of the spline between values at the centres of boxes, shape ``(size, number)``."""
    where = (np.arange(size) + 0.5) / box - 0.5
    one_at_a_time = np.eye(number)
    return np.stack(
        [ndimage.map_coordinates(box_value, where[None], order=order, mode="nearest") for box_value in one_at_a_time],
        axis=1,
    )


def grown(mask: Flags, radius: float) -> Flags:
    """Enlarge a mask by a radius in pixels."""
    if radius <= 0 or not mask.any():
        return mask
    # Rows a distance away in y are within reach up to a distance in x: far fewer sums than the distances to all pixels.
    reach = [-1.0] * (int(radius) + 1)
    for dy in range(len(reach)):
        while (reach[dy] + 1) ** 2 + dy**2 <= radius**2:
            reach[dy] += 1
    return _within_reach(_distance_along_rows(np.ascontiguousarray(mask), int(radius)), np.array(reach, dtype=np.int16))


@njit(cache=True, nogil=True)
def _distance_along_rows(mask: Flags, farthest: int) -> NDArray[np.int16]:
    """Distance in pixels to the next pixel of a mask in the same row; one more than the farthest that counts."""
    ny, nx = mask.shape
    distance = np.empty((ny, nx), dtype=np.int16)
    for y in range(ny):
        for columns in (range(nx), range(nx - 1, -1, -1)):
            since = farthest + 1
            for x in columns:
                since = 0 if mask[y, x] else min(since + 1, farthest + 1)
                distance[y, x] = since if columns.step > 0 else min(since, distance[y, x])
    return distance


@njit(cache=True, nogil=True)
def _within_reach(distance: NDArray[np.int16], reach: NDArray[np.int16]) -> Flags:
    ny, nx = distance.shape
    found = np.zeros((ny, nx), dtype=np.bool_)
    for y in range(ny):
        for row in range(max(0, y - len(reach) + 1), min(ny, y + len(reach))):
            allowed = reach[abs(row - y)]
            for x in range(nx):
                found[y, x] |= distance[row, x] <= allowed
    return found


def write_mask(mask: Flags, header: fits.Header, path: Path) -> Path:
    """Write a mask as an image that can be looked at: 1 where there are sources, 0 elsewhere."""
    hdu = fits.ImageHDU(mask.astype(np.uint8), header=header, name="SOURCES")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    return path


def _detected(data: Floats, usable: Flags, tier: Tier, weight: Floats, *, measure_zero: bool) -> Flags:
    # Importing it takes a second, which those who only enlarge masks need not spend.
    from photutils.segmentation import detect_sources
    from photutils.utils.exceptions import NoDetectionsWarning

    smoothed = data
    if tier.smoothing > 0:
        smoothed = ndimage.gaussian_filter(data, tier.smoothing, truncate=3.0)
        smoothed /= weight
    centre, sigma = gaussian_mode(_sample(smoothed[usable]))
    zero = centre if measure_zero else 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)
        found = detect_sources(smoothed, zero + tier.threshold * sigma, tier.minimum_pixels, mask=~usable)
    if found is None:
        return np.zeros(usable.shape, dtype=bool)
    return grown(found.data > 0, tier.grow)


def _sample(values: Floats) -> Floats:
    return values[:: max(1, values.size // SAMPLE)].astype(float)


def _means_of_boxes(image: Floats, mask: Flags, box: int) -> Floats:
    """Clipped means of the boxes of an image, shape ``(rows, columns)`` of boxes."""
    (ny, nx), (rows, columns) = image.shape, (-(-size // box) for size in image.shape)
    padded = np.full((rows * box, columns * box), np.nan, dtype=np.float32)
    padded[:ny, :nx] = np.where(mask, np.nan, image)
    return _clipped_means(padded.reshape(rows, box, columns, box).swapaxes(1, 2).reshape(rows, columns, box * box))


def _clipped_means(pixels: Floats) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(3):
            mean, spread = np.nanmean(pixels, axis=-1), np.nanstd(pixels, axis=-1)
            pixels = np.where(np.abs(pixels - mean[..., None]) < 3 * spread[..., None], pixels, np.nan)
        mean = np.nanmean(pixels, axis=-1)
    mean[np.isfinite(pixels).sum(axis=-1) < 0.1 * pixels.shape[-1]] = np.nan
    return mean


def _filled(means: Floats) -> Floats:
    missing = ~np.isfinite(means)
    if missing.all():
        return np.zeros_like(means)
    nearest = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
    return means[tuple(nearest)]
