"""Detectors that count the same stars differently are told, with honest errors."""

import io
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst.datamodels import dqflags
from support.star_tables import StarField, star_field

from cosmosaic.astrometry.detection import find_exposure_stars
from cosmosaic.astrometry.flux import FluxScale, corrected, detector_fluxes, flux_corrections
from cosmosaic.astrometry.flux_solution import (
    DetectorScale,
    FluxCorrection,
    FluxRequest,
    FluxSolution,
    flux_moves,
    flux_table,
    keeping_scales,
    read_factor,
    read_fluxes,
)
from cosmosaic.astrometry.scaling import KEYWORD, scale_exposure
from cosmosaic.astrometry.solution import AlignRequest
from cosmosaic.astrometry.survey import solve_survey
from cosmosaic.astrometry.verdict import judge_fluxes
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.survey import simulate_exposure, survey_scene
from cosmosaic.survey import AlignSettings, ExposureSettings, FilterPair, SimulationSettings, Survey

SCATTER_MAG = 0.03


@pytest.fixture(scope="module")
def field() -> StarField:
    return star_field(20.0)


def observed(field: StarField, faint: dict[tuple[str, str], float], seed: int) -> np.ndarray:
    """Fluxes of the stars, where some detectors in some filters see less."""
    generator = np.random.default_rng(seed)
    true = generator.uniform(20, 25, len(field.sky))[field.star]
    seen = [field.seen[number] for number in field.detections.exposure]
    dimming = np.array([faint.get((one.band, one.detector), 0.0) for one in seen])
    noise = SCATTER_MAG * generator.standard_normal(len(true))
    noise[::50] += 1.0  # variable stars, blends
    return 10 ** (-0.4 * (true + dimming + noise))


def test_a_detector_that_sees_less_is_told(field: StarField) -> None:
    fluxes = observed(field, {("F150W", "NRCA2"): 0.05}, 1)
    scales = detector_fluxes(field.seen, replace(field.detections, fluxes=fluxes), field.star)
    found = {(one.band, one.detector): one for one in scales}
    assert len(found) == 2 * 8 + 2 * 2
    share = 0.05 / 8  # the mean of all detectors is zero
    for (band, detector), one in found.items():
        expected = (0.05 if detector == "NRCA2" else 0.0) - share if band == "F150W" else 0.0
        assert one.offset == pytest.approx(expected, abs=4.5 * one.error)
        assert one.error < 0.01
    assert found["F150W", "NRCA2"].offset > 5 * found["F150W", "NRCA2"].error


def test_errors_are_those_of_repeated_measurements(field: StarField) -> None:
    draws = [
        detector_fluxes(field.seen, replace(field.detections, fluxes=observed(field, {}, seed)), field.star)
        for seed in range(12)
    ]
    pulls = [one.offset / one.error for scales in draws for one in scales]
    assert 0.6 < np.std(pulls) < 1.6


def test_detectors_without_common_stars_have_no_scale(field: StarField) -> None:
    alone = field.detections.exposure == 0
    scales = detector_fluxes(field.seen, field.detections.select(alone), field.star[alone])
    assert scales == []


SIMULATION = SimulationSettings(
    level="cal",
    subarray="SUB320",
    detectors=("NRCB1", "NRCB2"),
    # The second detector comes to see what the first has seen.
    dithers_arcsec=((0.0, -7.1), (0.4, 7.1), (3.0, 0.2), (-3.1, -6.0)),
    filter_pairs=(FilterPair(short="F150W", long="F277W"),),
    stars_per_arcmin2=1500.0,
    galaxies_per_arcmin2=0.0,
)
WRONG = 0.97


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("exposures")
    frames = plan_exposures(SIMULATION)
    scene = survey_scene(SIMULATION, frames)
    return [simulate_exposure(one, scene, SIMULATION, folder)[0] for one in frames]


