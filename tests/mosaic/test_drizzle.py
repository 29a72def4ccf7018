"""Sums of an exposure: what replaces flagged pixels, and what is written is read."""

from pathlib import Path

import numpy as np
import pytest

from cosmosaic.drizzle.kernel import WEIGHT, Light
from cosmosaic.drizzle.marks import MarksFile
from cosmosaic.drizzle.packed import Placed, write_planes
from cosmosaic.drizzle.sums import (
    Patch,
    Sums,
    SumsFile,
    cropped,
    drizzle_light,
    exposure_box,
    patches,
    planes_of_tile,
    read_patch,
    weight_samples,
    write_patch,
)
from cosmosaic.geometry.pixelmap import PixelMap
from cosmosaic.geometry.windows import Box
from cosmosaic.survey import DrizzleSettings

SHAPE = (50, 60)
NO_MARKS = Placed(Box(0, 0, 0, 0), np.zeros((0, 0), np.uint8))


@pytest.fixture
def light() -> Light:
    generator = np.random.default_rng(4)
    science = generator.normal(size=SHAPE).astype(np.float32)
    science[20, 20] = 1e5
    variances = tuple(generator.uniform(0.5, 2.0, SHAPE).astype(np.float32) for _ in range(3))
    return Light(science, *variances, np.ones(SHAPE, np.float32))


def turned(scale: float) -> PixelMap:
    rows, columns = np.indices(SHAPE, dtype=float)
    return PixelMap(scale * (0.8 * columns - 0.6 * rows), scale * (0.6 * columns + 0.8 * rows))


@pytest.mark.parametrize("scale", [0.5, 1.03, 2.1])
@pytest.mark.parametrize("kernel", ["square", "turbo", "point"])
def test_patched_sums_are_those_without_the_flagged_pixels(light: Light, scale: float, kernel: str) -> None:
    mapped, settings = turned(scale), DrizzleSettings(kernel=kernel)
    flagged = np.random.default_rng(5).uniform(size=SHAPE) < 0.02
    flagged[20, 20] = flagged[0, 0] = True
    box = exposure_box(mapped, 3.0)
    sums = drizzle_light(light, mapped, box, settings).planes
    (patch,) = patches(light, flagged, mapped, [box], settings)
    sums.reshape(-1, 5)[patch.indices] = patch.values
    without = light._replace(weight=np.where(flagged, np.float32(0), light.weight))
    anew = drizzle_light(without, mapped, box, settings)
    if kernel == "square":
        np.testing.assert_array_equal(sums, anew.planes)
    else:
        np.testing.assert_allclose(sums, anew.planes, rtol=1e-5, atol=1e-5)


def test_the_light_of_an_exposure_lies_within_its_box(light: Light) -> None:
    mapped = turned(1.3)
    box = exposure_box(mapped, 2.0)
    weight = light.weight
    sums = drizzle_light(light, mapped, box, DrizzleSettings())
    assert sums.planes[..., WEIGHT].sum() == pytest.approx(weight.sum(), rel=1e-5)
    assert cropped(sums).planes[..., WEIGHT].sum() == pytest.approx(weight.sum(), rel=1e-5)


def test_sums_are_read_row_by_row(light: Light, tmp_path: Path) -> None:
    mapped = turned(1.0)
    box = exposure_box(mapped, 2.0)
    sums = cropped(drizzle_light(light, mapped, box, DrizzleSettings()))
    other = Sums(Box(-7, 3, 4, 5), np.full((5, 4, 2), 2.0, np.float32))
    tiles = {"e0n0": other, "e1n0": sums}
    planes = (plane for tile, one in tiles.items() for plane in planes_of_tile(tile, one, NO_MARKS))
    path = write_planes(planes, tmp_path / "a_sums.packed")
    for tile, one in tiles.items():
        file = SumsFile(path, tile)
        assert file.box == one.box
        np.testing.assert_array_equal(file.rows(1, 4), one.planes[1:4])


def test_marks_are_those_of_their_tile(tmp_path: Path) -> None:
    empty = Sums(Box(0, 0, 0, 0), np.zeros((0, 0, 2), np.float32))
    marks = {tile: Placed(Box(3, 0, 2, 1), np.full((1, 2), ord(tile), np.uint8)) for tile in "ab"}
    planes = (plane for tile, one in marks.items() for plane in planes_of_tile(tile, empty, one))
    path = write_planes(planes, tmp_path / "a_sums.packed")
    for tile, one in marks.items():
        np.testing.assert_array_equal(MarksFile(path, tile).read(one.box), one.numbers)


def test_nothing_is_kept_where_nothing_was_drizzled(tmp_path: Path) -> None:
    empty = cropped(Sums(Box(5, 6, 20, 30), np.zeros((30, 20, 5), np.float32)))
    path = write_planes(planes_of_tile("e0n0", empty, NO_MARKS), tmp_path / "a_sums.packed")
    assert SumsFile(path, "e0n0").box.pixels == 0
    assert weight_samples(empty, Box(0, 0, 99, 99)).size == 0


def test_a_patch_finds_its_pixels_in_a_smaller_rectangle(tmp_path: Path) -> None:
    patch = Patch(Box(10, 10, 6, 5), np.array([8, 15], np.int32), np.ones((2, 5), np.float32))
    again = read_patch(write_patch(patch, tmp_path / "a_e0n0_patch.npy")).within(Box(11, 11, 4, 3))
    # Pixels (12, 11) and (13, 12) of the lattice.
    assert again.indices.tolist() == [1, 6]
