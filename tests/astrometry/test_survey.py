"""From star tables to corrected exposures: each is where it is in truth, or keeps its header."""

from pathlib import Path

import numpy as np
import pytest
from astropy.table import QTable, Table
from stdatamodels.jwst import datamodels

from cosmosaic.astrometry.align import align_exposure
from cosmosaic.astrometry.detection import find_exposure_stars
from cosmosaic.astrometry.flux_solution import FluxRequest
from cosmosaic.astrometry.reference import UNKNOWN_ERROR_MAS, read_reference
from cosmosaic.astrometry.solution import NO_CORRECTION, AlignRequest, Correction, keeping, read_alignment
from cosmosaic.astrometry.survey import detections_of, solve_survey
from cosmosaic.geometry.sphere import ARCSEC_PER_RADIAN, unit_vectors
from cosmosaic.simulate.geometry import pixel_to_sky, true_view
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.simulate.survey import simulate_exposure, survey_scene
from cosmosaic.simulate.truth import reference_catalogue
from cosmosaic.survey import AlignSettings, FilterPair, SimulationSettings

SIMULATION = SimulationSettings(
    level="cal",
    subarray="SUB320",
    detectors=("NRCB1", "NRCBLONG"),
    filter_pairs=(FilterPair(short="F115W", long="F277W"),),
    stars_per_arcmin2=900.0,
    galaxies_per_arcmin2=0.0,
    pointing_error_mas=40.0,
    roll_error_arcsec=10.0,
    proper_motion_mas_yr=5.0,
)
SETTINGS = AlignSettings(enabled=True, method="network")
STEM = "small_align"


class Survey:
    """Simulated exposures and their star tables."""

    def __init__(self, folder: Path) -> None:
        self.frames = plan_exposures(SIMULATION)
        self.scene = survey_scene(SIMULATION, self.frames)
        self.cals = {one.name: simulate_exposure(one, self.scene, SIMULATION, folder)[0] for one in self.frames}
        (folder / "stars").mkdir()
        for path in self.cals.values():
            find_exposure_stars(path, 10.0, folder / "stars")
        self.stars = {name: folder / "stars" / f"{name}_stars.ecsv" for name in self.cals}
        self.catalogue = folder / "reference.ecsv"
        reference_catalogue(self.scene, SIMULATION).write(self.catalogue)

    def request(self, names: list[str] | None = None) -> AlignRequest:
        exposures = {name: f"cal of {name}" for name in names or self.cals}
        return AlignRequest(settings=SETTINGS, fwhm_pixels=0.0, exposures=exposures)


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Survey:
    return Survey(tmp_path_factory.mktemp("survey"))


def error_mas(cal: Path, frame: PlannedExposure) -> np.ndarray:
    """(RA cos Dec, Dec) of the corners by an exposure's WCS against the truth, mean and spread."""
    x, y = np.array([5.0, 314.0, 314.0, 5.0]), np.array([5.0, 5.0, 314.0, 314.0])
    with datamodels.open(cal) as model:
        found = unit_vectors(np.transpose(model.meta.wcs(x, y)))
    true = unit_vectors(np.transpose(pixel_to_sky(frame, true_view(frame), x, y)))
    return (found - true) * ARCSEC_PER_RADIAN * 1000


def solve(survey: Survey, folder: Path, request: AlignRequest, catalogue: Path | None = None):
    folder.mkdir(exist_ok=True)
    stars = {name: survey.stars[name] for name in request.exposures}
    made = solve_survey(
        stars, catalogue, request, FluxRequest(exposures=request.exposures, detectors={}), (), STEM, folder
    )
    return read_alignment((folder / f"{STEM}.ecsv").read_text()), made


def corrected(survey: Survey, folder: Path, names) -> dict[str, np.ndarray]:
    """Errors of exposures after their corrections."""
    (out := folder / "aligned").mkdir(exist_ok=True)
    found = {}
    for frame in survey.frames:
        if frame.name in names:
            align_exposure(survey.cals[frame.name], folder / f"{frame.name}_correction.json", out)
            found[frame.name] = error_mas(out / survey.cals[frame.name].name, frame)
    return found


