"""Fluxes, positions, shapes and errors agree with the truth."""

import astropy.units as u
import galsim
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io.votable.ucd import check_ucd
from astropy.table import Row, Table
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels.dqflags import pixel
from support.scenes import Scene, drizzled_noise
from support.scenes import measure as measure_scenes

from cosmosaic.catalog import CatalogFlag
from cosmosaic.catalog.columns import aperture_suffixes, column_specs
from cosmosaic.catalog.photometry import designation
from cosmosaic.survey import CatalogSettings

GRID = [(45.0 + 62 * i + 0.37 * j, 45.0 + 62 * j + 0.23 * i) for j in range(6) for i in range(6)]


def measure(*scenes: Scene, **settings: object) -> Table:
    return measure_scenes(*scenes, **settings).table


def row_at(table: Table, x: float, y: float) -> Row:
    distance = np.hypot(table["x"] - x, table["y"] - y)
    assert distance.min() < 3.0, f"no source near ({x}, {y})"
    return table[int(np.argmin(distance))]


@pytest.fixture(scope="module")
def stars() -> tuple[NDArray, Table, Scene]:
    """True fluxes, catalogue and scene of bright stars on a rotated grid with a sky."""
    sky = Scene(rotation=37.0)
    fluxes = np.geomspace(150.0, 20000.0, len(GRID))
    for (x, y), flux in zip(GRID, fluxes, strict=True):
        sky.add_star(flux, x, y)
    sky.sci += 0.05
    sky.add_white_noise()
    return fluxes, measure(sky), sky


@pytest.mark.slow
def test_every_star_is_found_once(stars: tuple[NDArray, Table, Scene]) -> None:
    _, table, _ = stars
    assert len(table) == len(GRID)
    assert len({row_at(table, x, y)["id"] for x, y in GRID}) == len(GRID)


@pytest.mark.parametrize("suffix", ["0p20", "0p30", "0p50", "0p70", "1p00"])
def test_circular_fluxes_of_stars_are_total_whatever_the_diameter(
    stars: tuple[NDArray, Table, Scene], suffix: str
) -> None:
    fluxes, table, _ = stars
    measured = np.array([row_at(table, x, y)[f"f150w_aper_flux_{suffix}"] for x, y in GRID])
    assert measured[fluxes > 1500] == pytest.approx(fluxes[fluxes > 1500], rel=0.02)
    assert np.median(measured / fluxes) == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize("column", ["flux", "kron_flux"])
def test_total_fluxes_of_stars_are_total(stars: tuple[NDArray, Table, Scene], column: str) -> None:
    fluxes, table, _ = stars
    measured = np.array([row_at(table, x, y)[f"f150w_{column}"] for x, y in GRID])
    assert measured[fluxes > 1500] == pytest.approx(fluxes[fluxes > 1500], rel=0.02)
    assert np.median(measured / fluxes) == pytest.approx(1.0, abs=0.005)


def test_colours_are_right_whatever_the_two_psfs() -> None:
    sharp, wide = Scene(seed=1), Scene(seed=2, psf=galsim.Gaussian(fwhm=0.15))
    galaxy = galsim.Exponential(half_light_radius=0.15)
    for number, (x, y) in enumerate(GRID):
        for sky, flux in ((sharp, 10000.0), (wide, 30000.0)):
            sky.add(galaxy, flux, x, y) if number % 2 else sky.add_star(flux, x, y)
    sharp.add_white_noise()
    wide.add_white_noise()
    table = measure(sharp, wide)
    colour = np.array([row_at(table, x, y)["f277w_flux"] / row_at(table, x, y)["f150w_flux"] for x, y in GRID])
    assert table.meta["matched_to"] == "F277W"
    assert np.median(colour[::2]) == pytest.approx(3.0, rel=0.01)
    assert np.median(colour[1::2]) == pytest.approx(3.0, rel=0.01)
    # On the mosaics as they are, a galaxy's colour depends on the PSFs.
    native = np.array([row_at(table, x, y)["f277w_aper_flux_0p20"] / row_at(table, x, y)["f150w_aper_flux_0p20"]
                       for x, y in GRID])  # fmt: skip
    assert abs(np.median(native[1::2]) / 3.0 - 1.0) > 0.03


