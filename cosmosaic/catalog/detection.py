"""Detection and deblending of the sources of a mosaic."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS
from numpy.typing import NDArray
from photutils.background import Background2D, MedianBackground
from photutils.segmentation import SegmentationImage
from scipy import ndimage

from cosmosaic.catalog.deblending import deblend
from cosmosaic.catalog.image import MosaicImage, pixel_scale_arcsec
from cosmosaic.catalog.medians import clipped_medians, scatter
from cosmosaic.catalog.pieces import Separated, Significant, both_passes, without_noise, without_pieces, without_wings
from cosmosaic.catalog.psf import Psf
from cosmosaic.catalog.smoothing import gaussian
from cosmosaic.survey import CatalogSettings

LARGEST_HOLE_ARCSEC2 = 1.0
"""Gaps in the coverage up to this area, with data all around, are saturated cores and bad pixels, not sky."""
MOST_MASKED = 0.9
"""Boxes with this fraction of masked pixels or more get their background from their neighbours."""
MASK_SIGMA = 4.0
"""Significance in the smoothed image above which pixels are excluded from the background; at 3 the mask removes so many
positive noise peaks that the sky of pure noise is 0.005 sigma too low, at 4 the bias is below 0.001."""
MASK_FWHM_ARCSEC = 0.09
"""FWHM of the Gaussian that smooths a mosaic to find the sources that its sky is measured without."""
MASK_GROWTH_ARCSEC = 0.15
"""Width by which the source mask extends beyond the significant pixels."""
WIDE_SMOOTHING = 4.0
"""Second smoothing scale of the source mask, in units of the first: it finds the extended wings."""


COLD_LEAST_ARCSEC2 = 0.3
"""Smallest area of a source of the cold pass."""
COLD_SMOOTHING_ARCSEC = 0.3
"""FWHM of the Gaussian of the cold pass."""
COLD_SIGMA = 8.0
"""Threshold of the cold pass: bright extended sources."""
COLD_PIECE_PIXELS = 9
"""Fewest pixels of a piece of a source of the cold pass."""
FAINT_COLD_SIGMA = 2.5
"""Threshold at which extended light holds the pieces that noise makes of it together."""
COLD_CONTRAST = 0.05
"""Deblending contrast of the cold pass, at which arms and clumps of galaxies stay with them."""


@dataclass(frozen=True)
class Boxes:
    """Values of boxes of pixels, of which a smooth map is made."""

    values: NDArray[np.floating]
    size: tuple[int, int]
    """Rows and columns of a box in pixels."""

    def over(self, covered: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Interpolate to the pixels of an image, shape ``(ny, nx)``; 0 where it is not covered."""
        image = _in_pixels(self.values, self.size, covered.shape)
        image[~covered] = 0
        return image


@dataclass(frozen=True)
class Sky:
    """The sky of a mosaic: what `prepare` measures, small beside the planes."""

    background: Boxes
    """In MJy/sr."""
    factor: Boxes
    """Variance without the Poisson noise of sources, times the weight."""
    source_mask: NDArray[np.bool_]
    """Pixels that source light reaches; generous, for measurements of the sky."""


@dataclass(frozen=True)
class BandImage:
    """One filter's mosaic, prepared for detection and photometry; shape ``(ny, nx)`` each."""

    image: MosaicImage
    sky: Sky
    residual: NDArray[np.float32]
    """Surface brightness without background in MJy/sr; 0 where there are no data."""
    sky_error: NDArray[np.float32]
    """Standard error without the Poisson noise of sources in MJy/sr; 0 where there are no data."""

    @property
    def background(self) -> NDArray[np.float32]:
        """In MJy/sr."""
        return self.sky.background.over(self.image.valid)

    @property
    def source_mask(self) -> NDArray[np.bool_]:
        """Pixels that source light reaches; generous, for measurements of the sky."""
        return self.sky.source_mask


class PreparedBands(Mapping[str, BandImage]):
    """Filters that are prepared when asked for; what stays in memory is their sky.

    Parameters
    ----------
    images
        Mosaics on one grid by filter.
    box_arcsec
        Side of the boxes in which the sky is measured.
    """

    def __init__(self, images: Mapping[str, MosaicImage], box_arcsec: float) -> None:
        self._images, self._box_arcsec = images, box_arcsec
        self._skies: dict[str, Sky] = {}

    def __getitem__(self, band: str) -> BandImage:
        image = self._images[band]
        if band not in self._skies:
            self._skies[band] = measure_sky(image, self._box_arcsec)
        return without_sky(image, self._skies[band])

    def __iter__(self) -> Iterator[str]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)


