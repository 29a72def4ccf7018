"""The PSF of a mosaic anywhere: that of the detector, drizzled as the sky was, through the exposures of the mosaic.

Orientation, dithers, pixel fraction, weights, bad and rejected pixels are thus those of the mosaic at that place. The
idea is that of grizli's ``DrizzlePSF``.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import galsim
import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage

from cosmosaic.catalog.detector_psf import DetectorPsf, read_detector_psf
from cosmosaic.catalog.psf import RADIUS_ARCSEC, Psf, write_psf
from cosmosaic.drizzle.exposure import ExposurePlanes, light_of, read_exposure
from cosmosaic.drizzle.kernel import SCIENCE, WEIGHT, Light
from cosmosaic.drizzle.sums import drizzle_light
from cosmosaic.geometry.pixelmap import PixelMap, sampled_map, whole_map
from cosmosaic.geometry.windows import Box, box_of, lattice
from cosmosaic.nircam import detector_name
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.result import Made
from cosmosaic.survey import DrizzleSettings

log = logging.getLogger(__name__)

PLACES_A_SIDE = 3
"""Places are spread over the covered part of a mosaic in so many rows and columns."""
MARGIN = 10
"""Pixels between a place and the nearest edge or hole, at least."""
SEARCH_STEP = 16
"""Pixels of an exposure between which a place is looked for first."""
NEWTON_STEPS = 4

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DrizzledPsf:
    """The PSF at one place of a mosaic."""

    x: int
    y: int
    """0-based pixel of the mosaic in its middle."""
    image: Floats
    """Odd sides; where no exposure contributes, that of the other places."""
    exposures: int
    """Number of exposures that contribute, the detectors of an exposure group one by one."""


def make_drizzled_psf(  # noqa: PLR0913
    mosaic: Path,
    models: Mapping[str, Path],
    crfs: Mapping[str, Path],
    window: MosaicGrid,
    settings: DrizzleSettings,
    band: str,
    stem: str,
    folder: Path,
) -> Made:
    """Write the PSF of a mosaic, drizzled through its exposures: the mean over places, and at each of them.

    Parameters
    ----------
    mosaic
        ``_i2d`` file.
    models
        The PSF of each detector (`cosmosaic.catalog.detector_psf.read_detector_psf`).
    crfs
        ``_crf`` files of the mosaic by exposure.
    window, settings
        The mosaic's grid, and how it was drizzled.
    band, stem
        Filter, and name of the product without ``_psf.fits``.
    folder
        Gets the product.

    Raises
    ------
    ValueError
        The PSF cannot be used, or the mosaic is empty.
    """
    with fits.open(mosaic, memmap=True) as hdus:
        covered, header = np.array(hdus["WHT"].data) > 0, hdus["SCI"].header
        wcs = WCS(header)
    scale = window.pixel_scale_mas / 1000.0
    places, reach = places_of(covered), int(np.ceil(RADIUS_ARCSEC / scale))
    read = {path: read_detector_psf(path, band) for path in set(models.values())}
    known = {detector: read[path] for detector, path in models.items()}
    for detector, path in sorted(models.items()):
        if detector_name(known[detector].detector) not in ("", detector):
            log.warning("%s: the PSF of %s is used for %s", path.name, known[detector].detector, detector)
    psfs = drizzle_psfs(crfs.values(), known, places, window, settings, reach)
    if not psfs:
        raise ValueError(f"{mosaic.name}: no pixel has light, so that it has no PSF")
    mean = Psf(np.mean([one.image for one in psfs], axis=0), scale, "detector")
    path = write_psf(mean, band, folder / f"{stem}_psf.fits", _extensions(psfs, scale, wcs))
    return Made(psf=path, facts={"psf_fwhm": mean.fwhm_arcsec, "psf_stars": 0.0})


def _extensions(psfs: Sequence[DrizzledPsf], scale: float, wcs: WCS) -> list[fits.ImageHDU | fits.BinTableHDU]:
    """Return the images (PSFS) and the places (PLACES) in the same order."""
    images = fits.ImageHDU(np.stack([one.image for one in psfs]).astype(np.float32), name="PSFS")
    images.header["PIXSCALE"] = (scale, "[arcsec] pixel scale")
    x, y = (np.array([getattr(one, axis) for one in psfs]) for axis in ("x", "y"))
    ra, dec = wcs.all_pix2world(x, y, 0)
    table = Table(
        {
            "x": x,
            "y": y,
            "ra": ra,
            "dec": dec,
            "exposures": [one.exposures for one in psfs],
            "fwhm": [Psf(one.image, scale, "detector").fwhm_arcsec for one in psfs],
        },
        units={"ra": "deg", "dec": "deg", "fwhm": "arcsec"},
    )
    return [images, fits.BinTableHDU(table, name="PLACES")]


def places_of(covered: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Choose places (x, y): in each part of the covered rectangle, the covered pixel nearest to its middle.

    They are away from edges and holes, where a star would lose a part of its core; without such, any that is covered.
    """
    inner = ndimage.binary_erosion(covered, iterations=MARGIN)
    covered = inner if inner.any() else covered
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    if not rows.size:
        return []
    edges_y, edges_x = (np.linspace(lit[0], lit[-1] + 1, PLACES_A_SIDE + 1).astype(int) for lit in (rows, columns))
    places = []
    for bottom, top in pairwise(edges_y):
        for left, right in pairwise(edges_x):
            y, x = np.nonzero(covered[bottom:top, left:right])
            if y.size:
                nearest = np.argmin(np.hypot(y - (top - bottom - 1) / 2, x - (right - left - 1) / 2))
                places.append((left + int(x[nearest]), bottom + int(y[nearest])))
    return places