def test_stars_lie_where_they_are_on_the_sky(stars: tuple[NDArray, Table, Scene]) -> None:
    _, table, sky = stars
    truth = sky.wcs.pixel_to_world(*np.transpose(GRID))
    rows = [row_at(table, x, y) for x, y in GRID]
    measured = SkyCoord([row["ra"] for row in rows], [row["dec"] for row in rows], unit="deg")
    assert measured.separation(truth).to_value(u.mas).max() < 2.0


def test_magnitudes_are_those_of_the_fluxes(stars: tuple[NDArray, Table, Scene]) -> None:
    _, table, _ = stars
    flux, error = table["f150w_flux"], table["f150w_flux_err"]
    assert np.asarray(table["f150w_mag"]) == pytest.approx(31.40 - 2.5 * np.log10(flux), abs=0.001)
    assert np.asarray(table["f150w_mag_err"]) == pytest.approx(1.0857 * error / flux, rel=1e-3)


def test_what_is_not_detected_in_a_filter_has_an_upper_limit_and_no_magnitude() -> None:
    seen, unseen = Scene(seed=1), Scene(seed=2)
    for x, y in GRID:
        seen.add_star(500.0, x, y)
    seen.add_white_noise()
    unseen.add_white_noise()
    table = measure(seen, unseen, threshold_sigma=6.0)
    negative = table["f277w_flux"] < 0
    assert 5 < negative.sum() < 31
    assert table["f277w_mag"].mask[negative].all()
    limit = 31.40 - 2.5 * np.log10(3.0 * table["f277w_flux_err"])
    assert np.asarray(table["f277w_mag_limit"][negative]) == pytest.approx(limit[negative], abs=0.01)
    assert table["f150w_mag_limit"].mask.all()


def test_where_a_filter_does_not_cover_its_columns_are_null() -> None:
    one, other = Scene(seed=1), Scene(seed=2)
    for sky in (one, other):
        for x, y in GRID:
            sky.add_star(1000.0, x, y)
        sky.add_white_noise()
    other.remove(slice(0, 400), slice(200, 400))
    table = measure(one, other, threshold_sigma=6.0)
    outside = table["x"] > 210
    assert len(table) == len(GRID)
    for column in ("flux", "flux_err", "mag", "kron_flux", "aper_flux_0p30", "depth", "exposures"):
        assert table[f"f277w_{column}"].mask[outside].all(), column
    assert not table["f150w_flux"].mask.any()
    assert not table["f277w_flux"].mask[~outside].any()
    assert (table["n_filters"] == np.where(outside, 1, 2)).all()
    assert ((table["flags"] & CatalogFlag.NOT_COVERED > 0) == outside).all()


def test_the_sky_is_told_and_taken_out(stars: tuple[NDArray, Table, Scene]) -> None:
    _, table, sky = stars
    assert np.asarray(table["f150w_background"]) == pytest.approx(0.05, abs=0.3 * sky.sigma)


def test_bright_isolated_stars_have_no_flags(stars: tuple[NDArray, Table, Scene]) -> None:
    _, table, _ = stars
    assert not table["flags"].any()


