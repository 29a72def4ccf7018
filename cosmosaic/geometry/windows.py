"""Tiles: square windows of the survey's pixel lattice, the units of memory, of work and of caching.

Lattice pixels are counted from the tangent point: pixel (0, 0) is the first one that begins at or beyond it in both
axes. The tiles are anchored there too, the central one centred on it, so that they stay the same when exposures are
added.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from cosmosaic.geometry.grid import margin_pixels, sky_to_pixel
from cosmosaic.geometry.sphere import FloatArray, Footprint, GridError, touches
from cosmosaic.records import Lattice, MosaicGrid
from cosmosaic.survey import GridSettings

DEFAULT_TILE_PIXELS = 1024
TILES_TOGETHER = 4
CORNER = (-0.5, -0.5)
"""0-based reference pixel of a window that begins at the tangent point."""
TILE_COLUMNS = ("name", "crpix_x", "crpix_y", "nx", "ny")
TILE_SIZES = ("nx", "ny")
"""Columns of a user's table of tiles, and the columns with sizes."""
TILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
"""A name that can be part of a product's name."""
WHOLE = "full"
"""Name of the window of the whole mosaic."""
CRPIX_STEPS = 2**20
"""Reference pixels are multiples of 1 / CRPIX_STEPS pixels, so that their differences to whole pixels are exact."""
CELL_PIXELS = 8
"""Width in detector pixels of the cells on which sky levels are measured."""


class Box(NamedTuple):
    """A rectangle of lattice pixels."""

    x: int
    y: int
    width: int
    height: int

    def intersection(self, other: "Box") -> "Box":
        """Return the common part; its width or height is 0 if there is none."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        width = min(self.x + self.width, other.x + other.width) - x
        height = min(self.y + self.height, other.y + other.height) - y
        return Box(x, y, max(width, 0), max(height, 0))

    def within(self, other: "Box") -> tuple[slice, slice]:
        """Return the rows and columns that the rectangle, a part of another, has in the other's array."""
        x, y = self.x - other.x, self.y - other.y
        return slice(y, y + self.height), slice(x, x + self.width)

    def padded(self, width: int) -> "Box":
        """Return the rectangle enlarged by a number of pixels on each side."""
        return Box(self.x - width, self.y - width, self.width + 2 * width, self.height + 2 * width)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height


def covering(boxes: Iterable[Box]) -> Box:
    """Return the smallest rectangle that contains all others; empty ones are ignored."""
    filled = [box for box in boxes if box.pixels]
    if not filled:
        return Box(0, 0, 0, 0)
    left, bottom = min(box.x for box in filled), min(box.y for box in filled)
    right, top = max(box.x + box.width for box in filled), max(box.y + box.height for box in filled)
    return Box(left, bottom, right - left, top - bottom)


def lattice(grid: Lattice) -> Lattice:
    """Return the lattice that a window is a part of: its tangent point lies in pixel -1, or where that ends."""
    x, y = (value - math.floor(value) - 1.0 for value in grid.crpix)
    return Lattice(
        tangent_ra=grid.tangent_ra,
        tangent_dec=grid.tangent_dec,
        rotation=grid.rotation,
        pixel_scale_mas=grid.pixel_scale_mas,
        crpix=(x, y),
    )


def cell_lattice(grid: Lattice, detector_pixel_arcsec: float) -> Lattice:
    """Return the lattice of the cells on which sky levels are measured."""
    scale_mas = round(1000 * CELL_PIXELS * detector_pixel_arcsec)
    return Lattice(
        tangent_ra=grid.tangent_ra,
        tangent_dec=grid.tangent_dec,
        rotation=grid.rotation,
        pixel_scale_mas=float(scale_mas),
    )


def box_of(window: MosaicGrid) -> Box:
    """Return the pixels of a window in its lattice."""
    x, y = (-1 - math.floor(value) for value in window.crpix)
    rows, columns = window.shape
    return Box(x, y, columns, rows)


def window_of(grid: Lattice, box: Box, name: str) -> MosaicGrid:
    """Return a rectangle of the lattice, or of the one that a window is a part of, as a window."""
    x, y = lattice(grid).crpix
    return MosaicGrid(
        tangent_ra=grid.tangent_ra,
        tangent_dec=grid.tangent_dec,
        rotation=grid.rotation,
        pixel_scale_mas=grid.pixel_scale_mas,
        crpix=(x - box.x, y - box.y),
        shape=(box.height, box.width),
        tile=name,
    )


