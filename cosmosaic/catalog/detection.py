"""Detection and deblending of the sources of a mosaic."""

import warnings
from dataclasses import dataclass

import numpy as np
from astropy.stats import SigmaClip, gaussian_fwhm_to_sigma
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import NDArray
from photutils.background import Background2D, MedianBackground
from photutils.segmentation import SegmentationImage, deblend_sources, detect_sources
from photutils.utils.exceptions import NoDetectionsWarning
from scipy import ndimage

from cosmosaic.catalog.image import MosaicImage
from cosmosaic.survey import CatalogSettings

LARGEST_HOLE_ARCSEC2 = 1.0
"""Gaps in the coverage up to this area, with data all around, are saturated cores and bad pixels, not sky."""
MASK_SIGMA = 4.0
"""Significance in the smoothed image above which pixels are excluded from the background; at 3 the mask removes so many
positive noise peaks that the sky of pure noise is 0.005 sigma too low, at 4 the bias is below 0.001."""
MASK_GROWTH_ARCSEC = 0.15
"""Width by which the source mask extends beyond the significant pixels."""
WIDE_SMOOTHING = 4.0
"""Second smoothing scale of the source mask, in units of the first: it finds the extended wings."""


@dataclass(frozen=True)
class Detection:
    """Segments of a mosaic and the images that they were found in, shape ``(ny, nx)`` each."""

    background: NDArray[np.float32]
    """Background left in the mosaic, in MJy/sr."""
    smoothed: NDArray[np.float32]
    """Background-subtracted image after smoothing, in MJy/sr."""
    source_mask: NDArray[np.bool_]
    """Pixels that source light reaches; generous, for measurements of the sky."""
    holes: NDArray[np.bool_]
    """Pixels without data inside the covered area."""
    segments: SegmentationImage | None
    """None if nothing was found."""


def detect(image: MosaicImage, settings: CatalogSettings) -> Detection:
    """Find and separate the sources of a mosaic.

    The image is smoothed with a Gaussian, but the threshold is ``threshold_sigma`` times the *unsmoothed* error map,
    the convention of SExtractor. In a drizzled mosaic ERR is not the scatter of the pixels, which share input pixels
    and so scatter less, but the square root of the noise power on scales of several pixels. Smoothing keeps that power:
    the noise of the smoothed image is ``ERR / (2 sqrt(pi) s)`` for a Gaussian of s pixels, whatever pixfrac and scales
    the drizzle had, so the threshold in units of ERR is as deep in one mosaic as in another.

    Holes up to `LARGEST_HOLE_ARCSEC2` are bridged: a saturated star is one source, not a ring of fragments.

    Parameters
    ----------
    image
        The mosaic.
    settings
        Thresholds and scales.
    """
    holes = small_holes(image.valid, LARGEST_HOLE_ARCSEC2 / image.pixel_scale_arcsec**2)
    sigma = image.pixels(settings.smoothing_fwhm_arcsec) * gaussian_fwhm_to_sigma
    box = max(int(image.pixels(settings.background_box_arcsec)), 1)

    background = measure_background(image.sci, ~image.valid, np.zeros_like(image.valid), box)
    mask = source_mask(image, background, sigma)
    background = measure_background(image.sci, ~image.valid, mask, box)

    smoothed = fill_holes(smooth(image.sci - background, image.valid, sigma), holes)
    threshold = settings.threshold_sigma * fill_holes(np.where(image.valid, image.err, 0.0), holes)
    segments = find_segments(smoothed, threshold, ~(image.valid | holes), settings)
    return Detection(background, smoothed, mask, holes, segments)


def measure_background(
    sci: NDArray[np.float32], no_data: NDArray[np.bool_], mask: NDArray[np.bool_], box: int
) -> NDArray[np.float32]:
    """Measure the background as the clipped median of unmasked pixels in boxes, interpolated.

    Parameters
    ----------
    sci
        Surface brightness in MJy/sr, shape ``(ny, nx)``.
    no_data
        True where there is no coverage.
    mask
        True on sources.
    box
        Side of the boxes in pixels; boxes that are masked by nine tenths are interpolated from their neighbours.

    Returns
    -------
    background
        In MJy/sr; 0 where there is no coverage. Constant if the sources leave too few pixels for boxes.
    """
    size = tuple(min(box, length) for length in sci.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=AstropyUserWarning)
        try:
            boxes = Background2D(
                sci,
                size,
                mask=mask,
                coverage_mask=no_data,
                exclude_percentile=90.0,
                filter_size=3,
                sigma_clip=SigmaClip(3.0),
                bkg_estimator=MedianBackground(),
            )
        except ValueError:  # every box is masked beyond the limit
            clear = ~(no_data | mask)
            level = np.median(sci[clear if clear.any() else ~no_data])
            return np.where(no_data, 0.0, level).astype(np.float32)
        return boxes.background.astype(np.float32)


