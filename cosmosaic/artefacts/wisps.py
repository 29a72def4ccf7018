"""Wisps: scattered light at a fixed place of a detector, of different strength in each exposure.

NIRCam's detectors A3, A4, B3 and B4 have them, most in F150W and F200W (Robotham et al. 2023, PASP 135, 085003).
A template per detector and filter is given, or built from the survey's own exposures, fitted and subtracted.
"""

from collections.abc import Iterable, Sequence
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
FEWEST_PIXELS = BLOCK**2 // 3
"""Of a block that counts."""
SMOOTHING_BLOCKS = 3.0
FEWEST_EXPOSURES = 3
LEAST_DITHER_BLOCKS = 3.0
"""Exposures nearer to each other do not tell what moves with the sky."""
NEIGHBOURHOOD_BLOCKS = 8.0
"""Sigma of the Gaussian in which exposures are compared: two arcseconds."""
FEWEST_TOLD = 0.3
"""Pairs of exposures that tell, at the least, part of the neighbourhood being masked."""
LEAST_EXCESS = 1.15
"""Mean square difference in the frame of the detector over that in the frame of the sky, above which light moves with
the sky: noise is the same in both."""
SIGNIFICANT_SIGMA = 3.0


class WispFit(NamedTuple):
    """Strength of a template in an exposure."""

    amplitude: float
    error: float

    @property
    def is_significant(self) -> bool:
        """Whether the wisp is to be subtracted."""
        return self.amplitude > SIGNIFICANT_SIGMA * self.error


