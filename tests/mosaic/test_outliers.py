"""Outliers are flagged as jwst flags them, and with sense where only one or two exposures overlap."""

from pathlib import Path

import numpy as np
import pytest
from drizzle.resample import blot_image
from hypothesis import given, settings
from hypothesis import strategies as st
from stcal.outlier_detection.utils import flag_resampled_crs

from cosmosaic.drizzle.kernel import WEIGHT
from cosmosaic.geometry.pixelmap import PixelMap
from cosmosaic.geometry.windows import Box
from cosmosaic.outliers.flags import (
    LitBox,
    TileReference,
    blot,
    flag_outliers,
    lowest_weight,
    read_reference,
    reference_image,
    write_reference,
)

SNR, SCALE = (5.0, 4.0), (1.2, 0.7)


def holed(generator: np.random.Generator, shape: tuple[int, ...], fraction: float = 0.05) -> np.ndarray:
    image = generator.normal(0.0, 2.0, shape).astype(np.float32)
    image[generator.uniform(size=shape) < fraction] = np.nan
    return image


@given(st.integers(0, 2**32 - 1), st.integers(3, 9))
@settings(max_examples=30, deadline=None)
def test_the_reference_of_three_or_more_is_their_median(seed: int, exposures: int) -> None:
    cube = holed(np.random.default_rng(seed), (exposures, 6, 7), 0.2)
    reference, depth = reference_image(cube)
    np.testing.assert_array_equal(depth, np.isfinite(cube).sum(axis=0))
    many = depth >= 3
    np.testing.assert_allclose(reference[many], np.nanmedian(cube[:, many], axis=0), rtol=1e-6)
    assert np.isnan(reference[depth < 2]).all()


def test_a_cosmic_ray_on_one_of_two_exposures_is_flagged_there_alone() -> None:
    generator = np.random.default_rng(1)
    exposures = generator.normal(0.0, 1.0, (2, 60, 60)).astype(np.float32)
    exposures[0, 30:32, 30] += 40.0
    reference, depth = reference_image(exposures)
    flags = [flag_outliers(image, np.ones_like(image), reference, depth, SNR, SCALE) for image in exposures]
    assert flags[0][30:32, 30].all()
    assert flags[0].sum() <= 4
    assert not flags[1].any()


def test_a_single_exposure_is_never_flagged() -> None:
    image = np.zeros((1, 20, 20), dtype=np.float32)
    image[0, 10, 10] = 1e4
    reference, depth = reference_image(image)
    assert not flag_outliers(image[0], np.ones((20, 20), np.float32), reference, depth, SNR, SCALE).any()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_flags_at_depth_three_are_those_of_jwst(seed: int) -> None:
    generator = np.random.default_rng(seed)
    science, blotted = 4 * holed(generator, (40, 30)), holed(generator, (40, 30))
    error = np.abs(holed(generator, (40, 30)))
    depths = np.full(science.shape, 3, dtype=np.uint8)
    ours = flag_outliers(science, error, blotted, depths, SNR, SCALE)
    theirs = flag_resampled_crs(science, error, blotted, *SNR, *SCALE, 0.0)
    np.testing.assert_array_equal(ours, theirs)


def test_blotted_values_are_those_of_the_package() -> None:
    generator = np.random.default_rng(2)
    rows, columns = np.indices((64, 64), dtype=float)
    mapped = PixelMap(0.9 * columns - 0.3 * rows + 20.0, 0.3 * columns + 0.9 * rows - 5.0)
    image = generator.normal(size=(90, 90)).astype(np.float32)
    image[40:44, 30] = np.nan
    expected = np.full((64, 64), np.nan, dtype=np.float32)
    blot_image(image, np.dstack([mapped.x, mapped.y]), out_img=expected, fillval=np.nan, iscale=1.0, interp="linear")
    shifted = PixelMap(mapped.x + 100, mapped.y - 50)
    ours, depths = blot(TileReference(Box(100, -50, 90, 90), image, np.full(image.shape, 4, np.uint8)), shifted)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(expected))
    np.testing.assert_allclose(ours, expected, atol=2e-5)
    assert set(np.unique(depths)) == {0, 4}


def test_the_depth_of_a_pixel_is_its_shallowest_neighbours() -> None:
    depth = np.array([[3, 3, 2], [3, 3, 3]], dtype=np.uint8)
    image = np.zeros(depth.shape, dtype=np.float32)
    x, y = np.array([[0.5, 1.5]]), np.array([[0.5, 0.5]])
    assert blot(TileReference(Box(0, 0, 3, 2), image, depth), PixelMap(x, y))[1].tolist() == [[3, 2]]


def test_the_threshold_is_that_of_all_detectors_together() -> None:
    strong, weak = np.full(1000, 4.0, np.float32), np.full(1000, 2.0, np.float32)
    assert lowest_weight([strong, weak], 0.7) == pytest.approx(2.1)
    assert lowest_weight([], 0.7) == 0.0


def test_an_exposure_is_shown_what_lies_under_it_and_no_more(tmp_path: Path) -> None:
    light = np.zeros((20, 30, 5), dtype=np.float32)
    light[5:15, 5:25, WEIGHT] = 1.0
    lit = LitBox(Box(100, 50, 30, 20))
    for rows in (light[:8], light[8:]):
        lit.add(rows)
    image, depth = np.ones((60, 60), np.float32), np.full((60, 60), 3, np.uint8)
    before = TileReference(Box(90, 40, 60, 60), image, depth).under(lit)
    assert np.isfinite(before.image).sum() == 12 * 22
    elsewhere, under = image.copy(), image.copy()
    elsewhere[:13], under[16, 20] = 2.0, 2.0
    assert np.array_equal(TileReference(Box(90, 40, 60, 60), elsewhere, depth).under(lit).image, before.image, True)
    assert not np.array_equal(TileReference(Box(90, 40, 60, 60), under, depth).under(lit).image, before.image, True)
    again = read_reference(write_reference(before, tmp_path / "a_e0n0_reference.packed"))
    assert again.box == before.box
    np.testing.assert_array_equal(again.depth, before.depth)
