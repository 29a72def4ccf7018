"""The square kernel agrees with the drizzle package and with exact areas."""

import numpy as np
import pytest
from drizzle.resample import Drizzle
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmosaic.drizzle.kernel import (
    POISSON,
    READ_NOISE,
    SCIENCE,
    WEIGHT,
    Drop,
    Light,
    drizzle_square,
    overlap_areas,
)

SHAPE = (14, 17)
EVERYWHERE = np.ones((1, 1), dtype=bool)
"""The one block that an exposure of this shape has."""
MARGIN = 12
INSIDE = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]


def polygon_area(points: list[tuple[float, float]]) -> float:
    """Shoelace formula."""
    x, y = np.array(points).T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def clipped(points: list[tuple[float, float]], axis: int, limit: float, sign: float) -> list[tuple[float, float]]:
    """Part of a convex polygon on one side of a line (Sutherland and Hodgman)."""
    kept = []
    for a, b in zip(points, points[1:] + points[:1], strict=True):
        da, db = sign * (a[axis] - limit), sign * (b[axis] - limit)
        if da >= 0:
            kept.append(a)
        if da * db < 0:
            t = da / (da - db)
            kept.append((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
    return kept


def exact_overlap(corners: np.ndarray, column: int, row: int) -> float:
    points = [tuple(corner) for corner in corners]
    for axis, limit, sign in ((0, column, 1.0), (0, column + 1, -1.0), (1, row, 1.0), (1, row + 1, -1.0)):
        points = clipped(points, axis, limit, sign)
    return polygon_area(points) if len(points) > 2 else 0.0


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 3.0))
def test_overlaps_are_the_exact_polygon_areas(seed: int, side: float) -> None:
    generator = np.random.default_rng(seed)
    angle = generator.uniform(0, 2 * np.pi)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    square = np.array([(-1, 1), (1, 1), (1, -1), (-1, -1)]) * side / 2 * [1, generator.uniform(0.5, 1.5)]
    corners = square @ turn.T + 4 + generator.uniform(-1, 1, 2)
    areas = np.zeros((9, 9))
    overlap_areas(tuple(corners.ravel().tolist()), areas)
    expected = [[exact_overlap(corners, column, row) for column in range(9)] for row in range(9)]
    np.testing.assert_allclose(areas, expected, atol=1e-13)


@st.composite
def geometries(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float]:
    """Pixel map with rotation, scale, flip, curvature and offset, and the number of output over input pixels."""
    scale = draw(st.floats(0.3, 3.0))
    angle = np.radians(draw(st.floats(0, 360)))
    flip = draw(st.sampled_from([-1.0, 1.0]))
    curvature = draw(st.floats(-2e-3, 2e-3))
    rows, columns = np.indices(SHAPE, dtype=float)
    u, v = flip * (columns - 8), rows - 6
    u = u + curvature * u * v
    x = scale * (np.cos(angle) * u - np.sin(angle) * v) + draw(st.floats(-5, 25))
    y = scale * (np.sin(angle) * u + np.cos(angle) * v) + draw(st.floats(-5, 25))
    return x, y, 1.0 / scale


