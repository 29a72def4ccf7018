"""The pixels of an exposure inside the user's regions, which are masked."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from regions import PixCoord, PixelRegion, Region, SkyRegion
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.exposures.planes import copy_changed, read_plane
from cosmosaic.exposures.regions import anchor, plane_at, read_regions
from cosmosaic.exposures.wcs import read_wcs, wcs_corners
from cosmosaic.geometry.grid import directions, footprint_centre
from cosmosaic.geometry.pixelmap import sampled_map, whole_map
from cosmosaic.geometry.wcs import wcs_header
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.result import Made

NOT_USED = np.uint32(pixel["DO_NOT_USE"] | pixel["OTHER_BAD_PIXEL"])
FARTHEST_DEG = 5.0
"""Regions that begin farther from an exposure cannot reach it; a tangent plane would not hold them."""

Flags = NDArray[np.bool_]


class Sky(NamedTuple):
    """Positions of the pixels of an exposure on a plane that touches the sky in its middle."""

    grid: MosaicGrid
    x: NDArray[np.float64]
    y: NDArray[np.float64]


class RegionPixels:
    """Finds the pixels of an exposure, with its gwcs and shape, that lie in regions."""

    def __init__(self, wcs: Any, shape: tuple[int, int]) -> None:
        self._wcs = wcs
        self.shape = shape

    def inside(self, regions: Sequence[Region]) -> Flags:
        """Return which pixels have their centre in a region; one that ds9 marks as excluded (-) takes away from all.

        Parameters
        ----------
        regions
            On the sky, or in 0-based pixels of the exposure.
        """
        chosen, spared = (np.zeros(self.shape, dtype=bool) for _ in range(2))
        for region in regions:
            is_spared = not region.meta.get("include", True)
            (spared if is_spared else chosen)[...] |= self._pixels_of(region)
        return chosen & ~spared

    @cached_property
    def _sky(self) -> Sky:
        corners = [(float(ra), float(dec)) for ra, dec in wcs_corners(self._wcs, self.shape)]
        ra, dec = directions(footprint_centre(corners))[0]
        grid = plane_at(SkyCoord(ra, dec, unit="deg"))
        places = whole_map(sampled_map(self._wcs, grid, self.shape), self.shape)
        return Sky(grid, places.x, places.y)

    def _pixels_of(self, region: Region) -> Flags:
        if isinstance(region, PixelRegion):
            rows, columns = np.indices(self.shape, dtype=np.float64)
            return _contained(region, columns, rows)
        if not self._is_near(region):
            return np.zeros(self.shape, dtype=bool)
        return _contained(region.to_pixel(WCS(wcs_header(self._sky.grid))), self._sky.x, self._sky.y)

    def _is_near(self, region: SkyRegion) -> bool:
        grid = self._sky.grid
        middle = SkyCoord(grid.tangent_ra, grid.tangent_dec, unit="deg")
        return bool(middle.separation(anchor(region)).deg < FARTHEST_DEG)


def mask_regions(exposure: Path, regions: tuple[Path, ...], folder: Path) -> Made:
    """Flag the pixels of an exposure that lie in regions as not to be used.

    Parameters
    ----------
    exposure
        A ``_cal`` file.
    regions
        ds9 region files.
    folder
        Gets the flagged file, under the same name.

    Raises
    ------
    RegionError
        A file cannot be used.
    """
    drawn = [region for path in regions for region in read_regions(path.read_text(), path.name)]
    with fits.open(exposure, memmap=False) as hdus:
        header, flags = hdus[0].header.copy(), read_plane(hdus, "DQ")
        wcs = read_wcs(hdus["ASDF"].data.tobytes())
    inside = RegionPixels(wcs, flags.shape).inside(drawn)
    masked = int(np.count_nonzero(inside & ((flags & pixel["DO_NOT_USE"]) == 0)))
    flags[inside] |= NOT_USED
    cal = copy_changed(exposure, folder / exposure.name, {"PRIMARY": header}, {"DQ": lambda rows, _: flags[rows]})
    return Made(cal=cal, facts={"region_pixels": float(masked)})


def _contained(region: PixelRegion, x: NDArray[np.float64], y: NDArray[np.float64]) -> Flags:
    """Return which positions lie in a region; only positions within its bounds are tested."""
    box = region.bounding_box
    near = (x >= box.ixmin - 1) & (x <= box.ixmax) & (y >= box.iymin - 1) & (y <= box.iymax)
    inside = np.zeros(x.shape, dtype=bool)
    plain = region.copy()
    plain.meta["include"] = True
    inside[near] = plain.contains(PixCoord(x[near], y[near]))
    return inside
