"""Drizzle of one exposure into sums, tile by tile.

Sums are kept instead of means, so that mosaics are made by adding files in a fixed order, and an exposure is drizzled
once for both outlier detection and mosaic.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from drizzle.resample import Drizzle
from numba import njit
from numpy.typing import NDArray

from cosmosaic.drizzle.kernel import PLANES, POISSON, SCIENCE, WEIGHT, Drop, Light, drizzle_square
from cosmosaic.drizzle.packed import Placed, open_planes
from cosmosaic.geometry.pixelmap import PixelMap
from cosmosaic.geometry.windows import Box
from cosmosaic.survey import DrizzleSettings

FloatImage = NDArray[np.float32]

SMALLEST_PIXFRAC = 0.01
"""Below this the package uses the point kernel in place of the square one."""
REACH_PIXELS = {"square": 1.5, "turbo": 1.5, "point": 1.0, "gaussian": 2.0, "lanczos3": 4.0}
"""Largest distance of an input pixel's light from its centre, in units of the larger of input and output pixels."""


@dataclass
class Sums:
    """The contribution of an exposure to a rectangle of the pixel lattice."""

    box: Box
    planes: FloatImage
    """Of each pixel weight, weight x science and, unless errors are left out, weight x sigma or weight**2 x variance of
    three variances, shape ``(height, width, 5 or 2)``: side by side in memory, because they are added together."""


def exposure_box(pixel_map: PixelMap, reach: float) -> Box:
    """Return the lattice pixels that an exposure may reach.

    Parameters
    ----------
    pixel_map
        Of the exposure; pixels without a position on the lattice (NaN) are ignored.
    reach
        Largest distance of light from the pixels' centres, in output pixels.
    """
    low_x, high_x, low_y, high_y = pixel_map.bounds
    left, bottom = int(np.floor(low_x.min() - reach)), int(np.floor(low_y.min() - reach))
    right, top = int(np.ceil(high_x.max() + reach)), int(np.ceil(high_y.max() + reach))
    return Box(left, bottom, right - left + 1, top - bottom + 1)


def output_reach(pixel_map: PixelMap, settings: DrizzleSettings) -> float:
    """Return the largest distance of an input pixel's light from its centre, in output pixels."""
    return REACH_PIXELS[settings.kernel] * max(1.0, _input_pixel_side(pixel_map))


def drizzle_light(light: Light, pixel_map: PixelMap, box: Box, settings: DrizzleSettings) -> Sums:
    """Drizzle an exposure into a rectangle of the lattice.

    Science is averaged with the given weights. Of the variances sigma is averaged, to be squared afterwards, as in
    `stcal.resample.Resample`, or the variance is drizzled with squared weights.

    Parameters
    ----------
    light
        Its planes, and the weight of each pixel: 0 for unusable pixels.
    pixel_map
        Lattice pixel of each input pixel's centre.
    box
        Rectangle to fill; nothing outside is computed.
    settings
        Kernel, pixel fraction and kind of errors.
    """
    planes = np.zeros((box.height, box.width, PLANES[settings.errors]), dtype=np.float32)
    reach = output_reach(pixel_map, settings)
    blocks = _blocks_that_reach(pixel_map, box, reach)
    if blocks.any() and box.pixels:
        if settings.kernel == "square" and settings.pixfrac >= SMALLEST_PIXFRAC:
            drizzle_square(
                light,
                (pixel_map.x, pixel_map.y),
                Drop(settings.pixfrac, reach, settings.errors == "propagated"),
                blocks,
                (box.x, box.y),
                planes,
            )
        else:
            drizzle_with_package(light, pixel_map, settings, Sums(box, planes))
    return Sums(box, planes)


def drizzle_with_package(light: Light, pixel_map: PixelMap, settings: DrizzleSettings, sums: Sums) -> None:
    """Fill sums with the drizzle package's C code, plane by plane, for any of its kernels."""
    pixmap = np.stack([pixel_map.x - sums.box.x, pixel_map.y - sums.box.y], axis=2)
    ratio = 1.0 / _input_pixel_side(pixel_map)
    propagated = settings.errors == "propagated"
    variances = (light.poisson, light.read_noise, light.flat) if settings.errors != "none" else ()
    sources = [light.sci] + ([] if propagated else [np.sqrt(variance) for variance in variances])
    for plane, source in enumerate(sources, start=SCIENCE):
        drizzle = Drizzle(
            kernel=settings.kernel,
            fillval=0.0,
            fillval2=0.0,
            out_shape=sums.planes.shape[:2],
            disable_ctx=True,
        )
        drizzle.add_image(
            source,
            exptime=1.0,
            pixmap=pixmap,
            data2=list(variances) if propagated else None,
            pixel_scale_ratio=ratio,
            weight_map=light.weight,
            pixfrac=settings.pixfrac,
            in_units="cps",
        )
        sums.planes[..., plane] = drizzle.out_img * drizzle.out_wht
        sums.planes[..., WEIGHT] = drizzle.out_wht
    if propagated:
        for plane, variance in enumerate(drizzle.out_img2, start=POISSON):
            sums.planes[..., plane] = variance * drizzle.out_wht**2


