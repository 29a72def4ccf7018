"""Outliers: light in one exposure that is absent from the others at the same place.

The algorithm is jwst's (`stcal.outlier_detection.utils`): the exposures' median on the mosaic grid, interpolated to the
pixels of each exposure, and two thresholds. Places with one or two exposures, which jwst does not treat, are defined
here.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from stcal.outlier_detection.utils import compute_weight_threshold
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.drizzle.kernel import WEIGHT
from cosmosaic.drizzle.packed import Placed, open_planes, write_planes
from cosmosaic.geometry.pixelmap import PixelMap
from cosmosaic.geometry.windows import Box

OUTLIER = np.uint32(pixel["DO_NOT_USE"] | pixel["OUTLIER"])
NOISE_OF_TWO = math.sqrt(2.0)
"""If only two exposures overlap, one is compared with the other, whose noise is not reduced by averaging."""

Floats = NDArray[np.floating[Any]]
FloatImage = NDArray[np.float32]
DepthImage = NDArray[np.uint8]


class TileReference(NamedTuple):
    """The reference for exposures in a rectangle of the lattice."""

    box: Box
    image: FloatImage
    """MJy/sr, shape ``(height, width)``; NaN where there is nothing to compare with."""
    depth: DepthImage
    """Number of exposures in it, at most 255."""

    def under(self, light: "LitBox") -> "TileReference":
        """Keep the reference for one exposure: the pixels that its light reaches, and their neighbours."""
        box = light.box.padded(1).intersection(self.box) if light.box.pixels else light.box
        if not box.pixels:
            return TileReference(box, self.image[:0, :0], self.depth[:0, :0])
        lit = np.pad(light.pixels, 1)
        near = maximum_filter(lit, size=3, mode="constant")[box.within(light.box.padded(1))] > 0
        window = box.within(self.box)
        image, depth = np.where(near, self.image[window], np.float32(np.nan)), np.where(near, self.depth[window], 0)
        return TileReference(box, image, depth.astype(np.uint8))


class LitBox:
    """Pixels of a rectangle that an exposure's light reaches, a bit for each; filled strip by strip, from below."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self._strips: list[NDArray[np.uint8]] = []

    def add(self, sums: FloatImage) -> None:
        """Add the next rows, given the sums of all their pixels, shape ``(rows, width, planes)``."""
        self._strips.append(np.packbits(sums[..., WEIGHT] != 0, axis=1))

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """1 where light falls, shape ``(height, width)``."""
        return np.unpackbits(np.concatenate(self._strips), axis=1, count=self.box.width)


def write_reference(reference: TileReference, path: Path) -> Path:
    """Write image and depth, packed."""
    return write_planes([Placed(reference.box, plane) for plane in (reference.image, reference.depth)], path)


def read_reference(path: Path) -> TileReference:
    """Read a file of `write_reference`."""
    image, depth = open_planes(path)
    return TileReference(image.box, image.read(image.box), depth.read(depth.box))


def lowest_weight(samples: Sequence[FloatImage], fraction: float) -> float:
    """Return the weight below which an exposure's pixels are excluded from the median.

    Parameters
    ----------
    samples
        Drizzled weights of all detectors of the exposure group, anywhere on the sky.
    fraction
        Fraction of the clipped mean weight (jwst's ``maskpt``).
    """
    weights = np.concatenate([np.zeros(0, np.float32), *samples])
    return float(compute_weight_threshold(weights, fraction)) if weights.size else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def reference_image(cube: Floats) -> tuple[FloatImage, DepthImage]:
    """Return the reference for exposures, and the number of exposures in it.

    Three or more: the median (numpy's ``nanmedian``). Two: the smaller value, because cosmic rays only add light; the
    median would be the mean, which hides a cosmic ray or spreads it over both. One or none: NaN, no comparison.

    Parameters
    ----------
    cube
        One image per exposure, NaN where it has no good weight, shape ``(exposures, ny, nx)``.
    """
    exposures, rows, columns = cube.shape
    reference = np.full((rows, columns), np.nan, dtype=np.float32)
    depth = np.zeros((rows, columns), dtype=np.uint8)
    values = np.empty(exposures, dtype=np.float32)
    for j in range(rows):
        for i in range(columns):
            n = 0
            for k in range(exposures):
                value = cube[k, j, i]
                if math.isnan(value):
                    continue
                place = n
                while place > 0 and values[place - 1] > value:
                    values[place] = values[place - 1]
                    place -= 1
                values[place] = value
                n += 1
            depth[j, i] = min(n, 255)
            if n == 2:
                reference[j, i] = values[0]
            elif n > 2:
                middle = n // 2
                if n % 2:
                    reference[j, i] = values[middle]
                else:
                    reference[j, i] = np.float32(0.5) * (values[middle - 1] + values[middle])
    return reference, depth