@pytest.mark.slow
def test_errors_are_the_scatter_of_the_fluxes() -> None:
    sky = Scene(shape=(1000, 1000))
    places = [(30.3 + 38 * i, 30.1 + 38 * j) for i in range(25) for j in range(25)]
    for x, y in places:
        sky.add_star(100.0, x, y)
    sky.sci = sky.sci + drizzled_noise(sky.shape, 0.031, sky.sigma, seed=12)
    table = measure(sky)
    assert len(table) == pytest.approx(len(places), abs=3)
    chosen = [row for row in table if min(np.hypot(row["x"] - x, row["y"] - y) for x, y in places) < 2]
    for name in ("aper_flux{}_0p30", "aper_flux{}_0p50", "kron_flux{}", "flux{}"):
        flux, error = (np.array([row[f"f150w_{name.format(kind)}"] for row in chosen]) for kind in ("", "_err"))
        if name == "flux{}":
            error = np.hypot(error, flux * [row["total_factor_err"] / row["total_factor"] for row in chosen])
        pulls = (flux - 100.0) / error
        # 625 stars: their scatter is known to 3 %.
        assert 1.4826 * np.median(np.abs(pulls - np.median(pulls))) == pytest.approx(1.0, abs=0.09), name
        assert np.mean(pulls) == pytest.approx(0.0, abs=0.25), name


def test_positions_scatter_as_their_errors_say() -> None:
    sky = Scene(shape=(1000, 1000))
    places = [(30.3 + 38 * i, 30.1 + 38 * j) for i in range(25) for j in range(25)]
    for x, y in places:
        sky.add_star(150.0, x, y)
    sky.sci = sky.sci + drizzled_noise(sky.shape, 0.031, sky.sigma, seed=13)
    table, truth = measure(sky), sky.wcs.pixel_to_world(*np.transpose(places))
    found = SkyCoord(table["ra"], table["dec"], unit="deg")
    index, separation, _ = truth.match_to_catalog_sky(found)
    near = separation.arcsec < 0.1
    off = (found.ra[index][near] - truth.ra[near]).arcsec * np.cos(truth.dec.rad[near])
    pulls = off / np.asarray(table["ra_err"])[index][near]
    assert near.sum() > 550
    assert 1.4826 * np.median(np.abs(pulls)) == pytest.approx(1.0, abs=0.2)


def test_the_light_of_bright_stars_adds_to_the_errors_of_their_positions() -> None:
    sky = Scene(shape=(700, 700))
    places = [(30.3 + 38 * i, 30.1 + 38 * j) for i in range(17) for j in range(17)]
    for x, y in places:
        sky.add_star(3000.0, x, y)
    # In the brightest pixel a hundred times the variance of the sky.
    sky.err = sky.sigma * np.sqrt(1.0 + 100.0 * sky.sci / sky.sci.max())
    sky.add_white_noise()
    table = measure(sky)
    off = [
        (row["x"] - x) * 0.03 / row["ra_err"]
        for x, y in places
        for row in table[np.hypot(table["x"] - x, table["y"] - y) < 1.0]
    ]
    assert len(off) == len(places)
    # 289 stars: their scatter is known to 5 %.
    assert np.std(off) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("rotation", [0.0, 30.0, 200.0])
def test_position_angles_are_east_of_north_on_any_grid(rotation: float) -> None:
    sky = Scene(shape=(200, 200), rotation=rotation)
    disc = galsim.Exponential(half_light_radius=0.25).shear(q=0.3, beta=25 * galsim.degrees)
    sky.add(disc, 5000.0, 100.0, 100.0)
    sky.add_white_noise()
    row = measure(sky)[0]
    along = np.array([100.0, 100.0]) + 10 * np.array([np.cos(np.radians(25)), np.sin(np.radians(25))])
    centre, ahead = sky.wcs.pixel_to_world(100.0, 100.0), sky.wcs.pixel_to_world(*along)
    expected = centre.position_angle(ahead).deg % 180.0
    assert (row["orientation"] - expected + 90) % 180 - 90 == pytest.approx(0.0, abs=2.0)
    assert expected == pytest.approx((rotation + 25 - 90) % 180, abs=0.1)
    assert 1 - row["axis_ratio"] == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize(("n", "share"), [(1.0, 0.95), (2.5, 0.87)])
