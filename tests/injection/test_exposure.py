"""Injected light has the flux, the place, the shape and the noise that it should, on real calibrated files."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from cosmosaic.catalog.psf import Psf, model_psf, write_psf
from cosmosaic.exposures.wcs import read_wcs
from cosmosaic.injection.exposure import InjectionError, exposure_psf, inject_sources, photon_variance
from cosmosaic.injection.records import Combination, Draw
from cosmosaic.nircam import detector_pixel_arcsec
from cosmosaic.records import Lattice
from cosmosaic.simulate.calibrated import write_calibrated
from cosmosaic.simulate.geometry import pixel_area_sr, pixel_to_sky, true_view
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.render import surface_brightness
from cosmosaic.survey import FilterPair, SimulationSettings

BAND = "F444W"
SETTINGS = SimulationSettings(
    level="cal",
    detectors=("NRCBLONG",),
    filter_pairs=(FilterPair(short="F150W", long=BAND),),
    subarray="SUB160",
    dithers_arcsec=((0.0, 0.0),),
    cosmic_rays_per_s_cm2=0.0,
    flicker_noise=False,
    pointing_error_mas=0.0,
    roll_error_arcsec=0.0,
    aberration=0.0,
    placement_error_mas=0.0,
    filter_offset_mas=0.0,
)
(PLANNED,) = plan_exposures(SETTINGS)
GRID = Lattice(tangent_ra=150.12, tangent_dec=2.2, rotation=35.0, pixel_scale_mas=30.0)
COMBINATION = Combination(band=BAND, grid=GRID, pixfrac=1.0)
DRAW = Draw(seed=5, number=0)
SCALE = 0.03


@pytest.fixture(scope="module")
def exposure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cal") / f"{PLANNED.name}_cal.fits"
    write_calibrated(PLANNED, np.full((160, 160), 0.25, np.float32), SETTINGS, path)
    return path


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_psf(model_psf(BAND, SCALE, 1.0), BAND, tmp_path_factory.mktemp("psf") / "computed_psf.fits")


def table(x: float, y: float, flux: float, path: Path, **shape: float) -> Path:
    """A table with one source at a pixel of the exposure."""
    ra, dec = pixel_to_sky(PLANNED, true_view(PLANNED), np.array([x]), np.array([y]))
    kind = "galaxy" if shape else "star"
    shape = shape or dict.fromkeys(("sersic_n", "half_light_radius", "axis_ratio", "position_angle"), np.nan)
    columns = {"ra": ra, "dec": dec, "kind": [kind], f"flux_{BAND}": [flux]}
    sources = Table(columns | {name: [value] for name, value in shape.items()})
    sources.write(path, format="ascii.ecsv")
    return path


def injected(exposure: Path, sources: Path, psf: Path, folder: Path, draw: Draw = DRAW) -> Path:
    folder.mkdir(exist_ok=True)
    return inject_sources(exposure, {"full": sources}, {"full": psf}, COMBINATION, draw, folder).files["cal"]


def planes(path: Path) -> dict[str, np.ndarray]:
    with fits.open(path) as hdus:
        return {name: np.array(hdus[name].data, float) for name in ("SCI", "ERR", "VAR_POISSON", "VAR_RNOISE", "DQ")}


def test_the_added_light_is_the_flux_at_the_position(exposure, computed, tmp_path):
    flux = 3e5
    made = injected(exposure, table(80.3, 71.8, flux, tmp_path / "s_injected.ecsv"), computed, tmp_path / "out")
    old, new = planes(exposure), planes(made)
    added = np.nan_to_num(new["SCI"] - old["SCI"])
    assert (added * 1e15 * pixel_area_sr(PLANNED)).sum() == pytest.approx(flux, rel=0.01)
    core = (slice(67, 78), slice(75, 86))
    rows, columns = np.indices(added.shape)
    x, y = ((added[core] * axis[core]).sum() / added[core].sum() for axis in (columns, rows))
    assert (x, y) == pytest.approx((80.3, 71.8), abs=0.05)


def test_a_galaxy_looks_as_the_simulator_draws_it(exposure, computed, tmp_path):
    shape = {"sersic_n": 1.0, "half_light_radius": 1.0, "axis_ratio": 0.4, "position_angle": 70.0}
    flux = 1e6
    sources = table(79.0, 82.0, flux, tmp_path / "s_injected.ecsv", **shape)
    new = planes(injected(exposure, sources, computed, tmp_path / "out"))
    scene = Table.read(sources)
    expected = surface_brightness(PLANNED, scene)
    added = np.nan_to_num(new["VAR_POISSON"] - planes(exposure)["VAR_POISSON"])
    noiseless = added / photon_variance(fits.getheader(exposure), fits.getheader(exposure, "SCI"), BAND, "x")
    usable = np.isfinite(new["SCI"])
    # Their PSFs are turned against each other, which the centre of the galaxy shows.
    difference = np.abs(noiseless - expected)[usable]
    assert difference.max() < 0.02 * expected.max()
    assert np.abs((noiseless - expected)[usable].sum()) < 0.003 * expected.sum()


def test_photons_bring_noise_and_the_planes_tell_of_it(exposure, computed, tmp_path):
    sources = table(80.0, 80.0, 1e6, tmp_path / "s_injected.ecsv", sersic_n=0.5, half_light_radius=1.5, axis_ratio=1.0,
                    position_angle=0.0)  # fmt: skip
    old = planes(exposure)
    made = [
        planes(injected(exposure, sources, computed, tmp_path / f"out{number}", Draw(seed=5, number=number)))
        for number in range(2)
    ]
    added = made[0]["VAR_POISSON"] - old["VAR_POISSON"]
    bright = added > 0.3 * np.nanmax(added)
    difference = (made[0]["SCI"] - made[1]["SCI"])[bright] / np.sqrt(2 * added[bright])
    assert np.std(difference) == pytest.approx(1.0, abs=4 / np.sqrt(2 * bright.sum()))
    np.testing.assert_allclose(made[0]["ERR"] ** 2 - old["ERR"] ** 2, added, rtol=1e-3, atol=1e-9)
    np.testing.assert_array_equal(made[0]["DQ"], old["DQ"])
    np.testing.assert_array_equal(made[0]["VAR_RNOISE"], old["VAR_RNOISE"])


def test_the_photon_noise_is_that_of_the_exposures_own_photons(exposure):
    # Sky of 0.25 MJy/sr and the dark current, which is a hundredth of it here.
    old = planes(exposure)
    expected = 0.25 * photon_variance(fits.getheader(exposure), fits.getheader(exposure, "SCI"), BAND, "x")
    assert np.nanmedian(old["VAR_POISSON"]) == pytest.approx(expected, rel=0.15)


def test_the_same_draw_gives_the_same_bytes(exposure, computed, tmp_path):
    sources = table(80.0, 80.0, 1e4, tmp_path / "s_injected.ecsv")
    once, again = (injected(exposure, sources, computed, tmp_path / name) for name in ("a", "b"))
    assert once.read_bytes() == again.read_bytes()


def test_an_exposure_without_the_readouts_times_is_refused(exposure):
    header = fits.getheader(exposure)
    header.remove("TGROUP")
    with pytest.raises(InjectionError, match="no TGROUP in the header"):
        photon_variance(header, fits.getheader(exposure, "SCI"), BAND, exposure.name)


def drizzled(profile: galsim.GSObject, side: int) -> np.ndarray:
    """The PSF that the drizzle makes of an exposure's."""
    native = detector_pixel_arcsec(BAND)
    mosaic = galsim.Convolve(profile, galsim.Pixel(native), galsim.Pixel(SCALE))
    return mosaic.drawImage(nx=side, ny=side, scale=SCALE, method="no_pixel", dtype=float).array


