"""What varies over an exposure: stripes, planes, the background of the mosaic; and cells on disk."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from support.skies import GRID, OFFSETS, PIXEL_RMS, make_survey, scene

from cosmosaic.cells.survey import gather, stack, without_patterns
from cosmosaic.cells.units import read_cells, write_cells
from cosmosaic.exposures.patterns import (
    pattern_at,
    pattern_image,
    patterns_text,
    read_exposure_sky,
    write_exposure_sky,
)
from cosmosaic.geometry.windows import lattice
from cosmosaic.sky.methods import METHODS, SkyInputs, find_sources, values_of
from cosmosaic.sky.planes import detilt
from cosmosaic.survey import SkyMethod

TRUE = 0.3 + PIXEL_RMS * np.array([0.0, 0.3, -0.2, 0.1, 0.25, -0.3, 0.15, -0.1])


def inputs(survey, tmp_path, table=None):
    return SkyInputs(survey, [], table, tmp_path)


def test_nodes_of_a_plane_are_a_plane_to_the_edges():
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 11), np.linspace(-0.5, 0.5, 7))
    nodes = np.array([[-0.25, 0.25]]) * 3.0 + np.array([[-0.25], [0.25]]) * 2.0
    np.testing.assert_allclose(pattern_at(nodes, x, y), 3 * x + 2 * y, atol=1e-12)


def test_patterns_on_disk_and_on_pixels_leave_the_level(tmp_path):
    stripes = np.sin(np.arange(20.0))[:, None]
    level, (read,) = read_exposure_sky(write_exposure_sky(0.25, patterns_text([stripes]), tmp_path / "a_sky.json"))
    assert level == 0.25
    np.testing.assert_allclose(read, stripes, atol=1e-8)
    usable = np.random.default_rng(1).random((640, 640)) < 0.9
    image = pattern_image([read], usable)
    assert abs(image[usable].mean()) < 1e-6
    # In the middle of a bin of 32 rows stands the bin's own value, up to the common shift.
    middle = image[[15, 47, 79], 100] - image[15, 100]
    np.testing.assert_allclose(middle, (stripes[:3, 0] - stripes[0, 0]), atol=0.05)


def test_patterns_on_pixels_are_what_they_are_at_the_pixels_places():
    nodes = np.random.default_rng(2).standard_normal((5, 3))
    y, x = np.meshgrid((np.arange(80) + 0.5) / 80 - 0.5, (np.arange(70) + 0.5) / 70 - 0.5, indexing="ij")
    expected = pattern_at(nodes, x, y)
    image = pattern_image([nodes], np.full((80, 70), True))
    np.testing.assert_allclose(image, expected - expected.mean(), atol=1e-6)


def test_a_plane_on_one_exposure_is_found_and_the_level_kept():
    def tilt(number, x, y):
        return 0.3 * PIXEL_RMS * x * (number == 2)

    survey = make_survey(TRUE, own=tilt)
    sources, levels = find_sources(survey)[:2]
    flat, planes = detilt(survey, levels, ~sources)
    slope = 2 * (planes["exposure2"][0][0, 1] - planes["exposure2"][0][0, 0])
    # Where nothing else is observed the plane is extrapolated; two thirds of this exposure are shared.
    assert slope == pytest.approx(0.3 * PIXEL_RMS, rel=0.25)
    assert max(np.abs(planes[f"exposure{n}"][0]).max() for n in (0, 1, 3, 4, 5, 6, 7)) < 0.04 * PIXEL_RMS
    for before, after in zip(survey.exposures, flat.exposures, strict=True):
        assert after.mean.mean() == pytest.approx(before.mean.mean(), abs=1e-12)


def test_light_in_a_narrow_rim_is_no_slope_of_the_whole_detector():
    def rim(number, x, y):
        return 0.3 * PIXEL_RMS * x * ((number == 0) & (y > 1 / 3))

    whole = make_survey(TRUE, own=rim)
    # Of these two, a sixth overlaps: where the one has light of its own.
    survey = replace(whole, exposures=(whole.exposures[0], whole.exposures[3]))
    sources, levels = find_sources(survey)[:2]
    _, planes = detilt(survey, levels, ~sources)
    assert max(np.abs(nodes).max() for (nodes,) in planes.values()) < 0.01 * PIXEL_RMS


def test_surface_takes_a_slope_out_of_the_mosaic_and_leaves_the_broad_galaxy(tmp_path):
    y, x = np.indices(GRID.shape)
    slope = 0.4 * PIXEL_RMS * (x / GRID.shape[1] - 0.5)

    def own(number, _x, _y):
        row, column = OFFSETS[number]
        return slope[row : row + 96, column : column + 96]

    survey = make_survey(TRUE, own=own)
    sky = METHODS["surface"].measure(inputs(survey, tmp_path))
    overlap = METHODS["overlap"].measure(inputs(survey, tmp_path))
    free = ~find_sources(survey).sources

    def flattened(sky):
        return stack(without_patterns(survey, sky.patterns), values_of(sky.levels))

    def slope_left(image):
        seen = free & np.isfinite(image)
        return image[:, -60:][seen[:, -60:]].mean() - image[:, :60][seen[:, :60]].mean()

    after, before = flattened(sky), flattened(overlap)
    assert abs(slope_left(after)) < 0.3 * abs(slope_left(before))
    true = scene(np.random.default_rng(1), 60)
    assert abs((after - true)[free & np.isfinite(after)].mean()) < 0.01 * PIXEL_RMS
    at_galaxy = np.hypot(x - 60, y - 60) < 6
    assert after[at_galaxy].sum() == pytest.approx(true[at_galaxy].sum(), rel=0.025)


def test_cells_on_disk_are_the_cells_and_do_not_move_when_exposures_are_added(tmp_path):
    survey = make_survey(TRUE[:4])
    paths = [write_cells(each, tmp_path / f"{each.name}_cells.npz") for each in survey.exposures]
    again = [path.read_bytes() for path in paths]
    for each, content in zip(survey.exposures, again, strict=True):
        assert write_cells(each, tmp_path / f"{each.name}_cells.npz").read_bytes() == content
    whole, part = read_cells(paths, lattice(GRID)), read_cells(paths[2:], lattice(GRID))
    for each, one in zip(survey.exposures, whole.exposures, strict=True):
        np.testing.assert_allclose(one.mean, each.mean, rtol=1e-6)
        assert (one.name, one.detector, one.group, one.pixel_rms) == (each.name, each.detector, each.group, PIXEL_RMS)
    # The blocks that no solution may use are the same sky whichever exposures are there.
    for one, other in zip(whole.exposures[2:], part.exposures, strict=True):
        np.testing.assert_array_equal(whole.held_out[one.window], part.held_out[other.window])


def test_every_method_that_can_be_set_is_in_the_registry():
    assert set(METHODS) == set(get_args(SkyMethod)) - {"auto"}


def test_gathering_keeps_the_distances_between_exposures():
    survey = make_survey(TRUE[:3])
    gathered = gather(survey.exposures[1:], lattice(GRID))
    moved = np.subtract(gathered.exposures[1].origin, gathered.exposures[0].origin)
    assert tuple(moved) == tuple(np.subtract(OFFSETS[2], OFFSETS[1]))
    assert gathered.exposures[0].origin[0] == 0


def test_levels_of_the_user_are_taken_as_they_are(tmp_path):
    survey = make_survey(TRUE[:2])
    table = tmp_path / "levels.csv"
    table.write_text("exposure,level\nexposure0,0.25\nexposure1,0.5\n")
    assert values_of(METHODS["user"].measure(inputs(survey, tmp_path, table)).levels) == {
        "exposure0": 0.25,
        "exposure1": 0.5,
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [("exposure,level\nexposure0,0.25\n", "exposure1"), ("frame,sky\nexposure0,1\n", "exposure and level")],
)
def test_a_table_that_lacks_something_is_refused_by_name(tmp_path, content, words):
    table = tmp_path / "mine.csv"
    table.write_text(content)
    with pytest.raises(ValueError, match=r"mine\.csv") as caught:
        METHODS["user"].measure(inputs(make_survey(TRUE[:2]), tmp_path, table))
    assert words in str(caught.value)
