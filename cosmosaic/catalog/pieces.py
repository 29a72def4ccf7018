"""Segments that belong together: noise, the wings of stars, and the arms of galaxies make pieces of one source."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from cosmosaic.catalog.apertures import find_peaks
from cosmosaic.catalog.psf import Psf

WING_FACTOR = 1.5
"""Pieces within the PSF of a brighter source, fainter than this many times its wings there, are taken for its wings."""
WING_PLACE_ARCSEC = 0.1
"""Wings are the brightest of the PSF within this of a piece's place ..."""
WING_SHARE = 0.25
"""... and at least this fraction of the brightest at its distance: PSFs are not known to be right in their wings."""
WING_SIGMA = 100.0
"""Peak above which a source's wings are searched for pieces."""
COLD_RIM_ARCSEC = 0.15
"""Peaks this close to a source of the cold pass belong to it."""
PROMINENT_SIGMA = 5.0
"""Pieces this far above the light around them are sources of their own."""
PROMINENCE_ARCSEC = 0.3
"""Radius of the ring on which the light around a piece is taken."""
STANDING_OUT = 1.0
"""Peaks within a source of the cold pass that are this many times the light around them above it are sources of their
own: stars in front of a galaxy, and not its arms."""
NOISE_SIGMA = 3.0
"""Peaks between which the light falls by less than this are one source's."""


class Separated(NamedTuple):
    """Separated sources, with labels from 1 to their number."""

    data: NDArray[np.int32]
    separated: NDArray[np.int32]
    """Labels of those that were separated from a neighbour."""


class Significant(NamedTuple):
    """The image in which sources are detected, in units of its noise on empty sky; shape ``(ny, nx)``."""

    image: NDArray[np.float32]
    variance: NDArray[np.float32]
    """With the Poisson noise of sources."""
    scale_arcsec: float
    """Of a pixel."""


class _Peaks(NamedTuple):
    """The brightest pixel of each segment."""

    labels: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    value: NDArray[np.float64]
    noise: NDArray[np.float64]
    around: NDArray[np.float64]
    """Median on a ring."""


def _peaks_of(segments: NDArray[np.int32], significant: Significant) -> _Peaks:
    is_used = np.bincount(segments.ravel()) > 0
    is_used[0] = False
    labels = np.flatnonzero(is_used)
    image, variance, scale_arcsec = significant
    found = find_peaks(image, segments, labels)
    angles = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)
    radius = PROMINENCE_ARCSEC / scale_arcsec
    rows, columns = (
        np.clip(np.rint(place[:, None] + radius * circle).astype(int), 0, length - 1)
        for place, circle, length in zip(
            (found.row, found.column), (np.sin(angles), np.cos(angles)), segments.shape, strict=True
        )
    )
    around, noise = np.median(image[rows, columns], axis=1), np.sqrt(variance[found.row, found.column])
    return _Peaks(labels, found.row, found.column, found.value, noise, around)


def both_passes(cold: Separated | None, hot: Separated, significant: Significant) -> tuple[NDArray[np.int32], set[int]]:
    """Put segments of the hot pass beside, or into, those of the cold pass.

    Those are added whose peak is not within `COLD_RIM_ARCSEC` of a cold segment, or stands out in one: it is not the
    brightest there, and rises above the light around it by `PROMINENT_SIGMA` and by `STANDING_OUT` of that light.

    Returns
    -------
    segments
        Labels, shape ``(ny, nx)``.
    separated
        Labels of those that were separated from a neighbour.
    """
    if cold is None:
        return hot.data, set(hot.separated.tolist())
    peaks = _peaks_of(hot.data, significant)
    within = cold.data[peaks.row, peaks.column]
    rim = 2 * int(COLD_RIM_ARCSEC / significant.scale_arcsec) + 1
    outside = ndimage.maximum_filter(cold.data, rim)[peaks.row, peaks.column] == 0
    first = int(cold.data.max())
    brightest = np.zeros(first + 1)
    np.maximum.at(brightest, within, peaks.value)
    rise = peaks.value - peaks.around
    stands_out = (rise > PROMINENT_SIGMA * peaks.noise) & (rise > STANDING_OUT * peaks.around)
    inside = stands_out & (within > 0) & (peaks.value < brightest[within])
    added, upper = np.zeros((2, int(hot.data.max()) + 1), np.int32)
    added[peaks.labels[outside]] = peaks.labels[outside] + first
    upper[peaks.labels[inside]] = peaks.labels[inside] + first
    merged = np.where(cold.data > 0, cold.data, added[hot.data])
    on_top = upper[hot.data]
    np.copyto(merged, on_top, where=on_top > 0)
    separated = peaks.labels[(outside & np.isin(peaks.labels, hot.separated)) | inside]
    hosts = np.unique(within[inside])
    return merged, set(cold.separated.tolist()) | set(hosts.tolist()) | {int(label) + first for label in separated}