@pytest.fixture(scope="module")
def wrong(calibrated: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same exposures, where one detector counts 3 per cent less."""
    folder = tmp_path_factory.mktemp("wrong")
    paths = [Path(shutil.copy(path, folder)) for path in calibrated]
    for path in paths:
        if "nrcb2" in path.name:
            with fits.open(path, mode="update") as hdus:
                for name, power in (("SCI", 1), ("ERR", 1), ("VAR_POISSON", 2), ("VAR_RNOISE", 2), ("VAR_FLAT", 2)):
                    hdus[name].data *= WRONG**power
    return paths


def measure(
    paths: Sequence[Path], folder: Path, without_stars: Path | None = None
) -> tuple[dict[str, DetectorScale], dict[str, Path]]:
    """Flux scale of each detector, and the file with the factor of each exposure."""
    (folder / "stars").mkdir(parents=True)
    stars = {path.name.removesuffix("_cal.fits"): find_exposure_stars(path, 10.0, folder / "stars") for path in paths}
    request = AlignRequest(
        settings=AlignSettings(enabled=True, method="network"), fwhm_pixels=0.0, exposures=dict.fromkeys(stars, "cal")
    )
    lost = without_stars and without_stars.name.removesuffix("_cal.fits")
    tables = {name: made.files["stars"] for name, made in stars.items() if name != lost}
    flux = FluxRequest(
        exposures=request.exposures,
        detectors={name: ("F150W", name.rpartition("_")[2].upper()) for name in stars},
    )
    made = solve_survey(tables, None, request, flux, (), "mock_align", folder)
    solution = read_fluxes(made.files["fluxes"].read_text())
    return {one.detector: one for one in solution.scales}, made.files["factors"]


@pytest.mark.slow
def test_detectors_that_agree_are_not_moved(calibrated: list[Path], tmp_path: Path) -> None:
    scales, factors = measure(calibrated, tmp_path / "solved")
    assert set(scales) == {"NRCB1", "NRCB2"}
    for one in scales.values():
        # The areas of their pixels differ by 3 per cent, which is no difference in flux.
        assert abs(one.offset) < 3 * one.error < 0.01
        assert one.correction == 0.0
    assert {read_factor(path.read_text()) for path in factors.values()} == {1.0}


@pytest.mark.slow
def test_a_wrong_detector_is_brought_onto_the_mean(wrong: list[Path], tmp_path: Path) -> None:
    scales, factors = measure(wrong, tmp_path / "before")
    step = scales["NRCB2"].correction - scales["NRCB1"].correction
    error = 2 * scales["NRCB2"].error
    assert error < 0.01
    assert step == pytest.approx(-2.5 * np.log10(WRONG), abs=3 * error)
    (folder := tmp_path / "scaled").mkdir()
    scaled = [scale_exposure(path, factors[path.name.removesuffix("_cal.fits")], folder).files["cal"] for path in wrong]
    after, _ = measure(scaled, tmp_path / "after")
    assert all(abs(one.offset) < 3 * one.error and one.correction == 0.0 for one in after.values())


@pytest.mark.slow
def test_saturated_stars_do_not_count(calibrated: list[Path], tmp_path: Path) -> None:
    """The brightest stars are cut off on one detector, and flagged: its flux scale is as before."""
    (folder := tmp_path / "saturated").mkdir()
    paths = [Path(shutil.copy(path, folder)) for path in calibrated]
    for path in paths:
        if "nrcb2" not in path.name:
            continue
        with fits.open(path, mode="update") as hdus:
            data = hdus["SCI"].data
            cut = np.nanpercentile(data, 99.5)
            hdus["DQ"].data[data > cut] |= dqflags.pixel["SATURATED"]
            data[data > cut] = cut
    flagged, _ = measure(paths, tmp_path / "flagged")
    assert all(abs(one.offset) < 3 * one.error for one in flagged.values())
    assert all(one.correction == 0.0 for one in flagged.values())
    for path in paths:
        with fits.open(path, mode="update") as hdus:
            hdus["DQ"].data[:] &= ~np.uint32(dqflags.pixel["SATURATED"])
    unflagged, _ = measure(paths, tmp_path / "unflagged")
    # The cut is deep enough to be seen where it is not flagged.
    assert unflagged["NRCB2"].offset > 4 * unflagged["NRCB2"].error


def test_all_planes_of_an_exposure_are_scaled_alike(calibrated: list[Path], tmp_path: Path) -> None:
    factor = tmp_path / "x_flux.json"
    factor.write_text('{"factor": 1.25}')
    first = path = Path(shutil.copy(calibrated[0], tmp_path))
    fits.setval(path, "BKGLEVEL", value=0.1)
    for times in (1, 2):
        (folder := tmp_path / str(times)).mkdir()
        path = scale_exposure(path, factor, folder).files["cal"]
    with fits.open(first) as before, fits.open(path) as after:
        for name, power in (("SCI", 2), ("ERR", 2), ("VAR_POISSON", 4), ("VAR_RNOISE", 4)):
            np.testing.assert_allclose(after[name].data, before[name].data * 1.25**power, rtol=1e-6)
        for extension, name in (("SCI", "PHOTMJSR"), ("PRIMARY", "BKGLEVEL")):
            assert after[extension].header[name] == pytest.approx(before[extension].header[name] * 1.25**2)
        assert after["SCI"].header[KEYWORD] == pytest.approx(1.25**2)


def scale(detector: str, offset: float, group: int = 0) -> FluxScale:
    return FluxScale("F150W", detector, offset, error=0.002, stars=50, group=group)


def asked(exposures: dict[str, str]) -> FluxRequest:
    detectors = {name: ("F150W", name.removeprefix("a_").upper()) for name in exposures}
    return FluxRequest(exposures=exposures, detectors=detectors, is_applied=True)


def test_corrections_stay_and_new_detectors_follow_them() -> None:
    first = flux_corrections([scale("NRCB1", 0.02), scale("NRCB2", -0.02), scale("NRCB3", 0.001)], ())
    assert [one.correction for one in first] == [0.02, -0.02, 0.0]
    digests = {"a_nrcb1": "1", "a_nrcb2": "2", "a_nrcb3": "3"}
    published = read_back(FluxSolution(scales=first, exposures=digests, is_applied=True))
    # The same exposures again repeat the work.
    assert keeping_scales(asked(digests), published).kept == ()
    grown = asked(digests | {"a_nrcb2": "calibrated again", "a_nrcb4": "4"})
    kept = keeping_scales(grown, published).kept
    assert [(one.detector, one.correction) for one in kept] == [("NRCB1", 0.02), ("NRCB3", 0.0)]
    # Now the mean of all is another, and the detector that was calibrated again has no fault any more.
    second = flux_corrections(
        [scale("NRCB1", 0.012), scale("NRCB2", -0.008), scale("NRCB3", -0.008), scale("NRCB4", 0.052)], kept
    )
    assert [one.correction for one in second] == [0.02, 0.0, 0.0, 0.06]
    assert [one.kept for one in second] == [True, False, True, False]
    moved = flux_moves(published, FluxSolution(scales=second, exposures={}), "F150W")
    assert (moved.exposures, moved.largest) == (3, 0.02)
    again = read_back(FluxSolution(scales=second, exposures=grown.exposures, is_applied=True))
    assert keeping_scales(grown, again).kept == kept
    back = FluxSolution(scales=second, exposures=digests, missing=("a_nrcb4",), is_applied=True)
    assert keeping_scales(grown, back).kept == kept


def test_corrections_that_were_only_reported_do_not_stay() -> None:
    scales = flux_corrections([scale("NRCB1", 0.004), scale("NRCB2", -0.004)], ())
    grown = asked({"a_nrcb1": "1", "a_nrcb2": "2", "a_nrcb3": "3"})
    reported = FluxSolution(scales=scales, exposures={"a_nrcb1": "1", "a_nrcb2": "2"})
    assert keeping_scales(grown, read_back(reported)).kept == ()
    applied = reported.model_copy(update={"is_applied": True})
    assert len(keeping_scales(grown, read_back(applied)).kept) == 2
    assert keeping_scales(grown.model_copy(update={"is_applied": False}), applied).kept == ()


def test_modules_without_common_stars_have_scales_of_their_own(field: StarField) -> None:
    modules = np.array([one.detector[3] == "A" for one in field.seen])[field.detections.exposure]
    detections = replace(field.detections, fluxes=observed(field, {("F150W", "NRCA2"): 0.05}, 1))
    scales = detector_fluxes(field.seen, detections, 2 * field.star + modules)
    groups = {(one.band, one.detector[3]): one.group for one in scales}
    assert len(scales) == 2 * 8
    assert sorted(groups.values()) == [0, 1, 2, 3]
    for group in groups.values():
        own = [one for one in scales if one.group == group]
        assert len(own) == 4
        assert np.mean([one.offset for one in own]) == pytest.approx(0, abs=1e-9)


def test_detectors_without_common_stars_do_not_follow_those_that_stay() -> None:
    kept = (FluxCorrection(band="F150W", detector="NRCA1", correction=0.05),)
    measured = [scale("NRCA1", 0.02), scale("NRCA2", -0.02), scale("NRCB1", 0.03, 1), scale("NRCB2", -0.03, 1)]
    assert [one.correction for one in flux_corrections(measured, kept)] == [0.05, 0.01, 0.03, -0.03]


def test_an_exposure_without_star_table_gets_the_factor_of_its_detector(wrong: list[Path], tmp_path: Path) -> None:
    _, factors = measure(wrong, tmp_path / "solved", without_stars=wrong[-1])
    known = {read_factor(path.read_text()) for name, path in factors.items() if "nrcb2" in name}
    assert "nrcb2" in wrong[-1].name
    assert len(known) == 1
    assert known != {1.0}


def test_the_verdict_warns_of_a_wrong_detector_until_it_is_corrected() -> None:
    scales = flux_corrections([scale("NRCB1", 0.015), scale("NRCB2", -0.03), scale("NRCB3", 0.015)], ())
    before, after = judge_fluxes(scales), judge_fluxes(corrected(scales))
    assert (before.state, before.where, before.value) == ("warn", "F150W NRCB2", pytest.approx(30))
    assert "exposures.flux_scale" in before.message
    assert (after.state, after.value) == ("pass", pytest.approx(0))
    assert judge_fluxes(()).state == "not measurable"
    # What all detectors have in common is no difference between them.
    together = [one.model_copy(update={"correction": one.correction + 0.5}) for one in scales]
    assert judge_fluxes(corrected(together)).state == "pass"


def test_a_correction_stays_where_it_cannot_be_measured() -> None:
    kept = (FluxCorrection(band="F150W", detector="NRCB1", correction=0.02),)
    (one,) = flux_corrections([], kept)
    assert one.correction == 0.02
    assert np.isnan(one.offset)
    assert one.factor == pytest.approx(10**0.008)
    assert judge_fluxes(corrected((one,))).state == "not measurable"


def test_flux_scales_need_the_stars_of_the_network() -> None:
    measured = ExposureSettings(flux_scale="measured")
    with pytest.raises(ValueError, match=r"needs align\.enabled"):
        Survey(exposures=measured, align=AlignSettings(enabled=True))
    assert Survey(exposures=measured, align=AlignSettings(enabled=True, method="network"))


def read_back(solution: FluxSolution) -> FluxSolution:
    """A solution as it is read from its published table."""
    with io.StringIO() as text:
        flux_table(solution).write(text, format="ascii.ecsv")
        found = read_fluxes(text.getvalue())
    assert found == solution
    return found
