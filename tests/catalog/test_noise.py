"""The noise of apertures is measured where there is nothing, whatever the depth and the correlation of pixels."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.stats import mad_std
from numpy.typing import NDArray
from scipy import ndimage
from support.scenes import NJY_PER_COUNT, PIXEL_AREA_SR, Scene, drizzled_noise, tangent_wcs

from cosmosaic.catalog import sections
from cosmosaic.catalog.apertures import circles, sum_apertures
from cosmosaic.catalog.depth import covered_shares, measure_depth
from cosmosaic.catalog.detection import prepare
from cosmosaic.catalog.image import MosaicImage
from cosmosaic.catalog.noise import INDEPENDENT, distance_from, empty_apertures, measure_noise
from cosmosaic.mosaic.noise import noise_correlation

SIGMA = 0.01
SHAPE = (700, 700)
ERROR = np.full(SHAPE, SIGMA, np.float32)
NOTHING = np.zeros(SHAPE, bool)


def white(seed: int, sigma: float | NDArray = SIGMA) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0.0, sigma, SHAPE).astype(np.float32)


@pytest.fixture(scope="module", params=[0.031, 0.063], ids=["short", "long"])
def drizzled(request: pytest.FixtureRequest) -> tuple[float, NDArray[np.float32]]:
    """Native pixel scale and an image of pure noise."""
    return request.param, drizzled_noise(SHAPE, request.param, SIGMA, seed=4)


def test_drizzled_pixels_scatter_less_than_their_errors(drizzled: tuple[float, NDArray[np.float32]]) -> None:
    native, image = drizzled
    expected = {0.031: 0.65, 0.063: 0.40}[native]
    assert noise_correlation(image, ERROR, NOTHING) == pytest.approx(expected, abs=0.03)


def test_factors_are_those_of_other_empty_apertures(drizzled: tuple[float, NDArray[np.float32]]) -> None:
    _, image = drizzled
    noise = measure_noise(image, ERROR, distance_from(NOTHING))
    for radius in (3.0, 6.0, 12.0):
        apertures = empty_apertures(image, ERROR, distance_from(NOTHING), radius)
        assert len(apertures.flux) > 1000
        factor = noise.factors(apertures.area, SIGMA)
        assert mad_std(apertures.pulls / factor) == pytest.approx(1.0, abs=0.05)
        assert factor < 1.05


def test_the_noise_of_small_apertures_is_known_to_two_per_cent() -> None:
    stars = np.zeros((600, 600), bool)
    stars[10::40, 10::40] = True
    distance = distance_from(ndimage.maximum_filter(stars, 11))
    off = []
    for seed in range(8):
        image = drizzled_noise(stars.shape, 0.063, SIGMA, seed)
        noise = measure_noise(image, np.full(stars.shape, SIGMA, np.float32), distance)
        x, y = np.random.default_rng(seed).uniform(10, 590, (2, 20_000))
        true = np.std(sum_apertures(image, image, np.ones(stars.shape, bool), circles(x, y, 5.0)).flux)
        off.append(noise.factors(np.pi * 25, SIGMA) * SIGMA * np.sqrt(np.pi * 25) / true - 1.0)
    # The true scatter over the whole field is itself known to 1.5 %.
    assert np.sqrt(np.mean(np.square(off))) < 0.023


def test_independent_pixels_have_a_factor_of_one_and_a_power_of_one_half() -> None:
    noise = measure_noise(white(2), ERROR, distance_from(NOTHING))
    assert noise.factors([80.0, 600.0], SIGMA) == pytest.approx([1.0, 1.0], abs=0.08)
    assert noise.power == pytest.approx(0.5, abs=0.02)


def test_an_error_map_that_is_too_small_in_shallow_parts_is_corrected_there() -> None:
    told = ERROR.copy()
    told[:, 350:] *= 2.0
    true = told * np.where(told > 1.5 * SIGMA, 1.5, 1.0)
    noise = measure_noise(white(3, true), told, distance_from(NOTHING))
    deep, shallow = noise.factors([80.0, 80.0], [SIGMA, 2 * SIGMA])
    assert deep == pytest.approx(1.0, abs=0.12)
    assert shallow == pytest.approx(1.5, abs=0.15)


def test_sources_and_gaps_do_not_enter_the_noise() -> None:
    image, blocked = white(5), NOTHING.copy()
    image[300:500, 300:500] += 1.0
    blocked[300:500, 300:500] = True
    image[:, :100], blocked[:, :100] = np.nan, True
    noise = measure_noise(image, ERROR, distance_from(blocked))
    assert noise.factors([80.0, 600.0], SIGMA) == pytest.approx([1.0, 1.0], abs=0.08)


def test_where_no_sky_is_left_errors_stay_those_of_independent_pixels() -> None:
    assert measure_noise(white(6), ERROR, distance_from(~NOTHING)) is INDEPENDENT


def test_the_sky_error_knows_the_depth_and_not_the_sources() -> None:
    wht = np.full(SHAPE, 4.0, np.float32)
    wht[:, 350:] = 1.0
    err = 2.0 * SIGMA / np.sqrt(wht)
    err[200:215, 100:115] *= 5.0
    sci = white(7, 2.0 * SIGMA / np.sqrt(wht))
    sci[200:215, 100:115] += 1.0
    image = MosaicImage(sci, err, wht, ~NOTHING, tangent_wcs(SHAPE), PIXEL_AREA_SR)
    sky_error = prepare(image, 6.0).sky_error
    assert sky_error[205, 105] == pytest.approx(SIGMA, rel=0.02)
    assert sky_error[205, 500] == pytest.approx(2 * SIGMA, rel=0.02)


def test_depth_is_five_times_the_scatter_at_each_place(tmp_path: Path) -> None:
    sky = Scene(shape=(500, 500), sigma=SIGMA)
    sky.wht[:, 250:] = 1.0
    sky.err[:, 250:] *= 2.0
    sky.add_white_noise()
    made = measure_depth(sky.write(tmp_path / "a_i2d.fits"), 6.0, "F150W", "a", tmp_path)
    noise_njy = SIGMA * np.sqrt(np.pi * (0.15 / 0.03) ** 2) * NJY_PER_COUNT
    # Pixels on the rim count in part, which the root of the area does not know: 4 %.
    expected = 31.40 - 2.5 * np.log10(5.0 * 0.96 * noise_njy)
    depth = fits.getdata(made.files["depth"], "DEPTH")
    assert depth[250, 100] == pytest.approx(expected, abs=0.08)
    assert depth[250, 400] == pytest.approx(expected - 0.75, abs=0.08)
    assert made.facts["aperture_error_ratio"] == pytest.approx(0.96, abs=0.06)
    assert made.facts["coverage_arcmin2"] == pytest.approx(0.25**2, rel=1e-3)
    assert made.facts["sky_rms"] == pytest.approx(1.5 * SIGMA, rel=0.25)


def test_the_depth_of_sections_is_that_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sky = Scene(shape=(900, 1000), sigma=SIGMA)
    sky.wht[:, 300:] = 1.0
    sky.err[:, 300:] *= 2.0
    for place in range(60, 900, 120):
        sky.add_star(30000.0, place, place)
    sky.add_white_noise()
    mosaic = sky.write(tmp_path / "a_i2d.fits")
    one = measure_depth(mosaic, 3.0, "F150W", "one", tmp_path)
    monkeypatch.setattr(sections, "PADDED_PIXELS", 800)
    monkeypatch.setattr(sections, "MARGIN_PIXELS", 100)
    parts = measure_depth(mosaic, 3.0, "F150W", "parts", tmp_path)
    depths = [fits.getdata(made.files["depth"], "DEPTH") for made in (one, parts)]
    # Each knows the scatter of some 6000 apertures to 1 %.
    assert np.abs(depths[1] - depths[0]).max() < 0.05
    assert parts.facts["coverage_arcmin2"] == one.facts["coverage_arcmin2"]
    for name in ("sky_rms", "noise_factor", "aperture_error_ratio"):
        assert parts.facts[name] == pytest.approx(one.facts[name], rel=0.02)
    assert parts.facts["sky_median"] == pytest.approx(one.facts["sky_median"], abs=0.02 * SIGMA)
    assert parts.facts["depth_5sigma_ab"] == pytest.approx(one.facts["depth_5sigma_ab"], abs=0.02)


def test_an_empty_mosaic_has_no_depth(tmp_path: Path) -> None:
    sky = Scene(shape=(100, 100), sigma=SIGMA)
    sky.wht[:] = 0.0
    with pytest.raises(ValueError, match=r"a_i2d\.fits: no pixel"):
        measure_depth(sky.write(tmp_path / "a_i2d.fits"), 3.0, "F150W", "a", tmp_path)


def test_the_apertures_are_those_of_sections_with_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sky = Scene(shape=(600, 800), sigma=SIGMA)
    sky.wht[:, 200:] = 0.0
    monkeypatch.setattr(sections, "PADDED_PIXELS", 620)
    monkeypatch.setattr(sections, "MARGIN_PIXELS", 200)
    parts = list(sections.sections_of((600, 800), 200))
    shares = covered_shares(sky.write(tmp_path / "a_i2d.fits"), parts)
    assert shares.sum() == pytest.approx(1.0)
    assert [share > 0 for share in shares] == [part.own[1].start < 200 for part in parts]
