"""The parts of the sky in which all filters are judged together."""

from cosmosaic.exposures.windows import parts_of_sky
from cosmosaic.geometry.sphere import plane_to_sky
from cosmosaic.geometry.windows import Box, box_of, window_of
from cosmosaic.records import Lattice, Windows

LATTICE = Lattice(tangent_ra=150.1, tangent_dec=2.2, rotation=0.0, pixel_scale_mas=30.0)
WHOLE = window_of(LATTICE, Box(-5000, -1500, 10000, 3000), "full")


def square(east: float, north: float, side: float = 20.0):
    """Corners of an exposure, its middle in arcsec from the tangent point."""
    places = [(east + x * side / 2, north + y * side / 2) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return [tuple(corner) for corner in plane_to_sky((150.1, 2.2), places)]


def test_the_users_tiles_are_the_parts() -> None:
    tiles = (window_of(LATTICE, Box(0, 0, 500, 400), "west"), window_of(LATTICE, Box(-500, 0, 500, 400), "east"))
    larger = window_of(LATTICE.model_copy(update={"pixel_scale_mas": 60.0}), Box(0, 0, 250, 200), "west")
    windows = {"F277W": Windows(larger, (larger,)), "F115W": Windows(WHOLE, tiles)}
    assert parts_of_sky({"a": square(0.0, 0.0)}, windows) == tiles


def test_without_tiles_squares_of_tiles_that_exposures_reach_are_the_parts() -> None:
    footprints = {"a": square(0.0, 0.0), "b": square(140.0, 20.0)}
    parts = parts_of_sky(footprints, {"F115W": Windows(WHOLE)})
    assert len(parts) == len({part.tile for part in parts}) == 3
    for part in parts:
        box, (first, last) = box_of(part), part.tile.split("-")
        assert box.width <= 4 * 1024
        assert box.height <= 4 * 1024
        assert first
        assert last
    # East is to the left: the second exposure is in a part of its own.
    assert min(box_of(part).x for part in parts) < -140 / 0.03
    assert parts_of_sky({}, {}) == ()