@dataclass(frozen=True)
class Detection:
    """Segments of a window and the images that they were found in, shape ``(ny, nx)`` each."""

    significance: NDArray[np.float32]
    """Sum of the filters, each smoothed by its own PSF, in units of its noise."""
    stack: NDArray[np.float32]
    """The same without smoothing, in units of the sky's error."""
    variance: NDArray[np.float32]
    """Of ``stack`` with the Poisson noise of sources; 1 on the sky."""
    valid: NDArray[np.bool_]
    """True where any filter has data."""
    holes: NDArray[np.bool_]
    """Pixels without data inside the covered area."""
    segments: SegmentationImage | None
    """None if nothing was found."""
    deblended: frozenset[int]
    """Labels of the sources that were separated from a neighbour."""
    empty: NDArray[np.bool_]
    """Pixels with data that no source reaches."""
    wcs: WCS


def prepare(image: MosaicImage, box_arcsec: float) -> BandImage:
    """Measure the background of a mosaic and its noise without that of sources.

    ERR holds the Poisson noise of sources. Without it the variance is that of the weight, which is the noise of reads,
    times a factor that changes slowly over the sky: the median of ERR^2 WHT of empty pixels in boxes.

    Parameters
    ----------
    image
        The mosaic.
    box_arcsec
        Side of the boxes in which background and factor are measured.
    """
    return without_sky(image, measure_sky(image, box_arcsec))


def measure_sky(image: MosaicImage, box_arcsec: float) -> Sky:
    """Measure the sky of a mosaic in boxes of this side; `prepare` says how."""
    if not image.valid.any():
        nothing = Boxes(np.zeros((1, 1), np.float32), image.sci.shape)
        return Sky(nothing, nothing, np.zeros_like(image.valid))
    box = max(round(image.pixels(box_arcsec)), 1)
    sigma = image.pixels(MASK_FWHM_ARCSEC) * gaussian_fwhm_to_sigma
    no_data = ~image.valid
    first = measure_boxes(image.sci, no_data, np.zeros_like(no_data), box).over(image.valid)
    mask = source_mask(image, first, sigma)
    del first
    background = measure_boxes(image.sci, no_data, mask, box)
    ratio = np.where(image.valid, image.err**2 * image.wht, np.float32(0))
    return Sky(background, measure_boxes(ratio, no_data, mask, box), mask)


def without_sky(image: MosaicImage, sky: Sky) -> BandImage:
    """Subtract the background of a mosaic."""
    error = sky.factor.over(image.valid)
    np.divide(error, image.wht, out=error, where=image.valid)
    np.sqrt(np.maximum(error, 0.0, out=error), out=error)
    background = sky.background.over(image.valid)
    residual = np.subtract(image.sci, background, out=np.zeros_like(background), where=image.valid)
    return BandImage(image, sky, residual, error)


def detection_filters(names: Iterable[str], settings: CatalogSettings) -> list[str]:
    """Choose the filters to detect in: the survey's own, or those of them that the settings name.

    Raises
    ------
    ValueError
        The settings name filters that there are not.
    """
    own = [name for name in names if name not in settings.images]
    chosen = [name for name in own if not settings.filters or name in settings.filters]
    if not chosen:
        raise ValueError(
            f"catalog.filters is {', '.join(settings.filters)}, but the mosaics are in {', '.join(own)}; choose one "
            f"of these"
        )
    return chosen


