"""Regions that the user masks: satellites, claws, ghosts.

A ds9 region file, read by the ``regions`` package of the Astropy project. Regions on the sky hold for all exposures
named with them; regions in image pixels refer to the exposure's own array, counted from 1 as in ds9.
"""

import warnings
from collections.abc import Iterable
from typing import Any

from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from regions import (
    LinePixelRegion,
    LineSkyRegion,
    PointPixelRegion,
    PointSkyRegion,
    Region,
    Regions,
    SkyRegion,
    TextPixelRegion,
    TextSkyRegion,
)

from cosmosaic.exposures.exclusion import is_named
from cosmosaic.geometry.grid import pixel_to_sky
from cosmosaic.geometry.sphere import Footprint, footprints_overlap
from cosmosaic.geometry.wcs import wcs_header
from cosmosaic.records import Exposure, MosaicGrid
from cosmosaic.storage import store
from cosmosaic.survey import Survey

SETTING = "regions"
WITHOUT_AREA = (
    PointPixelRegion, PointSkyRegion, TextPixelRegion, TextSkyRegion, LinePixelRegion, LineSkyRegion,
)  # fmt: skip
PLANE_PIXEL_MAS = 30.0
"""Pixel size of the planes on which regions on the sky are compared with exposures."""


class RegionError(ValueError):
    """A region file cannot be used; the message names it, the fault and the remedy."""


def read_regions(text: str, name: str) -> tuple[Region, ...]:
    """Read a ds9 region file.

    Parameters
    ----------
    text
        Its content.
    name
        Name of the file, for messages.

    Raises
    ------
    RegionError
        It cannot be read, has no region, or has a shape without area or unknown to ``regions``.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = tuple(Regions.parse(text, format="ds9"))
        except Exception as error:
            raise RegionError(f"{SETTING}: {name} cannot be read as a ds9 region file: {error}") from error
    if said:
        raise RegionError(
            f"{SETTING}: {name}: {said[0].message}; draw it as a circle, ellipse, box, annulus or polygon and save "
            f"it in ds9's own format"
        )
    if not found:
        raise RegionError(
            f"{SETTING}: {name} has no region; remove it from {SETTING}, or save it again in ds9's format"
        )
    for region in found:
        if isinstance(region, WITHOUT_AREA):
            raise RegionError(f"{SETTING}: {name}: a {_kind(region)} has no area; draw a box or a polygon instead")
    return found


def check_regions(survey: Survey, exposures: Iterable[Exposure]) -> tuple[str, ...]:
    """Read all region files before the work; warn of regions that change nothing, in one sentence each.

    Raises
    ------
    RegionError
        A file cannot be used.
    FileNotFoundError
        It does not exist.
    """
    exposures, told = list(exposures), []
    for pattern, uri in survey.regions.items():
        drawn = read_regions(store.read_bytes(uri).decode(errors="replace"), uri)
        named = [exposure for exposure in exposures if is_named(exposure, pattern)]
        if not named:
            told.append(f"{SETTING}: {pattern} matches no exposure, so {uri} is not used")
        for region in drawn if named else ():
            if isinstance(region, SkyRegion) and not any(_reaches(region, each.footprint) for each in named):
                told.append(f"{SETTING}: {uri}: the {_kind(region)} at {_place(region)} lies outside of all exposures")
    return tuple(told)


def anchor(region: SkyRegion) -> SkyCoord:
    """A direction in or near a region: its centre, or its first corner."""
    place = region.vertices[0] if hasattr(region, "vertices") else region.center
    return place.icrs


def plane_at(place: SkyCoord) -> MosaicGrid:
    """Return pixels of a plane that touches the sky at a place, which is at (-0.5, -0.5); its shape is a dummy."""
    return MosaicGrid(
        tangent_ra=float(place.ra.deg),
        tangent_dec=float(place.dec.deg),
        rotation=0.0,
        pixel_scale_mas=PLANE_PIXEL_MAS,
        crpix=(-0.5, -0.5),
        shape=(1, 1),
    )


def _reaches(region: SkyRegion, footprint: Footprint) -> bool:
    grid = plane_at(anchor(region))
    box = region.to_pixel(WCS(wcs_header(grid))).bounding_box
    left, right, bottom, top = (edge - 0.5 for edge in (box.ixmin, box.ixmax, box.iymin, box.iymax))
    corners = pixel_to_sky(grid, [(left, bottom), (right, bottom), (right, top), (left, top)])
    return footprints_overlap(footprint, [(float(ra), float(dec)) for ra, dec in corners])


def _kind(region: Any) -> str:
    return type(region).__name__.removesuffix("PixelRegion").removesuffix("SkyRegion").lower()


def _place(region: SkyRegion) -> str:
    place = anchor(region)
    return f"RA {place.ra.deg:.6f}, Dec {place.dec.deg:.6f}"
