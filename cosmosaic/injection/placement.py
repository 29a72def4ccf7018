"""Positions of injected sources: at random, but kept off each other."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from cosmosaic.geometry.grid import pixel_to_sky, sky_to_pixel
from cosmosaic.geometry.sphere import Footprint
from cosmosaic.geometry.windows import lattice
from cosmosaic.records import MosaicGrid
from cosmosaic.survey import InjectionSettings

Positions = tuple[tuple[float, float], ...]
"""(RA, Dec) in degrees, ICRS."""

SPACING_ARCSEC = 2.0
"""Injected sources of a round are not closer than this to each other."""
RIM_ARCSEC = 1.0
"""They keep this distance from the rim of the exposures."""
REACH_ARCSEC = 4.0
"""An exposure gets the sources to this distance outside of it, for their wings."""
MOST_ROUNDS = 20
"""Each round repeats the reduction, so that they are limited; fewer sources are injected if more were needed."""
TRIES = 50
"""Positions drawn for each source that is wanted."""
DIGITS = 8
"""Of positions in degrees: 0.04 mas."""


class NoRoomError(ValueError):
    """No source can be injected anywhere."""


def place_sources(
    windows: Sequence[MosaicGrid], footprints: Iterable[Footprint], settings: InjectionSettings
) -> tuple[dict[str, Positions], ...]:
    """Draw positions in the parts of some windows that exposures cover, evenly over their area.

    There are as many rounds as the number of sources and the largest density need, up to `MOST_ROUNDS`. Within a round
    sources keep `SPACING_ARCSEC` from each other; the sources of the sky itself play no part, because completeness
    includes the light of neighbours.

    Parameters
    ----------
    windows
        Windows with one pixel scale.
    footprints
        Of all exposures.
    settings
        Number, density and seed.

    Returns
    -------
    rounds
        Positions by the window's name; a position in several windows belongs to the first.

    Raises
    ------
    NoRoomError
        The exposures cover none of the windows.
    """
    grid = lattice(windows[0])
    arcsec = 1000.0 / grid.pixel_scale_mas
    boxes = {window.tile: _box(window) for window in windows}
    covered = shapely.union_all([shapely.Polygon(sky_to_pixel(grid, footprint)) for footprint in footprints])
    area = shapely.intersection(covered.buffer(-RIM_ARCSEC * arcsec), shapely.union_all(list(boxes.values())))
    room = settings.per_arcmin2 * area.area / (60.0 * arcsec) ** 2
    if room <= 0:
        raise NoRoomError("no room for injected sources: the exposures cover no part of the windows with a catalogue")
    most = max(int(room), 1)
    number = min(-(-settings.sources // most), MOST_ROUNDS)
    wanted = min(-(-settings.sources // number), most)
    rounds = []
    for counted in range(number):
        random = np.random.default_rng([settings.seed, counted])
        places = _spread(area, wanted, SPACING_ARCSEC * arcsec, random)
        sky = np.round(pixel_to_sky(grid, places), DIGITS)
        rounds.append(_by_window(places, sky, boxes))
    return tuple(rounds)


def reaches(positions: Positions, footprint: Footprint, window: MosaicGrid) -> bool:
    """Return whether light of some sources may reach an exposure."""
    grid, arcsec = lattice(window), 1000.0 / window.pixel_scale_mas
    around = shapely.Polygon(sky_to_pixel(grid, footprint)).buffer(REACH_ARCSEC * arcsec)
    places = sky_to_pixel(grid, positions)
    return bool(shapely.contains_xy(around, places[:, 0], places[:, 1]).any())


def _box(window: MosaicGrid) -> shapely.Polygon:
    """A window's outline in pixels of its lattice."""
    x, y = np.asarray(lattice(window).crpix) - window.crpix - 0.5
    rows, columns = window.shape
    return shapely.box(x, y, x + columns, y + rows)


def _spread(area: shapely.Geometry, wanted: int, spacing: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw positions (x, y) in an area, none closer than ``spacing`` to an earlier one; fewer if there is no room."""
    left, bottom, right, top = area.bounds
    drawn = random.random((TRIES * wanted, 2)) * (right - left, top - bottom) + (left, bottom)
    kept = np.empty((0, 2))
    for place in drawn[shapely.contains_xy(area, drawn[:, 0], drawn[:, 1])]:
        if len(kept) == wanted:
            break
        if not len(kept) or np.hypot(*(kept - place).T).min() >= spacing:
            kept = np.vstack([kept, place])
    return kept


def _by_window(
    places: NDArray[np.float64], sky: NDArray[np.float64], boxes: Mapping[str, shapely.Polygon]
) -> dict[str, Positions]:
    left, found = np.full(len(places), True), dict[str, Positions]()
    for tile, box in boxes.items():
        inside = left & shapely.contains_xy(box, places[:, 0], places[:, 1])
        left &= ~inside
        if inside.any():
            found[tile] = tuple((float(ra), float(dec)) for ra, dec in sky[inside])
    return found