def detect(bands: Mapping[str, BandImage], psfs: Mapping[str, Psf], settings: CatalogSettings) -> Detection:
    """Find and separate the sources of a window in the sum of its filters.

    Each filter is divided by its own noise and smoothed with a Gaussian as wide as its PSF, a matched filter for faint
    stars. The sum over the filters that cover a pixel is divided by the root of their number and by its own scatter
    where there are no sources: thresholds are in sigma of this image. Bright extended sources are separated first, on a
    wider scale and with less deblending (the cold pass); sources found elsewhere on the narrow scale are added (the hot
    pass; Rix et al. 2004, ApJS 152, 163). Pieces explained by the wings of a bright star are dropped.

    Holes up to `LARGEST_HOLE_ARCSEC2` are bridged: a saturated star is one source, not a ring of fragments.
    """
    added = _added(bands, detection_filters(bands, settings), psfs)
    wcs, valid, empty = added.wcs, added.valid, added.empty
    scale = pixel_scale_arcsec(wcs)
    if not valid.any():
        nothing = np.zeros(valid.shape, np.float32)
        return Detection(nothing, nothing, nothing, valid, valid, None, frozenset(), valid, wcs)
    holes = small_holes(valid, LARGEST_HOLE_ARCSEC2 / scale**2)
    significance = fill_holes(_in_sigma(added.smoothed, empty), holes)
    stack, variance = fill_holes(added.stack, holes), fill_holes(added.variance, holes)
    del added
    blocked = ~(valid | holes)
    wide = _widened(stack, empty, scale)
    cold = _cold_segments(wide, significance, COLD_SIGMA, blocked, scale)
    threshold, least, contrast = settings.threshold_sigma, settings.minimum_pixels, settings.deblend_contrast
    hot = find_segments(significance, significance, threshold, least, least, contrast, blocked)
    if hot is None:
        return Detection(significance, stack, variance, valid, holes, None, frozenset(), empty, wcs)
    significant = Significant(significance, variance, scale)
    merged, deblended = both_passes(cold, hot, significant)
    extended = _cold_segments(wide, significance, FAINT_COLD_SIGMA, blocked, scale)
    whole = without_pieces(without_noise(merged, significant), extended, significant)
    kept = without_wings(whole, significance, psfs.values())
    segments = SegmentationImage(kept)
    labels = segments.labels.copy()
    segments.relabel_consecutive()
    new = dict(zip(labels.tolist(), segments.labels.tolist(), strict=True))
    separated = frozenset(new[label] for label in deblended if label in new)
    empty &= segments.data == 0
    return Detection(significance, stack, variance, valid, holes, segments, separated, empty, wcs)


@dataclass(frozen=True)
class _Added:
    """The filters in units of their noise, added; shape ``(ny, nx)`` each."""

    smoothed: NDArray[np.float32]
    """Each filter smoothed by its own PSF."""
    stack: NDArray[np.float32]
    variance: NDArray[np.float32]
    valid: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    wcs: WCS


def _added(bands: Mapping[str, BandImage], names: Iterable[str], psfs: Mapping[str, Psf]) -> _Added:
    """Add some of the filters, one by one, so that no more than one is in memory."""
    sums: list[NDArray[np.float32]] = []
    for name in names:
        band = bands[name]
        image, shape = band.image, band.residual.shape
        if not sums:
            wcs = image.wcs
            sums = [np.zeros(shape, np.float32) for _ in range(3)]
            valid, sources, covering, known = (np.zeros(shape, kind) for kind in (bool, bool, np.int16, np.int16))
        has_error = band.sky_error > 0
        ratio = np.divide(band.residual, band.sky_error, out=np.zeros(shape, np.float32), where=has_error)
        sums[1] += ratio
        width = image.pixels(psfs[name].fwhm_arcsec) * gaussian_fwhm_to_sigma
        sums[0] += smooth(ratio, image.valid, width) * (2 * np.sqrt(np.pi) * width)
        has_error &= image.valid
        sums[2] += np.divide(image.err, band.sky_error, out=np.zeros(shape, np.float32), where=has_error) ** 2
        valid |= image.valid
        sources |= band.source_mask
        covering += image.valid
        known += has_error
        del band, image, ratio  # before the next is read
    root = np.sqrt(covering.astype(np.float32))
    for plane, number in zip(sums, (root, root, known.astype(np.float32)), strict=True):
        # Smoothing spreads light into gaps.
        plane[number == 0] = 0
        np.divide(plane, number, out=plane, where=number > 0)
    return _Added(sums[0], sums[1], sums[2], valid, valid & ~sources, wcs)


