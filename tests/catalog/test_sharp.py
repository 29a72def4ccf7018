"""Cosmic rays are told from stars by their sharpness."""

import galsim
import numpy as np
import pytest
from numpy.typing import NDArray
from support.scenes import NJY_PER_COUNT, Scene, measure, psf_of

from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.catalog.sharp import are_sharp

HALF = 31.0 / 30.0 / 2.0
"""Half a pixel of the detector in pixels of the mosaic."""
UNDERSAMPLED = galsim.Convolve(galsim.Gaussian(fwhm=0.035), galsim.Pixel(0.031))
"""Like F115W: light of detector pixels of 31 mas, drizzled."""


def drizzled_pixel(shape: tuple[int, int], x: float, y: float) -> NDArray[np.float64]:
    """Light of 1 of one pixel of the detector, shared out by area."""
    parts = []
    for number, at in zip(shape, (y, x), strict=True):
        low, high = (np.clip(at + half, np.arange(number) - 0.5, np.arange(number) + 0.5) for half in (-HALF, HALF))
        parts.append(high - low)
    return np.outer(*parts) / (2.0 * HALF) ** 2


def sharp(sky: Scene, x: float, y: float, ends: int | None = None) -> bool:
    """Whether a source is sharp; there are no data from a column on."""
    segments = np.zeros(sky.shape, np.int32)
    segments[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5] = 1
    valid = np.ones(sky.shape, bool)
    valid[:, ends or sky.shape[1] :] = False
    planes = (np.where(valid, plane, 0).astype(np.float32) for plane in (sky.sci, sky.err))
    return bool(are_sharp(*planes, valid, segments, np.array([1]), psf_of(sky))[0])


@pytest.mark.parametrize("psf", [UNDERSAMPLED, galsim.Gaussian(fwhm=0.06), galsim.Gaussian(fwhm=0.14)])
@pytest.mark.parametrize("flux", [20.0, 100.0, 3000.0])
def test_stars_and_galaxies_are_not_sharp_and_drizzled_pixels_are(psf: galsim.GSObject, flux: float) -> None:
    stars, hits = [], []
    for seed in range(20):
        place = 50.0 + np.random.default_rng(seed).uniform(-0.5, 0.5, 2)
        star, hit, galaxy = (Scene(shape=(100, 100), psf=psf, seed=seed) for _ in range(3))
        star.add_star(flux, *place)
        galaxy.add(galsim.Exponential(half_light_radius=0.1), flux, *place)
        hit.sci = flux / NJY_PER_COUNT * drizzled_pixel(hit.shape, *place)
        for sky in (star, hit, galaxy):
            sky.add_white_noise()
        stars += [sharp(star, *place), sharp(galaxy, *place)]
        hits.append(sharp(hit, *place))
    assert not any(stars)
    # On the corner of four pixels a hit is as wide as an undersampled star.
    assert np.mean(hits) >= (0.5 if flux > 20 else 0.1) if psf is UNDERSAMPLED else np.mean(hits) > 0.9


def test_stars_beside_a_gap_are_not_sharp() -> None:
    flagged = []
    for seed in range(20):
        sky = Scene(shape=(100, 100), psf=UNDERSAMPLED, seed=seed)
        x, y = 50.0 + np.random.default_rng(seed).uniform(-0.5, 0.5, 2)
        sky.add_star(1000.0, x, y)
        sky.add_white_noise()
        flagged.append(sharp(sky, x, y, ends=round(x) + 1))
    assert not any(flagged)


def test_a_hit_of_one_filter_is_flagged_and_a_star_that_was_hit_is_not() -> None:
    blue, red = (Scene(shape=(200, 200), psf=galsim.Gaussian(fwhm=width)) for width in (0.06, 0.12))
    for sky in (blue, red):
        sky.add_star(300.0, 60.0, 60.0)
        sky.add_star(300.0, 140.0, 60.0)
    blue.add_white_noise()
    red.add_white_noise()
    blue.sci[60, 140] += 3.0
    blue.sci[140, 100] += 3.0
    table = measure(blue, red, bands=("F150W", "F277W")).table
    flagged = {
        (round(float(row["x"])), round(float(row["y"]))): bool(row["flags"] & CatalogFlag.SHARP) for row in table
    }
    assert flagged[100, 140]
    assert not flagged[60, 60]
    assert not flagged[140, 60]
    assert len(table) == 3
