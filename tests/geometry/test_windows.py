"""Tiles cover a mosaic without gap or overlap, and stay what they are when it grows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmosaic.geometry.grid import overlaps, pixel_to_sky, sky_to_pixel, survey_grid
from cosmosaic.geometry.sphere import GridError, plane_to_sky
from cosmosaic.geometry.windows import (
    Box,
    box_of,
    clipped_to,
    in_larger_pixels,
    lattice,
    make_plan,
    read_tiles,
    tiles_around,
    tiles_of,
    touched_tiles,
    window_of,
)
from cosmosaic.records import MosaicGrid
from cosmosaic.survey import GridSettings

COSMOS_WEB = MosaicGrid(
    tangent_ra=150.1163213,
    tangent_dec=2.200973097,
    rotation=20.0,
    pixel_scale_mas=30.0,
    crpix=(-0.5, -0.5),
    shape=(1, 1),
)

boxes = st.builds(Box, st.integers(-900, 900), st.integers(-900, 900), st.integers(1, 700), st.integers(1, 700))


@given(boxes, st.integers(50, 400))
@settings(max_examples=60, deadline=None)
def test_every_pixel_of_a_window_lies_in_exactly_one_tile(box: Box, size: int) -> None:
    window = window_of(COSMOS_WEB, box, "window")
    assert box_of(window) == box
    tiles = [box_of(tile) for tile in tiles_of(window, size)]
    assert sum(tile.intersection(box).pixels for tile in tiles) == box.pixels
    assert all(a.intersection(b).pixels == 0 for i, a in enumerate(tiles) for b in tiles[:i])
    assert all((tile.x + size // 2) % size == (tile.y + size // 2) % size == 0 for tile in tiles)


@given(boxes, boxes)
@settings(max_examples=60, deadline=None)
def test_a_growing_window_keeps_its_tiles(box: Box, more: Box) -> None:
    x, y = min(box.x, more.x), min(box.y, more.y)
    width = max(box.x + box.width, more.x + more.width) - x
    height = max(box.y + box.height, more.y + more.height) - y
    before = tiles_of(window_of(COSMOS_WEB, box, "a"), 200)
    after = tiles_of(window_of(COSMOS_WEB, Box(x, y, width, height), "a"), 200)
    assert set(before) <= set(after)
    assert len({tile.tile for tile in after}) == len(after)


@given(
    st.one_of(st.sampled_from([0.0, 359.9999, 1e-4, 180.0]), st.floats(0.0, 359.99)),
    st.one_of(st.sampled_from([-90.0, 90.0, 89.995, -89.995, 0.0]), st.floats(-90.0, 90.0)),
    st.floats(0.0, 360.0),
    st.integers(150, 900),
)
@settings(max_examples=60, deadline=None)
def test_the_tiles_that_an_exposure_touches_hold_all_of_it(ra: float, dec: float, turn: float, size: int) -> None:
    angle = np.radians(turn)
    matrix = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    frame = np.array([(-30, -20), (35, -25), (30, 30), (-33, 25)]) @ matrix
    corners = [tuple(sky) for sky in plane_to_sky((ra, dec), frame).tolist()]
    window = survey_grid(GridSettings(), {"frame": corners})
    tiles = tiles_of(window, size)
    away = [(0.3 * x + ra + 120.0, 0.3 * y) for x, y in corners]
    found = touched_tiles(tiles, {"frame": corners, "away": away})
    assert found == {"frame": tuple(tile for tile in tiles if overlaps(tile, corners)), "away": ()}
    touched = [box_of(tile) for tile in found["frame"]]
    # Points of the exposure: weighted means of its corners.
    weights = np.random.default_rng(int(size)).dirichlet(np.full(4, 0.5), 60)
    inside = np.concatenate([frame, weights @ frame])
    pixels = np.floor(sky_to_pixel(lattice(window), plane_to_sky((ra, dec), inside)) + 0.5).astype(int)
    for x, y in pixels.tolist():
        assert any(box.intersection(Box(x, y, 1, 1)).pixels for box in touched)


def test_tiles_are_touched_in_order_by_the_exposures_that_reach_them() -> None:
    draw, window = np.random.default_rng(1), window_of(COSMOS_WEB, Box(-900, -900, 1800, 1800), "window")
    tiles = tiles_of(window, 150)
    corners = np.array([(-200, -200), (210, -190), (190, 200), (-205, 210)])
    footprints = {
        f"e{n}": [tuple(sky) for sky in pixel_to_sky(lattice(window), corners + draw.uniform(-1200, 1200, 2)).tolist()]
        for n in range(40)
    }
    expected = {name: tuple(t for t in tiles if overlaps(t, corners)) for name, corners in footprints.items()}
    assert min(map(len, expected.values())) < 9 < max(map(len, expected.values())) < len(tiles)
    assert touched_tiles(tiles, footprints) == expected
    assert touched_tiles((), footprints) == dict.fromkeys(footprints, ())


def test_companions_of_a_tile_are_all_detectors_of_its_exposures() -> None:
    sky = [tuple(corner) for corner in pixel_to_sky(lattice(COSMOS_WEB), [(0, 0), (90, 0), (90, 90), (0, 90)]).tolist()]
    far = [tuple(corner) for corner in pixel_to_sky(lattice(COSMOS_WEB), [(500, 0), (590, 0), (590, 90)]).tolist()]
    footprints = {"x_1_nrcb2": sky, "x_1_nrcb1": far, "x_2_nrcb1": far}
    plan = make_plan(footprints, window_of(COSMOS_WEB, Box(-100, -100, 800, 300), "window"), 300)
    (here,) = plan.tiles_of_exposure["x_1_nrcb2"]
    assert plan.exposures_of_tile[here.tile] == ("x_1_nrcb2",)
    assert plan.companions(here) == ("x_1_nrcb1", "x_1_nrcb2")


HEADING = "name,crpix_x,crpix_y,nx,ny\n"
PUBLIC = GridSettings(tangent_ra=150.1163213, tangent_dec=2.200973097, rotation=20.0)


def public_tiling() -> str:
    """COSMOS-Web as it is published: twenty tiles of 19200 x 24910 pixels of 30 mas around one tangent point."""
    corners = [(f"{'AB'[i // 2]}{j + 1 + 5 * (i % 2)}", i, j) for i in range(4) for j in range(5)]
    rows = [f"{name},{19200 * (2 - i) - 0.5},{24910 * 2.5 - 24910 * j - 0.5},19200,24910" for name, i, j in corners]
    return HEADING + "\n".join(rows)


def test_the_public_tiling_of_cosmos_web_can_be_named() -> None:
    tiles = read_tiles(public_tiling(), "tiles.csv", PUBLIC)
    assert len(tiles) == 20
    assert {tile.shape for tile in tiles} == {(24910, 19200)}
    for tile in tiles:
        np.testing.assert_allclose(pixel_to_sky(tile, [tile.crpix]), [(150.1163213, 2.200973097)])
    boxes = [box_of(tile) for tile in tiles]
    assert all(a.intersection(b).pixels == 0 for i, a in enumerate(boxes) for b in boxes[:i])
    # Side by side along +x, which rotation turns 20 degrees from west towards north.
    a1, b1 = (tile for tile in tiles if tile.tile in ("A1", "B1"))
    here, there = (pixel_to_sky(tile, [(0.0, 0.0)])[0] for tile in (a1, b1))
    west = (here[0] - there[0]) * np.cos(np.radians(here[1])) * 3600
    north = (there[1] - here[1]) * 3600
    assert np.hypot(west, north) == pytest.approx(2 * 19200 * 0.03, rel=1e-4)
    assert np.degrees(np.arctan2(north, west)) == pytest.approx(20.0, abs=0.1)


def test_named_tiles_in_larger_pixels_cover_the_same_sky() -> None:
    (tile,) = read_tiles(HEADING + "A1,199.5,-100.5,400,240", "tiles.csv", PUBLIC)
    larger = in_larger_pixels(tile, 2)
    assert (larger.pixel_scale_mas, larger.shape) == (60.0, (120, 200))
    corners = [(-0.5, -0.5), (399.5, 239.5)]
    np.testing.assert_allclose(
        pixel_to_sky(larger, [(-0.5, -0.5), (199.5, 119.5)]), pixel_to_sky(tile, corners), atol=1e-12
    )


def test_the_whole_of_named_tiles_is_the_part_of_the_survey_around_them() -> None:
    tiles = [window_of(COSMOS_WEB, box, "t") for box in (Box(-100, 0, 50, 60), Box(0, -30, 70, 90))]
    assert box_of(clipped_to(window_of(COSMOS_WEB, Box(-80, -500, 1000, 1000), "full"), tiles)) == Box(
        -80, -30, 150, 90
    )


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("name,crpix_x,crpix_y,nx\nA1,0.5,0.5,10", "no column ny"),
        (HEADING, "it has no tiles"),
        (HEADING + "A1,100,100.5,10,10", r"tile A1: crpix .* must end in \.5"),
        (HEADING + "A1,0.5,0.5,10,10\nA1,9.5,0.5,10,10", "A1 is defined twice"),
        (HEADING + "A1,0.5,,10,10", "tile A1 has crpix_y = .*; give a number"),
        (HEADING + "A1,0.5,0.5,10.5,10", r"tile A1 has nx = 10\.5; give a whole number"),
        (HEADING + "A1,0.5,0.5,0,10", "nx = 0"),
        (HEADING + "A1,0.5,0.5,60000,60000", r"3600 megapixels, more than grid\.largest_mpix = 2500"),
        (HEADING + "../A1,0.5,0.5,10,10", r"'\.\./A1' cannot name a tile"),
        (HEADING + "full,0.5,0.5,10,10", "'full' cannot name a tile"),
        (HEADING + "A1,0.5", "tile A1 has crpix_y"),
        (HEADING + "A1,0.5,0.5,10,10,7", "not a valid CSV table"),
    ],
)
def test_a_table_of_tiles_that_is_not_fit_for_use_is_refused_with_its_reason(table: str, told: str) -> None:
    with pytest.raises(GridError, match=rf"tiles\.csv: .*{told}"):
        read_tiles(table, "tiles.csv", PUBLIC)


def test_tiles_that_do_not_nest_in_long_wavelength_pixels_are_refused() -> None:
    with pytest.raises(GridError, match="does not nest in pixels 2 times larger"):
        read_tiles(HEADING + "A1,0.5,1.5,10,10", "t.csv", PUBLIC.model_copy(update={"long_wavelength_factor": 2}))


def test_tiles_without_a_tangent_point_are_refused() -> None:
    with pytest.raises(ValueError, match="give tangent_ra and tangent_dec"):
        GridSettings(tiles="tiles.csv")


def test_a_direction_is_in_every_tile_that_holds_it():
    one, two = (window_of(COSMOS_WEB, Box(left, 0, 100, 50), str(left)) for left in (0, 60))
    pixels = np.array([[10.0, 10.0], [80.0, 49.0], [150.0, 0.0], [80.0, 60.0], [-0.9, 10.0]])
    sky = pixel_to_sky(lattice(COSMOS_WEB), pixels)
    pairs = np.stack(tiles_around((one, two), sky), axis=1).tolist()
    assert sorted(pairs) == [[0, 0], [1, 0], [1, 1], [2, 1]]
    assert [each.tolist() for each in tiles_around((), sky)] == [[], []]
    assert [each.tolist() for each in tiles_around((one,), sky[:0])] == [[], []]
