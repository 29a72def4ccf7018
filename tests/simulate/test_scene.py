"""What is on the simulated sky."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from astropy.time import Time

from cosmosaic.simulate.geometry import footprint, nominal_view, pixel_to_sky, sky_to_pixel, true_view
from cosmosaic.simulate.plan import JULIAN_YEAR, SIMULATED_START, plan_exposures
from cosmosaic.simulate.render import render_flux
from cosmosaic.simulate.scene import MARGIN_ARCSEC, draw_scene, positions_at, read_scene
from cosmosaic.simulate.truth import reference_catalogue
from cosmosaic.survey import FilterPair, Pointing, SimulationSettings

FILTERS = ("F150W", "F444W")


@pytest.fixture(scope="module")
def wide_scene() -> Table:
    """Some 5 square arcminutes."""
    settings = SimulationSettings(detectors=("NRCB1", "NRCBLONG"), subarray="FULL", dithers_arcsec=((0.0, 0.0),))
    return draw_scene(settings, plan_exposures(settings))


@pytest.fixture
def catalogue() -> Table:
    return Table(
        {
            "ra": [150.1, 150.2],
            "dec": [2.2, 2.3],
            "kind": ["galaxy", "star"],
            "sersic_n": [1.04, np.nan],
            "half_light_radius": [0.3, np.nan],
            "axis_ratio": [0.5, np.nan],
            "position_angle": [30.0, np.nan],
            "flux_F150W": [100.0, 3630.78],
            "mag_F444W": [26.4, 22.5],
        }
    )


def _write(catalogue: Table, path: Path) -> Path:
    if path.suffix == ".parquet":
        catalogue.to_pandas().to_parquet(path)
        return path
    catalogue.write(path, format={".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits"}[path.suffix])
    return path


def test_surface_densities_are_those_of_the_settings(wide_scene: Table) -> None:
    # The circle around a long-wavelength detector, with its margin.
    area_arcmin2 = np.pi * (np.sqrt(2) * 64.6 + MARGIN_ARCSEC) ** 2 / 3600
    galaxies = np.sum(wide_scene["kind"] == "galaxy") / area_arcmin2
    stars = np.sum(wide_scene["kind"] == "star") / area_arcmin2
    assert galaxies == pytest.approx(260, rel=0.08)
    assert stars == pytest.approx(40, rel=0.2)


def test_counts_rise_as_in_deep_fields(wide_scene: Table) -> None:
    galaxies = wide_scene[wide_scene["kind"] == "galaxy"]
    magnitude = galaxies["flux_F150W"].quantity.to_value(u.ABmag)
    brighter, fainter = (np.sum((magnitude > m) & (magnitude < m + 2)) for m in (23, 25))
    assert 0.25 < np.log10(fainter / brighter) / 2 < 0.45


def test_the_faint_are_small_and_blue(wide_scene: Table) -> None:
    galaxies = wide_scene[wide_scene["kind"] == "galaxy"]
    faint = galaxies["flux_F277W"] < np.median(galaxies["flux_F277W"])
    size, red = galaxies["half_light_radius"], galaxies["flux_F277W"] / galaxies["flux_F115W"].clip(1e-3)
    assert np.median(size[faint]) < 0.8 * np.median(size[~faint])
    assert np.median(red[faint]) < np.median(red[~faint])


def test_the_scene_covers_every_exposure_and_its_margin() -> None:
    settings = SimulationSettings(galaxies_per_arcmin2=5000)
    frames = plan_exposures(settings)
    scene = draw_scene(settings, frames)
    sky = SkyCoord(scene["ra"], scene["dec"], unit="deg")
    for frame in frames:
        corners = SkyCoord(*footprint(frame, nominal_view(frame)), unit="deg")
        assert all(np.sum(corner.separation(sky).arcsec < MARGIN_ARCSEC / 2) > 10 for corner in corners)


@pytest.mark.parametrize("pointing", [Pointing(ra=0.0, dec=10.0), Pointing(ra=33.0, dec=-89.999)])
def test_there_are_no_seams_in_the_sky(pointing: Pointing) -> None:
    settings = SimulationSettings(pointings=(pointing,), galaxies_per_arcmin2=5000, detectors=("NRCBLONG",))
    frames = plan_exposures(settings)
    scene = draw_scene(settings, frames)
    middle = SkyCoord(pointing.ra, pointing.dec, unit="deg")
    sky = SkyCoord(scene["ra"], scene["dec"], unit="deg")
    near = middle.separation(sky).arcsec < 15
    angle = middle.position_angle(sky[near]).deg
    counts, _ = np.histogram(angle, bins=[0, 90, 180, 270, 360])
    assert counts == pytest.approx(5000 * np.pi * 0.25**2 / 4, rel=0.3)


def test_a_source_is_the_same_whoever_looks() -> None:
    one = SimulationSettings(detectors=("NRCB1",), filter_pairs=(FilterPair(short="F200W", long="F356W"),))
    more = SimulationSettings(
        pointings=(*one.pointings, Pointing(ra=10, dec=10)),
        filter_pairs=(FilterPair(short="F115W", long="F277W"), *one.filter_pairs),
    )
    few, many = (draw_scene(settings, plan_exposures(settings)) for settings in (one, more))
    fluxes = {row["ra"]: row["flux_F200W"] for row in many}
    assert len(few) > 100
    assert all(fluxes[row["ra"]] == row["flux_F200W"] for row in few)


def test_another_seed_is_another_sky() -> None:
    first, again, other = (
        draw_scene(settings, plan_exposures(settings))
        for settings in (SimulationSettings(seed=seed) for seed in (1, 1, 2))
    )
    assert np.all(first["ra"] == again["ra"])
    assert not set(first["ra"]) & set(other["ra"])


def test_an_empty_sky_can_be_asked_for() -> None:
    settings = SimulationSettings(galaxies_per_arcmin2=0, stars_per_arcmin2=0)
    scene = draw_scene(settings, plan_exposures(settings))
    assert len(scene) == 0
    assert "flux_F444W" in scene.colnames


@pytest.mark.parametrize("suffix", [".csv", ".ecsv", ".fits", ".parquet"])
def test_users_catalogues_are_read_in_four_formats(catalogue: Table, tmp_path: Path, suffix: str) -> None:
    scene = read_scene(_write(catalogue, tmp_path / f"mine{suffix}"), FILTERS)
    assert list(scene["kind"]) == ["galaxy", "star"]
    assert list(scene["id"]) == [1, 2]
    assert scene["sersic_n"][0] == 1.0
    np.testing.assert_allclose(scene["flux_F150W"], [100, 3630.78])
    np.testing.assert_allclose(scene["flux_F444W"], [100, 3630.8], rtol=1e-4)
    assert np.isnan(scene["half_light_radius"][1])


def test_units_of_a_users_catalogue_are_respected(catalogue: Table, tmp_path: Path) -> None:
    catalogue["flux_F150W"].unit = u.uJy
    catalogue["half_light_radius"].unit = u.mas
    catalogue["half_light_radius"][0] = 250
    scene = read_scene(_write(catalogue, tmp_path / "mine.ecsv"), FILTERS)
    assert scene["flux_F150W"][0] == pytest.approx(1e5)
    assert scene["half_light_radius"][0] == pytest.approx(0.25)


def test_a_drawn_scene_can_be_written_and_observed_again(tmp_path: Path) -> None:
    settings = SimulationSettings()
    scene = draw_scene(settings, plan_exposures(settings))
    QTable(scene).write(tmp_path / "sources.ecsv")
    again = read_scene(tmp_path / "sources.ecsv", ("F115W", "F444W"))
    np.testing.assert_array_equal(again["flux_F444W"], scene["flux_F444W"])
    np.testing.assert_array_equal(again["sersic_n"], scene["sersic_n"])


def test_stars_need_no_shape(catalogue: Table, tmp_path: Path) -> None:
    stars = catalogue[1:]["ra", "dec", "kind", "flux_F150W", "mag_F444W"]
    assert len(read_scene(_write(stars, tmp_path / "stars.csv"), FILTERS)) == 1


@pytest.mark.parametrize("missing", ["ra", "kind", "axis_ratio", "flux_F150W", "mag_F444W"])
def test_a_missing_column_is_named_with_all_that_are_needed(catalogue: Table, tmp_path: Path, missing: str) -> None:
    catalogue.remove_column(missing)
    name = missing.replace("mag_", "flux_")
    with pytest.raises(ValueError, match=rf"mine.csv: no column {name};.*ra, dec, kind, sersic_n.*flux_F150W"):
        read_scene(_write(catalogue, tmp_path / "mine.csv"), FILTERS)


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("dec", 91.0, "column dec, row 1: 91.0 must be a number from -90 to 90"),
        ("ra", np.nan, "column ra, row 1: nan must be a number"),
        ("sersic_n", 8.0, "column sersic_n, row 1: 8.0 must be a number from 0.5 to 6"),
        ("axis_ratio", 0.0, "column axis_ratio, row 1: 0.0"),
        ("flux_F150W", -3.0, "column flux_F150W, row 1: -3.0"),
        ("mag_F444W", np.nan, "column mag_F444W, row 1: nan"),
    ],
)
def test_a_wrong_value_is_named_with_its_row(
    catalogue: Table, tmp_path: Path, column: str, value: float, complaint: str
) -> None:
    catalogue[column][0] = value
    with pytest.raises(ValueError, match=complaint):
        read_scene(_write(catalogue, tmp_path / "mine.ecsv"), FILTERS)


def test_unknown_kinds_words_for_numbers_and_endings_are_refused(catalogue: Table, tmp_path: Path) -> None:
    catalogue["kind"] = ["quasar", "star"]
    with pytest.raises(ValueError, match="column kind, row 1: quasar must be star or galaxy"):
        read_scene(_write(catalogue, tmp_path / "kinds.ecsv"), FILTERS)
    catalogue["kind"] = ["galaxy", "star"]
    catalogue["flux_F150W"] = ["bright", "faint"]
    with pytest.raises(ValueError, match="column flux_F150W, nJy expected"):
        read_scene(_write(catalogue, tmp_path / "words.ecsv"), FILTERS)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"mine.txt: a catalogue ends in .csv"):
        read_scene(tmp_path / "mine.txt", FILTERS)
    with pytest.raises(FileNotFoundError, match=r"simulation\.catalog"):
        read_scene(tmp_path / "none.csv", FILTERS)


def test_stars_move_and_galaxies_do_not() -> None:
    settings = SimulationSettings(stars_per_arcmin2=400.0, proper_motion_mas_yr=50.0)
    scene = draw_scene(settings, plan_exposures(settings))
    is_star = scene["kind"] == "star"
    assert 40 < np.std(scene["pmra"][is_star]) < 60
    ra, dec = positions_at(scene, SIMULATED_START + 2 * JULIAN_YEAR)
    moved = np.hypot((ra - scene["ra"]) * np.cos(np.radians(dec)), dec - scene["dec"]) * 3.6e6
    np.testing.assert_allclose(moved, 2 * np.hypot(scene["pmra"], scene["pmdec"]), atol=1e-4)
    assert np.all(moved[~is_star] == 0)
    np.testing.assert_array_equal(positions_at(scene, SIMULATED_START)[0], scene["ra"])


def test_the_reference_catalogue_has_its_own_epoch_and_errors() -> None:
    settings = SimulationSettings(subarray="SUB640", stars_per_arcmin2=600.0, reference_error_mas=4.0)
    scene = draw_scene(settings, plan_exposures(settings))
    catalogue = reference_catalogue(scene, settings)
    assert 20 < len(catalogue) < np.sum(scene["kind"] == "star")
    epoch = Time(catalogue["ref_epoch"][0], format="jyear")
    assert epoch.jyear == 2016.0
    frame = SkyCoord(*positions_at(scene, epoch.to_datetime()), unit="deg")
    nearest, separation, _ = SkyCoord(catalogue["ra"], catalogue["dec"]).match_to_catalog_sky(frame)
    assert np.sqrt(np.mean(separation.mas**2) / 2) == pytest.approx(4.0, rel=0.3)
    # Without the motion since its epoch a star would be missed by seven years of it.
    np.testing.assert_allclose(catalogue["pmra"], scene["pmra"][nearest], atol=1.5)


def test_later_observations_see_stars_elsewhere() -> None:
    pointings = tuple(Pointing(ra=150.1, dec=2.2, years_later=years) for years in (0.0, 3.0))
    settings = SimulationSettings(
        detectors=("NRCB1",), subarray="SUB160", pointings=pointings, dithers_arcsec=((0.0, 0.0),)
    )
    first, *_, second = plan_exposures(settings)
    assert datetime.fromisoformat(second.start) - datetime.fromisoformat(first.start) > 3 * JULIAN_YEAR
    ra, dec = pixel_to_sky(first, true_view(first), 80.0, 80.0)
    columns = {"ra": ra, "dec": dec, "kind": "star", "pmra": 100.0, "pmdec": 0.0, "flux_F115W": 1e6, "flux_F150W": 1e6}
    star = Table({name: [value] for name, value in columns.items()})
    image = render_flux(second, star)
    rows, columns = np.indices(image.shape)
    x, y = (image * columns).sum() / image.sum(), (image * rows).sum() / image.sum()
    moved = ra + 300 / 3.6e6 / np.cos(np.radians(dec))
    np.testing.assert_allclose((x, y), sky_to_pixel(second, true_view(second), moved, dec), atol=0.1)
    assert np.hypot(*np.subtract((x, y), sky_to_pixel(second, true_view(second), ra, dec))) > 9