def tiles_of(window: MosaicGrid, size: int = DEFAULT_TILE_PIXELS) -> tuple[MosaicGrid, ...]:
    """Return the tiles that a window needs, row by row; they are complete, and may extend beyond it.

    Parameters
    ----------
    window
        The window to cover.
    size
        Side of a tile in pixels.
    """
    box, half = box_of(window), size // 2
    columns = range(math.floor((box.x + half) / size), math.ceil((box.x + half + box.width) / size))
    rows = range(math.floor((box.y + half) / size), math.ceil((box.y + half + box.height) / size))
    return tuple(
        window_of(window, Box(column * size - half, row * size - half, size, size), tile_name(column, row))
        for row in rows
        for column in columns
    )


def tile_name(column: int, row: int) -> str:
    """Name a tile by its place in the lattice: ``e0n1`` lies above the one centred on the tangent point."""
    return f"{'w' if column < 0 else 'e'}{abs(column)}{'s' if row < 0 else 'n'}{abs(row)}"


def touched_tiles(
    tiles: Sequence[MosaicGrid], footprints: Mapping[str, Footprint]
) -> dict[str, tuple[MosaicGrid, ...]]:
    """Return the tiles of one grid that exposures can contribute to, by the exposure's name, judged by footprints."""
    if not tiles or not footprints:
        return dict.fromkeys(footprints, ())
    edges = np.array([(box.x, box.y, box.x + box.width, box.y + box.height) for box in map(box_of, tiles)])
    # Pixels of the lattice are counted from the tangent point; windows near enough are compared corner by corner.
    index, grid, margin = shapely.STRtree(shapely.box(*edges.T)), lattice(tiles[0]), margin_pixels(tiles[0])
    # The corners of all at once, since a call takes longer than a corner.
    corners = sky_to_pixel(grid, [corner for footprint in footprints.values() for corner in footprint])
    polygons = np.split(corners, np.cumsum([len(footprint) for footprint in footprints.values()])[:-1])

    def touched(polygon: FloatArray) -> tuple[MosaicGrid, ...]:
        if not np.isfinite(polygon).all():
            return ()
        around = shapely.box(*(polygon.min(axis=0) - margin - 1.0), *(polygon.max(axis=0) + margin + 1.0))
        found = (tiles[number] for number in sorted(index.query(around).tolist()))
        return tuple(tile for tile in found if touches(polygon - grid.crpix + tile.crpix, tile.shape, margin))

    return dict(zip(footprints, map(touched, polygons), strict=True))


