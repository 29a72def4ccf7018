"""Injected sources fare as the own ones of a simulated survey, from its exposures to the verdict."""

import numpy as np
import pytest
from astropy.stats import mad_std
from astropy.table import Table
from scipy.spatial import KDTree
from support.injected_survey import SIMULATION, InjectedSurvey, inject_into_simulation

from cosmosaic.geometry.sphere import sky_to_plane
from cosmosaic.injection.corrections import FEWEST
from cosmosaic.injection.recovery import SPOILT
from cosmosaic.survey import InjectionSettings

pytestmark = pytest.mark.slow

BANDS = ("F150W", "F444W")


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> InjectedSurvey:
    sparse = SIMULATION.model_copy(update={"galaxies_per_arcmin2": 20.0})
    settings = InjectionSettings(sources=100, per_arcmin2=200.0, galaxies=0.3)
    return inject_into_simulation(sparse, settings, tmp_path_factory.mktemp("survey"))


def column(table: Table, name: str) -> np.ndarray:
    return np.ma.filled(table[name].astype(float), np.nan)


def bright_stars(survey: InjectedSurvey, band: str) -> Table:
    table = survey.injected
    chosen = (table["kind"] == "star") & table["isolated"] & (column(table, f"{band.lower()}_snr") > 30)
    return table[chosen & table["found"] & (np.asarray(table["flags"]) & SPOILT == 0)]


def magnitude_errors(flux: np.ndarray, true: np.ndarray) -> np.ndarray:
    return -2.5 * np.log10(flux / true)


def errors_of_known_stars(survey: InjectedSurvey, band: str) -> np.ndarray:
    """Magnitude errors of the bright isolated stars of the survey's own sky, in its own catalogue."""
    tangent = (float(survey.scene["ra"][0]), float(survey.scene["dec"][0]))
    sky, rows = (sky_to_plane(tangent, np.stack([t["ra"], t["dec"]], axis=1)) for t in (survey.scene, survey.catalog))
    true = np.asarray(survey.scene[f"flux_{band}"])
    distance, row = KDTree(rows).query(sky)
    alone = np.array([np.max(true[near]) for near in KDTree(sky).query_ball_point(sky, 1.0)]) == true
    flux, error = (column(survey.catalog, f"{band.lower()}_{name}")[row] for name in ("flux", "flux_err"))
    clean = np.asarray(survey.catalog["flags"])[row] & SPOILT == 0
    chosen = (survey.scene["kind"] == "star") & (distance < 0.1) & alone & clean & (true > 30 * error)
    return magnitude_errors(flux[chosen], true[chosen])


def median_error(errors: np.ndarray) -> float:
    return 1.25 * mad_std(errors) / np.sqrt(len(errors))


def test_bright_sources_are_found_and_faint_ones_are_not(survey):
    snr = np.nanmax([column(survey.injected, f"{band.lower()}_snr") for band in BANDS], axis=0)
    stars = (survey.injected["kind"] == "star") & survey.injected["isolated"]
    bright, faint = stars & (snr > 30), stars & (snr < 2)
    assert np.count_nonzero(bright) > 20
    assert survey.injected["found"][bright].all()
    assert np.count_nonzero(faint) > 5
    assert np.mean(survey.injected["found"][faint]) < 0.2


@pytest.mark.parametrize("band", BANDS)
def test_the_bias_of_injected_stars_is_that_of_the_surveys_own(survey, band):
    stars = bright_stars(survey, band)
    injected = magnitude_errors(column(stars, f"{band.lower()}_flux"), column(stars, f"{band.lower()}_true_flux"))
    known = errors_of_known_stars(survey, band)
    assert min(len(injected), len(known)) > 5
    spread = np.hypot(median_error(injected), median_error(known))
    assert spread < 0.02
    assert np.median(injected) == pytest.approx(np.median(known), abs=3 * spread)
    assert abs(np.median(injected)) < 0.02


def test_injected_stars_keep_their_colours(survey):
    stars = bright_stars(survey, "F150W")
    stars = stars[column(stars, "f444w_snr") > 30]
    colours = [
        magnitude_errors(column(stars, f"f150w_{name}"), column(stars, f"f444w_{name}"))
        for name in ("flux", "true_flux")
    ]
    assert np.std(colours[1]) > 0.3
    assert np.median(colours[0] - colours[1]) == pytest.approx(0.0, abs=0.02)
    assert mad_std(colours[0] - colours[1]) < 0.05


def test_injected_stars_are_found_where_they_were_put(survey):
    assert np.median(bright_stars(survey, "F444W")["offset"]) < 0.005


def test_the_verdict_has_the_numbers_of_the_sources(survey):
    stars = survey.injected[(survey.injected["kind"] == "star") & survey.injected["isolated"]]
    snr = column(stars, "f444w_snr")
    verdict = {row["name"]: row for row in survey.verdicts["F444W"]}
    assert verdict["completeness"]["number"] == np.count_nonzero((snr >= 4) & (snr < 6))
    assert verdict["bias"]["state"] == "pass"
    table = survey.completeness["F444W"]
    assert np.sum(table["injected"]) == np.count_nonzero(np.isfinite(column(survey.injected, "f444w_snr")))


def test_each_source_of_the_catalogue_has_its_completeness_and_its_correction(survey):
    table, flux = survey.corrections, column(survey.catalog, "f444w_flux")
    assert len(table) == len(survey.catalog)
    assert np.allclose(table["ra"], survey.catalog["ra"], rtol=0, atol=1e-12)
    assert len(set(table["id"])) == len(table)
    ratio = flux / column(survey.catalog, "f444w_aper_flux_err_0p30")
    small = column(survey.catalog, "half_light_radius") < 0.1
    assert np.median(column(table, "completeness")[small & (ratio > 30)]) > 0.9
    assert np.median(column(table, "completeness")[small & (ratio < 3)]) < 0.7
    # Too few galaxies were injected for a correction: it is unknown, not zero.
    galaxies = survey.injected[(survey.injected["kind"] == "galaxy") & survey.injected["found"]]
    assert len(galaxies) < FEWEST
    assert table["galaxy_correction"].mask.all()
