"""One network aligns the exposures of all filters in a run, and an exposure that is added moves no other.

One detector counts too little, and is brought onto the other.
"""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import QTable
from prefect.artifacts import Artifact
from support.small_survey import SIMULATION, new_survey

from cosmosaic.astrometry.flux_solution import read_fluxes
from cosmosaic.astrometry.solution import read_alignment
from cosmosaic.survey import Survey
from flows.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.server]

FIELD = {
    "level": "cal",
    "subarray": "SUB320",
    "detectors": ("NRCB1", "NRCB2", "NRCBLONG"),
    # The second detector comes to see what the first has seen.
    "dithers_arcsec": ((0.0, -6.8), (0.4, 6.8), (3.0, 0.2)),
    "stars_per_arcmin2": 2500.0,
    "pointing_error_mas": 50.0,
}
SETTINGS = {
    "align": {"enabled": True, "method": "network", "aberration": True},
    "exposures": {"flux_scale": "measured"},
    "grid": {"tangent_ra": 150.11, "tangent_dec": 2.2},
    "drizzle": {"errors": "none"},
}
WRONG = 0.97


@pytest.fixture(scope="module")
def grown(prefect_server, tmp_path_factory):
    """A survey of two exposures in two filters, and what happened when the third arrived."""
    made = tmp_path_factory.mktemp("stars")
    simulation = SIMULATION.model_copy(update=FIELD)
    assert simulate(Survey(store=str(made), simulation=simulation), return_state=True).is_completed()
    survey = new_survey(made, tmp_path_factory.mktemp("grown"))
    survey.simulated = made
    survey.settings |= SETTINGS
    for path in survey.raw.glob("*_nrcb2_cal.fits"):
        with fits.open(path, mode="update") as hdus:
            hdus["SCI"].data *= WRONG
    survey.late = sorted(survey.raw.glob("*_00003_*_cal.fits"))
    survey.aside = survey.folder / "aside"
    survey.aside.mkdir()
    for path in survey.late:
        shutil.move(path, survey.aside / path.name)
    survey.first = survey.run()
    survey.before = alignment(survey)
    survey.scales = scales(survey)
    for path in survey.late:
        shutil.move(survey.aside / path.name, path)
    survey.added = survey.run()
    return survey


def alignment(survey):
    return read_alignment((survey.products / "small_align.ecsv").read_text())


def scales(survey):
    return {one.detector: one for one in read_fluxes((survey.products / "small_fluxscale.ecsv").read_text()).scales}


def executed(observed, step):
    return {label.split(": ")[1] for label in observed.executed if label.startswith(f"{step}: ")}


def test_all_filters_are_aligned_by_one_solution(grown):
    assert grown.first.failed == {}
    assert len(executed(grown.first, "Network")) == 1
    assert len(executed(grown.first, "Stars")) == len(executed(grown.first, "Aberration")) == 6
    assert all(one.aligned for one in grown.before.exposures)
    verdict = QTable.read(grown.products / "small_astrometry.ecsv")
    assert verdict.meta["state"] == "pass"
    table = pd.read_parquet(grown.products / "summary.parquet")
    assert (table.query("kind == 'astrometry'")["astrometry_exposure_mas"] < 2).all()
    assert (table.query("kind == 'stars'")["stars"] > 5).all()
    crf = next(grown.products.rglob("*_nrcb1_crf.fits"))
    assert "CMVAV2" in fits.getheader(crf, "SCI")
    assert all(fits.getheader(path, "SCI")["ASTSTATE"] == "pass" for path in grown.products.rglob("*_i2d.fits"))
    assert set(table.query("kind == 'astrometry page'")["astrometry_verdict"]) == {"pass"}
    tiles = set(verdict["tile"][verdict["scope"] == "tile"])
    sharpness = [QTable.read(path) for path in grown.products.rglob("*_sharpness.ecsv")]
    assert len(sharpness) == 2
    for table in sharpness:
        assert {one["tile"] for one in table.meta["tiles"]} == tiles
        assert sum(one["sharpness_stars"] for one in table.meta["tiles"]) == len(table)
        few = {one["width_state"] for one in table.meta["tiles"] if one["sharpness_stars"] < 5}
        assert few <= {"not measurable"}
    artifact = Artifact.get("astrometry").data
    assert re.match(r"Verdict: pass\. Page: \S+small_astrometry\.html", artifact)
    assert re.search(r"\| exposure \| [\d.e-]+ \|", artifact)


def test_an_exposure_that_is_added_moves_no_other(grown):
    assert grown.added.failed == {}
    late = {path.name.removesuffix("_cal.fits") for path in grown.late}
    assert executed(grown.added, "Align") == executed(grown.added, "Stars") == late
    after = {one.name: one for one in alignment(grown).exposures}
    for one in grown.before.exposures:
        assert after[one.name].correction == one.correction
        assert after[one.name].kept
    assert {name for name, one in after.items() if not one.kept} == late


def test_the_pixels_of_both_detectors_are_brought_to_their_mean(grown):
    found = grown.scales
    step = found["NRCB2"].correction - found["NRCB1"].correction
    assert step == pytest.approx(-2.5 * np.log10(WRONG), abs=6 * found["NRCB2"].error)
    seen = set()
    for path in grown.products.rglob("*_nrcb[12]_crf.fits"):
        detector = path.name.split("_")[-2].upper()
        assert fits.getheader(path, "SCI")["CMFLUX"] == pytest.approx(found[detector].factor)
        raw = grown.raw / path.name.replace("_crf", "_cal")
        scaled = np.nanmedian(fits.getdata(path, "ERR") / fits.getdata(raw, "ERR"))
        assert scaled == pytest.approx(found[detector].factor, rel=1e-5)
        seen.add(detector)
    assert seen == {"NRCB1", "NRCB2"}


def test_flux_scales_stay_when_exposures_are_added(grown):
    assert executed(grown.added, "Flux scale") == {path.name.removesuffix("_cal.fits") for path in grown.late}
    after = scales(grown)
    assert all(one.kept for one in after.values())
    assert {name: one.correction for name, one in after.items()} == {
        name: one.correction for name, one in grown.scales.items()
    }


def test_the_same_exposures_again_execute_nothing(grown):
    assert grown.run().executed == set()


def test_one_exposure_alone_is_told_to_be_not_measurable(grown, tmp_path):
    alone = new_survey(grown.simulated, tmp_path)
    alone.settings |= SETTINGS
    kept = min(alone.raw.glob("*_nrcb1_cal.fits"))
    for path in set(alone.raw.glob("*_cal.fits")) - {kept}:
        path.unlink()
    assert alone.run().failed == {}
    (mosaic,) = alone.products.rglob("*_i2d.fits")
    assert fits.getheader(mosaic, "SCI")["ASTSTATE"] == "not measurable"
    (crf,) = alone.products.rglob("*_crf.fits")
    assert fits.getheader(crf, "SCI")["CMFLUX"] == 1.0
    table = pd.read_parquet(alone.products / "summary.parquet")
    assert set(table.query("kind == 'astrometry page'")["astrometry_verdict"]) == {"not measurable"}
    page = (alone.products / "small_astrometry.html").read_text()
    assert ">pass</span>" not in page
    assert "no filter has two detectors with common stars" in page


def test_resolve_measures_flux_scales_anew_and_tells_how_far_they_moved(grown):
    assert grown.run(resolve=True).failed == {}
    assert not any(one.kept for one in scales(grown).values())
    moved = pd.read_csv(grown.products / "summary.csv")["flux_moved_mag"].max()
    assert 0 < moved < 0.01