def tiles_around(tiles: Sequence[MosaicGrid], sky: FloatArray) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Find the tiles of one lattice in which directions lie.

    Parameters
    ----------
    tiles
        Windows of one lattice, which may overlap.
    sky
        (RA, Dec) in degrees, shape ``(N, 2)``.

    Returns
    -------
    Pairs of a direction and a tile that holds it: the number of the direction, and that of the tile.
    """
    if not tiles or not len(sky):
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    x, y = sky_to_pixel(lattice(tiles[0]), sky).T
    edges = np.array([(box.x, box.y, box.x + box.width, box.y + box.height) for box in map(box_of, tiles)]) - 0.5
    direction, tile = shapely.STRtree(shapely.box(*edges.T)).query(shapely.points(x, y), predicate="intersects")
    return direction, tile


def neighbouring(tiles: Sequence[MosaicGrid]) -> tuple[tuple[MosaicGrid, ...], ...]:
    """Sort tiles into squares of `TILES_TOGETHER` by as many of the largest one, each in the order of the tiles."""
    side = TILES_TOGETHER * max((max(tile.shape) for tile in tiles), default=1)
    squares: dict[tuple[int, int], list[MosaicGrid]] = {}
    for tile in tiles:
        box = box_of(tile)
        squares.setdefault((box.x // side, box.y // side), []).append(tile)
    return tuple(map(tuple, squares.values()))


def read_tiles(
    text: str, source: str, settings: GridSettings, like: tuple[float, float] = CORNER
) -> tuple[MosaicGrid, ...]:
    """Read a user's table of tiles.

    Tiles may overlap: they are windows of one lattice, and their common pixels are the same.

    Parameters
    ----------
    text
        A table in ECSV or CSV: ``name``; ``crpix_x`` and ``crpix_y``, the 0-based pixel of the tangent point, as
        jwst's resample takes it (CRPIX of a FITS header minus 1); ``nx`` and ``ny``, columns and rows.
    source
        Name of the table; its suffix gives the format.
    settings
        The grid, in whose pixels tiles are counted.
    like
        0-based reference pixel of a window of the same pixels.

    Raises
    ------
    cosmosaic.geometry.sphere.GridError
        The table cannot be read, lacks a column or has no row; a name occurs twice or cannot be part of a file name; a
        tile does not begin on a pixel's edge, or a size is not positive; a tile has more pixels than
        ``settings.largest_mpix`` allows, or does not nest in pixels ``settings.long_wavelength_factor`` times larger.
    """
    if settings.tangent_ra is None or settings.tangent_dec is None:
        raise GridError(
            f"{source}: tiles are positioned relative to a tangent point; give grid.tangent_ra and grid.tangent_dec"
        )
    tiles: list[MosaicGrid] = []
    for row in _tile_rows(text, source):
        tile = MosaicGrid(
            tangent_ra=settings.tangent_ra,
            tangent_dec=settings.tangent_dec,
            rotation=settings.rotation,
            pixel_scale_mas=settings.pixel_scale_mas,
            crpix=(in_steps(row["crpix_x"]), in_steps(row["crpix_y"])),
            shape=(int(row["ny"]), int(row["nx"])),
            tile=row["name"],
        )
        _check_tile(tile, settings, source)
        _check_place(tile, settings.long_wavelength_factor, like, source)
        if tile.tile in {other.tile for other in tiles}:
            raise GridError(f"{source}: tile {tile.tile} is defined twice; give each its own name")
        tiles.append(tile)
    return tuple(tiles)


def in_larger_pixels(window: MosaicGrid, factor: int) -> MosaicGrid:
    """Return the same window in pixels a whole factor larger, which must nest in it.

    0-based reference pixels relate as ``(c + 0.5) / factor - 0.5``.
    """
    rows, columns = window.shape
    x, y = (in_steps((value + 0.5) / factor - 0.5) for value in window.crpix)
    return window.model_copy(
        update={
            "crpix": (x, y),
            "shape": (rows // factor, columns // factor),
            "pixel_scale_mas": window.pixel_scale_mas * factor,
        }
    )


def in_steps(crpix: float) -> float:
    """Round a coordinate of a reference pixel to a millionth of a pixel."""
    return round(crpix * CRPIX_STEPS) / CRPIX_STEPS


def clipped_to(window: MosaicGrid, tiles: Sequence[MosaicGrid]) -> MosaicGrid:
    """Return the part of a window that lies in the smallest rectangle around some tiles."""
    around = covering(box_of(tile) for tile in tiles)
    return window_of(window, box_of(window).intersection(around), window.tile)


class Plan(NamedTuple):
    """Tiles that each exposure reaches."""

    tiles: tuple[MosaicGrid, ...]
    """Tiles that an exposure reaches, row by row."""
    tiles_of_exposure: dict[str, tuple[MosaicGrid, ...]]
    exposures_of_tile: dict[str, tuple[str, ...]]
    """Names of exposures, sorted, by the tile's name."""
    detectors: dict[str, tuple[str, ...]]
    """Names of the exposures of each exposure group, sorted."""

    def companions(self, tile: MosaicGrid) -> tuple[str, ...]:
        """Return the whole exposure groups that reach a tile: weight thresholds depend on all of their detectors."""
        together = {_exposure_of(name) for name in self.exposures_of_tile[tile.tile]}
        return tuple(sorted(name for one in together for name in self.detectors[one]))


