"""Interpolated pixel maps are exact to a hundred-thousandth of a pixel, or are not interpolated."""

from collections.abc import Callable

import numpy as np
import pytest

from cosmosaic.geometry.grid import pixel_to_sky
from cosmosaic.geometry.pixelmap import PixelMap, exact_map, sampled_map, whole_map
from cosmosaic.records import MosaicGrid

GRID = MosaicGrid(
    tangent_ra=359.9999, tangent_dec=60.0, rotation=20.0, pixel_scale_mas=30.0, crpix=(-0.5, -0.5), shape=(1, 1)
)
SHAPE = (200, 300)
Distortion = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class FrameWcs:
    """A WCS whose pixels fall on known pixels of the grid, counting how often it is asked."""

    def __init__(self, distortion: Distortion) -> None:
        self.distortion = distortion
        self.points = 0

    def __call__(self, x: np.ndarray, y: np.ndarray, with_bounding_box: bool) -> tuple[np.ndarray, np.ndarray]:
        self.points += x.size
        mapped = np.stack([np.ravel(plane) for plane in self.distortion(x, y)], axis=1)
        ra, dec = pixel_to_sky(GRID, mapped).T
        return ra.reshape(x.shape), dec.reshape(x.shape)


def pixel_map(wcs: FrameWcs, grid: MosaicGrid, shape: tuple[int, int]) -> PixelMap:
    return whole_map(sampled_map(wcs, grid, shape), shape)


def smooth(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return 1.03 * x + 1e-6 * x * y - 2e-9 * x**3, 1.02 * y - 0.01 * x + 3e-6 * x**2


def rippled(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x + 1e-3 * np.sin(x / 5), y


@pytest.mark.parametrize("distortion", [smooth, rippled])
def test_every_pixel_falls_where_the_wcs_says(distortion: Distortion) -> None:
    mapped = pixel_map(FrameWcs(distortion), GRID, SHAPE)
    rows, columns = np.indices(SHAPE, dtype=float)
    for plane, expected in zip((mapped.x, mapped.y), distortion(columns, rows), strict=True):
        np.testing.assert_allclose(plane, expected, atol=1e-5)


def test_a_smooth_map_is_interpolated_and_a_rippled_one_is_not() -> None:
    for distortion, interpolated in ((smooth, True), (rippled, False)):
        wcs = FrameWcs(distortion)
        pixel_map(wcs, GRID, SHAPE)
        assert (wcs.points < SHAPE[0] * SHAPE[1] / 10) is interpolated


def test_a_map_with_holes_is_exact() -> None:
    def holed(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.where(x > 250, np.nan, x), y

    mapped = pixel_map(FrameWcs(holed), GRID, SHAPE)
    assert np.isnan(mapped.x[:, 251:]).all()
    assert np.isfinite(mapped.x[:, :251]).all()


def test_a_small_exposure_is_mapped_exactly() -> None:
    mapped = pixel_map(FrameWcs(smooth), GRID, (20, 30))
    exact = exact_map(FrameWcs(smooth), GRID, (20, 30))
    np.testing.assert_array_equal([mapped.x, mapped.y], exact)


def test_bounds_of_blocks_ignore_what_has_no_place() -> None:
    x = np.array([[np.nan, 1.0, 2.0], [5.0, np.nan, -3.0]])
    np.testing.assert_array_equal(PixelMap(x, 2 * x).bounds, np.reshape([-3, 5, -6, 10], (4, 1, 1)))
    rows, columns = np.indices((40, 70), dtype=float)
    bounds = PixelMap(columns, rows).bounds
    assert bounds.shape == (4, 2, 3)
    assert bounds[:, 1, 2].tolist() == [64, 69, 32, 39]
