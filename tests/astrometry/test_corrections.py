"""Alignment: an exposure whose pointing is wrong is shifted back onto the others, which stay where they are."""

from typing import NamedTuple

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from jwst.tweakreg.utils import adjust_wcs
from stdatamodels.jwst import datamodels

from cosmosaic.astrometry import align as steps
from cosmosaic.astrometry.solution import (
    NO_CORRECTION,
    AlignedExposure,
    AlignRequest,
    Correction,
    keeping,
    read_alignment,
)
from cosmosaic.exposures.library import exposure_name
from cosmosaic.nircam import star_fwhm_pixels
from cosmosaic.processes import workers
from cosmosaic.survey import AlignSettings

pytestmark = pytest.mark.slow

BAND = "F277W"
SETTINGS = AlignSettings(enabled=True, snr_threshold=5.0, minimum_objects=4)
SHIFTS_ARCSEC = {1: (0.0, 0.1), 2: (-0.08, 0.05)}
"""Errors (RA, Dec) that are put into the pointing of some exposures."""
ELSEWHERE = Correction(matrix=((1.0, 0.0), (0.0, 1.0)), shift=(0.2, -0.1))
STEM = "small_f277w_align"


class Aligned(NamedTuple):
    """A table of corrections, and the exposures that were corrected by it."""

    alignment: object
    paths: list


@pytest.fixture(scope="module")
def plan():
    yield workers.plan_workers(1, None, 600.0, None, {})
    workers.stop_workers()


@pytest.fixture(scope="module")
def originals(demo):
    return demo.cals(BAND)


@pytest.fixture(scope="module")
def astray(originals, tmp_path_factory):
    """The exposures, with wrong pointings of two."""
    folder = tmp_path_factory.mktemp("astray")
    paths = list(originals)
    for number, (east, north) in SHIFTS_ARCSEC.items():
        paths[number] = folder / originals[number].name
        with datamodels.open(originals[number]) as model:
            wcs = model.meta.wcs
            east_deg = east / 3600 / np.cos(corner(wcs).dec.rad)
            model.meta.wcs = adjust_wcs(wcs, delta_ra=east_deg, delta_dec=north / 3600)
            model.save(paths[number])
    return paths


def corner(wcs):
    return SkyCoord(*wcs(320.0, 320.0), unit="deg")


def place(path):
    with datamodels.open(path) as model:
        return corner(model.meta.wcs)


def request(paths, settings=SETTINGS, **changes):
    exposures = {exposure_name(path.name): f"cal of {path.name}" for path in paths}
    return AlignRequest(settings=settings, fwhm_pixels=star_fwhm_pixels(BAND), exposures=exposures, **changes)


def align(plan, paths, asked, folder):
    """Do both steps in a child process."""
    workers.run(plan, align_in, paths, asked, folder)
    table = read_alignment((folder / "out" / f"{STEM}.ecsv").read_text())
    return Aligned(table, [folder / "out" / path.name for path in paths])


def align_in(paths, asked, folder, scratch, catalog=None):
    made = folder / "out"
    made.mkdir()
    exposures = {exposure_name(path.name): path for path in paths}
    solved = steps.solve_alignment(exposures, catalog, asked, STEM, made)
    for name, path in exposures.items():
        steps.align_exposure(path, solved.files["corrections"][name], made)


def offsets_mas(aligned, originals, demo):
    """How far exposures are off their true places relative to the first, east and north."""
    moved = [
        place(path).spherical_offsets_to(place(original)) for path, original in zip(aligned, originals, strict=True)
    ]
    shifts = np.array([[angle.to_value("mas") for angle in offset] for offset in moved])
    # The pointing errors of the survey itself (3 mas rms) are put right too.
    errors = {row["name"]: np.array([row["ra_error"], row["dec_error"]]) for row in demo.frames}
    truth = np.array([errors[exposure_name(path.name)] for path in originals])
    return shifts - shifts[0] + truth - truth[0]