def drizzle_psfs(
    crfs: Iterable[Path],
    models: Mapping[str, DetectorPsf],
    places: Sequence[tuple[int, int]],
    window: MosaicGrid,
    settings: DrizzleSettings,
    reach: int,
) -> list[DrizzledPsf]:
    """Drizzle the PSF of the detectors at places of a mosaic.

    Parameters
    ----------
    crfs
        ``_crf`` files of the mosaic: the exposures in the state in which they are combined.
    models
        The PSF of each detector.
    places
        0-based pixels (x, y) of the window.
    window
        The mosaic.
    settings
        Kernel, pixel fraction and weights of the mosaic.
    reach
        Half width of the images in pixels, without the middle one.

    Returns
    -------
    psfs
        At each place; those that no exposure reaches are left out.
    """
    whole, side = box_of(window), 2 * reach + 1
    boxes = [Box(whole.x + x - reach, whole.y + y - reach, side, side) for x, y in places]
    sums, counts = np.zeros((len(places), side, side, 2)), np.zeros(len(places), int)
    for crf in sorted(crfs):
        exposure = read_exposure(crf)
        mapped = whole_map(sampled_map(exposure.wcs, lattice(window), exposure.shape), exposure.shape)
        weight = light_of(exposure, settings.weight_type).weight
        psf = models[exposure.detector].in_part(*_corner(exposure))
        for number, box in enumerate(boxes):
            added = _drizzled_star(weight, mapped, box, psf, settings, window.pixel_scale_mas / 1000.0)
            if added is not None:
                sums[number] += added
                counts[number] += added[reach, reach, WEIGHT] > 0
    known = np.flatnonzero(counts)
    images = _complete(sums[known])
    return [
        DrizzledPsf(*places[number], image=image, exposures=int(counts[number]))
        for number, image in zip(known.tolist(), images, strict=True)
    ]


def _corner(exposure: ExposurePlanes) -> tuple[int, int]:
    """Return the 0-based pixel (x, y) of a full frame that is the first of an exposure; without keywords, (0, 0)."""
    return int(exposure.header.get("SUBSTRT1", 1)) - 1, int(exposure.header.get("SUBSTRT2", 1)) - 1


def _complete(sums: Floats) -> Floats:
    """Divide sums by weights; pixels without weight, beyond an edge or in a hole, are those of the other places."""
    is_seen = sums[..., WEIGHT] > 0
    images = np.divide(sums[..., SCIENCE], sums[..., WEIGHT], out=np.zeros(is_seen.shape), where=is_seen)
    mean = images.sum(axis=0) / np.maximum(is_seen.sum(axis=0), 1)
    return np.where(is_seen, images, mean)


def _drizzled_star(
    weight: NDArray[np.float32],
    mapped: PixelMap,
    box: Box,
    psf: DetectorPsf,
    settings: DrizzleSettings,
    scale_arcsec: float,
) -> Floats | None:
    """Sums of a star in the middle of a box of the lattice, per pixel of it; None if the exposure does not reach it."""
    x, y, jacobian = _position(mapped, (box.x + box.width // 2, box.y + box.height // 2))
    side_x, side_y = np.hypot(*jacobian)
    # The box turned by 45 degrees, and a drop more.
    reach_x, reach_y = (int(np.ceil(0.75 * box.width / side)) + 2 for side in (side_x, side_y))
    rows, columns = (
        slice(max(round(middle) - reach, 0), max(min(round(middle) + reach + 1, n), 0))
        for middle, reach, n in ((y, reach_y, weight.shape[0]), (x, reach_x, weight.shape[1]))
    )
    part = (rows, columns)
    if min(weight[part].shape) < 2 or not weight[part].any():
        return None
    height, width = weight[part].shape
    sides = (1.0, 1.0) if psf.unit == "pixel" else (side_x * scale_arcsec, side_y * scale_arcsec)
    image = galsim.ImageF(width, height, wcs=galsim.JacobianWCS(sides[0], 0.0, 0.0, sides[1]))
    middle = galsim.PositionD(x - columns.start + 1.0, y - rows.start + 1.0)
    psf.at(x, y).drawImage(image, center=middle, method="no_pixel")
    star = image.array / np.float32(abs(np.linalg.det(jacobian)))
    light = Light(star, star, star, star, np.ascontiguousarray(weight[part]))
    near = PixelMap(np.ascontiguousarray(mapped.x[part]), np.ascontiguousarray(mapped.y[part]))
    return drizzle_light(light, near, box, settings.model_copy(update={"errors": "none"})).planes.astype(np.float64)


def _position(mapped: PixelMap, place: tuple[int, int]) -> tuple[float, float, Floats]:
    """Find a place of the lattice on the detector: x, y, and the lattice's change along the detector's axes.

    Newton's method on the pixel map; beyond the detector's edges it is extrapolated.
    """
    coarse = (mapped.x[::SEARCH_STEP, ::SEARCH_STEP] - place[0]) ** 2
    coarse += (mapped.y[::SEARCH_STEP, ::SEARCH_STEP] - place[1]) ** 2
    row, column = np.unravel_index(np.nanargmin(coarse), coarse.shape)
    rows, columns = mapped.x.shape
    x, y = float(column * SEARCH_STEP), float(row * SEARCH_STEP)
    jacobian = np.eye(2)
    for _ in range(NEWTON_STEPS):
        i, j = min(max(round(x), 0), columns - 2), min(max(round(y), 0), rows - 2)
        here = np.array([mapped.x[j, i], mapped.y[j, i]])
        along = [[m[j, i + 1] - m[j, i], m[j + 1, i] - m[j, i]] for m in (mapped.x, mapped.y)]
        jacobian = np.array(along)
        dx, dy = np.linalg.solve(jacobian, np.array(place, float) - here)
        x, y = i + float(dx), j + float(dy)
    return x, y, jacobian
