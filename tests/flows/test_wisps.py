"""The wisps of a detector are found in all its exposures together, and each exposure is cleaned by itself."""

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from jwst import datamodels
from prefect.logging import disable_run_logger

from cosmosaic.artefacts.steps import subtract_wisps
from cosmosaic.exposures.band import Band
from cosmosaic.exposures.files import Cal
from cosmosaic.geometry.wcs import grid_wcs
from cosmosaic.processes import workers
from cosmosaic.records import Association, MosaicGrid
from cosmosaic.storage import store
from cosmosaic.survey import Survey
from tasks.runtime.caching import Given, Work
from tasks.runtime.graph import placed
from tasks.steps import TASKS

BAND, DETECTOR = "F150W", "NRCB4"
SIDE = 512
RMS = 0.04
STRENGTHS = {"a_nrcb4": 0.8, "b_nrcb4": 1.0, "c_nrcb4": 1.1, "d_nrcb4": 0.0, "e_nrcb4": 1.3}
"""Of the wisp in each exposure; the last arrives late."""


class Node:
    """A step that was done when it was submitted."""

    def __init__(self, result):
        self.result = result


class RunInPlace:
    """Does each step when it is submitted, with a new cache and the products of earlier runs."""

    def __init__(self, folder, cache, plan):
        self.survey = Survey(name="small", store=str(folder))
        self.work = Work(str(cache), plan)
        self.checksums = self.work.checksums
        self.products = self.survey.url("products")

    def submit(self, step, label):
        with disable_run_logger():
            settled = step.settled(look_up).prepared()
            return step.outputs.promised(Node(TASKS[type(step)].fn(Given(settled, self.work))))

    def note(self, text):
        raise AssertionError(text)

    def publish(self, measured):
        for made in measured:
            for place, (file, _) in placed(made.published).items():
                store.copy(file.stored, store.join(self.products, place), self.products)


def look_up(promise):
    made = promise.node.result.files[promise.output]
    return made.get(promise.name) if isinstance(made, dict) else made


@pytest.fixture(scope="module")
def plan():
    yield workers.plan_workers(1, None, 600.0, None, {})
    workers.stop_workers()


@pytest.fixture(scope="module")
def cals(tmp_path_factory):
    """Calibrated exposures of one detector with a wisp of changing strength, by their names."""
    folder = tmp_path_factory.mktemp("cals")
    y, x = np.indices((SIDE, SIDE)) / SIDE
    wisp = 0.5 * RMS * np.exp(-(((y - 0.4 - 0.1 * np.sin(5 * x)) / 0.2) ** 2) - ((x - 0.5) / 0.25) ** 2)
    return {
        name: store.checksum(write(0.3 + strength * wisp, number, folder / f"{name}_cal.fits"), str(folder / "sums"))
        for number, (name, strength) in enumerate(STRENGTHS.items())
    }


def write(image, seed, path):
    """Write an exposure with noise, 60 pixels from the one before."""
    noise = RMS * np.random.default_rng(seed).standard_normal(image.shape)
    model = datamodels.ImageModel((image + noise).astype(np.float32))
    model.err = np.full(image.shape, RMS, dtype=np.float32)
    model.dq = np.zeros(image.shape, dtype=np.uint32)
    grid = MosaicGrid(
        tangent_ra=80.0, tangent_dec=-69.0, rotation=0.0, pixel_scale_mas=31.0, crpix=(60 * seed, 0), shape=image.shape
    )
    model.meta.wcs = grid_wcs(grid)
    model.save(str(path))
    return str(path)


def cleaned(cals, run, subarrays=None):
    """Clean exposures as the flow does, and publish what it would; return the result of the step of each."""
    association = Association(product_name="small_f150w", band=BAND, filter=BAND, pupil="CLEAR", members=tuple(cals))
    subarrays = subarrays or dict.fromkeys(cals, "FULL")
    frames = {name: SimpleNamespace(detector=DETECTOR, subarray=subarrays[name], band=BAND) for name in cals}
    band = Band(association, frames, {name: Cal(stored) for name, stored in cals.items()})
    exposures, measured = subtract_wisps(band, run)
    run.publish(measured)
    return {name: cal.source.node.result for name, cal in exposures.items()}


@pytest.fixture(scope="module")
def grown(cals, plan, tmp_path_factory):
    """The cleaned exposures of four, and of the same four with a fifth that was added; the survey's folder."""
    folder = tmp_path_factory.mktemp("survey")
    first = {name: cals[name] for name in list(cals)[:-1]}
    before = cleaned(first, RunInPlace(folder, folder / "cache", plan))
    # Nothing but what was published is left.
    return before, cleaned(cals, RunInPlace(folder, folder / "rebuilt", plan)), folder


def test_an_exposure_that_is_added_on_a_wisp_detector_leaves_the_cleaned_ones_of_the_others_to_the_byte(grown):
    before, after, _ = grown
    assert len(after) == len(before) + 1
    for name, result in before.items():
        assert after[name].key == result.key
        assert [each.sha256 for each in after[name].objects] == [each.sha256 for each in result.objects]


def test_exposures_that_have_no_wisp_stay_when_there_are_enough_for_a_template(plan, tmp_path):
    cals = {
        name: store.checksum(write(np.full((SIDE, SIDE), 0.3), number, tmp_path / f"{name}_cal.fits"), str(tmp_path))
        for number, name in enumerate(("f_nrcb4", "g_nrcb4", "h_nrcb4"))
    }
    first = {name: cals[name] for name in list(cals)[:-1]}
    before, after = (cleaned(some, RunInPlace(tmp_path, tmp_path / "cache", plan)) for some in (first, cals))
    assert {name: after[name].key for name in before} == {name: result.key for name, result in before.items()}


def test_subarrays_have_wisps_of_their_own(cals, plan, tmp_path):
    image = np.full((SIDE // 2, SIDE // 2), 0.3)
    small = {
        name: store.checksum(write(image, number, tmp_path / f"{name}_cal.fits"), str(tmp_path))
        for number, name in enumerate(("u_nrcb4", "v_nrcb4", "w_nrcb4"))
    }
    subarrays = dict.fromkeys(cals, "FULL") | dict.fromkeys(small, "SUB320")
    cleaned(cals | small, RunInPlace(tmp_path, tmp_path / "cache", plan), subarrays)
    for part, names in (("full", list(cals)), ("sub320", list(small))):
        table = Table.read(tmp_path / "products" / f"small_f150w_nrcb4_{part}_wisp.ecsv")
        assert list(table["exposure"]) == names


def test_the_added_exposure_is_cleaned_with_the_template_that_stays(grown, cals):
    _, after, folder = grown
    table = Table.read(folder / "products" / "small_f150w_nrcb4_wisp.ecsv")
    assert table.meta["kept"]
    assert list(table["subtracted"]) == [True, True, True, False, True]
    taken = {name: pixels(cals[name]) - pixels(result.files["cal"]) for name, result in after.items()}
    assert taken["e_nrcb4"].max() > 0.3 * RMS
    assert not taken["d_nrcb4"].any()


def pixels(stored):
    with fits.open(stored.uri) as hdus:
        return np.array(hdus["SCI"].data)