def without_noise(segments: NDArray[np.int32], significant: Significant) -> NDArray[np.int32]:
    """Join touching segments between whose peaks the light hardly falls: noise makes several peaks of a faint disc.

    What a peak rises above the highest saddle to a brighter neighbour is its topographic prominence; below
    `NOISE_SIGMA` of its noise it belongs to that neighbour.
    """
    peaks = _peaks_of(segments, significant)
    if not len(peaks.labels):
        return segments
    number = int(peaks.labels[-1]) + 1
    height, least = np.zeros(number), np.zeros(number)
    height[peaks.labels], least[peaks.labels] = peaks.value, NOISE_SIGMA * peaks.noise
    owner = list(range(number))

    def owner_of(label: int) -> int:
        while owner[label] != label:
            owner[label] = owner[owner[label]]
            label = owner[label]
        return label

    for first, second, saddle in zip(*_saddles(segments, significant.image), strict=True):
        lower, upper = sorted((owner_of(first), owner_of(second)), key=lambda label: height[label])
        if lower != upper and height[lower] - saddle < least[lower]:
            owner[lower] = upper
    return np.array([owner_of(label) for label in range(number)], np.int32)[segments]


def _saddles(segments: NDArray[np.int32], image: NDArray[np.float32]) -> tuple[list[int], list[int], list[float]]:
    """Return pairs of touching segments, and the highest saddle between them, the highest first."""
    height, width = segments.shape
    pairs, heights = [np.zeros((0, 2), np.int32)], [np.zeros(0, np.float32)]
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = np.s_[: height - down, max(-right, 0) : width - max(right, 0)]
        there = np.s_[down:, max(right, 0) : width + min(right, 0)]
        touch = (segments[here] != segments[there]) & (segments[here] > 0) & (segments[there] > 0)
        pairs.append(np.sort(np.stack([segments[here][touch], segments[there][touch]], axis=1), axis=1))
        heights.append(np.minimum(image[here][touch], image[there][touch]))
    pair, saddle = np.concatenate(pairs), np.concatenate(heights)
    order = np.argsort(-saddle, kind="stable")
    _, first = np.unique(pair[order], axis=0, return_index=True)
    chosen = order[np.sort(first)]
    return pair[chosen, 0].tolist(), pair[chosen, 1].tolist(), saddle[chosen].tolist()


def without_pieces(
    segments: NDArray[np.int32], extended: Separated | None, significant: Significant
) -> NDArray[np.int32]:
    """Give the pieces of extended light that hardly rise above it to the source in it that is brightest there.

    That is the one with the largest peak over the squared distance.
    """
    if extended is None:
        return segments
    peaks = _peaks_of(segments, significant)
    within = extended.data[peaks.row, peaks.column]
    is_piece = (within > 0) & (peaks.value - peaks.around < PROMINENT_SIGMA * peaks.noise)
    # The brightest in each stays, though it may hardly rise.
    order = np.argsort(peaks.value)
    brightest = np.zeros(int(extended.data.max()) + 1, np.int64)
    brightest[within[order]] = order
    is_piece &= brightest[within] != np.arange(len(order))
    places = np.stack([peaks.row, peaks.column], axis=1)
    owner, whole = np.arange(len(order)), _grouped(within, ~is_piece & (within > 0))
    for patch, pieces in _grouped(within, is_piece).items():
        others = whole[patch]
        for piece in pieces:
            near = np.sum((places[others] - places[piece]) ** 2, axis=1)
            owner[piece] = others[np.argmax(peaks.value[others] / near)]
    table = np.zeros(int(peaks.labels.max(initial=0)) + 1, np.int32)
    table[peaks.labels] = peaks.labels[owner]
    return table[segments]


