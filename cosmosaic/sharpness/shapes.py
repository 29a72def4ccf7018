"""Widths and ellipticities of stars, in single exposures on the mosaic's pixels and in the mosaic.

Exposures that are offset from each other smear the stars of their mosaic. Each exposure is drizzled alone about its
stars, with the mosaic's pixels and kernel, so that both have the same pixels and only the offsets differ. Shapes are
adaptive moments (Hirata & Seljak 2003, MNRAS 343, 459) by galsim.
"""

from pathlib import Path
from typing import NamedTuple

import galsim
import numpy as np
from astropy.io import fits
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from cosmosaic.drizzle.exposure import light_of, read_exposure
from cosmosaic.drizzle.kernel import SCIENCE, WEIGHT
from cosmosaic.drizzle.sums import drizzle_light
from cosmosaic.geometry.pixelmap import sampled_map, whole_map
from cosmosaic.geometry.windows import Box, box_of, lattice
from cosmosaic.records import MosaicGrid
from cosmosaic.survey import DrizzleSettings

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

REACH_ARCSEC = 0.5
"""Half the side of the square about a star."""
LEAST_SNR = 30.0
MOST_STARS = 200
"""The brightest of an exposure."""
SAME_STAR_ARCSEC = 0.15
"""Stars of different exposures this close are one, even before they are aligned."""
FARTHEST_PIXELS = 5.0
"""A centroid farther from the middle of its square is of something else."""
NO_SHAPE = (float("nan"),) * 3
FEWEST_EXPOSURES = 2
"""A star of a single exposure cannot be smeared."""


class Shapes(NamedTuple):
    """Stars, arrays with a value each; width and ellipticity are NaN where they cannot be measured."""

    places: Floats
    """(x, y) on the survey's lattice, shape ``(N, 2)``."""
    sigma: Floats
    """Width in pixels of the lattice: the fourth root of the determinant of the moments."""
    ellipticity: Floats
    """(a^2 - b^2) / (a^2 + b^2) along the pixels' axes and diagonals, shape ``(N, 2)``."""


def exposure_shapes(exposure: Path, stars: QTable, window: MosaicGrid, settings: DrizzleSettings) -> Shapes:
    """Measure the stars of one exposure, drizzled alone onto the lattice of a window.

    Parameters
    ----------
    exposure
        ``_crf`` file, with the WCS with which it is combined.
    stars
        Its star table.
    window
        Any window of the lattice.
    settings
        Kernel and pixel fraction of the mosaic.
    """
    read = read_exposure(exposure)
    chosen = stars[(stars["flux"] > LEAST_SNR * stars["flux_err"])][:MOST_STARS]
    x, y = (np.asarray(chosen[name], dtype=float) for name in ("x", "y"))
    mapped = whole_map(sampled_map(read.wcs, lattice(window), read.shape), read.shape)
    near = np.rint([y, x]).astype(int)
    places = np.stack([mapped.x[tuple(near)], mapped.y[tuple(near)]], axis=1) if len(x) else np.zeros((0, 2))
    light, alone = light_of(read, settings.weight_type), settings.model_copy(update={"errors": "none"})
    stamps = []
    for place in places:
        box = _box_about(place, window)
        sums = drizzle_light(light, mapped, box, alone).planes
        with np.errstate(invalid="ignore", divide="ignore"):
            stamps.append(sums[..., SCIENCE] / sums[..., WEIGHT])
    return _measured(places, stamps)


def mosaic_shapes(mosaic: Path, places: Floats, window: MosaicGrid) -> Shapes:
    """Measure the stars of a mosaic near places of the lattice."""
    stamps, whole = [], box_of(window)
    with fits.open(mosaic, memmap=True) as hdus:
        image = hdus["SCI"]
        for place in places:
            box = _box_about(place, window)
            is_inside = box.intersection(whole) == box
            stamps.append(np.array(image.section[box.within(whole)], dtype=float) if is_inside else np.zeros((0, 0)))
    return _measured(places, stamps)


def stars_of_exposures(places: Floats, exposures: Integers, pixel_scale_mas: float) -> Integers:
    """Number the stars that several exposures have; -1 for the others, and for stars that are two in one exposure.

    Parameters
    ----------
    places
        (x, y) on the lattice, shape ``(N, 2)``.
    exposures
        Number of the exposure of each.
    """
    if not len(places):
        return np.zeros(0, dtype=int)
    pairs = KDTree(places).query_pairs(SAME_STAR_ARCSEC * 1000 / pixel_scale_mas, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(places),) * 2)
    _, numbers = connected_components(links, directed=False)
    counts = np.bincount(numbers)
    distinct = np.bincount(np.unique(np.stack([numbers, exposures], axis=1), axis=0)[:, 0], minlength=len(counts))
    usable = (counts == distinct) & (counts >= FEWEST_EXPOSURES)
    return np.where(usable[numbers], np.cumsum(usable)[numbers] - 1, -1)


def _box_about(place: Floats, window: MosaicGrid) -> Box:
    reach = round(REACH_ARCSEC * 1000 / window.pixel_scale_mas)
    x, y = np.rint(place).astype(int).tolist()
    return Box(x - reach, y - reach, 2 * reach + 1, 2 * reach + 1)


def _measured(places: Floats, stamps: list[Floats]) -> Shapes:
    values = np.array([_shape(stamp) for stamp in stamps]).reshape(-1, 3)
    return Shapes(places, values[:, 0], values[:, 1:])


def _shape(stamp: Floats) -> tuple[float, float, float]:
    """Width and ellipticity of a star; NaN of a stamp with gaps or without a star in its middle."""
    if not stamp.size or not np.isfinite(stamp).all():
        return NO_SHAPE
    edge = np.concatenate([stamp[0], stamp[-1], stamp[:, 0], stamp[:, -1]])
    moments = galsim.hsm.FindAdaptiveMom(
        galsim.ImageD(np.ascontiguousarray(stamp - np.median(edge), dtype=float)), strict=False
    )
    middle = 0.5 * (len(stamp) + 1)
    centroid = moments.moments_centroid
    if moments.error_message or np.hypot(centroid.x - middle, centroid.y - middle) > FARTHEST_PIXELS:
        return NO_SHAPE
    return moments.moments_sigma, moments.observed_shape.e1, moments.observed_shape.e2