def block_medians(image: Floats, usable: Flags) -> Floats:
    """Median of an exposure's pixels in blocks, shape ``(ny // 8, nx // 8)``; NaN where few are usable.

    Sources are not masked: a bright wisp would be as well.
    """
    rows, columns = (size // BLOCK for size in image.shape)
    data = np.where(usable, image, np.nan)[: rows * BLOCK, : columns * BLOCK]
    pixels = data.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(rows, columns, BLOCK**2)
    return _nanmedian(np.moveaxis(pixels, -1, 0), FEWEST_PIXELS)


def block_means(image: Floats, usable: Flags, wisp: Floats) -> Floats:
    """Mean of an exposure's source-free pixels in blocks, shape ``(ny // 8, nx // 8)``; NaN where there are few.

    Parameters
    ----------
    image
        Shape ``(ny, nx)``.
    usable
        Pixels with good data, same shape.
    wisp
        The wisp, shape of the blocks. Sources are found without it, above a smooth background: a bright wisp would be
        masked.
    """
    data = np.where(usable, image - wisp_image(wisp, image.shape), np.nan)
    background = smooth_background(data, source_mask(data, COMPACT_TIERS[:1]), 64)
    masked = source_mask(data - background, COMPACT_TIERS) | ~usable
    noise = scatter_about_zero(np.where(masked, np.nan, data - background))
    masked |= ~(np.abs(data - background) < 5 * noise)
    number = block_reduce(~masked, BLOCK)
    total = block_reduce(np.where(masked, 0.0, image), BLOCK)
    return np.where(number >= FEWEST_PIXELS, total / np.maximum(number, 1), np.nan)


def build_template(blocks: Sequence[Floats], moving: Flags | None = None) -> Floats:
    """Build a detector's template from its exposures in one filter.

    Parameters
    ----------
    blocks
        `block_medians` or `block_means` of each exposure; at least three, dithered by more than the sources' sizes.
    moving
        Blocks that `moves_with_sky` found, if it was asked.

    Returns
    -------
    ndarray
        Surface brightness of the mean wisp, 0 outside of it, negative where the correction of stripes took light of the
        wisp from whole rows; shape of the blocks.

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
    around = ndimage.binary_dilation(wisp, iterations=int(3 * SMOOTHING_BLOCKS))
    wisp = _without(moving, np.where(around & (template > 0), template, 0.0)) > 0
    rest = np.where(wisp.any(axis=1), _rest_of_rows(template, wisp), 0.0)
    return np.where(wisp, template, np.where(around & (template > 0), 0.0, rest[:, None]))


def _without(moving: Flags | None, wisp: Floats) -> Floats:
    """Leave out what moves with the sky, and connected light of which it is the greater part."""
    if moving is None:
        return wisp
    labels, number = ndimage.label(wisp > 0)
    whole, part = (ndimage.sum_labels(light, labels, np.arange(number + 1)) for light in (wisp, wisp * moving))
    return np.where(moving | (part > whole / 2)[labels], 0.0, wisp)


def _rest_of_rows(template: Floats, wisp: Flags) -> Floats:
    """Median of each row outside of the wisp, where that is negative; 0 where the wisp fills most of a row."""
    outside = np.where(wisp, np.nan, template).T
    median, free = _nanmedian(outside, len(outside) // 4), ~wisp.any(axis=1)
    if not free.any():
        return np.zeros(len(median))
    row = np.arange(len(median))
    # The sky's own gradient stays: what is missing is missing against the rows above and below the wisp.
    level = np.interp(row, row[free], ndimage.median_filter(median[free], 9, mode="nearest"))
    return np.minimum(np.nan_to_num(median - level), 0.0)


def fit_template(block: Floats, template: Floats) -> WispFit:
    """Fit a template and a constant to an exposure's blocks, outliers clipped.

    Parameters
    ----------
    block
        `block_means` of the exposure.
    template
        Same shape, in any unit; NaN where it is unknown.
    """
    used = np.isfinite(block) & np.isfinite(template)
    if not (template[used] > 0).any():
        return WispFit(0.0, np.inf)
    template = template - np.median(template[used])
    brightest = used & (template > 0.5 * template[used].max())
    if not brightest.any():
        return WispFit(0.0, np.inf)
    level, sigma = gaussian_mode(block[used])
    amplitude, error = float(np.median((block[brightest] - level) / template[brightest])), np.inf
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


class Pair(NamedTuple):
    """Two exposures of a detector that were taken one after the other."""

    first: Floats
    """`block_means`, the sky's level taken out."""
    second: Floats
    ratio: float
    """Strength of the wisp in the first over that in the second."""
    matrix: Floats
    """Shape ``(2, 2)``: the sky of a block (row, column) of the first is in the second at this times its place plus
    `shift`."""
    shift: Floats


def moves_with_sky(pairs: Iterable[Pair]) -> Flags:
    """Find light that is fixed on the sky, not on the detector: galaxies larger than the dithers.

    Returns
    -------
    ndarray of bool
        Blocks in which exposures differ less in the frame of the sky than in that of the detector, or whose exposures
        all point to the same place, so that nothing distinguishes the two.
    """
    told, untold, apart, excess = np.zeros((4, 1, 1))
    for first, second, ratio, matrix, shift in pairs:
        # To whole blocks: between them a mean would have less noise than the blocks themselves.
        there = ndimage.affine_transform(second, matrix, shift, order=0, cval=np.nan)
        both = np.isfinite(first) & np.isfinite(second)
        place = np.indices(first.shape)
        moved = np.hypot(*(np.tensordot(matrix, place, axes=1) + shift[:, None, None] - place))
        tells = both & np.isfinite(there) & (moved > LEAST_DITHER_BLOCKS)
        # With the noise of two exposures of equal strength.
        unlike = (first - ratio * second) * np.sqrt(2 / (1 + ratio**2))
        tell, near, far, on_detector, on_sky = (
            ndimage.gaussian_filter(np.where(counted, value, 0.0).astype(float), NEIGHBOURHOOD_BLOCKS)
            for counted, value in (
                (tells, 1.0),
                (both & (moved <= LEAST_DITHER_BLOCKS), 1.0),
                (both & ~np.isfinite(there) & (moved > LEAST_DITHER_BLOCKS), 1.0),
                (tells, unlike**2),
                (tells, (first - there) ** 2),
            )
        )
        # The logarithm, so that no bright galaxy of one field outweighs all other pairs.
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = excess + np.nan_to_num(tell * np.log(on_detector / on_sky), posinf=0.0, neginf=0.0)
        told, untold, apart = told + tell, untold + near, apart + far
    of_one_place = (untold > FEWEST_TOLD) & (apart < FEWEST_EXPOSURES - 1 - FEWEST_TOLD)
    return np.where(told > FEWEST_TOLD, excess > told * np.log(LEAST_EXCESS), of_one_place)


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


def _nanmedian(values: Floats, fewest: int = 2) -> Floats:
    """Median along the first axis, NaN where fewer values are known."""
    number = np.isfinite(values).sum(axis=0)
    ordered = np.sort(values, axis=0)
    low, high = (np.maximum(number - 1, 0) // 2, number // 2)
    pick = lambda index: np.take_along_axis(ordered, np.minimum(index, len(values) - 1)[None], axis=0)[0]  # noqa: E731
    return np.where(number >= fewest, 0.5 * (pick(low) + pick(high)), np.nan)
