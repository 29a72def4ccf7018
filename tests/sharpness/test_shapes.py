"""Exposures that are offset from each other smear the stars of their mosaic, which is measured."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table
from stdatamodels.jwst import datamodels

from cosmosaic.astrometry.detection import find_exposure_stars
from cosmosaic.astrometry.metrics import Metric
from cosmosaic.astrometry.parts import Part, verdict_table
from cosmosaic.astrometry.verdict import judge_sharpness
from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.geometry.grid import survey_grid
from cosmosaic.geometry.windows import Box, in_larger_pixels, window_of
from cosmosaic.mosaic.alone import make_mosaic
from cosmosaic.records import MosaicGrid
from cosmosaic.sharpness.compare import compare_sharpness, measure_shapes, summary, summary_of_tile
from cosmosaic.sharpness.shapes import stars_of_exposures
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.survey import simulate_exposure, survey_scene
from cosmosaic.survey import DrizzleSettings, FilterPair, SimulationSettings, Survey

DITHERS = ((0.0, -0.5), (0.41, 0.6), (1.03, 0.2), (-1.15, -0.3))
STILL = dict.fromkeys(("roll_error_arcsec", "placement_error_mas", "filter_offset_mas", "aberration"), 0.0)
SURVEY = Survey(name="mock", drizzle=DrizzleSettings(errors="none"))


def sharpness(folder, light=None, band="F277W", **changes):
    """The stars of a mosaic of four exposures, with the light of a nebula in MJy/sr if there is one."""
    field = {"stars_per_arcmin2": 1500.0, "dithers_arcsec": DITHERS, "pointing_error_mas": 0.0} | STILL
    settings = SimulationSettings(
        level="cal",
        subarray="SUB320",
        detectors=("NRCB1",),
        filter_pairs=(FilterPair(short="F150W", long="F277W"),),
        galaxies_per_arcmin2=0.0,
        **(field | changes),
    )
    (folder / "made").mkdir()
    frames = plan_exposures(settings)
    scene = survey_scene(settings, frames)
    cals = [simulate_exposure(frame, scene, settings, folder)[0] for frame in frames]
    for cal in cals if light else ():
        with datamodels.open(cal) as model:
            sky = np.transpose(model.meta.wcs(*np.indices(model.data.shape)[::-1]), (1, 2, 0))
            model.data += light(3600 * (sky - sky[160, 160])).astype("f4")
            model.save(cal)
    stars = {
        frame.name: find_exposure_stars(cal, 10.0, folder / "made") for frame, cal in zip(frames, cals, strict=True)
    }
    window = survey_grid(SURVEY.grid, {one.name: one.footprint for one in map(describe_exposure, map(str, cals))})
    with ThreadPoolExecutor(1) as pool:
        mosaic, crfs = make_mosaic(cals, {}, window, SURVEY, folder / "steps", pool)
    shapes = {
        name: measure_shapes(crf, stars[name].files["stars"], window, SURVEY.drizzle, folder / "made").files["shapes"]
        for name, crf in crfs.items()
    }
    told = Metric("exposure", 2.0, 0.1, 1.25, "mas", 4, "", "pass", "")
    parts = [(Part("filter", "F150W"), (told,)), (Part("filter", "F200W"), (told._replace(rms=9.0),))]
    verdict_table({"before": (), "after": (told,)}, {"after": parts}).write(folder / "mock_astrometry.ecsv")
    made = compare_sharpness(mosaic, shapes, folder / "mock_astrometry.ecsv", band, window, (), "mock", folder)
    return QTable.read(made.files["table"]), made.facts


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::asdf.exceptions.AsdfBlockIndexWarning")
@pytest.mark.parametrize(("error_mas", "states"), [(0.0, {"pass"}), (10.0, {"warn", "fail"})])
def test_stars_are_wider_where_exposures_are_offset(error_mas, states, tmp_path):
    table, facts = sharpness(tmp_path, pointing_error_mas=error_mas)
    assert facts["sharpness_stars"] == len(table) > 15
    width, ellipticity = judge_sharpness("F150W", table.meta)
    assert {width.state, ellipticity.state} <= states
    if not error_mas:
        # A mean of profiles is a little wider than the profiles, which are no Gaussians.
        assert abs(width.value) < 1.0
        assert width.error < 0.3
        assert ellipticity.value < 1.0
    else:
        # Offsets of 10 mas rms per axis about the mean of four widen a star of 26 mas by some 6 per cent.
        assert 3 < width.value < 14


def nebula(arcsec):
    """Filaments an arcsec wide, bright enough to hide the fainter third of the stars."""
    return 1.0 + np.sin(3.0 * arcsec[..., 0]) * np.cos(2.1 * arcsec[..., 1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::asdf.exceptions.AsdfBlockIndexWarning")
@pytest.mark.parametrize(
    ("changes", "states"),
    [
        ({"stars_per_arcmin2": 0.0}, {"not measurable"}),
        ({"dithers_arcsec": DITHERS[:1]}, {"not measurable"}),
        ({"stars_per_arcmin2": 5000.0}, {"pass", "not measurable"}),
        ({"light": nebula}, {"pass"}),
    ],
    ids=["no stars", "one exposure", "crowded", "nebula"],
)
def test_good_pointings_are_never_blamed(changes, states, tmp_path):
    table, facts = sharpness(tmp_path, **changes)
    assert {one.state for one in judge_sharpness("F150W", table.meta)} <= states
    if states == {"not measurable"}:
        assert facts == {**dict.fromkeys(facts), "sharpness_stars": 0}


@pytest.mark.filterwarnings("ignore::asdf.exceptions.AsdfBlockIndexWarning")
def test_the_figures_of_the_filter_are_told(tmp_path):
    _, facts = sharpness(tmp_path, band="F150W", dithers_arcsec=DITHERS[:1], stars_per_arcmin2=0.0)
    assert facts["exposure_mas"] == 1.25
    assert facts["module_mas"] is None


WINDOW = MosaicGrid(
    tangent_ra=150.1, tangent_dec=2.2, rotation=0.0, pixel_scale_mas=30.0, crpix=(-1.0, -1.0), shape=(200, 400)
)
PLACES = np.array([[40.0 + 60 * column, 50.0 + 90 * row] for column in range(6) for row in range(2)])


def round_stars(tmp_path, widths, tiles=()):
    """Gaussians at `PLACES`, of some widths in pixels in the mosaic, and of 2 and 2.4 in its exposures."""
    y, x = np.indices(WINDOW.shape)
    stars = zip(*PLACES.T, np.broadcast_to(widths, len(PLACES)), strict=True)
    image = 7.0 + sum(np.exp(-0.5 * ((x - px) ** 2 + (y - py) ** 2) / width**2) for px, py, width in stars)
    mosaic = tmp_path / "mock_i2d.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image.astype("f4"), name="SCI")]).writeto(mosaic)
    shapes = {}
    for name, sigma in (("one", 2.0), ("two", 2.4)):
        shapes[name] = tmp_path / f"{name}_shapes.npz"
        sigmas = np.full(len(PLACES), sigma)
        np.savez(shapes[name], places=PLACES, sigma=sigmas, ellipticity=np.zeros((len(PLACES), 2)))
    told = tmp_path / "mock_astrometry.ecsv"
    verdict_table({"before": (), "after": (Metric("exposure", 1, 1, 1, "mas", 4, "", "pass", ""),)}, {}).write(told)
    made = compare_sharpness(mosaic, shapes, told, "F150W", WINDOW, tiles, "mock", tmp_path)
    return QTable.read(made.files["table"]), made.facts


def test_widths_are_those_of_round_stars_on_a_bright_background(tmp_path):
    table, facts = round_stars(tmp_path, 2.5)
    fwhm = 2.35482 * 0.030
    np.testing.assert_allclose(table["fwhm"].value, 2.5 * fwhm, rtol=2e-3)
    np.testing.assert_allclose(table["fwhm_exposures"].value, np.sqrt((2.0**2 + 2.4**2) / 2) * fwhm, rtol=1e-3)
    assert facts["sharpness_stars"] == len(PLACES)


def test_the_tile_in_which_stars_are_wider_is_told(tmp_path):
    """Tiles have pixels of half the size, as those of another filter; the last one has four stars."""
    right = PLACES[:, 0] > 190
    tiles = tuple(
        window_of(in_half_pixels(WINDOW), Box(2 * left, 0, 2 * (right - left), 400), name)
        for name, left, right in (("west", 2, 190), ("east", 190, 402), ("edge", 270, 402), ("beyond", 500, 600))
    )
    exposures = np.sqrt((2.0**2 + 2.4**2) / 2)
    table, _ = round_stars(tmp_path, np.where(right, 1.1, 1.0) * exposures, tiles)
    told = {one["tile"]: one for one in table.meta["tiles"]}
    assert {name: one["width_state"] for name, one in told.items()} == {
        "west": "pass",
        "east": "fail",
        "edge": "not measurable",
        "beyond": "not measurable",
    }
    assert {name: one["sharpness_stars"] for name, one in told.items()} == {
        "west": 6,
        "east": 6,
        "edge": 4,
        "beyond": 0,
    }
    assert told["west"]["fwhm_ratio"] == pytest.approx(1.0, abs=2e-3)
    assert told["east"]["fwhm_ratio"] == pytest.approx(1.1, abs=2e-3)
    assert np.isnan(told["edge"]["fwhm_ratio"])
    assert {told[name]["ellipticity_state"] for name in ("west", "east")} == {"pass"}
    assert told["east"]["ellipticity"] == pytest.approx(0.0, abs=2e-3)


def in_half_pixels(window):
    rows, columns = window.shape
    finer = {"pixel_scale_mas": window.pixel_scale_mas / 2, "shape": (2 * rows, 2 * columns)}
    made = window.model_copy(update=finer | {"crpix": tuple(2 * (one + 0.5) - 0.5 for one in window.crpix)})
    assert in_larger_pixels(made, 2) == window
    return made


def test_stars_of_one_exposure_have_the_width_of_the_same_stars_in_a_mosaic_of_it_alone(tmp_path):
    """The exposure's own stamps too are without their background."""
    field, _ = sharpness(tmp_path, dithers_arcsec=(DITHERS[0], DITHERS[0]))
    np.testing.assert_allclose(np.median(field["fwhm"] / field["fwhm_exposures"]), 1.0, atol=0.005)
    assert 0.05 < np.median(field["fwhm_exposures"].value) < 0.075