@njit(cache=True, nogil=True, error_model="numpy")
def _blot(
    reference: Floats, depth: DepthImage, map_x: Floats, map_y: Floats, x0: int, y0: int
) -> tuple[FloatImage, DepthImage]:
    rows, columns = map_x.shape
    height, width = reference.shape
    blotted = np.full((rows, columns), np.nan, dtype=np.float32)
    depths = np.zeros((rows, columns), dtype=np.uint8)
    for j in range(rows):
        for i in range(columns):
            x, y = map_x[j, i] - x0, map_y[j, i] - y0
            if not (0.0 <= x < width - 1 and 0.0 <= y < height - 1):
                continue
            column, row = int(x), int(y)
            fx, fy = np.float32(x - column), np.float32(y - row)
            gx, gy = np.float32(1.0) - fx, np.float32(1.0) - fy
            blotted[j, i] = (
                gx * gy * reference[row, column]
                + fx * gy * reference[row, column + 1]
                + gx * fy * reference[row + 1, column]
                + fx * fy * reference[row + 1, column + 1]
            )
            depths[j, i] = min(
                depth[row, column], depth[row, column + 1], depth[row + 1, column], depth[row + 1, column + 1]
            )
    return blotted, depths


def blot(reference: TileReference, pixel_map: PixelMap) -> tuple[FloatImage, DepthImage]:
    """Interpolate a reference image bilinearly to an exposure's pixels.

    Agrees with ``blot_image(..., interp="linear")`` of the drizzle package, as `stcal` uses it: where one of the
    four neighbours is NaN, so is the result.

    Parameters
    ----------
    reference
        The image from `reference_image`, and its rectangle.
    pixel_map
        Of the exposure.

    Returns
    -------
    blotted
        Shape of the exposure; NaN where there is nothing to compare with.
    depths
        Smallest of the four neighbours' depths.
    """
    return _blot(reference.image, reference.depth, pixel_map.x, pixel_map.y, reference.box.x, reference.box.y)


@njit(cache=True, nogil=True, error_model="numpy")
def _steepness(image: Floats, j: int, i: int) -> np.floating[Any]:
    """Largest difference to the four neighbours (``_abs_deriv`` of `stcal`)."""
    rows, columns = image.shape
    value, largest = image[j, i], np.float32(0.0)
    for dj, di in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        if 0 <= j + dj < rows and 0 <= i + di < columns:
            difference = abs(value - image[j + dj, i + di])
            if difference > largest:
                largest = difference
    return largest


@njit(cache=True, nogil=True, error_model="numpy")
def _exceeds(
    sci: Floats, err: Floats, blotted: Floats, depths: DepthImage, snr: tuple[float, float], scale: tuple[float, float]
) -> NDArray[np.uint8]:
    """Find which of the two thresholds each pixel exceeds: 1 for the first, 2 for the second, 3 for both."""
    rows, columns = sci.shape
    passed = np.zeros((rows, columns), dtype=np.uint8)
    for j in range(rows):
        for i in range(columns):
            difference = abs(sci[j, i] - blotted[j, i])
            if math.isnan(difference):
                continue
            error = np.float32(0.0) if math.isnan(err[j, i]) else err[j, i]
            if depths[j, i] == 2:
                error = error * np.float32(NOISE_OF_TWO)
            # The common case, which does not need the neighbours.
            if difference <= min(snr[0], snr[1]) * error:
                continue
            steepness = _steepness(blotted, j, i)
            if difference > scale[0] * steepness + snr[0] * error:
                passed[j, i] |= 1
            if difference > scale[1] * steepness + snr[1] * error:
                passed[j, i] |= 2
    return passed


@njit(cache=True, nogil=True, error_model="numpy")
def _near_a_first(passed: NDArray[np.uint8]) -> NDArray[np.bool_]:
    rows, columns = passed.shape
    flagged = np.zeros((rows, columns), dtype=np.bool_)
    for j in range(rows):
        for i in range(columns):
            if passed[j, i] < 2:
                continue
            for row in range(max(j - 1, 0), min(j + 2, rows)):
                for column in range(max(i - 1, 0), min(i + 2, columns)):
                    if passed[row, column] & 1:
                        flagged[j, i] = True
    return flagged


def flag_outliers(
    sci: FloatImage,
    err: FloatImage,
    blotted: FloatImage,
    depths: DepthImage,
    snr: tuple[float, float],
    scale: tuple[float, float],
) -> NDArray[np.bool_]:
    """Flag the pixels of an exposure that differ from the blotted reference.

    A pixel is flagged where it exceeds the second threshold and it or one of its eight neighbours exceeds the first;
    a threshold is ``snr`` times the error plus ``scale`` times the local gradient. At depth 3 and more this is
    `stcal.outlier_detection.utils.flag_resampled_crs`; at depth 2 the error is that of a difference.

    Parameters
    ----------
    sci, err
        The exposure without its sky, MJy/sr, shape ``(ny, nx)``.
    blotted, depths
        Result of `blot`.
    snr, scale
        First and second threshold each.
    """
    return _near_a_first(_exceeds(sci, err, blotted, depths, snr, scale))