@pytest.mark.slow
def test_exposures_come_onto_the_catalogue_at_their_epoch(survey: Survey, tmp_path: Path) -> None:
    before = {frame.name: error_mas(survey.cals[frame.name], frame) for frame in survey.frames}
    alignment, made = solve(survey, tmp_path / "solved", survey.request(), survey.catalogue)
    after = corrected(survey, tmp_path / "solved", before)
    assert max(np.abs(one).max() for one in before.values()) > 30
    # Some twenty stars of 0.5 mas whose motion of 7 years is known to 2 mas.
    mean = np.mean(list(after.values()), axis=(0, 1))
    assert np.linalg.norm(mean) < 2.0
    relative = np.array([one.mean(axis=0) - mean for one in after.values()])
    assert np.abs(relative).max() < 1.5
    assert made.facts["unaligned"] == 0.0
    assert made.facts["exposure_mas"] < 1.5
    verdict = QTable.read(made.files["verdict"])
    exposures = verdict[(verdict["name"] == "exposure") & (verdict["scope"] == "survey")]
    assert dict(zip(exposures["when"], exposures["state"], strict=True)) == {
        "before": "fail",
        "after": "pass",
        "noise": "pass",
    }
    assert all(one.error_mas is not None and 0.01 < one.error_mas < 2.0 for one in alignment.exposures)
    assert all(one.aligned and not one.kept for one in alignment.exposures)


def test_without_the_motion_of_its_stars_a_catalogue_is_elsewhere(survey: Survey, tmp_path: Path) -> None:
    table = Table.read(survey.catalogue)
    table["pmra"] += 30.0
    table.write(tmp_path / "moving.ecsv")
    still, moving = (read_reference(path, 2023.0).vectors for path in (survey.catalogue, tmp_path / "moving.ecsv"))
    moved = np.linalg.norm(moving - still, axis=1) * ARCSEC_PER_RADIAN * 1000
    np.testing.assert_allclose(moved, 30 * 7.0, rtol=0.01)


def test_known_corrections_stay_when_exposures_are_added(survey: Survey, tmp_path: Path) -> None:
    late = survey.frames[-1].name.rpartition("_")[0]
    early = [name for name in survey.cals if not name.startswith(late)]
    first, _ = solve(survey, tmp_path / "first", survey.request(early))
    request = keeping(survey.request(), first)
    assert set(request.new) == set(survey.cals) - set(early)
    second, _ = solve(survey, tmp_path / "second", request)
    before = {one.name: one.correction for one in first.exposures}
    after = {one.name: one for one in second.exposures}
    assert {name: after[name].correction for name in before} == before
    errors = corrected(survey, tmp_path / "second", survey.cals)
    held = np.mean([errors[name] for name in early], axis=(0, 1))
    for name in request.new:
        assert np.abs(errors[name].mean(axis=0) - held).max() < 1.5
        assert after[name].aligned
    again, _ = solve(survey, tmp_path / "again", keeping(survey.request(), second))
    assert {one.name: one.correction for one in again.exposures} == {n: one.correction for n, one in after.items()}


def test_an_exposure_without_a_star_table_keeps_its_header(survey: Survey, tmp_path: Path, caplog) -> None:
    lost = next(iter(survey.cals))
    (folder := tmp_path / "solved").mkdir()
    stars = {name: path for name, path in survey.stars.items() if name != lost}
    made = solve_survey(stars, None, survey.request(), FluxRequest(exposures={}, detectors={}), (), STEM, folder)
    assert Correction.model_validate_json((folder / f"{lost}_correction.json").read_text()) == NO_CORRECTION
    assert made.facts["unaligned"] == 1.0
    assert lost in caplog.text


def test_a_catalogue_that_covers_other_sky_is_named(survey: Survey, tmp_path: Path, caplog) -> None:
    Table({"RA": [10.0, 11.0], "DEC": [80.0, 81.0]}).write(tmp_path / "elsewhere.ecsv")
    solve(survey, tmp_path / "solved", survey.request(), tmp_path / "elsewhere.ecsv")
    assert "elsewhere.ecsv has 0 stars" in caplog.text