def test_few_stars_are_not_measurable():
    table = QTable(
        {name: np.full(4, 0.06) for name in ("fwhm", "fwhm_exposures", "e1", "e2", "e1_exposures", "e2_exposures")}
    )
    measured = summary(table)
    assert measured["sharpness_stars"] == 4
    assert {one.state for one in judge_sharpness("F150W", measured)} == {"not measurable"}


def test_a_star_is_one_that_several_exposures_have_once():
    places = np.array(
        [[10.0, 10.0], [10.5, 10.2], [50.0, 50.0], [80.0, 80.0], [81.0, 80.0], [80.5, 80.0], [90, 10], [90, 11]]
    )
    exposures = np.array([0, 1, 0, 0, 0, 1, 0, 1])
    assert stars_of_exposures(places, exposures, 30.0).tolist() == [0, 0, -1, -1, -1, -1, 1, 1]
    assert stars_of_exposures(np.zeros((0, 2)), np.zeros(0, dtype=int), 30.0).tolist() == []


@pytest.mark.parametrize("number", [5, 25])
def test_few_stars_that_scatter_raise_no_false_alarm(number):
    generator, alarms = np.random.default_rng(5), 0
    flat = {f"e{axis}_exposures": np.zeros(number) for axis in (1, 2)} | {"fwhm_exposures": np.ones(number)}
    for _ in range(1000):
        turns = {f"e{axis}": 0.02 * generator.standard_normal(number) for axis in (1, 2)}
        widths = {"fwhm": 1.007 + 0.03 * generator.standard_normal(number)}
        told = summary_of_tile("west", Table(widths | turns | flat))
        alarms += told["width_state"] not in ("pass", "not measurable")
    # Normal errors of five stars alone would be 3.4 %.
    assert alarms < 28
