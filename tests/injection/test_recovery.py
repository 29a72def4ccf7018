"""Which injected sources count as found, and as isolated; what the negative image holds."""

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from support.scenes import Scene, psf_of

from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.catalog.measure import measure_sources
from cosmosaic.catalog.psf import write_psf
from cosmosaic.injection.recovery import MEASURED, match_injected, matched_columns, measure_negative
from cosmosaic.survey import CatalogSettings

BAND = "F444W"
RA, DEC = 150.0, 2.0
SUFFIXES = {"0p20": 0.2, "0p30": 0.3, "0p50": 0.5}


def injected(*offsets_arcsec: float, flux: float = 100.0) -> Table:
    """Sources of one flux at distances to the north of a place."""
    count = len(offsets_arcsec)
    columns = {
        name: np.full(count, np.nan) for name in ("sersic_n", "half_light_radius", "axis_ratio", "position_angle")
    }
    columns |= {"ra": np.full(count, RA), "dec": DEC + np.array(offsets_arcsec) / 3600}
    columns |= {"kind": np.full(count, "star"), "round": np.ones(count, int)}
    return Table(columns | {f"flux_{BAND}": np.full(count, flux), f"snr_{BAND}": np.full(count, 20.0)})


def catalog(**flux_by_offset: float) -> Table:
    """Rows of a catalogue, with their fluxes, at tenths of an arcsec to the north: ``at_12`` is 1.2 arcsec."""
    places = np.array([int(name.removeprefix("at_")) / 10 for name in flux_by_offset])
    flux, prefix = np.array(list(flux_by_offset.values()), float), BAND.lower()
    columns = {"ra": np.full(len(flux), RA), "dec": DEC + places / 3600, "flags": np.arange(len(flux)) + 1}
    columns |= {f"{prefix}_flux": flux, f"{prefix}_flux_err": flux / 10}
    columns |= {name: np.full(len(flux), 0.2) for name in MEASURED}
    columns |= {f"{prefix}_aper_flux_{suffix}": flux + size for suffix, size in SUFFIXES.items()}
    columns |= {f"{prefix}_aper_flux_err_{suffix}": flux / 20 for suffix in SUFFIXES}
    return Table(columns, meta={"aperture_diameters_arcsec": SUFFIXES})


def test_a_row_near_the_position_is_the_source_and_gives_its_fluxes():
    found = matched_columns(injected(0.0, 3.0), catalog(at_1=95.0, at_50=100.0), catalog(), [BAND])
    assert found["found"].tolist() == [True, False]
    assert found["flags"].tolist() == [1, 0]
    assert found["offset"][0] == pytest.approx(0.1, abs=1e-4)
    assert found["f444w_flux"][0] == 95.0
    assert found["f444w_aper_flux"][0] == pytest.approx(95.3)
    assert np.isnan(found["f444w_flux"][1])
    assert found["measured_half_light_radius"].tolist() == pytest.approx([0.2, np.nan], nan_ok=True)


@pytest.mark.parametrize(("own", "is_found"), [(50.0, True), (500.0, False)])
def test_a_row_of_a_brighter_source_of_the_sky_is_not_the_injected_one(own, is_found):
    found = matched_columns(injected(0.0), catalog(at_1=own + 100.0), catalog(at_1=own), [BAND])
    assert found["found"].tolist() == [is_found]


@pytest.mark.parametrize(
    ("neighbour", "is_isolated"),
    [({"at_8": 500.0}, False), ({"at_8": 50.0}, True), ({"at_12": 500.0}, True)],
    ids=["brighter", "fainter", "far"],
)
def test_isolated_is_a_source_without_a_brighter_neighbour(neighbour, is_isolated):
    found = matched_columns(injected(0.0), catalog(at_0=100.0, **neighbour), catalog(**neighbour), [BAND])
    assert found["found"].tolist() == [True]
    assert found["isolated"].tolist() == [is_isolated]


def test_nothing_is_found_in_an_empty_catalogue():
    found = matched_columns(injected(0.0, 2.0), catalog(), catalog(), [BAND])
    assert not found["found"].any()
    assert found["isolated"].all()
    assert np.isnan(found["f444w_flux"]).all()


def test_sources_of_all_rounds_and_windows_stand_in_one_table(tmp_path: Path):
    files = {}
    for name, made in {
        "a_injected": injected(0.0, 3.0), "b_injected": injected(5.0), "a_cat": catalog(at_0=90.0),
        "b_cat": catalog(at_50=110.0), "own": catalog(),
    }.items():  # fmt: skip
        is_catalog = not name.endswith("injected")
        files[name] = tmp_path / f"{name}.{'parquet' if is_catalog else 'ecsv'}"
        made.write(files[name], format="parquet" if is_catalog else "ascii.ecsv")
    made = match_injected(
        (files["a_injected"], files["b_injected"]), (files["a_cat"], files["b_cat"]),
        {"west": files["own"], "east": files["own"]}, ("west", "east"), "demo", tmp_path,
    ).files  # fmt: skip
    table = Table.read(made["table"])
    assert list(table["id"]) == [1, 2, 3]
    assert list(table["tile"]) == ["west", "west", "east"]
    assert list(table["found"]) == [True, False, True]
    assert table["f444w_flux"].mask.tolist() == [False, True, False]
    same = Table.read(made["parquet"], format="parquet.votable")
    assert list(same["found"]) == list(table["found"])
    assert list(same["f444w_true_flux"]) == list(table["f444w_true_flux"])


def test_a_negative_image_has_the_noise_and_none_of_the_sources(tmp_path: Path):
    sky = Scene(shape=(200, 200), seed=4)
    for x, y in ((50, 50), (150, 50), (50, 150), (150, 150)):
        sky.add_star(1000.0, x, y)
    # A hole as deep as a bright star is the only thing that the negative shows.
    sky.add_star(-1000.0, 100, 100)
    sky.add_white_noise()
    mosaic, psf = sky.write(tmp_path / "a_i2d.fits"), write_psf(psf_of(sky), BAND, tmp_path / "a_psf.fits")
    settings = CatalogSettings(threshold_sigma=6.0)
    negative = Table.read(measure_negative({BAND: mosaic}, {BAND: psf}, settings, "demo", tmp_path).files["catalog"])
    positive = Table.read(measure_sources({BAND: mosaic}, {BAND: psf}, settings, "demo", tmp_path).files["catalog"])
    assert len(positive) == 4
    assert len(negative) == 1
    assert (negative["x"][0], negative["y"][0]) == pytest.approx((100.0, 100.0), abs=0.3)
    assert not negative["flags"][0] & CatalogFlag.NOT_POSITIVE
