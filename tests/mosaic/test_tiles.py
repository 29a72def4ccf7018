"""Tiles cover a mosaic without gap or overlap, and stay what they are when it grows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmosaic.mosaic.grid import pixel_to_sky, plane_to_sky, sky_to_pixel, survey_grid
from cosmosaic.mosaic.tiles import Box, box_of, lattice, named_tiles, tiles_of, touched_tiles, window_of
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
    assert all(tile.x % size == tile.y % size == 0 for tile in tiles)


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
def test_the_tiles_that_a_frame_touches_hold_all_of_it(ra: float, dec: float, turn: float, size: int) -> None:
    angle = np.radians(turn)
    matrix = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    frame = np.array([(-30, -20), (35, -25), (30, 30), (-33, 25)]) @ matrix
    corners = [tuple(sky) for sky in plane_to_sky((ra, dec), frame).tolist()]
    window = survey_grid(GridSettings(), {"frame": corners})
    touched = [box_of(tile) for tile in touched_tiles(tiles_of(window, size), corners)]
    # Points of the frame: weighted means of its corners.
    weights = np.random.default_rng(int(size)).dirichlet(np.full(4, 0.5), 60)
    inside = np.concatenate([frame, weights @ frame])
    pixels = np.floor(sky_to_pixel(lattice(window), plane_to_sky((ra, dec), inside)) + 0.5).astype(int)
    for x, y in pixels.tolist():
        assert any(box.intersection(Box(x, y, 1, 1)).pixels for box in touched)


def test_the_public_tiling_of_cosmos_web_can_be_named() -> None:
    rows = [("A1", (10000.5, -20000.5), (24910, 19200)), ("A2", (-9199.5, -20000.5), (24910, 19200))]
    first, second = named_tiles(rows, COSMOS_WEB)
    assert first.shape == (24910, 19200)
    assert box_of(second).x - box_of(first).x == 19200
    np.testing.assert_allclose(pixel_to_sky(first, [first.crpix]), [(150.1163213, 2.200973097)])


def test_tiles_off_the_lattice_or_named_twice_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must end in \.5"):
        named_tiles([("A1", (100.0, 100.5), (10, 10))], COSMOS_WEB)
    with pytest.raises(ValueError, match="A1 is defined twice"):
        named_tiles([("A1", (0.5, 0.5), (10, 10)), ("A1", (9.5, 0.5), (10, 10))], COSMOS_WEB)