@pytest.mark.parametrize("axis_ratio", [1.0, 0.5])
def test_kron_fluxes_of_galaxies_are_nearly_total(n: float, share: float, axis_ratio: float) -> None:
    sky = Scene()
    galaxy = galsim.Sersic(n=n, half_light_radius=0.2).shear(q=axis_ratio, beta=60 * galsim.degrees)
    sky.add(galaxy, 5000.0, 200.0, 200.0)
    sky.add_white_noise()
    row = row_at(measure(sky), 200.0, 200.0)
    assert row["f150w_kron_flux"] / 5000.0 == pytest.approx(share, abs=0.05)
    assert row["half_light_radius"] == pytest.approx(0.2, rel=0.2)


def test_a_neighbour_does_not_spill_into_an_aperture() -> None:
    sky = Scene(shape=(200, 200))
    sky.add_star(1000.0, 100.0, 100.0)
    sky.add_star(3000.0, 112.0, 100.0)
    sky.add_white_noise()
    table = measure(sky)
    assert row_at(table, 100.0, 100.0)["f150w_aper_flux_0p50"] == pytest.approx(1000.0, rel=0.05)


def test_flags_tell_what_is_wrong() -> None:
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
    table = measure(sky)

    def flags(x: float, y: float) -> CatalogFlag:
        return CatalogFlag(int(row_at(table, x, y)["flags"]))

    assert flags(60, 60) == CatalogFlag.NO_DATA | CatalogFlag.TRUNCATED
    assert flags(200, 60) == CatalogFlag.EDGE | CatalogFlag.TRUNCATED
    assert flags(340, 60) == CatalogFlag.EDGE | CatalogFlag.TRUNCATED | CatalogFlag.SHALLOW
    assert flags(60, 340) == flags(68, 340) == CatalogFlag.BLENDED | CatalogFlag.DEBLENDED
    assert flags(390, 340) == CatalogFlag.EDGE | CatalogFlag.SHALLOW
    assert flags(1, 200) == CatalogFlag.EDGE | CatalogFlag.TRUNCATED


def test_a_saturated_pixel_flags_its_source_alone() -> None:
    sky = Scene()
    sky.add_star(3000.0, 60.0, 60.0)
    sky.add_star(3000.0, 200.0, 60.0)
    sky.add_white_noise()
    sky.dq[61, 59] = pixel["SATURATED"]
    sky.dq[60, 200] = pixel["JUMP_DET"]
    table = measure(sky)
    assert [int(row_at(table, x, 60)["flags"]) for x in (60, 200)] == [CatalogFlag.SATURATED, 0]


def test_stars_are_told_from_galaxies() -> None:
    sky = Scene()
    for number, (x, y) in enumerate(GRID):
        sky.add_star(2000.0, x, y) if number % 2 else sky.add(galsim.Exponential(half_light_radius=0.1), 2000.0, x, y)
    sky.add_white_noise()
    table = measure(sky)
    probability = np.array([row_at(table, x, y)["star_probability"] for x, y in GRID])
    assert probability[1::2].min() > 0.5
    assert probability[::2].max() < 0.1


def test_every_column_has_its_unit_its_ucd_and_its_meaning(stars: tuple[NDArray, Table, Scene]) -> None:
    _, table, _ = stars
    specs = column_specs(["F150W"], CatalogSettings())
    assert table.colnames == list(specs)
    for name, spec in specs.items():
        assert str(table[name].unit or "") == (spec.unit or "").replace("MJy / sr", "MJy / sr")
        assert table[name].description
        assert check_ucd(table[name].meta["ucd"], check_controlled_vocabulary=True, has_colon=True), name


def test_aperture_columns_are_named_by_diameter() -> None:
    settings = CatalogSettings(aperture_diameters_arcsec=(0.1, 0.125, 1.0, 2.5))
    assert list(aperture_suffixes(settings).values()) == ["0p10", "0p125", "1p00", "2p50"]


@pytest.mark.parametrize(
    ("ra", "dec", "name"),
    [(150.1163213, 2.2009730, "J100027.917+021203.50"), (0.0, -0.5000001, "J000000.000-003000.00")],
)
def test_designations_are_truncated_not_rounded(ra: float, dec: float, name: str) -> None:
    assert designation(SkyCoord(ra, dec, unit="deg")) == name
