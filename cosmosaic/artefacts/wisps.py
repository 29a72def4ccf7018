"""Wisps: scattered light at a fixed place of a detector, of different strength in each exposure.

NIRCam's detectors A3, A4, B3 and B4 have them, most in F150W and F200W (Robotham et al. 2023, PASP 135, 085003).
A template per detector and filter is given, or built from the survey's own exposures, fitted and subtracted.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.nddata import block_reduce
from numpy.typing import NDArray
from scipy import ndimage

from cosmosaic.source_light import COMPACT_TIERS, smooth_background, source_mask
from cosmosaic.statistics import gaussian_mode, scatter_about_zero

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

BLOCK = 8
"""Templates are built and fitted on means of blocks this many pixels wide."""
SMOOTHING_BLOCKS = 3.0
FEWEST_EXPOSURES = 3
SIGNIFICANT_SIGMA = 3.0


class WispFit(NamedTuple):
    """Strength of a template in an exposure."""

    amplitude: float
    error: float

    @property
    def is_significant(self) -> bool:
        """Whether the wisp is to be subtracted."""
        return self.amplitude > SIGNIFICANT_SIGMA * self.error


def block_means(image: Floats, usable: Flags) -> Floats:
    """Mean of an exposure's source-free pixels in blocks, shape ``(ny // 8, nx // 8)``; NaN where there are few.

    Compact sources are found above a smooth background, so that wisps are not masked as sources.
    """
    data = np.where(usable, image, np.nan)
    background = smooth_background(data, source_mask(data, COMPACT_TIERS[:1]), 64)
    masked = source_mask(data - background, COMPACT_TIERS) | ~usable
    noise = scatter_about_zero(np.where(masked, np.nan, data - background))
    masked |= ~(np.abs(data - background) < 5 * noise)
    number = block_reduce(~masked, BLOCK)
    total = block_reduce(np.where(masked, 0.0, image), BLOCK)
    return np.where(number >= BLOCK**2 // 3, total / np.maximum(number, 1), np.nan)


def build_template(blocks: Sequence[Floats]) -> Floats:
    """Build a detector's template from its exposures in one filter.

    Parameters
    ----------
    blocks
        `block_means` of each exposure; at least three, dithered by more than the sources' sizes.

    Returns
    -------
    ndarray
        Surface brightness of the mean wisp, 0 outside of it; shape of the blocks.

    Raises
    ------
    ValueError
        Too few exposures.
    """
    if len(blocks) < FEWEST_EXPOSURES:
        raise ValueError(
            f"{len(blocks)} exposures of a detector are too few to separate wisps from sources: {FEWEST_EXPOSURES} are"
            " needed; give a template file"
        )
    levelled = np.stack([block - gaussian_mode(block[np.isfinite(block)])[0] for block in blocks])
    median = _nanmedian(levelled)
    known = np.isfinite(median)
    weight = ndimage.gaussian_filter(known.astype(float), SMOOTHING_BLOCKS)
    smooth = ndimage.gaussian_filter(np.where(known, median, 0.0), SMOOTHING_BLOCKS) / np.maximum(weight, 0.05)
    centre, sigma = gaussian_mode(smooth.ravel())
    template = smooth - centre
    # Only its significant part is a wisp: elsewhere the template contains noise and the faint light of many sources.
    wisp = ndimage.binary_opening(template > SIGNIFICANT_SIGMA * sigma, iterations=2)
    wisp = ndimage.binary_dilation(wisp, iterations=int(3 * SMOOTHING_BLOCKS)) & (template > 0)
    return np.where(wisp, template, 0.0)


def fit_template(block: Floats, template: Floats) -> WispFit:
    """Fit a template and a constant to an exposure's blocks, outliers clipped.

    Parameters
    ----------
    block
        `block_means` of the exposure.
    template
        Same shape.
    """
    used = np.isfinite(block)
    if not (template[used] > 0).any():
        return WispFit(0.0, np.inf)
    level, sigma = gaussian_mode(block[used])
    amplitude, error = 1.0, np.inf
    for _ in range(5):
        residual = block - level - amplitude * template
        near = used & (np.abs(residual) < 3 * sigma)
        x = template[near] - template[near].mean()
        if not np.sum(x**2) > 0:
            return WispFit(0.0, np.inf)
        amplitude = float(np.sum(x * block[near]) / np.sum(x**2))
        error = float(sigma / np.sqrt(np.sum(x**2)))
        level = float(np.mean(block[near] - amplitude * template[near]))
    return WispFit(amplitude, error)


def wisp_image(wisp: Floats, shape: tuple[int, int]) -> Floats:
    """Spread a wisp from blocks over an exposure's pixels."""
    y, x = ((np.arange(size) + 0.5) / BLOCK - 0.5 for size in shape)
    return ndimage.map_coordinates(wisp, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest").astype(np.float32)


def write_wisp(wisp: Floats, path: Path) -> Path:
    """Write the wisp of one exposure: surface brightness of blocks, MJy/sr."""
    np.savez_compressed(path, wisp=wisp.astype(np.float32))
    return path


def read_wisp(path: Path) -> Floats:
    """Read a file of `write_wisp`."""
    with np.load(path) as stored:
        return stored["wisp"]


def _nanmedian(values: Floats) -> Floats:
    """Median along the first axis, NaN where fewer than two values are known."""
    number = np.isfinite(values).sum(axis=0)
    ordered = np.sort(values, axis=0)
    low, high = (np.maximum(number - 1, 0) // 2, number // 2)
    pick = lambda index: np.take_along_axis(ordered, np.minimum(index, len(values) - 1)[None], axis=0)[0]  # noqa: E731
    return np.where(number >= 2, 0.5 * (pick(low) + pick(high)), np.nan)
