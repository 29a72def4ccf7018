"""Sources are found once, nothing else is found, and the background is not eaten."""

import galsim
import numpy as np
import pytest
from astropy.stats import SigmaClip
from photutils.background import Background2D, MedianBackground
from support.scenes import NJY_PER_COUNT, Scene, detect_in, drizzled_noise, measure, mosaic_image

from cosmosaic.catalog.detection import Detection, fill_holes, measure_background, prepare, small_holes, smooth
from cosmosaic.catalog.pieces import without_wings
from cosmosaic.catalog.psf import Psf

BOX_ARCSEC = 6.0


def count(detection: Detection) -> int:
    return 0 if detection.segments is None else detection.segments.n_labels


@pytest.mark.parametrize("native_scale", [0.031, 0.063])
def test_pure_drizzled_noise_holds_hardly_a_source(native_scale: float) -> None:
    sky = Scene(shape=(700, 700))
    sky.sci = drizzled_noise(sky.shape, native_scale, sky.sigma, seed=8)
    assert count(detect_in(sky)) < 4
    # Of 500,000 smoothed pixels, some tens of independent places are above 4 sigma at a threshold of 2.
    assert count(detect_in(sky, threshold_sigma=2.0)) > 20


def test_the_threshold_follows_the_depth() -> None:
    sky = Scene()
    sky.err[:, 300:] *= 10.0
    sky.wht[:, 300:] /= 100.0
    sky.add_star(60.0, 100.0, 100.0)
    sky.add_white_noise()
    detection = detect_in(sky, threshold_sigma=5.0)
    assert count(detection) == 1
    assert detection.segments.data[100, 100] == 1


def test_nearly_all_sources_of_ten_sigma_are_found() -> None:
    sky = Scene(shape=(700, 700))
    noise_njy = sky.sigma * np.sqrt(np.pi * (0.15 / 0.03) ** 2) * NJY_PER_COUNT
    places = [
        (30 + 50 * i + sky.random.random(), 30 + 50 * j + sky.random.random()) for i in range(13) for j in range(13)
    ]
    for x, y in places:
        sky.add_star(10.0 * noise_njy, x, y)
    sky.sci = sky.sci + drizzled_noise(sky.shape, 0.031, sky.sigma, seed=9)
    found = detect_in(sky).segments.data
    hits = [found[round(y), round(x)] for x, y in places]
    assert np.count_nonzero(hits) > 0.95 * len(places)
    assert found.max() <= np.count_nonzero(hits) + 5