@pytest.fixture(scope="module")
def first(plan, originals, tmp_path_factory):
    """Two exposures, aligned to each other."""
    return align(plan, originals[::2], request(originals[::2]), tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def grown(plan, first, originals, astray, tmp_path_factory):
    """The same with a third, whose pointing is wrong."""
    paths = [originals[0], astray[1], originals[2]]
    return align(plan, paths, keeping(request(paths), first.alignment), tmp_path_factory.mktemp("grown"))


def test_a_wrong_pointing_is_put_right_relative_to_the_others(plan, originals, astray, demo, tmp_path):
    assert place(astray[1]).separation(place(originals[1])).arcsec == pytest.approx(0.1, rel=0.01)
    paths = [originals[0], astray[1], originals[2]]
    together = align(plan, paths, request(paths), tmp_path)
    assert not any(one.kept for one in together.alignment.exposures)
    assert np.abs(offsets_mas(together.paths, originals, demo)[1]).max() < 10.0


def test_a_new_exposure_with_a_wrong_pointing_is_put_right_relative_to_those_that_stay(grown, originals, demo):
    assert [one.kept for one in grown.alignment.exposures] == [True, False, True]
    assert np.abs(offsets_mas(grown.paths, originals, demo)).max() < 10.0


def test_exposures_that_were_aligned_stay_byte_for_byte_when_one_is_added(first, grown):
    for before, after in zip(first.paths, grown.paths[::2], strict=True):
        assert before.read_bytes() == after.read_bytes()


def test_new_exposures_with_wrong_pointings_of_their_own_go_where_those_lie_that_stay(
    plan, astray, originals, demo, tmp_path
):
    name = exposure_name(originals[0].name)
    known = AlignedExposure(name=name, sha256=f"cal of {name}_cal.fits", kept=True, correction=ELSEWHERE)
    both = align(plan, astray, request(astray, kept=(known,)), tmp_path)
    assert both.alignment.exposures[0] == known
    assert np.abs(offsets_mas(both.paths, originals, demo)).max() < 10.0


def test_a_new_exposure_that_shares_no_stars_with_those_that_stay_keeps_its_wcs(plan, astray, tmp_path):
    far = AlignedExposure(name="far", sha256="cal of far", kept=True, correction=NO_CORRECTION)
    alone = align(plan, astray[1:2], request(astray[1:2], kept=(far,)), tmp_path)
    assert [(one.aligned, one.correction) for one in alone.alignment.exposures] == [(False, NO_CORRECTION)]
    assert place(alone.paths[0]).separation(place(astray[1])).arcsec < 1e-6


def test_a_single_exposure_is_no_failure(plan, originals, tmp_path):
    alone = align(plan, originals[:1], request(originals[:1]), tmp_path)
    assert [one.aligned for one in alone.alignment.exposures] == [False]
    assert place(alone.paths[0]).separation(place(originals[0])).arcsec < 1e-6


def test_a_new_exposure_that_shares_no_stars_is_aligned_to_the_users_catalogue(plan, astray, originals, demo, tmp_path):
    far = AlignedExposure(name="far", sha256="cal of far", kept=True, correction=NO_CORRECTION)
    sources = demo.sources
    stars = QTable(sources[sources["kind"] == "star"])
    catalog = tmp_path / "stars.ecsv"
    Table({"RA": stars["ra"].to_value("deg"), "DEC": stars["dec"].to_value("deg")}).write(catalog)
    # At 5 sigma one of 15 matches is wrong, which tweakreg's fit follows by a fifth of the offset.
    asked = request(astray[1:2], SETTINGS.model_copy(update={"snr_threshold": 20.0}), kept=(far,))
    workers.run(plan, align_to_catalog, astray[1:2], asked, tmp_path, catalog)
    shift = place(tmp_path / "out" / astray[1].name).spherical_offsets_to(place(originals[1]))
    (row,) = [row for row in demo.frames if row["name"] == exposure_name(astray[1].name)]
    left = [
        angle.to_value("mas") + row[error] for angle, error in zip(shift, ("header_east", "header_north"), strict=True)
    ]
    assert np.abs(left).max() < 10.0


def align_to_catalog(paths, asked, folder, catalog, scratch):
    align_in(paths, asked, folder, scratch, catalog)


@pytest.mark.parametrize("fit", ["shift", "general"])
def test_a_row_of_the_table_gives_the_wcs_that_tweakreg_gave(plan, astray, fit, tmp_path):
    settings = SETTINGS.model_copy(update={"fit": fit})
    differences = workers.run(plan, compare_with_tweakreg, astray, request(astray, settings), tmp_path).result
    assert max(difference for _, difference in differences) < 1e-6
    assert all(same_keywords for same_keywords, _ in differences)


def compare_with_tweakreg(paths, asked, folder, scratch):
    """Tell of each exposure whether its keywords are tweakreg's, and how far its pixels are off, in pixels."""
    tweakreg, made = steps.TweakRegStep, []

    class Watched:
        @staticmethod
        def call(library, **parameters):
            made.append(tweakreg.call(library, **parameters))
            return made[0]

    steps.TweakRegStep = Watched
    try:
        align_in(paths, asked, folder, scratch)
    finally:
        steps.TweakRegStep = tweakreg
    x, y = np.meshgrid(np.linspace(0, 639, 9), np.linspace(0, 639, 9))
    differences = []
    with made[0] as library:
        for path, given in zip(paths, library, strict=True):
            with datamodels.open(folder / "out" / path.name) as applied:
                back = applied.meta.wcs.invert(*given.meta.wcs(x, y))
                keywords = applied.meta.wcsinfo.instance == given.meta.wcsinfo.instance
            differences.append((keywords, float(np.abs(np.subtract(back, (x, y))).max())))
            library.shelve(given, modify=False)
    return differences