def test_the_drizzled_psf_of_injected_stars_is_the_catalogues(tmp_path):
    model = model_psf(BAND, SCALE, 1.0)
    # As stars of the field would give it: wider than the computed one, and not round.
    wider = galsim.Gaussian(fwhm=0.06).shear(g1=0.2)
    blur = wider.drawImage(nx=41, ny=41, scale=SCALE, method="no_pixel", dtype=float).array
    field = Psf(np.real(np.fft.ifft2(np.fft.fft2(model.image) * np.fft.fft2(np.fft.ifftshift(_padded(blur, model))))),
                SCALE, "stars", 20)  # fmt: skip
    path = write_psf(field, BAND, tmp_path / "field_psf.fits")
    found = drizzled(exposure_psf(path, BAND, SCALE, 1.0).profile, len(field.image))
    middle = len(found) // 2
    core = (slice(middle - 15, middle + 16),) * 2
    assert np.abs(found - field.image)[core].max() < 0.01 * field.image.max()
    assert np.abs(model.image - field.image)[core].max() > 0.05 * field.image.max()
    radii = np.array([0.1, 0.15, 0.3])
    np.testing.assert_allclose(Psf(found, SCALE, "file").within(radii), field.within(radii), rtol=0.005)


def _padded(blur: np.ndarray, model: Psf) -> np.ndarray:
    padded = np.zeros_like(model.image)
    middle, reach = len(padded) // 2, len(blur) // 2
    padded[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1] = blur
    return padded / padded.sum()


def test_the_wcs_of_the_exposure_stays(exposure, computed, tmp_path):
    made = injected(exposure, table(80.0, 80.0, 1e4, tmp_path / "s_injected.ecsv"), computed, tmp_path / "out")
    places = []
    for path in (exposure, made):
        with fits.open(path) as hdus:
            places.append(read_wcs(hdus["ASDF"].data.tobytes())(10.0, 20.0))
    assert places[0] == places[1]