def _in_sigma(image: NDArray[np.float32], empty: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Divide an image by its scatter where there are no sources, in place."""
    if empty.any():
        image /= np.float32(scatter(image[empty]))
    return image


def _widened(stack: NDArray[np.float32], empty: NDArray[np.bool_], scale_arcsec: float) -> NDArray[np.float32]:
    """Smooth to the scale of the cold pass, in units of the noise there."""
    width = COLD_SMOOTHING_ARCSEC / scale_arcsec * gaussian_fwhm_to_sigma
    return _in_sigma(gaussian(stack, width, truncate=3.0), empty)


def _cold_segments(
    wide: NDArray[np.float32],
    significance: NDArray[np.float32],
    threshold: float,
    blocked: NDArray[np.bool_],
    scale_arcsec: float,
) -> Separated | None:
    least = int(COLD_LEAST_ARCSEC2 / scale_arcsec**2)
    return find_segments(wide, significance, threshold, least, COLD_PIECE_PIXELS, COLD_CONTRAST, blocked)


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
    return measure_boxes(sci, no_data, mask, box).over(~no_data)


def measure_boxes(sci: NDArray[np.float32], no_data: NDArray[np.bool_], mask: NDArray[np.bool_], box: int) -> Boxes:
    """Measure the boxes of `measure_background`, whose parameters are the same."""
    size = (min(box, sci.shape[0]), min(box, sci.shape[1]))
    masked = no_data | mask
    medians = clipped_medians(sci, masked, size, (1.0 - MOST_MASKED) * size[0] * size[1])
    if np.isnan(medians).all():
        clear = ~masked
        return Boxes(np.full((1, 1), np.median(sci[clear if clear.any() else ~no_data]), np.float32), sci.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=AstropyUserWarning)
        # Of boxes of one pixel: gaps are filled from their neighbours, and the median of nine taken.
        boxes = Background2D(
            medians,
            1,
            mask=np.isnan(medians),
            filter_size=3,
            sigma_clip=None,
            bkg_estimator=MedianBackground(),
        )
    return Boxes(np.asarray(boxes.background_mesh), size)


def _in_pixels(boxes: NDArray[np.floating], size: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Interpolate values of boxes of ``size`` pixels to an image, cubically and within their range.

    A spline over an image is the product of splines along its axes: two products of matrices give what
    `scipy.ndimage.zoom`, and photutils' ``background`` with it, compute pixel by pixel in ten times the time.
    """
    rows, columns = (
        np.stack([ndimage.zoom(one, pixels, order=3, mode="reflect", grid_mode=True) for one in np.eye(number)], axis=1)
        for number, pixels in zip(boxes.shape, size, strict=True)
    )
    rows, columns = rows[: shape[0]], columns[: shape[1]]
    image = rows.astype(np.float32) @ (boxes @ columns.T).astype(np.float32)
    return np.clip(image, boxes.min(), boxes.max(), out=image)


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
    total = gaussian(np.where(valid, data, np.float32(0)), sigma, truncate=3.0, mode="constant")
    weight = gaussian(valid.astype(np.float32), sigma, truncate=3.0, mode="constant")
    is_near = weight > 1e-3
    np.divide(total, weight, out=total, where=is_near)
    total[~is_near] = 0
    return total


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
    labels, _ = ndimage.label(holes, structure=square)
    filled = image.copy()
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        wide = tuple(slice(max(part.start - 2, 0), part.stop + 2) for part in box)
        rim = (ndimage.grey_dilation(labels[wide], footprint=square) == label) & ~holes[wide]
        if rim.any():
            filled[wide][labels[wide] == label] = image[wide][rim].max()
    return filled


def find_segments(
    image: NDArray[np.float32],
    sharp: NDArray[np.float32],
    threshold: float,
    least_pixels: int,
    least_piece: int,
    contrast: float,
    blocked: NDArray[np.bool_],
) -> Separated | None:
    """Find connected pixels above a threshold and separate those with several peaks.

    Parameters
    ----------
    image
        Image in units of its noise, shape ``(ny, nx)``.
    sharp
        The same or a less smoothed image, in which peaks are separated.
    threshold
        In units of the noise of ``image``.
    least_pixels
        Number of connected pixels of a source before it is separated.
    least_piece
        Number of connected pixels of a separated one.
    contrast
        Fraction of the flux above which a peak is a separate source.
    blocked
        True where nothing may be found.

    Returns
    -------
    segments
        None if nothing was found.
    """
    parents, count = ndimage.label((image > threshold) & ~blocked, structure=np.ones((3, 3)))
    is_large = np.bincount(parents.ravel(), minlength=count + 1) >= least_pixels
    is_large[0] = False
    if not is_large.any():
        return None
    numbers = np.cumsum(is_large, dtype=np.int32) * is_large
    return Separated(*deblend(sharp, numbers[parents], least_piece, contrast))
