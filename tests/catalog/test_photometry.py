"""Fluxes, positions, shapes and errors agree with the truth."""

from pathlib import Path

import astropy.units as u
import galsim
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from numpy.typing import NDArray
from support.scenes import SCALE, Scene, drizzled_noise

from cosmosaic.catalog.measure import measure_mosaic
from cosmosaic.catalog.photometry import CatalogFlag, aperture_suffixes, column_specs, designation
from cosmosaic.survey import CatalogSettings

GRID = [(45.0 + 62 * i + 0.37 * j, 45.0 + 62 * j + 0.23 * i) for j in range(6) for i in range(6)]
SIGMA_PSF = 0.06 / 2.3548


def measure(scene: Scene, tmp_path: Path, **settings: float) -> QTable:
    path = tmp_path / "mosaic_i2d.fits"
    path.unlink(missing_ok=True)
    return measure_mosaic(scene.write(path), CatalogSettings(**settings), "F150W").table


def row_at(table: QTable, x: float, y: float) -> QTable.Row:
    distance = np.hypot(table["x"].value - x, table["y"].value - y)
    assert distance.min() < 3.0, f"no source near ({x}, {y})"
    return table[int(np.argmin(distance))]


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray, QTable, Scene]:
    """True fluxes, catalogue and scene of bright stars on a rotated grid with a sky."""
    sky = Scene(rotation=37.0)
    fluxes = np.geomspace(150.0, 20000.0, len(GRID))
    for (x, y), flux in zip(GRID, fluxes, strict=True):
        sky.add_star(flux, x, y)
    sky.sci += 0.05
    sky.add_white_noise()
    return fluxes, measure(sky, tmp_path_factory.mktemp("stars")), sky


def test_every_star_is_found_once(stars: tuple[NDArray, QTable, Scene]) -> None:
    _, table, _ = stars
    assert len(table) == len(GRID)
    assert len({row_at(table, x, y)["label"] for x, y in GRID}) == len(GRID)


def test_stars_have_their_flux_in_a_large_aperture(stars: tuple[NDArray, QTable, Scene]) -> None:
    fluxes, table, _ = stars
    measured = np.array([row_at(table, x, y)["aper_flux_0p50"].to_value(u.nJy) for x, y in GRID])
    bright = fluxes > 1500
    assert measured[bright] == pytest.approx(fluxes[bright], rel=0.01)
    assert np.median(measured / fluxes) == pytest.approx(1.0, abs=0.003)


@pytest.mark.parametrize(("radius", "suffix"), [(0.1, "0p10"), (0.15, "0p15"), (0.25, "0p25"), (0.35, "0p35")])
def test_each_aperture_holds_the_light_inside_its_radius(
    stars: tuple[NDArray, QTable, Scene], radius: float, suffix: str
) -> None:
    fluxes, table, _ = stars
    measured = np.array([row_at(table, x, y)[f"aper_flux_{suffix}"].to_value(u.nJy) for x, y in GRID])
    inside = 1.0 - np.exp(-(radius**2) / (2 * (SIGMA_PSF**2 + SCALE**2 / 12)))
    assert np.median(measured / fluxes) == pytest.approx(inside, abs=0.01)


def test_kron_fluxes_of_stars_are_total(stars: tuple[NDArray, QTable, Scene]) -> None:
    fluxes, table, _ = stars
    measured = np.array([row_at(table, x, y)["kron_flux"].to_value(u.nJy) for x, y in GRID])
    assert measured[fluxes > 500] == pytest.approx(fluxes[fluxes > 500], rel=0.02)


def test_stars_lie_where_they_are_on_the_sky(stars: tuple[NDArray, QTable, Scene]) -> None:
    _, table, sky = stars
    truth = sky.wcs.pixel_to_world(*np.transpose(GRID))
    rows = [row_at(table, x, y) for x, y in GRID]
    measured = SkyCoord([row["ra"] for row in rows], [row["dec"] for row in rows])
    assert measured.separation(truth).to_value(u.mas).max() < 2.0


def test_magnitudes_are_those_of_the_fluxes(stars: tuple[NDArray, QTable, Scene]) -> None:
    _, table, _ = stars
    flux, error = table["kron_flux"].to_value(u.nJy), table["kron_flux_err"].to_value(u.nJy)
    assert table["kron_mag"].to_value(u.mag) == pytest.approx(31.40 - 2.5 * np.log10(flux), abs=0.001)
    assert table["kron_mag_err"].to_value(u.mag) == pytest.approx(1.0857 * error / flux, rel=1e-3)
    assert table["snr"] == pytest.approx(flux / error)


def test_the_sky_is_told_and_taken_out(stars: tuple[NDArray, QTable, Scene]) -> None:
    _, table, sky = stars
    assert table["background"].value == pytest.approx(0.05, abs=0.3 * sky.sigma)


def test_bright_isolated_stars_have_no_flags(stars: tuple[NDArray, QTable, Scene]) -> None:
    _, table, _ = stars
    assert not table["flags"].any()


def test_errors_are_those_of_the_fluxes(tmp_path: Path) -> None:
    sky = Scene(shape=(700, 700))
    places = [(30.3 + 40 * i, 30.1 + 40 * j) for i in range(16) for j in range(16)]
    for x, y in places:
        sky.add_star(100.0, x, y)
    sky.sci = sky.sci + drizzled_noise(sky.shape, 0.031, sky.sigma, seed=12)
    table = measure(sky, tmp_path)
    assert len(table) == len(places)
    for suffix, inside in (("0p15", 0.9994), ("0p25", 1.0), ("0p35", 1.0)):
        flux, error = (table[f"aper_{kind}_{suffix}"].to_value(u.nJy) for kind in ("flux", "flux_err"))
        pulls = (flux - 100.0 * inside) / error
        assert np.std(pulls) == pytest.approx(1.0, abs=0.2), suffix
        assert np.mean(pulls) == pytest.approx(0.0, abs=0.25), suffix