@settings(max_examples=100, deadline=None)
@given(geometries(), st.sampled_from([0.5, 0.8, 1.0]), st.integers(0, 2**32 - 1))
def test_sums_are_those_of_the_package(
    geometry: tuple[np.ndarray, np.ndarray, float], pixfrac: float, seed: int
) -> None:
    x, y, ratio = geometry
    generator = np.random.default_rng(seed)
    science = generator.normal(3.0, 1.0, SHAPE).astype(np.float32)
    variances = tuple(generator.uniform(0.5, 2.0, SHAPE).astype(np.float32) for _ in range(3))
    weight = generator.uniform(0.5, 2.0, SHAPE).astype(np.float32)
    weight[generator.uniform(size=SHAPE) < 0.1] = 0.0
    science[weight == 0] = np.nan
    sums = np.zeros((21, 23, 5), dtype=np.float32)
    drop = Drop(pixfrac, 1.5 * max(1.0, 1.0 / ratio), propagated=False)
    drizzle_square(Light(science, *variances, weight), (x, y), drop, EVERYWHERE, (0, 0), sums)
    for plane, source in ((SCIENCE, science), (POISSON, np.sqrt(variances[0])), (READ_NOISE, np.sqrt(variances[1]))):
        # The package loses light at the edge of its output: it gets a margin, which is cut off.
        package = Drizzle(out_shape=(21 + 2 * MARGIN, 23 + 2 * MARGIN), fillval=0.0, disable_ctx=True)
        package.add_image(
            np.nan_to_num(source),
            exptime=1.0,
            pixmap=np.dstack([x + MARGIN, y + MARGIN]),
            weight_map=weight,
            pixfrac=pixfrac,
            pixel_scale_ratio=ratio,
            in_units="cps",
        )
        expected_weight, expected = package.out_wht[INSIDE], package.out_img[INSIDE]
        solid = expected_weight > 1e-6
        np.testing.assert_allclose(sums[..., WEIGHT], expected_weight, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(sums[..., plane][solid] / sums[..., WEIGHT][solid], expected[solid], rtol=2e-5)


def test_a_window_holds_what_the_whole_holds_there() -> None:
    rows, columns = np.indices(SHAPE, dtype=float)
    x, y = 1.3 * (columns - 0.4 * rows) + 10, 1.3 * (rows + 0.4 * columns) - 3
    planes = [np.full(SHAPE, value, dtype=np.float32) for value in (2.0, 1.0, 1.0, 1.0, 1.0)]
    whole = np.zeros((40, 50, 5), dtype=np.float32)
    part = np.zeros((7, 9, 5), dtype=np.float32)
    for origin, sums in (((0, 0), whole), ((12, 5), part)):
        drizzle_square(Light(*planes), (x, y), Drop(1.0, 2.5, propagated=False), EVERYWHERE, origin, sums)
    np.testing.assert_array_equal(part, whole[5:12, 12:21])


def test_pixels_without_a_place_are_left_out() -> None:
    rows, columns = np.indices(SHAPE, dtype=float)
    x = columns.copy()
    x[5, 5] = np.nan
    ones = np.ones(SHAPE, dtype=np.float32)
    sums = np.zeros((*SHAPE, 5), dtype=np.float32)
    drizzle_square(
        Light(ones, ones, ones, ones, ones), (x, rows), Drop(1.0, 1.5, propagated=False), EVERYWHERE, (0, 0), sums
    )
    assert np.isfinite(sums).all()
    assert sums[5, 5, WEIGHT] == 0.0
    assert sums[0, 0, WEIGHT] == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [0.6, 1.03, 2.1])
def test_propagated_errors_are_the_scatter_of_many_noise_realisations(scale: float) -> None:
    generator = np.random.default_rng(7)
    rows, columns = np.indices(SHAPE, dtype=float)
    x, y = scale * (0.94 * columns - 0.34 * rows) + 8, scale * (0.34 * columns + 0.94 * rows) + 2
    variance = generator.uniform(0.5, 2.0, SHAPE).astype(np.float32)
    weight = (1.0 / variance).astype(np.float32)
    drop = Drop(1.0, 1.5 * max(1.0, scale), propagated=True)
    realisations = []
    for _ in range(400):
        noise = generator.normal(0.0, np.sqrt(variance)).astype(np.float32)
        sums = np.zeros((40, 50, 5), dtype=np.float32)
        drizzle_square(Light(noise, *[variance] * 3, weight), (x, y), drop, EVERYWHERE, (0, 0), sums)
        realisations.append(sums[..., SCIENCE] / np.maximum(sums[..., WEIGHT], 1e-9))
    whole = sums[..., WEIGHT] > 0.5 * np.median(sums[..., WEIGHT][sums[..., WEIGHT] > 0])
    errors = np.sqrt(sums[..., READ_NOISE]) / np.maximum(sums[..., WEIGHT], 1e-9)
    ratio = np.std(realisations, axis=0)[whole] / errors[whole]
    # 400 realisations tell a pixel's scatter to 1 / sqrt(800) = 3.5 %.
    assert np.median(ratio) == pytest.approx(1.0, abs=0.02)
    assert np.std(ratio) < 0.05
