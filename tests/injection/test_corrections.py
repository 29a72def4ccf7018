"""Completeness and corrections that the injected sources tell, against those that are put in."""

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from cosmosaic.injection.corrections import (
    FEWEST,
    CompletenessModel,
    GalaxyCorrection,
    correct_catalog,
    shapes_of,
)

BANDS = ["F150W", "F444W"]
SUFFIXES = {"0p20": 0.2, "0p30": 0.3}


def missing(radius: np.ndarray, concentration: np.ndarray) -> np.ndarray:
    """Magnitudes that the total flux of a galaxy lacks: more of large and of concentrated ones."""
    return 0.05 + 0.08 * np.log(radius / 0.15) + 0.15 * np.log(concentration / 0.6)


def chance(snr: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Fraction of sources found: 95 % of bright ones, half of these at S/N 3, and later for large ones."""
    return 0.95 / (1.0 + (snr / (3.0 * np.sqrt(1.0 + (radius / 0.15) ** 2))) ** -5)


def injected(count: int, seed: int = 1, spoilt: float = 0.05) -> Table:
    """Stars and galaxies of S/N 1 to 300, found by `chance`, whose magnitudes are in error by `missing`, and noise."""
    random = np.random.default_rng(seed)
    is_galaxy = random.random(count) < 0.5
    snr = np.exp(random.uniform(0.0, np.log(300.0), count))
    size = np.where(is_galaxy, np.exp(random.uniform(np.log(0.06), np.log(0.8), count)), 0.0)
    radius, concentration = np.hypot(0.06, size), np.clip(0.9 / np.sqrt(1.0 + size / 0.1), 0.1, 1.0)
    concentration *= np.exp(0.2 * random.standard_normal(count))
    error = np.where(is_galaxy, missing(radius, concentration), 0.0)
    error += 0.03 * random.standard_normal(count)
    error += np.where(random.random(count) < spoilt, -1.0, 0.0)
    found = random.random(count) < chance(snr, size)
    columns = {
        "kind": np.where(is_galaxy, "galaxy", "star"), "found": found, "isolated": np.full(count, True),
        "flags": np.zeros(count, int), "half_light_radius": np.where(is_galaxy, size, np.nan),
        "axis_ratio": np.where(is_galaxy, 1.0, np.nan),
        "measured_half_light_radius": np.where(found, radius, np.nan),
        "measured_concentration": np.where(found, concentration, np.nan),
    }  # fmt: skip
    for band in BANDS:
        flux, prefix = 10.0 * snr / np.sqrt(2.0), band.lower()
        columns[f"{prefix}_snr"] = snr / np.sqrt(2.0)
        columns[f"{prefix}_true_flux"] = flux
        columns[f"{prefix}_flux"] = np.where(found, flux * 10.0 ** (-0.4 * error), np.nan)
        columns[f"{prefix}_flux_err"] = np.where(found, 10.0, np.nan)
    return Table(columns, meta={"bands": BANDS})


def galaxies(radius: np.ndarray, concentration: np.ndarray, snr: float = 60.0, bands: list[str] = BANDS) -> Table:
    """Rows of a catalogue."""
    table = Table({"id": 7 + np.arange(len(radius)), "ra": np.full(len(radius), 150.0), "dec": np.zeros(len(radius))})
    table["half_light_radius"], table["concentration"] = radius, concentration
    for band in (band.lower() for band in bands):
        table[f"{band}_flux"], table[f"{band}_flux_err"] = 10.0 * snr / np.sqrt(len(bands)), 10.0
        table[f"{band}_aper_flux_err_0p20"], table[f"{band}_aper_flux_err_0p30"] = 99.0, 10.0
    table.meta = {"aperture_diameters_arcsec": SUFFIXES, "bands": bands, "detection_bands": bands}
    return table


SHAPES = np.array([0.1, 0.2, 0.4, 0.6]), np.array([0.65, 0.5, 0.42, 0.35])


def test_the_correction_is_what_the_fluxes_lack_whatever_outliers_do():
    correction = GalaxyCorrection.fitted(injected(800))
    magnitudes, errors = correction.of(shapes_of(galaxies(*SHAPES), BANDS))
    assert magnitudes == pytest.approx(-missing(*SHAPES), abs=0.02)
    assert np.all((errors > 0.001) & (errors < 0.02))


def test_the_error_of_a_correction_is_its_scatter_over_injections():
    fits = [GalaxyCorrection.fitted(injected(400, seed)).of(shapes_of(galaxies(*SHAPES), BANDS)) for seed in range(30)]
    magnitudes, errors = (np.array(values) for values in zip(*fits, strict=True))
    assert np.all(magnitudes.std(axis=0) < 1.5 * errors.mean(axis=0))
    assert np.all(magnitudes.std(axis=0) > 0.5 * errors.mean(axis=0))
    assert magnitudes.mean(axis=0) == pytest.approx(-missing(*SHAPES), abs=0.01)


def test_beyond_the_injected_shapes_the_correction_stays_at_its_end():
    table = injected(800)
    correction = GalaxyCorrection.fitted(table)
    shapes = shapes_of(galaxies(np.array([0.8, 8.0]), np.array([0.4, 0.4])), BANDS)
    largest = np.log(np.nanpercentile(table["measured_half_light_radius"][table["kind"] == "galaxy"], 99.9))
    shapes[:, 0] = largest, largest + 3.0
    near, far = correction.of(shapes)[0]
    assert near == far


def test_stars_and_spoilt_fluxes_tell_nothing_of_galaxies():
    table = injected(800)
    spoilt = table.copy()
    is_star = spoilt["kind"] == "star"
    for band in ("f150w", "f444w"):
        spoilt[f"{band}_flux"][is_star] *= 3.0
    crowd = spoilt[:200].copy()
    crowd["f150w_flux"] *= 5.0
    crowd["isolated"][:100], crowd["flags"][100:] = False, 2
    with_crowd = Table({name: np.concatenate([spoilt[name], crowd[name]]) for name in table.colnames}, meta=table.meta)
    shapes = shapes_of(galaxies(*SHAPES), BANDS)
    expected = GalaxyCorrection.fitted(table).of(shapes)[0]
    assert GalaxyCorrection.fitted(with_crowd).of(shapes)[0] == pytest.approx(expected, abs=1e-6)


def test_completeness_follows_signal_to_noise_and_size():
    model = CompletenessModel.fitted(injected(5000), BANDS)
    for radius in (0.0, 0.15, 0.4):
        snr = np.array([1.5, 3.0, 4.0, 6.0, 10.0, 30.0, 100.0])
        found = model.of(snr, np.full(len(snr), radius))
        # The S/N of both filters together.
        assert found == pytest.approx(chance(snr, np.full(len(snr), radius)), abs=0.06)
        assert np.all(np.diff(found) > 0)


def test_a_hundred_sources_give_completeness_within_a_tenth():
    model = CompletenessModel.fitted(injected(100), BANDS)
    snr = np.array([2.0, 4.0, 8.0, 50.0])
    assert model.of(snr, np.zeros(4)) == pytest.approx(chance(snr, np.zeros(4)), abs=0.15)


def corrected(tmp_path: Path, table: Table, catalog: Table) -> Table:
    table.write(tmp_path / "injected.ecsv")
    catalog.write(tmp_path / "cat.parquet", format="parquet")
    made = correct_catalog(tmp_path / "injected.ecsv", tmp_path / "cat.parquet", "field_full", tmp_path)
    return Table.read(made.files["table"])


def test_each_row_of_the_catalogue_has_its_own(tmp_path: Path):
    table = corrected(tmp_path, injected(800), galaxies(*SHAPES))
    assert table["id"].tolist() == [7, 8, 9, 10]
    assert list(table["galaxy_correction"]) == pytest.approx(-missing(*SHAPES), abs=0.02)
    intrinsic = np.sqrt(SHAPES[0] ** 2 - 0.06**2)
    assert list(table["completeness"]) == pytest.approx(chance(np.full(4, 60.0), intrinsic), abs=0.05)


def test_a_window_that_a_filter_does_not_cover_is_corrected_by_the_others(tmp_path: Path):
    table = corrected(tmp_path, injected(800), galaxies(*SHAPES, bands=["F444W"]))
    assert list(table["galaxy_correction"]) == pytest.approx(-missing(*SHAPES), abs=0.02)


def test_galaxies_of_tiles_that_a_filter_does_not_reach_tell_the_correction_too():
    table = injected(800)
    for name in ("snr", "true_flux", "flux", "flux_err"):
        table[f"f150w_{name}"] = np.nan
    correction = GalaxyCorrection.fitted(table)
    shapes = shapes_of(galaxies(*SHAPES, bands=["F444W"]), ["F444W"])
    assert correction.of(shapes)[0] == pytest.approx(-missing(*SHAPES), abs=0.03)


def test_only_filters_that_detect_count_for_completeness(tmp_path: Path):
    table, catalog = injected(800), galaxies(*SHAPES)
    catalog.meta["detection_bands"] = ["F444W"]
    catalog["f444w_flux"] = 5.0
    # Its fluxes tell a detection in this filter alone.
    found = corrected(tmp_path, table, catalog)
    assert np.all(found["completeness"] < 0.1)


def test_one_odd_galaxy_does_not_widen_the_range_of_shapes():
    table = injected(800)
    shapes = shapes_of(galaxies(np.full(3, 0.3), np.array([0.003, 0.1, 0.3])), BANDS)
    before = GalaxyCorrection.fitted(table).of(shapes)[0]
    table["measured_concentration"][np.flatnonzero(table["found"] & (table["kind"] == "galaxy"))[-1]] = 0.001
    assert GalaxyCorrection.fitted(table).of(shapes)[0] == pytest.approx(before, abs=0.015)


def test_what_too_few_sources_tell_is_unknown(tmp_path: Path):
    table = corrected(tmp_path, injected(FEWEST - 1), galaxies(*SHAPES))
    assert all(table[name].mask.all() for name in ("completeness", "galaxy_correction", "galaxy_correction_err"))


def test_rows_without_a_shape_have_no_correction(tmp_path: Path):
    table = corrected(tmp_path, injected(800), galaxies(np.array([0.2, np.nan]), np.array([0.5, 0.5])))
    assert table["galaxy_correction"].mask.tolist() == [False, True]
    assert table["completeness"].mask.tolist() == [False, True]