def _grouped(patch: NDArray[np.integer], chosen: NDArray[np.bool_]) -> dict[int, NDArray[np.int64]]:
    """Return the places in the arrays of those that are chosen, by patch."""
    order = np.flatnonzero(chosen)[np.argsort(patch[chosen], kind="stable")]
    names, first = np.unique(patch[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, first[1:]), strict=True)) if len(names) else {}


def without_wings(
    segments: NDArray[np.int32], significance: NDArray[np.float32], psfs: Iterable[Psf]
) -> NDArray[np.int32]:
    """Give the pieces that the wings of a brighter source explain to that source."""
    labels = np.unique(segments[segments > 0])
    found = find_peaks(significance, segments, labels)
    peaks, places = found.value, np.stack([found.row, found.column], axis=1)
    wings, tree = _Wings.of(psfs), KDTree(places)
    owner = labels.copy()
    for bright in np.argsort(peaks)[::-1]:
        if peaks[bright] < WING_SIGMA:
            break
        if owner[bright] != labels[bright]:
            continue
        reach = wings.reach(peaks.min() / (WING_FACTOR * peaks[bright]))
        near = np.array(tree.query_ball_point(places[bright], reach))
        level = WING_FACTOR * peaks[bright] * wings.at(*(places[near] - places[bright]).T)
        explained = near[peaks[near] < np.minimum(level, 0.5 * peaks[bright])]
        owner[explained[owner[explained] == labels[explained]]] = labels[bright]
    table = np.zeros(labels.max() + 1, np.int32)
    table[labels] = owner
    return table[segments]


@dataclass(frozen=True)
class _Wings:
    """The brightest that any PSF is, relative to its smoothed peak."""

    near: NDArray[np.float64]
    """Around each place of the PSFs' images, shape ``(n, n)``."""
    farther: NDArray[np.float64]
    """Of these, the brightest at each distance in pixels or farther."""
    least: NDArray[np.float64]
    """At each distance, whatever the place."""

    @classmethod
    def of(cls, psfs: Iterable[Psf]) -> "_Wings":
        """Put the PSFs of all filters together."""
        images, floors = [], []
        for psf in psfs:
            width = psf.fwhm_arcsec / psf.scale_arcsec * gaussian_fwhm_to_sigma
            smoothed = ndimage.gaussian_filter(psf.image, width)
            smoothed /= smoothed[tuple(length // 2 for length in smoothed.shape)]
            # The wings of a computed PSF, which stars do not replace, do not have the mosaic's orientation.
            share = WING_SHARE if psf.origin in ("file", "detector") else 1.0
            floors.append(share * _brightest_from(smoothed))
            images.append(ndimage.maximum_filter(smoothed, 2 * round(WING_PLACE_ARCSEC / psf.scale_arcsec) + 1))
        reach = min(map(len, floors))
        middles = (image.shape[0] // 2 for image in images)
        near = np.max(
            [
                image[tuple([slice(middle - reach + 1, middle + reach)] * 2)]
                for image, middle in zip(images, middles, strict=True)
            ],
            axis=0,
        )
        return cls(near, _brightest_from(near), np.max([floor[:reach] for floor in floors], axis=0))

    def at(self, row: NDArray[np.integer], column: NDArray[np.integer]) -> NDArray[np.float64]:
        """Brightness at some places relative to a star, given in pixels from it."""
        last = len(self.least) - 1
        distance = np.hypot(row, column)
        # Beyond the PSF's image spikes fall with the square of the distance, and what is between them with its third
        # power, as diffraction at an edge does.
        inward = np.minimum(last / np.maximum(distance, 1.0), 1.0)
        here = self.near[tuple(np.rint(place * inward).astype(int) + last for place in (row, column))]
        return np.maximum(here * inward**2, self.least[np.minimum(distance, last).astype(int)] * inward**3)

    def reach(self, brightness: float) -> float:
        """Distance in pixels beyond which no place is as bright."""
        last = len(self.farther) - 1
        most = float(self.farther[last])
        if most > brightness:
            return last * float(np.sqrt(most / brightness)) + 1.0
        return float(np.count_nonzero(self.farther > brightness)) + 1.0


def _brightest_from(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the brightest pixel at each distance from the middle in pixels, or farther."""
    middle = image.shape[0] // 2
    ring = np.hypot(*np.indices(image.shape) - middle).astype(int)
    brightest = ndimage.maximum(image, ring, np.arange(middle + 1))
    return np.maximum.accumulate(brightest[::-1])[::-1]
