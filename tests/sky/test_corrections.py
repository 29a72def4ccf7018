"""Stripes, wisps and edges of single exposures."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import block_reduce
from astropy.table import Table
from jwst import datamodels

from cosmosaic.artefacts.corrections import measure_wisps, remove_flicker, subtract_wisp
from cosmosaic.artefacts.solution import TEMPLATE, WispSolution, read_wisps
from cosmosaic.artefacts.wisps import BLOCK, Pair, build_template, moves_with_sky
from cosmosaic.geometry.wcs import grid_wcs
from cosmosaic.records import MosaicGrid
from cosmosaic.source_light import EXPOSURE_TIERS, source_mask

SIDE = 512
RMS = 0.04
SKY = 0.3
DITHERS = tuple((60 * n, 35 * n * n) for n in range(4))
"""In pixels (x, y)."""


def scene(seed, shift=(0, 0)):
    """Sky with noise and galaxies; a broad one in the middle."""
    draw = np.random.default_rng(seed)
    y, x = np.indices((SIDE, SIDE))
    image = SKY + RMS * draw.standard_normal((SIDE, SIDE))
    places = np.random.default_rng(99)
    for _ in range(40):
        x0, y0 = places.uniform(0, SIDE, 2) + shift
        image += places.exponential(0.3) * np.exp(-np.hypot(x - x0, y - y0) / places.uniform(1, 4))
    return image


def model_of(image):
    model = datamodels.ImageModel(image.astype(np.float32))
    model.err = np.full(image.shape, RMS, dtype=np.float32)
    model.dq = np.zeros(image.shape, dtype=np.uint32)
    return model


def write(image, path, shift=(0, 0)):
    """Write an exposure of the sky that `scene` moves by so many pixels."""
    model = model_of(image)
    grid = MosaicGrid(
        tangent_ra=80.0, tangent_dec=-69.0, rotation=30.0, pixel_scale_mas=31.0, crpix=shift, shape=image.shape
    )
    model.meta.wcs = grid_wcs(grid)
    model.save(str(path))
    return path


def test_stripes_of_1_over_f_noise_go_and_sky_and_galaxy_stay():
    stripes = 0.3 * RMS * np.random.default_rng(5).standard_normal(SIDE)
    stripes -= stripes.mean()
    y, x = np.indices((SIDE, SIDE))
    broad = 0.2 * np.exp(-np.hypot(x - 250, y - 250) / 40)
    clean = scene(1) + broad
    model = model_of(clean + stripes[:, None])
    remove_flicker(model)
    left = model.data - clean
    # A row of 512 pixels, half of them sources, tells its stripe to a sixteenth of a pixel's noise.
    assert np.std(left.mean(axis=1)) < 0.08 * RMS
    assert abs(left.mean()) < 0.005 * RMS
    assert abs(left[np.hypot(x - 250, y - 250) < 40].mean()) < 0.01 * broad.max()
    assert model.meta.cal_step.clean_flicker_noise == "COMPLETE"


@pytest.mark.parametrize("steepness", [0.0, 0.3])
def test_slow_drifts_go_and_a_steep_slope_of_the_sky_stays(steepness):
    row = np.arange(SIDE) / SIDE - 0.5
    drift, slope = 0.05 * RMS * np.cos(2 * np.pi * row), steepness * RMS * row
    model = model_of(scene(1) + (drift + slope)[:, None])
    remove_flicker(model)
    left = np.mean(model.data - scene(1), axis=1)
    # Eight boxes of 64 by 64 pixels in a row know their mean to 1 % of a pixel's noise, a quarter of the drift's rms.
    if not steepness:
        assert np.std(left) < 0.3 * np.std(drift)
    assert np.polyfit(row, left, 1)[0] == pytest.approx(steepness * RMS, abs=0.05 * RMS)


def test_a_nebula_is_not_taken_for_stripes():
    y, x = np.indices((SIDE, SIDE))
    model = model_of(scene(1) + 40 * RMS * (1.5 + np.sin(x / 90) * np.cos(y / 70) + 0.5 * np.sin((x + y) / 60)))
    before = model.data.copy()
    remove_flicker(model)
    np.testing.assert_array_equal(model.data, before)


def test_noise_alone_is_left_alone():
    image = SKY + RMS * np.random.default_rng(3).standard_normal((SIDE, SIDE))
    model = model_of(image)
    remove_flicker(model)
    # Taking each row's own mean out would leave a twentieth of the pixel noise.
    assert np.std(np.mean(model.data - image, axis=1)) < 0.015 * RMS


@pytest.fixture(scope="module")
def with_wisps(tmp_path_factory):
    """Four dithered exposures of one detector with a wisp of changing strength; and the wisp."""
    folder = tmp_path_factory.mktemp("wisps")
    wisp = 0.5 * RMS * ridge()
    strengths = (0.8, 1.0, 1.1, 1.3)
    paths = [
        write(scene(10 + n, shift) + strength * wisp, folder / f"exposure{n}_nrcb4_cal.fits", shift)
        for n, (strength, shift) in enumerate(zip(strengths, DITHERS, strict=True))
    ]
    return paths, wisp, strengths


def ridge(height=0.2, width=0.25):
    """Shape of a wisp, 1 at its brightest; height and width in sides of the exposure."""
    y, x = np.indices((SIDE, SIDE)) / SIDE
    return np.exp(-(((y - 0.4 - 0.5 * height * np.sin(5 * x)) / height) ** 2) - ((x - 0.5) / width) ** 2)


def found(paths, kept=False):
    exposures = {path.name.removesuffix("_cal.fits"): "0" for path in paths}
    return WispSolution(exposures=exposures, kept=kept, missing=("gone",))


def named(paths):
    return {path.name.removesuffix("_cal.fits"): path for path in paths}


def clean(paths, made, folder):
    """Subtract the wisps that were found."""
    for name, path in named(paths).items():
        subtract_wisp(path, made.files["wisps"].get(name), folder)


def left_of_the_wisp(path, before, wisp):
    with fits.open(path) as hdus, fits.open(before) as raw:
        taken = raw["SCI"].data - hdus["SCI"].data
    return taken, np.sum(taken * wisp) / np.sum(wisp**2)


def test_wisps_go_by_the_surveys_own_template(with_wisps, tmp_path):
    paths, wisp, strengths = with_wisps
    made = measure_wisps(named(paths), None, found(paths), "survey_nrcb4_wisp", tmp_path)
    clean(paths, made, tmp_path)
    assert made.facts["wisps_significant"] == 4
    for path, strength in zip(paths, strengths, strict=True):
        taken, amplitude = left_of_the_wisp(tmp_path / path.name, path, wisp)
        # Where a wisp covers most of an exposure, its own outskirts count as sky.
        assert 0.7 * strength < amplitude < 1.1 * strength
        assert np.abs(taken[wisp < 1e-3 * wisp.max()]).mean() < 0.01 * RMS
    table = Table.read(tmp_path / "survey_nrcb4_wisp.ecsv")
    assert (np.argmin(table["amplitude"]), np.argmax(table["amplitude"])) == (0, 3)
    assert all(table["error"] < 0.1)


def test_a_wisp_brighter_than_the_noise_goes_and_the_galaxies_stay(tmp_path):
    wisp = 2.0 * RMS * ridge()
    skies = [scene(30 + n, shift) for n, shift in enumerate(DITHERS)]
    paths = [
        write(sky + strength * wisp, tmp_path / f"exposure{n}_nrcb4_cal.fits", shift)
        for n, (sky, strength, shift) in enumerate(zip(skies, (0.7, 1.0, 1.2, 1.5), DITHERS, strict=True))
    ]
    target = tmp_path / "out"
    target.mkdir()
    clean(paths, measure_wisps(named(paths), None, found(paths), "wisp", target), target)
    for path, sky in zip(paths, skies, strict=True):
        left = block_reduce(fits.getdata(target / path.name, "SCI") - sky, 16, np.mean)
        # 0.4 of a pixel's noise if the wisp stays; noise and sources of four exposures leave 0.05.
        assert np.std(left) < 0.08 * RMS


def test_the_rows_from_which_the_correction_of_stripes_took_a_wisp_get_its_light_back(tmp_path):
    wisp = 2.0 * RMS * ridge(height=0.08, width=0.4)
    paths, skies = [], []
    for n, (strength, shift) in enumerate(zip((0.8, 1.0, 1.1, 1.3), DITHERS, strict=True)):
        sky = scene(40 + n, shift)
        model = model_of(sky + strength * wisp)
        remove_flicker(model)
        paths.append(write(model.data, tmp_path / f"exposure{n}_nrcb4_cal.fits", shift))
        skies.append(sky)
    target = tmp_path / "out"
    target.mkdir()
    clean(paths, measure_wisps(named(paths), None, found(paths), "wisp", target), target)
    far = np.s_[:, : SIDE // 16]
    for path, sky in zip(paths, skies, strict=True):
        before = fits.getdata(path, "SCI")[far] - sky[far]
        after = fits.getdata(target / path.name, "SCI")[far] - sky[far]
        before, after = (np.std(rows.mean(axis=1).reshape(-1, 16).mean(axis=1)) for rows in (before, after))
        assert before > 0.1 * RMS
        assert after < 0.4 * before


def pairs(blocks, places):
    """Pairs of exposures of places on the sky, in blocks (row, column)."""
    return [
        Pair(first, second, 1.0, np.eye(2), np.subtract(to, origin, dtype=float))
        for first, second, origin, to in zip(blocks, blocks[1:], places, places[1:], strict=False)
    ]


@pytest.mark.parametrize("step", [(7, 5), (7.5, 5.4), (4.3, 3.3), (20.5, 13.4)])
def test_noise_and_a_faint_wisp_do_not_move_with_the_sky(step):
    draw, places = np.random.default_rng(7), [np.multiply(n, step) for n in range(4)]
    noise = draw.standard_normal((4, 128, 128))
    assert moves_with_sky(pairs(noise, places)).mean() < 0.1
    y, x = np.indices((128, 128))
    wisp = 3.0 * np.exp(-(((y - 60) / 25) ** 2) - ((x - 64) / 40) ** 2)
    assert moves_with_sky(pairs(noise + wisp, places))[wisp > 0.5].mean() < 0.1


def test_a_galaxy_in_one_field_of_many_leaves_the_wisp():
    draw, (y, x) = np.random.default_rng(8), np.indices((128, 128))
    wisp = 8.0 * np.exp(-(((y - 60) / 25) ** 2) - ((x - 64) / 40) ** 2)
    blocks, places = [], []
    for field in range(12):
        for dither in range(3):
            down, along = 7.5 * dither, 5.4 * dither
            galaxy = 60.0 * (field == 5) * np.exp(-np.hypot(y - 60 - down, x - 64 - along) / 12)
            blocks.append(wisp + galaxy + draw.standard_normal(y.shape))
            places.append((1000.0 * field + down, along))
    assert moves_with_sky(pairs(blocks, places))[wisp > 0.5].mean() < 0.2


def test_a_gradient_of_the_sky_stays_in_the_rows_of_a_wisp():
    draw, (y, x) = np.random.default_rng(9), np.indices((128, 128))
    wisp = 8.0 * np.exp(-(((y - 40) / 10) ** 2) - ((x - 64) / 30) ** 2)
    template = build_template([wisp + (y - 63.5) / 63.5 + draw.standard_normal(y.shape) for _ in range(8)])
    assert template.max() > 6.0
    assert template[:, :10].min() > -0.3


def test_a_galaxy_wider_than_the_dithers_is_no_wisp(tmp_path):
    y, x = np.indices((SIDE, SIDE))
    paths = []
    for n in range(4):
        shift = (30 * n, 20 * n)
        galaxy = 2.0 * RMS * np.exp(-np.hypot((x - 200 - shift[0]) / 2, y - 220 - shift[1]) / 30)
        paths.append(write(scene(50 + n, shift) + galaxy, tmp_path / f"exposure{n}_nrcb4_cal.fits", shift))
    target = tmp_path / "out"
    target.mkdir()
    clean(paths, measure_wisps(named(paths), None, found(paths), "wisp", target), target)
    for path in paths:
        taken = fits.getdata(path, "SCI") - fits.getdata(target / path.name, "SCI")
        assert np.abs(taken).max() < 0.1 * RMS


def test_a_galaxy_in_exposures_of_one_place_is_no_wisp(tmp_path):
    y, x = np.indices((SIDE, SIDE))
    galaxy = 2.0 * RMS * np.exp(-np.hypot((x - 200) / 2, y - 220) / 30)
    paths = []
    for n in range(4):
        shift = (3 * n, 2 * n)
        paths.append(write(scene(60 + n, shift) + galaxy, tmp_path / f"exposure{n}_nrcb4_cal.fits", shift))
    made = measure_wisps(named(paths), None, found(paths), "wisp", tmp_path)
    assert made.files["template"] is None
    assert made.facts["wisps_significant"] == 0


def test_an_exposure_that_is_added_leaves_the_wisps_of_the_others_as_they_were(with_wisps, tmp_path):
    paths, _, strengths = with_wisps
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    measure_wisps(named(paths[:3]), None, found(paths), "wisp", first)
    measure_wisps(named(paths), first / "wisp.fits", found(paths, kept=True), "wisp", second)
    for path in paths[:3]:
        name = f"{path.name.removesuffix('_cal.fits')}_wisp.npz"
        assert (second / name).read_bytes() == (first / name).read_bytes()
    text = (second / "wisp.ecsv").read_text()
    assert Table.read(second / "wisp.ecsv")["amplitude"][3] == pytest.approx(strengths[3], rel=0.3)
    assert read_wisps(text) == found(paths, kept=True)
    with pytest.raises(ValueError, match="earlier way"):
        read_wisps(text.replace(f"template: {TEMPLATE}", "template: 1"))


def test_a_published_template_stays_unless_the_exposures_are_those_that_made_it():
    made = WispSolution(exposures={"a": "1", "b": "2", "c": "3"}, kept=False)
    assert not made.stays_for({"a": "1", "b": "2", "c": "3"})
    assert made.stays_for({"a": "1", "b": "2", "c": "3", "d": "4"})
    assert made.stays_for({"a": "1", "b": "2", "c": "other"})
    assert made.model_copy(update={"kept": True}).stays_for({"a": "1", "b": "2", "c": "3"})


def test_a_template_made_while_an_exposure_was_missing_is_made_anew_when_it_is_back():
    made = WispSolution(exposures={"a": "1", "b": "2", "c": "3"}, kept=False, missing=("d",))
    assert made.stays_for({"a": "1", "b": "2", "c": "3", "e": "5"})
    assert not made.stays_for({"a": "1", "b": "2", "c": "3", "d": "4"})


def test_a_template_of_the_user_is_fitted_with_its_error(with_wisps, tmp_path):
    paths, wisp, strengths = with_wisps
    template = tmp_path / "mine.fits"
    fits.ImageHDU(wisp.astype(np.float32)).writeto(template)
    measure_wisps(named(paths[:2]), template, found(paths), "one_wisp", tmp_path)
    table = Table.read(tmp_path / "one_wisp.ecsv")
    pulls = (np.array(table["amplitude"]) - strengths[:2]) / np.array(table["error"])
    assert np.abs(pulls).max() < 5
    assert not (tmp_path / "one_wisp.fits").exists()


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
def test_a_template_may_be_in_any_unit_with_a_pedestal_and_be_unknown_somewhere(with_wisps, tmp_path, unit):
    paths, wisp, strengths = with_wisps
    image = unit * (wisp + 2.0)
    image[:, SIDE - 96 :] = np.nan
    image[3, 5] = np.inf
    template = tmp_path / "mine.fits"
    fits.ImageHDU(image).writeto(template)
    made = measure_wisps(named(paths[1:2]), template, found(paths), "wisp", tmp_path)
    table = Table.read(tmp_path / "wisp.ecsv")
    assert unit * table["amplitude"][0] == pytest.approx(strengths[1], rel=0.15)
    target = tmp_path / "out"
    target.mkdir()
    clean(paths[1:2], made, target)
    known = slice(None), slice(None, SIDE - 96 - BLOCK)
    with fits.open(target / paths[1].name) as hdus, fits.open(paths[1]) as raw:
        taken = raw["SCI"].data - hdus["SCI"].data
    assert taken[known] - np.median(taken[known]) == pytest.approx(strengths[1] * wisp[known], abs=0.15 * wisp.max())
    np.testing.assert_array_equal(taken[:, SIDE - 96 + BLOCK :], 0.0)


@pytest.mark.slow
def test_a_binned_template_of_a_full_frame_is_that_of_its_blocks(tmp_path):
    exposure = datamodels.ImageModel((2048, 2048))
    exposure.err, exposure.dq = np.full((2048, 2048), RMS), np.zeros((2048, 2048), np.uint32)
    draw = np.random.default_rng(2)
    y, x = np.indices((256, 256)) / 256
    blocks = 3 * RMS * np.exp(-(((y - 0.4) / 0.1) ** 2) - ((x - 0.5) / 0.25) ** 2)
    exposure.data = SKY + RMS * draw.standard_normal((2048, 2048)) + np.kron(blocks, np.ones((8, 8)))
    path = tmp_path / "a_nrcb4_cal.fits"
    exposure.save(str(path))
    amplitudes = []
    for side in (1, 2, 4, 8):
        fits.ImageHDU(np.kron(blocks, np.ones((side, side)))).writeto(tmp_path / f"{side}.fits")
        measure_wisps(named([path]), tmp_path / f"{side}.fits", found([path]), "wisp", tmp_path)
        amplitudes.append(Table.read(tmp_path / "wisp.ecsv")["amplitude"][0])
    assert amplitudes == pytest.approx([amplitudes[0]] * 4)
    assert amplitudes[0] == pytest.approx(1.0, abs=0.05)


def test_of_a_full_frame_template_a_subarray_uses_its_own_part_and_nothing_where_it_is_unknown(with_wisps, tmp_path):
    paths, wisp, strengths = with_wisps
    whole = np.full((2048, 2048), np.nan, np.float32)
    whole[1024 : 1024 + SIDE, 512 : 512 + SIDE] = np.where(wisp > 0.001 * RMS, wisp, np.nan)
    template, part = tmp_path / "whole.fits", tmp_path / paths[0].name
    fits.ImageHDU(whole).writeto(template)
    with datamodels.ImageModel(paths[0]) as model:
        model.meta.subarray.xstart, model.meta.subarray.ystart = 513, 1025
        model.save(str(part))
    made = measure_wisps(named([part]), template, found(paths), "wisp", tmp_path)
    assert Table.read(tmp_path / "wisp.ecsv")["amplitude"][0] == pytest.approx(strengths[0], rel=0.1)
    target = tmp_path / "out"
    target.mkdir()
    clean([part], made, target)
    with fits.open(target / part.name) as hdus:
        assert np.isfinite(hdus["SCI"].data).all()


def test_a_subarray_of_which_the_template_knows_nothing_has_no_wisp(with_wisps, tmp_path):
    whole, part = np.full((2048, 2048), np.nan, np.float32), tmp_path / with_wisps[0][0].name
    whole[1600:, 1600:] = 1.0 + np.linspace(0, 1, 448)
    fits.ImageHDU(whole).writeto(tmp_path / "whole.fits")
    with datamodels.ImageModel(with_wisps[0][0]) as model:
        model.meta.subarray.xstart, model.meta.subarray.ystart = 1, 1
        model.save(str(part))
    made = measure_wisps(named([part]), tmp_path / "whole.fits", found([part]), "wisp", tmp_path)
    assert made.files["wisps"] == {}
    assert made.facts["wisps_significant"] == 0


def test_a_template_without_a_known_pixel_is_refused_by_name(with_wisps, tmp_path):
    fits.ImageHDU(np.full((2048, 2048), np.nan, np.float32)).writeto(tmp_path / "unknown.fits")
    with pytest.raises(ValueError, match=r"unknown\.fits: no pixel"):
        measure_wisps(named(with_wisps[0][:1]), tmp_path / "unknown.fits", found(with_wisps[0]), "wisp", tmp_path)


def test_a_full_frame_template_needs_the_place_of_a_subarray(with_wisps, tmp_path):
    template, part = tmp_path / "whole.fits", tmp_path / with_wisps[0][0].name
    fits.ImageHDU(np.ones((2048, 2048), np.float32)).writeto(template)
    with datamodels.ImageModel(with_wisps[0][0]) as model:
        model.meta.subarray.xstart = None
        model.save(str(part))
    with pytest.raises(ValueError, match=rf"{part.name}.*SUBSTRT"):
        measure_wisps(named([part]), template, found([part]), "wisp", tmp_path)


def test_without_a_wisp_nothing_is_subtracted(tmp_path):
    paths = [
        write(scene(20 + n, shift), tmp_path / f"exposure{n}_nrcb3_cal.fits", shift) for n, shift in enumerate(DITHERS)
    ]
    target = tmp_path / "out"
    target.mkdir()
    made = measure_wisps(named(paths), None, found(paths), "wisp", target)
    clean(paths, made, target)
    with fits.open(paths[0]) as before, fits.open(target / paths[0].name) as after:
        assert np.abs(before["SCI"].data - after["SCI"].data).mean() < 0.01 * RMS
    assert made.facts["wisps_significant"] <= 1


def test_a_template_that_does_not_fit_is_refused_by_name(with_wisps, tmp_path):
    template = tmp_path / "odd.fits"
    fits.ImageHDU(np.ones((70, 30), np.float32)).writeto(template)
    with pytest.raises(ValueError, match=r"odd\.fits"):
        measure_wisps(named(with_wisps[0][:1]), template, found(with_wisps[0]), "wisp", tmp_path)


def test_a_mask_covers_faint_outskirts_and_little_of_the_empty_sky():
    draw = np.random.default_rng(4)
    y, x = np.indices((SIDE, SIDE))
    galaxy = 0.5 * np.exp(-np.hypot(x - 256, y - 256) / 30)
    noise = RMS * draw.standard_normal((SIDE, SIDE))
    mask = source_mask(noise + galaxy, EXPOSURE_TIERS)
    # At a fifth of a pixel's noise no pixel shows it; smoothed over 15 pixels it stands out.
    assert mask[galaxy > 0.2 * RMS].mean() > 0.95
    assert source_mask(noise, EXPOSURE_TIERS).mean() < 0.05