def make_plan(footprints: Mapping[str, Footprint], window: MosaicGrid, size: int = DEFAULT_TILE_PIXELS) -> Plan:
    """Find which exposures reach which tiles, by their footprints.

    Parameters
    ----------
    footprints
        Corners (RA, Dec) in degrees by the exposure's name.
    window
        The mosaic.
    size
        Side of a tile in pixels.

    Raises
    ------
    cosmosaic.geometry.sphere.GridError
        An exposure is outside the mosaic.
    """
    tiles = tiles_of(window, size)
    tiles_of_exposure = touched_tiles(tiles, dict(sorted(footprints.items())))
    outside = [name for name, touched in tiles_of_exposure.items() if not touched]
    if outside:
        raise GridError(
            f"{', '.join(outside)}: outside the mosaic of {window.shape[0]} x {window.shape[1]} pixels; "
            f"remove it, or make the mosaic larger"
        )
    exposures_of_tile: dict[str, list[str]] = {}
    detectors: dict[str, list[str]] = {}
    for name, touched in tiles_of_exposure.items():
        detectors.setdefault(_exposure_of(name), []).append(name)
        for tile in touched:
            exposures_of_tile.setdefault(tile.tile, []).append(name)
    return Plan(
        tuple(tile for tile in tiles if tile.tile in exposures_of_tile),
        tiles_of_exposure,
        {tile: tuple(names) for tile, names in exposures_of_tile.items()},
        {exposure: tuple(names) for exposure, names in detectors.items()},
    )


def _exposure_of(name: str) -> str:
    """``jw01727001001_02101_00001_nrcb1`` without the detector."""
    return name.rsplit("_", 1)[0]


def _tile_rows(text: str, source: str) -> list[dict[str, Any]]:
    # Not at the top, which every process imports.
    from astropy.io.ascii import InconsistentTableError
    from astropy.table import Table

    kind = "csv" if source.endswith(".csv") else "ecsv"
    try:
        table = Table.read(text.splitlines(), format=f"ascii.{kind}")
    except (ValueError, InconsistentTableError) as error:
        raise GridError(f"{source}: not a valid {kind.upper()} table ({error})") from error
    missing = [name for name in TILE_COLUMNS if name not in table.colnames]
    if missing:
        raise GridError(f"{source}: no column {', '.join(missing)}; a table of tiles has {', '.join(TILE_COLUMNS)}")
    if not len(table):
        raise GridError(f"{source}: it has no tiles; add a row for each")
    rows = []
    for row in table:
        name = str(row["name"])
        numbers = {column: _number(row[column], column, name, source) for column in TILE_COLUMNS[1:]}
        rows.append({"name": name} | numbers)
    return rows


def _number(value: Any, column: str, name: str, source: str) -> float:
    try:
        number = math.nan if value is np.ma.masked else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or (column in TILE_SIZES and not number.is_integer()):
        whole = "a whole number" if column in TILE_SIZES else "a number"
        raise GridError(f"{source}: tile {name} has {column} = {value}; give {whole} of pixels")
    return number


def _check_tile(tile: MosaicGrid, settings: GridSettings, source: str) -> None:
    name, (rows, columns) = tile.tile, tile.shape
    if not TILE_NAME.fullmatch(name) or name == WHOLE:
        raise GridError(
            f"{source}: {name!r} cannot name a tile; use letters, digits, '.' and '-', and not {WHOLE!r}, which is the "
            f"whole mosaic"
        )
    if rows < 1 or columns < 1:
        raise GridError(f"{source}: tile {name} has nx = {columns}, ny = {rows} pixels; give it a size")
    if rows * columns > 1e6 * settings.largest_mpix:
        raise GridError(
            f"{source}: tile {name} has {rows * columns / 1e6:.0f} megapixels, more than grid.largest_mpix = "
            f"{settings.largest_mpix:g}; make it smaller, or raise grid.largest_mpix"
        )


def _check_place(tile: MosaicGrid, factor: int, like: tuple[float, float], source: str) -> None:
    offset = [own - other for own, other in zip(tile.crpix, like, strict=True)]
    name, (rows, columns) = tile.tile, tile.shape
    if any(value != round(value) for value in offset):
        raise GridError(
            f"{source}: tile {name}: crpix {tile.crpix} places its edges within pixels of the survey; "
            f"0-based crpix must {_whole_from(like)}"
        )
    if any(edge % factor for edge in (*offset, rows, columns)):
        raise GridError(
            f"{source}: tile {name} (crpix {tile.crpix}, nx {columns}, ny {rows}) does not nest in pixels {factor} "
            f"times larger; let crpix{-like[0]:+g}, crpix{-like[1]:+g} and its size be multiples of "
            f"grid.long_wavelength_factor = {factor}"
        )


def _whole_from(like: tuple[float, float]) -> str:
    return "end in .5" if like == CORNER else f"differ from the {like[0]}, {like[1]} of grid.like by whole pixels"
