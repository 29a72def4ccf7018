"""Sources are found once, nothing else is found, and the background is not eaten."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from support.scenes import NJY_PER_COUNT, Scene, drizzled_noise

from cosmosaic.catalog.detection import Detection, detect, fill_holes, small_holes, smooth
from cosmosaic.catalog.image import read_mosaic
from cosmosaic.survey import CatalogSettings


def detect_in(scene: Scene, tmp_path: Path, **settings: float) -> Detection:
    return detect(read_mosaic(scene.write(tmp_path / "mosaic_i2d.fits")), CatalogSettings(**settings))


def count(detection: Detection) -> int:
    return 0 if detection.segments is None else detection.segments.n_labels


@pytest.mark.parametrize("native_scale", [0.031, 0.063])
def test_pure_drizzled_noise_holds_no_source(tmp_path: Path, native_scale: float) -> None:
    sky = Scene(shape=(700, 700))
    sky.sci = drizzled_noise(sky.shape, native_scale, sky.sigma, seed=8)
    assert count(detect_in(sky, tmp_path)) == 0
    (tmp_path / "mosaic_i2d.fits").unlink()
    assert count(detect_in(sky, tmp_path, threshold_sigma=1.0)) == 0


def test_the_threshold_follows_the_error_map(tmp_path: Path) -> None:
    sky = Scene()
    sky.err[:, 300:] *= 10.0
    sky.add_star(60.0, 100.0, 100.0)
    sky.add_white_noise()
    detection = detect_in(sky, tmp_path)
    assert count(detection) == 1
    assert detection.segments.data[100, 100] == 1


def test_nearly_all_sources_of_ten_sigma_are_found(tmp_path: Path) -> None:
    sky = Scene(shape=(700, 700))
    noise_njy = sky.sigma * np.sqrt(np.pi * (0.15 / 0.03) ** 2) * NJY_PER_COUNT
    places = [
        (30 + 50 * i + sky.random.random(), 30 + 50 * j + sky.random.random()) for i in range(13) for j in range(13)
    ]
    for x, y in places:
        sky.add_star(10.0 * noise_njy, x, y)
    sky.sci = sky.sci + drizzled_noise(sky.shape, 0.031, sky.sigma, seed=9)
    found = detect_in(sky, tmp_path).segments.data
    hits = [found[round(y), round(x)] for x, y in places]
    assert np.count_nonzero(hits) > 0.95 * len(places)
    assert found.max() == np.count_nonzero(hits)


def test_ragged_edges_and_gaps_make_no_sources(tmp_path: Path) -> None:
    sky = Scene()
    sky.sci += 0.02
    sky.add_white_noise()
    for row in range(400):
        sky.remove(slice(row, row + 1), slice(0, 20 + row // 3))
    sky.remove(slice(200, 260), slice(250, 330))
    assert count(detect_in(sky, tmp_path)) == 0


def test_a_sky_gradient_is_background(tmp_path: Path) -> None:
    sky = Scene(shape=(600, 600))
    gradient = np.linspace(0.0, 0.005, 600)[None, :] * np.ones((600, 1))
    sky.sci += gradient
    sky.add_star(500.0, 300.0, 300.0)
    sky.add_white_noise()
    detection = detect_in(sky, tmp_path)
    middle = (slice(100, 500), slice(100, 500))
    assert np.abs(detection.background - gradient)[middle].max() < 0.1 * sky.sigma
    assert count(detection) == 1


def test_a_large_galaxy_does_not_raise_its_background(tmp_path: Path) -> None:
    sky = Scene(shape=(600, 600))
    sky.add(galsim.Exponential(half_light_radius=0.6), 20000.0, 300.0, 300.0)
    sky.add_white_noise()
    assert detect_in(sky, tmp_path).background.max() < 0.15 * sky.sigma


def test_a_crowded_field_keeps_its_sky(tmp_path: Path) -> None:
    sky = Scene(psf=galsim.Moffat(beta=3.0, fwhm=0.1))
    for i in range(8):
        for j in range(8):
            sky.add_star(300.0, 25.0 + 50 * i, 25.0 + 50 * j)
    sky.add_white_noise()
    assert abs(detect_in(sky, tmp_path).background.mean()) < 0.03 * sky.sigma


def test_a_star_with_a_hollow_core_is_one_source(tmp_path: Path) -> None:
    sky = Scene(psf=galsim.Moffat(beta=2.5, fwhm=0.12))
    sky.add_star(20000.0, 200.0, 200.0)
    sky.add_white_noise()
    sky.remove(slice(194, 207), slice(194, 207))
    detection = detect_in(sky, tmp_path)
    assert count(detection) == 1
    assert detection.segments.data[200, 200] == 1


def test_two_stars_that_touch_are_two_sources(tmp_path: Path) -> None:
    sky = Scene(psf=galsim.Gaussian(fwhm=0.12))
    sky.add_star(800.0, 200.0, 200.0)
    sky.add_star(500.0, 209.0, 200.0)
    sky.add_white_noise()
    detection = detect_in(sky, tmp_path)
    assert count(detection) == 2
    assert list(detection.segments.deblended_labels) == [1, 2]


def test_a_mosaic_smaller_than_a_box_full_of_light_still_has_a_background(tmp_path: Path) -> None:
    sky = Scene(shape=(40, 40))
    sky.add(galsim.Exponential(half_light_radius=0.5), 20000.0, 20.0, 20.0)
    assert np.isfinite(detect_in(sky, tmp_path).background).all()


def test_smoothing_neither_loses_light_nor_spreads_gaps() -> None:
    image = np.full((50, 50), 2.0, np.float32)
    valid = np.ones_like(image, dtype=bool)
    valid[20:25, 20:25] = False
    image[~valid] = np.nan
    assert smooth(image, valid, 1.5) == pytest.approx(2.0, rel=1e-5)


def test_only_enclosed_small_gaps_are_holes() -> None:
    valid = np.ones((40, 40), bool)
    valid[:, :3] = False
    valid[10:12, 10:12] = False
    valid[20:35, 20:35] = False
    holes = small_holes(valid, largest=100)
    assert holes.sum() == 4
    assert holes[10, 10]


def test_each_hole_is_filled_from_its_own_rim() -> None:
    image = np.zeros((20, 20), np.float32)
    image[4, 4], image[14, 14] = 5.0, 7.0
    holes = np.zeros_like(image, dtype=bool)
    holes[5, 5] = holes[15:17, 15:17] = True
    filled = fill_holes(image, holes)
    assert filled[5, 5] == 5.0
    assert (filled[15:17, 15:17] == 7.0).all()
    assert (filled == image)[~holes].all()