def patches(
    light: Light, flagged: NDArray[np.bool_], pixel_map: PixelMap, boxes: Sequence[Box], settings: DrizzleSettings
) -> Iterator["Patch"]:
    """Yield the changes of the sums in each rectangle when flagged pixels are left out.

    Only output pixels that a flagged pixel touched change. They are drizzled again from all unflagged pixels within
    reach: subtracting the flagged ones would lose the precision of float32 under a bright cosmic ray.

    Parameters
    ----------
    light, pixel_map, boxes, settings
        The arguments with which the sums were drizzled.
    flagged
        Pixels to leave out, shape ``(ny, nx)``.
    """
    weight = np.where(flagged, light.weight, np.float32(0.0))
    # Only the pixels that they touched are asked for, and their science may be blank.
    left_out = light._replace(sci=weight, weight=weight)
    weight_alone = settings.model_copy(update={"errors": "none"})
    touched = [_reached(left_out, pixel_map, box, weight_alone) for box in boxes]
    del left_out, weight
    # All input pixels that share an output pixel with a flagged one lie within twice the reach of it.
    reach = int(np.ceil(2 * REACH_PIXELS[settings.kernel] * max(1.0, 1.0 / _input_pixel_side(pixel_map))))
    kept = light._replace(weight=_unflagged_near(flagged, light.weight, reach))
    for box, indices in zip(boxes, touched, strict=True):
        afresh = drizzle_light(kept, pixel_map, box, settings).planes
        yield Patch(box, indices, afresh.reshape(-1, afresh.shape[2])[indices])


@njit(cache=True, nogil=True)
def _unflagged_near(flagged: NDArray[np.bool_], weight: FloatImage, reach: int) -> FloatImage:
    """Keep the weights of unflagged pixels within a square around a flagged one; 0 elsewhere."""
    rows, columns = flagged.shape
    near = np.zeros((rows, columns), dtype=np.float32)
    for j in range(rows):
        for i in range(columns):
            if not flagged[j, i]:
                continue
            for row in range(max(j - reach, 0), min(j + reach + 1, rows)):
                for column in range(max(i - reach, 0), min(i + reach + 1, columns)):
                    if not flagged[row, column]:
                        near[row, column] = weight[row, column]
    return near


def _reached(light: Light, pixel_map: PixelMap, box: Box, settings: DrizzleSettings) -> NDArray[np.int32]:
    """Return the flat indices of a rectangle's pixels that light reaches."""
    weight = drizzle_light(light, pixel_map, box, settings).planes[..., WEIGHT]
    return np.flatnonzero(weight).astype(np.int32)


def cropped(sums: Sums) -> Sums:
    """Cut off the empty margins; if nothing was drizzled, the rectangle is empty."""
    box = lit_part(sums.planes[..., WEIGHT] != 0, sums.box)
    return Sums(box, sums.planes[box.within(sums.box)])


