"""The unit of work that drizzles one exposure, and functions to read it for other units.

An exposure is drizzled once and cut into tiles, so that the result does not depend on the tiles.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cosmosaic.dq import UNUSABLE
from cosmosaic.drizzle.exposure import ExposureError, ExposurePlanes, light_of, read_exposure, sky_variance
from cosmosaic.drizzle.marks import drizzle_marks, flagged_pixels, marked_part
from cosmosaic.drizzle.packed import Placed, write_planes
from cosmosaic.drizzle.summary import summarise, write_summary
from cosmosaic.drizzle.sums import (
    cropped,
    drizzle_light,
    exposure_box,
    output_reach,
    planes_of_tile,
    weight_samples,
)
from cosmosaic.exposures.patterns import read_exposure_sky
from cosmosaic.geometry.pixelmap import PixelMap, sampled_map, whole_map
from cosmosaic.geometry.windows import Box, box_of, lattice
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.result import Made
from cosmosaic.survey import DrizzleSettings, WeightType

REFERENCE_MARGIN = 1
"""Windows extend this many pixels beyond their tile: an exposure is compared with the four pixels around each of its
pixels, and finds them all in the tile that contains it."""

LARGEST_OVERHANG = 4
"""An exposure's box of pixels is at most this many times larger than the tiles that its footprint touches."""


class FootprintError(ValueError):
    """An exposure's WCS contradicts its S_REGION."""


FEWEST_PIXELS = 3200
"""Usable pixels, 50 cells of 8 by 8, below which no sky level can be measured."""


def inspect_exposure(exposure: Path, weight_type: WeightType, folder: Path) -> Made:
    """Read the planes of a ``_cal`` file and report how many of its pixels can be used.

    Raises
    ------
    cosmosaic.drizzle.exposure.ExposureError
        It cannot be read, too few of its pixels can be used, or it lacks what its weights are made of.
    """
    read = read_exposure(exposure)
    usable = int(np.count_nonzero((read.dq & UNUSABLE) == 0))
    if usable < FEWEST_PIXELS:
        raise ExposureError(
            f"{exposure.name}: {usable} usable pixels are too few to measure its sky; check its DQ extension, or leave "
            f"it out"
        )
    if weight_type == "ivm-sky":
        sky_variance(read)
    return Made(facts={"usable_pixels": float(usable), "implausible_pixels": float(read.implausible)})


def drizzle_exposure(
    exposure: Path,
    sky: Path | None,
    trim_pixels: int,
    tiles: tuple[MosaicGrid, ...],
    settings: DrizzleSettings,
    folder: Path,
) -> Made:
    """Drizzle one exposure into the tiles it reaches.

    Parameters
    ----------
    exposure
        The ``_cal`` file.
    sky
        Its ``_sky.json``, where its sky was measured.
    trim_pixels
        Width of the border of the detector that is left out.
    tiles
        All tiles that its footprint touches.
    settings
        Kernel, pixel fraction, weights and kind of errors.
    folder
        Gets ``<exposure>_sums.packed`` with the sums in each tile, and ``<exposure>_summary.npz``.

    Raises
    ------
    FootprintError
        The exposure reaches beyond the tiles.
    """
    read = read_flat_exposure(exposure, sky, trim_pixels)
    samples = sampled_map(read.wcs, lattice(tiles[0]), read.shape)
    mapped, reach = placed(samples, read.shape, settings)
    _check_reach(read, reach, tiles)
    light = light_of(read, settings.weight_type)
    flagged = flagged_pixels(read.dq)
    weights = []

    def drizzled() -> Iterator[Placed]:
        # One tile after the other: its sums are written, and their memory is freed, before the next are made.
        for tile in tiles:
            window = box_of(tile).padded(REFERENCE_MARGIN).intersection(reach)
            marks = marked_part(window, drizzle_marks(flagged, mapped, window, settings))
            sums = cropped(drizzle_light(light, mapped, window, settings))
            weights.append(weight_samples(sums, box_of(tile)))
            yield from planes_of_tile(tile.tile, sums, marks)
            del sums

    made = write_planes(drizzled(), folder / f"{read.name}_sums.packed")
    summary = summarise(read, np.concatenate(weights))
    return Made(sums=made, summary=write_summary(summary, samples, folder / f"{read.name}_summary.npz"))


def read_flat_exposure(path: Path, sky: Path | None, trim_pixels: int) -> ExposurePlanes:
    """Read an exposure without its sky, its patterns and its edges."""
    return read_exposure(path, *read_exposure_sky(sky), trim_pixels)


def placed(samples: np.ndarray, shape: tuple[int, int], settings: DrizzleSettings) -> tuple[PixelMap, Box]:
    """Return the positions of an exposure's pixels, and the lattice pixels that its light may reach."""
    mapped = whole_map(samples, shape)
    return mapped, exposure_box(mapped, output_reach(mapped, settings))


def _check_reach(exposure: ExposurePlanes, box: Box, tiles: Sequence[MosaicGrid]) -> None:
    """Check by an exposure's middle and size that its WCS and its footprint agree, before memory is allocated."""
    middle = Box(box.x + box.width // 2, box.y + box.height // 2, 1, 1)
    covered = sum(box_of(tile).pixels for tile in tiles)
    # An exposure is not much larger than its tiles; one that is has an implausible WCS.
    absurd = box.pixels > LARGEST_OVERHANG * covered
    if absurd or not any(box_of(tile).intersection(middle).pixels for tile in tiles):
        raise FootprintError(
            f"{exposure.name}: its WCS disagrees with the position in its headers (S_REGION, or RA_REF and DEC_REF); "
            f"run assign_wcs again, or correct the headers"
        )
