"""Sums over apertures are those of photutils, and neighbours and gaps are replaced."""

import numpy as np
import pytest
from photutils.aperture import CircularAperture, EllipticalAperture, aperture_photometry

from cosmosaic.catalog.apertures import Ellipses, circles, sum_apertures, sum_clear_circles

RANDOM = np.random.default_rng(3)
SHAPE = (80, 90)
IMAGE = RANDOM.normal(1.0, 0.2, SHAPE).astype(np.float32)
VALID = np.ones(SHAPE, bool)
X, Y = RANDOM.uniform(15, 70, 40), RANDOM.uniform(15, 60, 40)


@pytest.mark.parametrize("radius", [2.0, 3.3, 8.0])
def test_circles_sum_as_in_photutils(radius: float) -> None:
    sums = sum_apertures(IMAGE, IMAGE**2, VALID, circles(X, Y, radius))
    # Errors that photutils gives weigh a pixel at the rim by its area until 3.0, and by its square from 3.1 on.
    flux, variance = (
        np.asarray(aperture_photometry(image, CircularAperture(np.stack([X, Y], axis=1), radius))["aperture_sum"])
        for image in (IMAGE, IMAGE**2)
    )
    assert sums.flux == pytest.approx(flux, rel=0.01)
    assert np.sqrt(sums.variance) == pytest.approx(np.sqrt(variance), rel=0.01)
    assert sums.area.mean() == pytest.approx(np.pi * radius**2, rel=1e-3)


@pytest.mark.parametrize("radius", [5.0, 14.0, 28.0])
def test_large_circles_are_as_right_as_small_ones_with_fewer_points_on_their_rim(radius: float) -> None:
    image = RANDOM.normal(1.0, 0.2, (200, 200)).astype(np.float32)
    x, y = RANDOM.uniform(40, 160, (2, 60))
    sums = sum_apertures(image, image, np.ones(image.shape, bool), circles(x, y, radius))
    exact = aperture_photometry(image, CircularAperture(np.stack([x, y], axis=1), radius))["aperture_sum"]
    assert sums.flux == pytest.approx(np.asarray(exact), rel=0.004)


@pytest.mark.parametrize("radius", [0.6, 1.7, 3.5, 10.0, 28.0])
def test_clear_circles_have_the_sums_of_all_circles_up_to_the_border(radius: float) -> None:
    first, second = RANDOM.normal(1.0, 0.2, (2, 70, 60)).astype(np.float32)
    least = radius + 0.01
    places = RANDOM.uniform(least, [59 - least, 69 - least], (200, 2))
    places[:2] = [[least, least], [59 - least, 69 - least]]
    sums = sum_apertures(first, second, np.ones(first.shape, bool), circles(*places.T, radius))
    clear = sum_clear_circles(first, second, places, radius)
    assert clear[0] == pytest.approx(sums.flux, rel=1e-12)
    assert clear[1] == pytest.approx(sums.variance, rel=1e-12)


def test_clear_circles_do_not_see_what_is_beyond_them() -> None:
    image = np.full((40, 40), np.nan, np.float32)
    y, x = np.indices(image.shape)
    image[np.hypot(x - 20.3, y - 19.8) < 10.0 + 0.8] = 1.0
    ((flux,), _) = sum_clear_circles(image, image, np.array([[20.3, 19.8]]), 10.0)
    assert flux == pytest.approx(np.pi * 100, rel=2e-3)


def test_ellipses_sum_as_in_photutils() -> None:
    axes = np.full(40, 9.0), np.full(40, 4.0), np.full(40, 0.6)
    sums = sum_apertures(IMAGE, IMAGE, VALID, Ellipses(X, Y, *axes))
    expected = aperture_photometry(IMAGE, EllipticalAperture(np.stack([X, Y], axis=1), 9.0, 4.0, theta=0.6))
    assert sums.flux == pytest.approx(np.asarray(expected["aperture_sum"]), rel=2e-3)


def test_neighbours_and_gaps_are_replaced_by_the_pixels_opposite() -> None:
    image, valid, segments = np.ones(SHAPE, np.float32), VALID.copy(), np.zeros(SHAPE, np.int32)
    image[40, 44], segments[40, 44] = 100.0, 7
    image[38, 40], valid[38, 40] = np.nan, False
    image[40, 36] = 3.0
    sums = sum_apertures(image, image, valid, circles([40.0], [40.0], 6.0), segments, np.array([1]))
    own = sum_apertures(image, image, valid, circles([40.0], [40.0], 6.0), segments, np.array([7]))
    # The bright neighbour counts as the 3 opposite, the gap as the 1 opposite.
    assert sums.flux[0] == pytest.approx(sums.area[0] + 2 + 2, rel=1e-6)
    assert sums.missing[0] == pytest.approx(1 / sums.area[0])
    assert sums.neighbours[0] == pytest.approx(1 / sums.area[0])
    assert own.flux[0] == pytest.approx(own.area[0] + 2 + 99, rel=1e-6)
    assert own.neighbours[0] == 0


def test_what_has_no_aperture_has_no_flux() -> None:
    sums = sum_apertures(IMAGE, IMAGE, VALID, circles([np.nan, 30.0, 40.0], [20.0, np.nan, 40.0], [3.0, 3.0, 0.0]))
    assert np.isnan(sums.flux).all()


def test_outside_the_image_there_are_no_data() -> None:
    sums = sum_apertures(np.ones(SHAPE, np.float32), IMAGE, VALID, circles([0.0], [40.0], 5.0))
    assert sums.missing[0] == pytest.approx(0.44, abs=0.03)
