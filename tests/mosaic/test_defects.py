"""Defects of a mosaic are named by their causes and found at their places."""

import numpy as np
import pytest
from astropy.table import Table

from cosmosaic.geometry.grid import pixel_to_sky
from cosmosaic.mosaic.defects import exposure_table, hole_table, thin_table
from cosmosaic.records import MosaicGrid

GRID = MosaicGrid(
    tangent_ra=150.0, tangent_dec=2.0, rotation=0.0, pixel_scale_mas=30.0, crpix=(199.5, 149.5), shape=(300, 400)
)


def footprint(left, right, bottom=20, top=280):
    corners = np.array([(left, bottom), (right, bottom), (right, top), (left, top)], dtype=float)
    return [tuple(map(float, corner)) for corner in pixel_to_sky(GRID, corners)]


@pytest.fixture
def depth():
    """Two exposures side by side with a gap that a strip above and below closes; holes in the left one."""
    depth = np.zeros(GRID.shape, dtype=np.float32)
    depth[20:280, 20:180] = 3
    depth[20:280, 220:380] = 3
    depth[20:60, 180:220] = depth[240:280, 180:220] = 1
    depth[100, 50:90] = 0
    depth[200:204, 100:104] = 0
    return depth


FOOTPRINTS = {"left": footprint(20, 180), "right": footprint(220, 380)}


def test_gaps_lines_and_spots_are_told_apart(depth):
    table = hole_table(depth > 0, GRID, FOOTPRINTS)
    found = {row["cause"]: row for row in table}
    assert set(found) == {"no coverage", "line of bad pixels", "bad pixels"}
    assert len(table) == 3
    assert (found["no coverage"]["width"], found["no coverage"]["height"]) == (40, 180)
    assert (found["line of bad pixels"]["y"], found["line of bad pixels"]["pixels"]) == (100, 40)
    assert found["bad pixels"]["pixels"] == 16


def test_positions_are_where_the_pixels_are(depth):
    table = hole_table(depth > 0, GRID, FOOTPRINTS)
    expected = pixel_to_sky(GRID, np.stack([table["x"], table["y"]], axis=1))
    np.testing.assert_allclose(np.stack([table["ra"].value, table["dec"].value], axis=1), expected, atol=1e-12)
    line = table[table["cause"] == "line of bad pixels"][0]
    assert 50 <= line["x"] < 90


def test_what_lies_outside_of_the_coverage_is_no_hole(depth):
    open_gap = depth.copy()
    open_gap[20:60, 180:220] = 0
    assert "no coverage" not in hole_table(open_gap > 0, GRID, FOOTPRINTS)["cause"]


def test_places_with_one_exposure_are_listed_and_cosmic_rays_are_not(depth):
    depth[150:153, 60:63] = 1
    table = thin_table(depth, GRID)
    assert list(table["pixels"]) == [1600, 1600]
    assert set(table["cause"]) == {"single exposure"}


def test_an_exposure_with_stripes_or_a_step_is_named(depth):
    verdict = Table(
        {
            "metric": ["step", "zero", "rows", "columns"],
            "state": ["fail", "fail", "warn", "pass"],
            "where": ["left", "", "right", "left"],
        }
    )
    table = exposure_table(verdict, GRID, FOOTPRINTS)
    assert [tuple(row) for row in table["cause", "exposure"]] == [("step", "left"), ("1/f noise", "right")]
    assert table["x"][0] == pytest.approx(100, abs=0.01)


def test_a_whole_mosaic_has_no_defects():
    assert len(hole_table(np.ones(GRID.shape, dtype=bool), GRID, FOOTPRINTS)) == 0