@pytest.mark.parametrize("rotation", [0.0, 30.0, 200.0])
def test_position_angles_are_east_of_north_on_any_grid(tmp_path: Path, rotation: float) -> None:
    sky = Scene(shape=(200, 200), rotation=rotation)
    disc = galsim.Exponential(half_light_radius=0.25).shear(q=0.3, beta=25 * galsim.degrees)
    sky.add(disc, 5000.0, 100.0, 100.0)
    sky.add_white_noise()
    row = measure(sky, tmp_path)[0]
    along = np.array([100.0, 100.0]) + 10 * np.array([np.cos(np.radians(25)), np.sin(np.radians(25))])
    centre, ahead = sky.wcs.pixel_to_world(100.0, 100.0), sky.wcs.pixel_to_world(*along)
    expected = centre.position_angle(ahead).deg % 180.0
    assert (row["orientation"].to_value(u.deg) - expected + 90) % 180 - 90 == pytest.approx(0.0, abs=2.0)
    assert expected == pytest.approx((rotation + 25 - 90) % 180, abs=0.1)
    assert row["ellipticity"] == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize(("n", "share"), [(1.0, 0.95), (2.5, 0.87)])
@pytest.mark.parametrize("axis_ratio", [1.0, 0.5])
def test_kron_fluxes_of_galaxies_are_nearly_total(tmp_path: Path, n: float, share: float, axis_ratio: float) -> None:
    sky = Scene()
    galaxy = galsim.Sersic(n=n, half_light_radius=0.2).shear(q=axis_ratio, beta=60 * galsim.degrees)
    sky.add(galaxy, 5000.0, 200.0, 200.0)
    sky.add_white_noise()
    row = row_at(measure(sky, tmp_path), 200.0, 200.0)
    assert row["kron_flux"].to_value(u.nJy) / 5000.0 == pytest.approx(share, abs=0.05)
    assert row["half_light_radius"].to_value(u.arcsec) == pytest.approx(0.2, rel=0.2)


def test_a_neighbour_does_not_spill_into_an_aperture(tmp_path: Path) -> None:
    sky = Scene(shape=(200, 200))
    sky.add_star(1000.0, 100.0, 100.0)
    sky.add_star(3000.0, 112.0, 100.0)
    sky.add_white_noise()
    table = measure(sky, tmp_path)
    assert row_at(table, 100.0, 100.0)["aper_flux_0p50"].to_value(u.nJy) == pytest.approx(1000.0, rel=0.05)


def test_flags_tell_what_is_wrong(tmp_path: Path) -> None:
    sky = Scene()
    sky.add_star(3000.0, 60.0, 60.0)
    sky.add_star(3000.0, 200.0, 60.0)
    sky.add_star(3000.0, 340.0, 60.0)
    sky.add_star(3000.0, 60.0, 340.0)
    sky.add_star(2000.0, 68.0, 340.0)
    sky.add_star(3000.0, 390.0, 340.0)
    sky.add_star(3000.0, 1.0, 200.0)
    sky.add_white_noise()
    sky.remove(slice(60, 61), slice(60, 62))
    sky.remove(slice(63, 110), slice(150, 400))
    sky.wht[:, 300:] *= 0.25
    sky.remove(slice(0, 400), slice(398, 400))
    table = measure(sky, tmp_path)

    def flags(x: float, y: float) -> CatalogFlag:
        return CatalogFlag(int(row_at(table, x, y)["flags"]))

    assert flags(60, 60) == CatalogFlag.NO_DATA | CatalogFlag.TRUNCATED
    assert flags(200, 60) == CatalogFlag.EDGE | CatalogFlag.TRUNCATED
    assert flags(340, 60) == CatalogFlag.EDGE | CatalogFlag.TRUNCATED | CatalogFlag.SHALLOW
    assert flags(60, 340) == flags(68, 340) == CatalogFlag.BLENDED
    assert flags(390, 340) == CatalogFlag.SHALLOW | CatalogFlag.TRUNCATED
    assert flags(1, 200) == CatalogFlag.EDGE | CatalogFlag.TRUNCATED


def test_every_column_has_its_unit_and_meaning(stars: tuple[NDArray, QTable, Scene]) -> None:
    _, table, _ = stars
    specs = column_specs(CatalogSettings())
    assert table.colnames == list(specs)
    for name, spec in specs.items():
        assert getattr(table[name], "unit", None) == spec.unit
        assert table[name].info.description


def test_aperture_columns_are_named_by_radius() -> None:
    settings = CatalogSettings(aperture_radii_arcsec=(0.1, 0.125, 1.0, 2.5))
    assert list(aperture_suffixes(settings).values()) == ["0p10", "0p125", "1p00", "2p50"]


@pytest.mark.parametrize(
    ("ra", "dec", "name"),
    [(150.1163213, 2.2009730, "J100027.917+021203.50"), (0.0, -0.5000001, "J000000.000-003000.00")],
)
def test_designations_are_truncated_not_rounded(ra: float, dec: float, name: str) -> None:
    assert designation(SkyCoord(ra, dec, unit="deg")) == name
