"""The errors of a drizzled mosaic hold for apertures, though single pixels scatter less than ERR."""

import numpy as np
import pytest
from numpy.typing import NDArray
from support.scenes import PIXEL_AREA_SR, drizzled_noise, tangent_wcs

from cosmosaic.catalog.image import MosaicImage
from cosmosaic.catalog.noise import empty_apertures, mosaic_statistics
from cosmosaic.mosaic.noise import noise_correlation

SIGMA = 0.01
SHAPE = (700, 700)


def mosaic_of(sci: NDArray[np.floating]) -> MosaicImage:
    flat = np.ones(sci.shape, np.float32)
    valid = np.isfinite(sci)
    return MosaicImage(sci.astype(np.float32), SIGMA * flat, flat, valid, tangent_wcs(sci.shape), PIXEL_AREA_SR)


def nothing(image: MosaicImage) -> NDArray[np.bool_]:
    return np.zeros_like(image.valid)


def no_background(image: MosaicImage) -> NDArray[np.float32]:
    return np.zeros_like(image.sci)


@pytest.fixture(scope="module", params=[0.031, 0.063], ids=["short", "long"])
def drizzled(request: pytest.FixtureRequest) -> tuple[float, MosaicImage]:
    """Native pixel scale and a mosaic of pure noise."""
    return request.param, mosaic_of(drizzled_noise(SHAPE, request.param, SIGMA, seed=4))


def test_drizzled_pixels_scatter_less_than_their_errors(drizzled: tuple[float, MosaicImage]) -> None:
    native, image = drizzled
    expected = {0.031: 0.65, 0.063: 0.40}[native]
    assert noise_correlation(image.sci, image.err, nothing(image)) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("radius", [0.15, 0.25, 0.5])
def test_empty_apertures_scatter_as_their_errors_say(drizzled: tuple[float, MosaicImage], radius: float) -> None:
    _, image = drizzled
    apertures = empty_apertures(image, no_background(image), nothing(image), radius)
    assert len(apertures.flux) > 1000
    assert apertures.error_ratio == pytest.approx(1.0, abs=0.15)


def test_noise_of_independent_pixels_is_their_error() -> None:
    image = mosaic_of(np.random.default_rng(2).normal(0.0, SIGMA, SHAPE))
    assert noise_correlation(image.sci, image.err, nothing(image)) == pytest.approx(1.0, abs=0.01)


def test_depth_is_five_times_the_noise_of_a_small_aperture() -> None:
    image = mosaic_of(np.random.default_rng(3).normal(0.0, SIGMA, SHAPE))
    noise_njy = SIGMA * np.sqrt(np.pi * (0.15 / 0.03) ** 2) * PIXEL_AREA_SR * 1e15
    statistics = mosaic_statistics(image, no_background(image), nothing(image), 0)
    assert statistics.depth_5sigma_ab == pytest.approx(31.40 - 2.5 * np.log10(5.0 * noise_njy), abs=0.08)
    assert statistics.aperture_error_ratio == pytest.approx(1.0, abs=0.08)
    assert statistics.coverage_arcmin2 == pytest.approx(0.35**2, rel=1e-3)


def test_sources_and_gaps_do_not_enter_the_noise() -> None:
    sci = np.random.default_rng(5).normal(0.02, SIGMA, SHAPE)
    sci[:, :100] = np.nan
    sci[300:500, 300:500] += 1.0
    image = mosaic_of(sci)
    mask = nothing(image)
    mask[300:500, 300:500] = True
    statistics = mosaic_statistics(image, np.full(SHAPE, 0.02, np.float32), mask, 1)
    assert statistics.sky_median == pytest.approx(0.02, abs=1e-4)
    assert statistics.sky_rms == pytest.approx(SIGMA, rel=0.02)
    assert statistics.noise_factor == pytest.approx(1.0, abs=0.02)
    assert statistics.aperture_error_ratio == pytest.approx(1.0, abs=0.08)


def test_no_depth_where_no_sky_is_left() -> None:
    image = mosaic_of(np.random.default_rng(6).normal(0.0, SIGMA, (60, 60)))
    statistics = mosaic_statistics(image, no_background(image), ~nothing(image), 1)
    assert statistics.depth_5sigma_ab is None
    assert statistics.noise_factor is None
    assert type(statistics).model_validate_json(statistics.model_dump_json()) == statistics


def test_the_same_mosaic_has_the_same_depth() -> None:
    image = mosaic_of(np.random.default_rng(7).normal(0.0, SIGMA, (300, 300)))
    first, second = (mosaic_statistics(image, no_background(image), nothing(image), 0) for _ in range(2))
    assert first == second
