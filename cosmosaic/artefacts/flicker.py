"""1/f noise of the readout electronics: stripes along rows and columns, subtracted from a count-rate image.

A fast substitute for jwst's ``clean_flicker_noise``, after the row corrections of public NIRCam reductions (Schlawin
et al. 2020, AJ 160, 231; Bagley et al. 2023, ApJL 946, L12). In addition, each stripe is subtracted only as far as it
exceeds its own noise (Wiener), so a row that a galaxy fills is not changed; and slow drifts, which look like extended
light within a part of a row, are distinguished from it by the median of the whole row: few sources fill half of
one.
"""

import numpy as np
from numpy.typing import NDArray

from cosmosaic.source_light import COMPACT_TIERS, coverage_of, smooth_background, source_mask
from cosmosaic.statistics import scatter_about_zero

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

BACKGROUND_BOX = 64
"""Light that varies more slowly than this many pixels is background; only the part common to whole rows is noise."""
SAMPLING = 8
"""The smooth background is sampled at this interval of columns."""
LARGEST_WITHIN_ROWS = 0.3
"""In units of a pixel's noise: crowded fields with wisps have less than 0.1, nebulae more than 1."""
STEEPEST = 2.0
"""Rms of the slope of a drift in units of that of its waves, by chance; a steeper slope is ascribed to the sky."""
CLIP_SIGMA = 3.0
FEWEST_PIXELS = 32


def flicker_pattern(image: Floats, usable: Flags, outputs: int) -> Floats:
    """Estimate the stripes of an image.

    Parameters
    ----------
    image
        Count rates or surface brightness, shape ``(ny, nx)``, rows along the fast readout direction (as in every
        NIRCam image).
    usable
        Pixels with good data, same shape.
    outputs
        Amplifiers that share the columns evenly: 4 for a full frame, 1 for the subarrays.

    Returns
    -------
    ndarray
        The stripes, same shape and unit, with zero mean: the sky level does not change. None if light fills the
        image, which cannot be distinguished from stripes in a single exposure.
    """
    data = np.where(usable, image, np.nan)
    coverage = coverage_of(usable, COMPACT_TIERS)
    background = smooth_background(data, source_mask(data, COMPACT_TIERS, coverage=coverage), BACKGROUND_BOX)
    masked = source_mask(data - background, COMPACT_TIERS, coverage=coverage) | ~usable
    background = smooth_background(data, masked, BACKGROUND_BOX)
    residual = np.where(masked, np.nan, data - background)
    noise = scatter_about_zero(residual)
    if _is_full_of_light(np.where(masked, np.nan, background), noise):
        return np.zeros_like(image)
    residual[np.abs(residual) > CLIP_SIGMA * noise] = np.nan

    pattern = np.broadcast_to(_stripes(residual, noise, axis=1)[:, None], residual.shape).copy()
    width = residual.shape[1] // outputs
    if outputs > 1:
        for start in range(0, residual.shape[1], width):
            amplifier = slice(start, start + width)
            pattern[:, amplifier] += _stripes(residual[:, amplifier] - pattern[:, amplifier], noise, axis=1)[:, None]
    pattern += _stripes(residual - pattern, noise, axis=0)[None, :]
    pattern += _drift(np.where(masked, np.nan, background))[:, None]
    return (pattern - pattern[usable].mean()).astype(image.dtype)


def _is_full_of_light(background: Floats, noise: float) -> bool:
    """Return whether the background varies within rows, unlike stripes, by more than a fraction of the noise."""
    sampled = background[::SAMPLING, ::SAMPLING]
    known = sampled[np.isfinite(sampled).any(axis=1)]
    within = known - np.nanmedian(known, axis=1, keepdims=True)
    return bool(within.size and scatter_about_zero(within) > LARGEST_WITHIN_ROWS * noise)


def _drift(background: Floats) -> Floats:
    """The background that whole rows share, NaN where there are sources, without the slope of the sky.

    The slope of 1/f noise is hardly larger than its other slow waves: every octave of frequency has the same power.
    """
    sampled = background[:, ::SAMPLING]
    enough = np.isfinite(sampled).sum(axis=1) >= FEWEST_PIXELS // SAMPLING
    if np.count_nonzero(enough) < 2:
        return np.zeros(len(background))
    row = np.arange(len(background))
    drift = np.interp(row, row[enough], np.nanmedian(sampled[enough], axis=1))
    slope = np.polyval(np.polyfit(row, drift, 1), row)
    waves = drift - slope
    return waves if np.std(slope) > STEEPEST * np.std(waves) else drift - drift.mean()


def _stripes(residual: Floats, noise: float, axis: int) -> Floats:
    """Mean along an axis, each scaled by its expected share of signal."""
    number = np.isfinite(residual).sum(axis=axis)
    mean = np.nansum(residual, axis=axis) / np.maximum(number, 1)
    enough = number >= FEWEST_PIXELS
    if not enough.any():
        return np.zeros_like(mean)
    own_noise = noise**2 / np.maximum(number, 1)
    signal = max(float(np.mean(mean[enough] ** 2 - own_noise[enough])), 0.0)
    return np.where(enough, mean * signal / (signal + own_noise), 0.0)