def source_mask(image: MosaicImage, background: NDArray[np.float32], sigma: float) -> NDArray[np.bool_]:
    """Mask the pixels that source light reaches, found on a narrow and on a wide scale.

    Parameters
    ----------
    image
        The mosaic.
    background
        A first background in MJy/sr, shape ``(ny, nx)``.
    sigma
        Standard deviation of the narrow Gaussian in pixels.
    """
    residual = image.sci - background
    mask = np.zeros_like(image.valid)
    for width in (sigma, WIDE_SMOOTHING * sigma):
        noise = image.err / (2.0 * np.sqrt(np.pi) * max(width, 0.5))
        with np.errstate(invalid="ignore"):
            mask |= image.valid & (smooth(residual, image.valid, width) > MASK_SIGMA * noise)
    growth = int(np.ceil(image.pixels(MASK_GROWTH_ARCSEC)))
    return ndimage.maximum_filter(mask, size=2 * growth + 1)


def smooth(data: NDArray[np.float32], valid: NDArray[np.bool_], sigma: float) -> NDArray[np.float32]:
    """Smooth with a Gaussian, weighting only pixels with data; 0 where none is near.

    Parameters
    ----------
    data
        Image, shape ``(ny, nx)``.
    valid
        True where there are data.
    sigma
        Standard deviation of the Gaussian in pixels.
    """
    total = ndimage.gaussian_filter(np.where(valid, data, np.float32(0)), sigma, mode="constant", truncate=3.0)
    weight = ndimage.gaussian_filter(valid.astype(np.float32), sigma, mode="constant", truncate=3.0)
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 1e-3)


def small_holes(valid: NDArray[np.bool_], largest: float) -> NDArray[np.bool_]:
    """Find pixels without data in gaps that are small and have data all around.

    Parameters
    ----------
    valid
        True where there are data, shape ``(ny, nx)``.
    largest
        Largest area of a gap in pixels.
    """
    gaps, _ = ndimage.label(~valid, structure=np.ones((3, 3)))
    areas = np.bincount(gaps.ravel())
    small = areas <= largest
    small[0] = False
    for edge in (gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]):
        small[edge] = False
    return small[gaps]


def fill_holes(image: NDArray[np.float32], holes: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fill each hole with the brightest value at its rim, so that a hollow star has its peak inside.

    Parameters
    ----------
    image
        Image, shape ``(ny, nx)``.
    holes
        True in the holes.
    """
    if not holes.any():
        return image
    square = np.ones((3, 3))
    labels, count = ndimage.label(holes, structure=square)
    rim = ndimage.grey_dilation(labels, footprint=square)
    rim[holes] = 0
    brightest = ndimage.maximum(image, rim, index=np.arange(count + 1))
    filled = image.copy()
    filled[holes] = np.asarray(brightest, dtype=image.dtype)[labels[holes]]
    return filled


def find_segments(
    smoothed: NDArray[np.float32],
    threshold: NDArray[np.float32],
    mask: NDArray[np.bool_],
    settings: CatalogSettings,
) -> SegmentationImage | None:
    """Find connected pixels above the threshold and separate those with several peaks.

    Parameters
    ----------
    smoothed
        Smoothed image without background, shape ``(ny, nx)``.
    threshold
        Threshold per pixel in the same unit.
    mask
        True where nothing may be found.
    settings
        Least area and deblending contrast.

    Returns
    -------
    segments
        Labels 1 to the number of sources; None where nothing was found.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)
        warnings.filterwarnings("ignore", message="The deblending mode", category=AstropyUserWarning)
        parents = detect_sources(smoothed, threshold, settings.minimum_pixels, mask=mask)
        if parents is None:
            return None
        return deblend_sources(
            smoothed, parents, settings.minimum_pixels, contrast=settings.deblend_contrast, progress_bar=False
        )