def test_ragged_edges_and_gaps_make_no_sources() -> None:
    sky = Scene()
    sky.sci += 0.02
    sky.add_white_noise()
    for row in range(400):
        sky.remove(slice(row, row + 1), slice(0, 20 + row // 3))
    sky.remove(slice(200, 260), slice(250, 330))
    assert count(detect_in(sky, threshold_sigma=5.0)) == 0


def test_a_sky_gradient_is_background() -> None:
    sky = Scene(shape=(1000, 1000))
    gradient = np.linspace(0.0, 0.005, 1000)[None, :] * np.ones((1000, 1))
    sky.sci += gradient
    sky.add_star(500.0, 300.0, 300.0)
    sky.add_white_noise()
    detection = detect_in(sky, threshold_sigma=5.0)
    middle = (slice(150, 850), slice(150, 850))
    assert np.abs(prepare(mosaic_image(sky), BOX_ARCSEC).background - gradient)[middle].max() < 0.1 * sky.sigma
    assert count(detection) == 1


@pytest.mark.parametrize("shape", [(430, 390), (400, 200), (90, 60)])
def test_the_background_is_that_of_photutils(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(4)
    image = (random.normal(0.0, 0.1, shape) + np.linspace(1.0, 3.0, shape[1])).astype(np.float32)
    gap, mask = np.zeros(shape, bool), random.random(shape) < 0.2
    gap[:30, :40] = True
    theirs = Background2D(
        image, tuple(min(100, length) for length in shape), mask=mask, coverage_mask=gap, exclude_percentile=90.0,
        filter_size=3, sigma_clip=SigmaClip(3.0), bkg_estimator=MedianBackground(),
    )  # fmt: skip
    assert measure_background(image, gap, mask, 100) == pytest.approx(theirs.background, abs=1e-5)


def test_a_large_galaxy_does_not_raise_its_background() -> None:
    sky = Scene(shape=(600, 600))
    sky.add(galsim.Exponential(half_light_radius=0.6), 20000.0, 300.0, 300.0)
    sky.add_white_noise()
    assert prepare(mosaic_image(sky), BOX_ARCSEC).background.max() < 0.15 * sky.sigma


def test_a_crowded_field_keeps_its_sky() -> None:
    sky = Scene(psf=galsim.Moffat(beta=3.0, fwhm=0.1))
    for i in range(8):
        for j in range(8):
            sky.add_star(300.0, 25.0 + 50 * i, 25.0 + 50 * j)
    sky.add_white_noise()
    assert abs(prepare(mosaic_image(sky), BOX_ARCSEC).background.mean()) < 0.03 * sky.sigma


def test_a_star_with_a_hollow_core_is_one_source() -> None:
    sky = Scene(psf=galsim.Moffat(beta=2.5, fwhm=0.12))
    sky.add_star(20000.0, 200.0, 200.0)
    sky.add_white_noise()
    sky.remove(slice(194, 207), slice(194, 207))
    detection = detect_in(sky, threshold_sigma=5.0)
    assert count(detection) == 1
    assert detection.segments.data[200, 200] == 1


def test_two_stars_that_touch_are_two_sources() -> None:
    sky = Scene(psf=galsim.Gaussian(fwhm=0.12))
    sky.add_star(800.0, 200.0, 200.0)
    sky.add_star(500.0, 208.5, 200.0)
    sky.add_white_noise()
    detection = detect_in(sky, threshold_sigma=5.0)
    assert count(detection) == 2
    assert detection.deblended == {1, 2}


def test_a_mosaic_smaller_than_a_box_full_of_light_still_has_a_background() -> None:
    sky = Scene(shape=(40, 40))
    sky.add(galsim.Exponential(half_light_radius=0.5), 20000.0, 20.0, 20.0)
    assert np.isfinite(prepare(mosaic_image(sky), BOX_ARCSEC).background).all()


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


def test_filters_are_added_where_they_cover_and_each_counts_by_its_noise() -> None:
    deep, shallow = Scene(seed=1), Scene(seed=2, sigma=0.05)
    for sky, flux in ((deep, 20.0), (shallow, 100.0)):
        sky.add_star(flux, 100.0, 100.0)
        sky.add_star(flux, 300.0, 300.0)
        sky.add_white_noise()
    alone = measure(deep, threshold_sigma=6.0).table["peak_snr"]
    shallow.remove(slice(0, 400), slice(0, 200))
    both = measure(deep, shallow, threshold_sigma=6.0).table
    assert len(both) == 2
    gain = both["peak_snr"] / alone
    assert gain[0] == pytest.approx(1.0, abs=0.1)
    assert gain[1] == pytest.approx(np.sqrt(2.0), abs=0.2)


def test_a_source_of_one_filter_alone_is_in_the_catalogue_of_all() -> None:
    blue, red = Scene(seed=1), Scene(seed=2)
    red.add_star(200.0, 150.0, 150.0)
    blue.add_white_noise()
    red.add_white_noise()
    table = measure(blue, red, threshold_sigma=6.0).table
    assert len(table) == 1
    assert abs(table["f150w_flux"][0]) < 4 * table["f150w_flux_err"][0]
    assert table["f277w_flux"][0] == pytest.approx(200.0, rel=0.2)
    # Only the filters that are named are detected in.
    assert len(measure(blue, red, threshold_sigma=6.0, filters=("F150W",)).table) == 0


def test_a_bright_star_is_one_source() -> None:
    sky = Scene(
        shape=(600, 600), psf=galsim.OpticalPSF(lam=4400, diam=6.6, nstruts=3, strut_thick=0.03, obscuration=0.2)
    )
    sky.add_star(1e5, 300.0, 300.0)
    sky.add_star(300.0, 500.0, 80.0)
    sky.add_white_noise()
    assert count(detect_in(sky, threshold_sigma=6.0)) == 2


def test_a_clumpy_galaxy_is_one_source_and_its_faint_neighbour_another() -> None:
    sky = Scene()
    sky.add(galsim.Exponential(half_light_radius=0.5), 20000.0, 200.0, 200.0)
    for angle in np.linspace(0, 6, 7):
        sky.add_star(15.0, 200.0 + 12 * np.cos(angle), 200.0 + 12 * np.sin(angle))
    sky.add_star(300.0, 200.0, 320.0)
    sky.add_white_noise()
    detection = detect_in(sky, threshold_sigma=5.0)
    assert count(detection) == 2
    assert detection.segments.data[200, 200] != detection.segments.data[320, 200]


def test_a_star_in_front_of_a_bright_galaxy_is_a_source_of_its_own() -> None:
    sky = Scene()
    sky.add(galsim.Exponential(half_light_radius=0.5), 20000.0, 200.0, 200.0)
    sky.add_star(150.0, 230.0, 225.0)
    sky.add_white_noise()
    segments = detect_in(sky, threshold_sigma=5.0).segments
    assert segments.n_labels == 2
    assert segments.data[225, 230] not in (0, segments.data[200, 200])


@pytest.mark.parametrize("distance", [60, 140])
def test_what_a_star_has_on_its_spikes_is_its_own_and_what_is_between_them_is_not(distance: int) -> None:
    """Within the image of the PSF, 100 pixels, and beyond."""
    y, x = np.indices((201, 201)) - 100
    away = np.maximum(np.hypot(y, x), 1.0)
    psf = np.exp(-(x**2 + y**2) / 8.0) + 1e-6
    psf += 20.0 / away**2 * (np.minimum(abs(x), abs(y)) < 0.03 * away)
    diagonal = round(distance / np.sqrt(2.0))
    significance, segments = np.zeros((401, 401), np.float32), np.zeros((401, 401), np.int32)
    places = [(200, 200), (200, 200 + distance), (200 + diagonal, 200 + diagonal)]
    for label, (row, column) in enumerate(places, 1):
        segments[row - 1 : row + 2, column - 1 : column + 2] = label
        significance[row, column] = 1e5 if label == 1 else 1e5 * psf[100, 100 + 60] / psf.max() * (60 / distance) ** 2
    kept = without_wings(segments, significance, [Psf(psf, 0.03, "file")])
    assert [kept[place] for place in places] == [1, 1, 3]


def test_noise_makes_no_pieces_of_a_small_faint_disc_and_a_close_pair_stays_two() -> None:
    rows = []
    for seed in range(8):
        sky = Scene(shape=(300, 300), psf=galsim.Gaussian(fwhm=0.06))
        sky.add(galsim.Exponential(half_light_radius=0.5), 300.0, 150.0, 150.0)
        sky.add_star(40.0, 60.0, 60.0)
        sky.add_star(40.0, 68.0, 60.0)
        sky.sci = sky.sci + drizzled_noise(sky.shape, 0.031, sky.sigma, seed)
        found = detect_in(sky, threshold_sigma=4.0).segments.data
        rows.append([len(np.setdiff1d(found[where], [0])) for where in (np.s_[120:181, 120:181], np.s_[50:71, 50:79])])
    disc, pair = np.mean(rows, axis=0)
    # 2.2 without the rule.
    assert disc < 1.3
    assert pair > 1.7


def test_noise_does_not_break_a_faint_disc_and_a_star_in_it_stays() -> None:
    pieces, stars = [], []
    for seed in range(6):
        sky = Scene(shape=(400, 400), psf=galsim.Gaussian(fwhm=0.12))
        sky.add(galsim.Exponential(half_light_radius=0.9), 900.0, 200.0, 200.0)
        sky.add_star(25.0, 235.0, 215.0)
        sky.sci = sky.sci + drizzled_noise(sky.shape, 0.063, sky.sigma, seed)
        found = detect_in(sky, threshold_sigma=4.0).segments.data
        star = found[215, 235]
        stars.append(star > 0 and star != found[200, 200])
        pieces.append(len(np.setdiff1d(found[170:231, 170:231], [0, star])))
    assert sum(stars) >= 5
    # At 4 sigma; six without the rule.
    assert np.mean(pieces) < 3