def lit_part(lit: NDArray[np.bool_], box: Box) -> Box:
    """Return the smallest rectangle that holds all lit pixels of a rectangle; an empty one if there are none."""
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    if rows.size == 0:
        return Box(box.x, box.y, 0, 0)
    bottom, top, left, right = (int(edge) for edge in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    return Box(box.x + left, box.y + bottom, right - left, top - bottom)


def planes_of_tile(tile: str, sums: Sums, marks: Placed) -> Iterator[Placed]:
    """Yield the planes of a file of sums for one tile; the marks of `cosmosaic.drizzle.marks` are the last."""
    for plane in np.moveaxis(sums.planes.astype("<f4", copy=False), 2, 0):
        yield Placed(sums.box, plane, tile)
    yield marks._replace(part=tile)


class SumsFile:
    """Sums of one tile in a file, whose rows are read as needed."""

    def __init__(self, path: Path, tile: str) -> None:
        *self._planes, _ = open_planes(path, tile)
        self.box = self._planes[0].box

    def rows(self, bottom: int, top: int) -> FloatImage:
        """Read rows ``bottom`` to ``top`` (exclusive), counted within the rectangle, shape ``(n, width, planes)``."""
        part = Box(self.box.x, self.box.y + bottom, self.box.width, top - bottom)
        rows = np.empty((part.height, part.width, len(self._planes)), np.float32)
        for number, plane in enumerate(self._planes):
            rows[..., number] = plane.read(part)
        return rows


@dataclass
class Patch:
    """Replacements for a few pixels of sums."""

    box: Box
    indices: NDArray[np.int32]
    """Flat indices within the rectangle, ascending, shape ``(N,)``."""
    values: FloatImage
    """New sums, shape ``(N, 5)``."""

    def within(self, box: Box) -> "Patch":
        """Give the pixels relative to a smaller rectangle that contains them all."""
        rows, columns = np.divmod(self.indices, max(self.box.width, 1))
        indices = (rows + self.box.y - box.y) * box.width + columns + self.box.x - box.x
        return Patch(box, indices.astype(np.int32), self.values)

    def places_in(self, box: Box) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Return rows and columns, counted within another rectangle, of the pixels that lie in it."""
        width = max(self.box.width, 1)
        first = (box.y - self.box.y) * width
        start, stop = np.searchsorted(self.indices, [first, first + box.height * width])
        rows, columns = np.divmod(self.indices[start:stop], width)
        rows, columns = rows + self.box.y - box.y, columns + self.box.x - box.x
        inside = (columns >= 0) & (columns < box.width)
        return rows[inside], columns[inside]


def write_patch(patch: Patch, path: Path) -> Path:
    """Write a patch: rectangle, indices and values, one after the other in numpy's format."""
    with path.open("wb") as file:
        np.save(file, np.array(patch.box, dtype=np.int64))
        np.save(file, patch.indices)
        np.save(file, patch.values)
    return path


def read_patch(path: Path) -> Patch:
    """Read a file of `write_patch`."""
    with path.open("rb") as file:
        return Patch(Box(*np.load(file).tolist()), np.load(file), np.load(file))


def read_strip(source: SumsFile, strip: Box, patch: Patch | None = None) -> Sums | None:
    """Read the part of a file in a strip of the lattice, with the patch applied; None if there is none."""
    common = source.box.intersection(strip)
    if not common.pixels:
        return None
    first = common.y - source.box.y
    data = source.rows(first, first + common.height)
    if patch is not None:
        width = source.box.width
        start, stop = np.searchsorted(patch.indices, [first * width, (first + common.height) * width])
        data.reshape(-1, data.shape[2])[patch.indices[start:stop] - first * width] = patch.values[start:stop]
    left = common.x - source.box.x
    return Sums(common, data[:, left : left + common.width])


def weight_samples(sums: Sums, tile: Box, stride: int = 48) -> FloatImage:
    """Return the weights in a tile on a coarse lattice, as a measure of an exposure's typical weight."""
    common = sums.box.intersection(tile)
    weights = sums.planes[common.within(sums.box)][-common.y % stride :: stride, -common.x % stride :: stride, WEIGHT]
    return weights[weights > 0]


def _input_pixel_side(pixel_map: PixelMap) -> float:
    """Side of an input pixel in output pixels, from the middle of the exposure."""
    rows, columns = (n // 2 for n in pixel_map.x.shape)
    corner = np.s_[rows : rows + 2, columns : columns + 2]
    x, y = pixel_map.x[corner], pixel_map.y[corner]
    area = (x[0, 1] - x[0, 0]) * (y[1, 0] - y[0, 0]) - (x[1, 0] - x[0, 0]) * (y[0, 1] - y[0, 0])
    return float(np.sqrt(abs(area)))


def _blocks_that_reach(pixel_map: PixelMap, box: Box, reach: float) -> NDArray[np.bool_]:
    """Find which blocks of input pixels may reach a rectangle."""
    low_x, high_x, low_y, high_y = pixel_map.bounds
    inside: NDArray[np.bool_] = (
        (low_x < box.x + box.width + reach)
        & (high_x > box.x - 1 - reach)
        & (low_y < box.y + box.height + reach)
        & (high_y > box.y - 1 - reach)
    )
    return inside