def test_catalogues_are_read_by_gaias_names_and_by_others(tmp_path: Path) -> None:
    plain = Table({"RA": [10.0, np.nan], "DEC": [-5.0, 1.0]})
    plain.write(tmp_path / "plain.csv")
    found = read_reference(tmp_path / "plain.csv", 2023.0)
    np.testing.assert_allclose(found.vectors, unit_vectors([(10.0, -5.0)]), atol=1e-15)
    np.testing.assert_allclose(found.errors, [UNKNOWN_ERROR_MAS])
    gaia = QTable({"ra": [10.0], "dec": [0.0], "ra_error": [3.0], "dec_error": [4.0], "ref_epoch": [2016.0]})
    gaia["pmra_error"] = gaia["pmdec_error"] = [1.0]
    gaia.write(tmp_path / "gaia.ecsv")
    found = read_reference(tmp_path / "gaia.ecsv", 2020.0)
    np.testing.assert_allclose(found.errors, [np.sqrt((9 + 16) / 2 + 16)])
    np.testing.assert_allclose(read_reference(tmp_path / "gaia.ecsv", None).errors, [np.sqrt((9 + 16) / 2)])
    Table({"x": [1.0]}).write(tmp_path / "bad.ecsv")
    with pytest.raises(ValueError, match=r"bad.ecsv: align.reference_catalog needs columns RA and DEC"):
        read_reference(tmp_path / "bad.ecsv", 2020.0)


def test_rows_of_a_catalogue_that_tell_nothing_count_for_nothing(tmp_path: Path) -> None:
    rows = Table({"ra": [150.0, 150.0, 150.1, np.nan], "dec": [2.0, 2.0, 2.1, 2.2], "ra_error": [1.0, 1.0, -99.0, 1.0]})
    rows["dec_error"] = rows["ra_error"]
    rows["pmra"], rows["pmdec"], rows["ref_epoch"] = [5.0, 5.0, np.nan, 5.0], 0.0, 2016.0
    rows.write(tmp_path / "gaia.ecsv")
    found = read_reference(tmp_path / "gaia.ecsv", 2020.0)
    np.testing.assert_allclose(found.errors, [1.0, UNKNOWN_ERROR_MAS])
    still = read_reference(tmp_path / "gaia.ecsv", None)
    moved = np.linalg.norm(found.vectors - still.vectors, axis=1) * ARCSEC_PER_RADIAN * 1000
    np.testing.assert_allclose(moved, [20.0, 0.0], atol=1e-3)
    rows["dec"][0] = 95.0
    rows.write(tmp_path / "bad.ecsv")
    with pytest.raises(ValueError, match=r"bad.ecsv: declinations reach 95 degrees"):
        read_reference(tmp_path / "bad.ecsv", 2020.0)


def test_stars_without_a_position_cost_no_survey(survey: Survey, tmp_path: Path, caplog) -> None:
    first = next(iter(survey.cals))
    tables = [QTable.read(path) for path in survey.stars.values()]
    every = detections_of(tables)
    tables[0]["ra"][0] *= np.nan
    tables[0]["x_err"][1] *= np.nan
    found = detections_of(tables)
    np.testing.assert_array_equal(found.vectors, every.vectors[2:])
    np.testing.assert_array_equal(found.exposure, every.exposure[2:])
    assert f"{first}: 2 of {len(tables[0])} stars have no position or no error" in caplog.text


def test_unknown_motions_are_written_in_many_ways(tmp_path: Path) -> None:
    (tmp_path / "gaia.csv").write_text("ra,dec,pmra,pmdec,ref_epoch\n150,2,null,,2016\n151,2,10,0,2016\n152,2,,,2016\n")
    now, then = (read_reference(tmp_path / "gaia.csv", epoch).vectors for epoch in (2016.0, 2018.0))
    moved = np.linalg.norm(then - now, axis=1) * ARCSEC_PER_RADIAN * 1000
    np.testing.assert_allclose(moved, [0.0, 20.0, 0.0], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("stars.ecsv", "hello", r"stars.ecsv: align.reference_catalog cannot be read \(.*\); give a table in ECSV"),
        ("stars.dat", "ra dec\n150 2\n", r"stars.dat: align.reference_catalog cannot be read \(.*\); give a table"),
        ("stars.csv", "ra,dec\n10:00:24,2\n", r"stars.csv: column ra must have numbers in deg"),
        ("stars.csv", "ra,dec\n150,-91\n", r"stars.csv: declinations reach 91 degrees"),
    ],
)
def test_a_catalogue_that_cannot_be_used_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_reference(tmp_path / name, 2020.0)
