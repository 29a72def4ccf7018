"""The synthetic survey measured against what was put into it: fluxes, positions, levels, errors."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.stats import mad_std
from astropy.table import Table
from astropy.utils.masked import get_data_and_mask
from astropy.wcs import WCS
from conftest import BANDS
from matplotlib.path import Path
from support.truth import (
    calibrate_with_gain,
    drizzle,
    empty_sky,
    matched_stars,
    simulate_and_calibrate,
    true_exposure,
)

from cosmosaic.calibrate.gain import GainMapError
from cosmosaic.catalog import CatalogFlag
from cosmosaic.geometry.grid import survey_grid
from cosmosaic.processes import workers
from cosmosaic.simulate.instrument import FULL_WINDOW, detector_maps
from cosmosaic.survey import ExposureSettings, GridSettings, SimulationSettings

pytestmark = pytest.mark.slow

APERTURE = "0p50"
UNFIT = CatalogFlag.EDGE | CatalogFlag.NO_DATA | CatalogFlag.TRUNCATED
"""Cut off."""
FEWEST_EXPOSURES = 2
"""Where one exposure alone sees a star, a dead pixel in its core has no other to stand in for it."""
FEWEST_STARS = {"F115W": 3, "F150W": 3, "F277W": 5, "F444W": 5}
"""The exposures of the short wavelengths show a quarter of the sky of the others."""
NO_CLEANING = ExposureSettings(flicker_noise="none")
BLOCK_PIXELS = 17
"""0.5 arcsec: several input pixels of either channel."""


@pytest.fixture(scope="module")
def scene(demo):
    return Table.read(demo.store / "truth" / "sources.ecsv")


def bright_stars(demo, band):
    """Stars measured to better than 1 %, by two exposures or more, and not cut by an edge."""
    stars = matched_stars(demo, band)
    stars["flux"], stars["flux_err"] = (
        column_of(stars, band, f"aper_{kind}_{APERTURE}") for kind in ("flux", "flux_err")
    )
    fit = (np.asarray(stars["flags"]) & UNFIT) == 0
    fit &= column_of(stars, band, "exposures") >= FEWEST_EXPOSURES
    return stars[fit & (stars["flux_err"] / stars["true_flux"] < 0.01)]


def column_of(stars, band, name):
    """A filter's fluxes; NaN where it does not cover."""
    values, missing = get_data_and_mask(stars[f"{band.lower()}_{name}"])
    return values if missing is None else np.where(missing, np.nan, values)


@pytest.mark.parametrize("band", BANDS)
def test_bright_stars_have_their_true_fluxes(demo, band):
    stars = bright_stars(demo, band)
    assert len(stars) >= FEWEST_STARS[band]
    ratio, error = ((stars[name] / stars["true_flux"]).to_value("") for name in ("flux", "flux_err"))
    assert abs(np.median(ratio) - 1) < 0.01
    # Each star within 2 %, and three times its own noise of less than 1 %: none has lost its core.
    assert np.all(np.abs(ratio - 1) < 0.02 + 3 * error), ratio


def test_stars_stand_where_they_are_but_for_the_errors_of_the_headers(demo):
    stars = bright_stars(demo, "F150W")
    stars = stars[(np.asarray(stars["flags"]) & CatalogFlag.NOT_COVERED) == 0]
    assert len(stars) >= FEWEST_STARS["F150W"]
    # Positions are those of the sum of the filters, in which each counts by its significance.
    weights = [column_of(stars, band, "flux") / column_of(stars, band, "flux_err") for band in BANDS]
    errors = [mean_header_errors(demo, band, SkyCoord(stars["ra"], stars["dec"])) for band in BANDS]
    expected = np.average(errors, axis=0, weights=np.array([[weight, weight] for weight in weights]).swapaxes(1, 2))
    # What the header does not know of moves everything the other way.
    residual = np.stack([stars["d_east"].to_value(u.mas), stars["d_north"].to_value(u.mas)], axis=1) + expected
    # A tenth of a short-wavelength pixel; the mean of three exposures of 3 mas each would go unnoticed in it, so the
    # part that all stars share is asked to be smaller.
    assert np.sqrt(np.mean(residual**2, axis=0)).max() < 4
    assert np.abs(np.median(residual, axis=0)).max() < 1.5


def mean_header_errors(demo, band, places):
    """Mean (east, north) error in mas of the headers of the exposures that see each place."""
    errors = demo.frames[demo.frames["filter"] == band]
    total, seen = np.zeros((len(places), 2)), np.zeros((len(places), 1))
    for row in errors:
        header = fits.getheader(demo.product(f"{row['name']}_cal.fits"), "SCI")
        corners = np.array(header["S_REGION"].split()[2:], dtype=float).reshape(4, 2)
        inside = Path(corners).contains_points(np.stack([places.ra.deg, places.dec.deg], axis=1))[:, None]
        total += inside * np.array([row["header_east"], row["header_north"]])
        seen += inside
    return total / seen


@pytest.mark.parametrize("exposure", ["02101_00001_nrcblong", "03101_00002_nrcblong"])
def test_with_flicker_noise_a_long_wavelength_exposure_keeps_its_level(demo, scene, exposure):
    true = true_exposure(exposure, SimulationSettings(), scene)
    sky = empty_sky(demo.product(f"{exposure}_cal.fits"), true)
    assert abs(sky.level_error) < 0.01


@pytest.mark.parametrize("exposure", ["02101_00002_nrcb1", "02101_00001_nrcb2", "03101_00001_nrcb1"])
def test_with_flicker_noise_the_level_follows_that_of_the_reference_pixels(demo, scene, exposure):
    true = true_exposure(exposure, SimulationSettings(), scene)
    sky = empty_sky(demo.product(f"{exposure}_cal.fits"), true)
    flicker = fits.getdata(next((demo.store / "truth").glob(f"*{exposure}_truth.fits")), "FLICKER")
    # The few reference pixels of a subarray hold 1/f noise of their own, several per cent of the sky, which the
    # refpix step takes from the whole exposure; their read noise adds about 0.7 %.
    shared = flicker[true.maps.is_reference].mean() / true.sky
    assert abs(shared) > 0.02
    assert abs(sky.level_error + shared) < 0.025


@pytest.mark.parametrize("exposure", ["02101_00001_nrcb1", "03101_00001_nrcb2"])
def test_the_stripes_of_flicker_noise_are_gone(demo, scene, exposure):
    true = true_exposure(exposure, SimulationSettings(), scene)
    injected = fits.getdata(next((demo.store / "truth").glob(f"*{exposure}_truth.fits")), "FLICKER")
    with fits.open(demo.product(f"{exposure}_crf.fits")) as hdus:
        left = hdus["SCI"].data - true.sources
    left[true.sources > 0.02 * true.sky] = np.nan
    left = left[np.isfinite(left).any(axis=1)]
    stripes = np.nanmedian(left, axis=1)
    # Medians of some 600 pixels are known to 5 % of a pixel's noise, a fifth of the stripes' rms.
    assert mad_std(stripes, ignore_nan=True) < 0.3 * np.std(np.median(injected, axis=1))


@pytest.fixture(scope="module")
def quiet(children, scene, tmp_path_factory):
    """Exposures without 1/f noise, calibrated without its correction: ramp, rate and cal."""
    folder = tmp_path_factory.mktemp("quiet")
    settings = SimulationSettings(flicker_noise=False)
    return {
        name: workers.run(children, simulate_and_calibrate, name, settings, scene, NO_CLEANING, folder).result
        for name in ("02101_00001_nrcb1", "02101_00001_nrcblong")
    }


@pytest.mark.parametrize("exposure", ["02101_00001_nrcb1", "02101_00001_nrcblong"])
def test_without_flicker_noise_level_and_errors_are_right(quiet, scene, exposure):
    sky = empty_sky(quiet[exposure][2], true_exposure(exposure, SimulationSettings(flicker_noise=False), scene))
    # The median of a Poisson distribution of a few electrons a group lies some 0.3 % below its mean.
    assert abs(sky.level_error) < 0.01
    assert 0.9 < mad_std(sky.pulls) < 1.1


def write_gain(path, detector, factor=1.0, bad=None):
    """A gain reference file of a detector; ``bad`` is the value of one pixel."""
    gain = detector_maps(detector, FULL_WINDOW).gain * np.float32(factor)
    if bad is not None:
        gain[1000, 1000] = bad
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(gain, name="SCI")])
    keywords = {"TELESCOP": "JWST", "INSTRUME": "NIRCAM", "DETECTOR": detector, "REFTYPE": "GAIN"}
    hdus[0].header.update(keywords | {"PEDIGREE": "GROUND", "DESCRIP": "test", "AUTHOR": "test", "USEAFTER": "2020"})
    hdus.writeto(path)
    return path


def test_a_doubled_gain_halves_the_poisson_variance_and_leaves_the_rate(quiet, children, tmp_path):
    # At low signal to noise, where all groups weigh the same: elsewhere the gain chooses jwst's weights too.
    ramp, rate, _ = quiet["02101_00001_nrcb1"]
    gain = write_gain(tmp_path / "gain.fits", "NRCB1", 2.0)
    folder = tmp_path / "doubled"
    other = workers.run(children, calibrate_with_gain, ramp, gain, NO_CLEANING, "NRCB1", folder).result
    with fits.open(rate) as one, fits.open(other) as two:
        usable = np.isfinite(one["SCI"].data) & np.isfinite(two["SCI"].data) & (one["VAR_POISSON"].data > 0)
        rates = [np.median(hdus["SCI"].data[usable]) for hdus in (one, two)]
        variance = np.median(two["VAR_POISSON"].data[usable] / one["VAR_POISSON"].data[usable])
    assert abs(rates[1] / rates[0] - 1) < 1e-3
    assert abs(variance - 0.5) < 0.02


@pytest.mark.parametrize(("detector", "bad", "word"), [("NRCB2", None, "NRCB2"), ("NRCBLONG", np.nan, "not finite")])
def test_an_unusable_gain_map_fails_by_name(quiet, children, tmp_path, detector, bad, word):
    ramp = quiet["02101_00001_nrcblong"][0]
    gain = write_gain(tmp_path / "users_gain.fits", detector, bad=bad)
    with pytest.raises(GainMapError, match=r"users_gain\.fits") as caught:
        workers.run(children, calibrate_with_gain, ramp, gain, NO_CLEANING, "NRCBLONG", tmp_path / "out")
    assert word in str(caught.value)


@pytest.mark.parametrize("exposure", ["02101_00001_nrcb1", "02101_00001_nrcblong"])
def test_without_flicker_noise_empty_blocks_of_a_mosaic_scatter_as_their_errors_say(
    quiet, children, demo, tmp_path, exposure
):
    cal = quiet[exposure][2]
    corners = np.array(fits.getheader(cal, "SCI")["S_REGION"].split()[2:], dtype=float).reshape(4, 2)
    grid = survey_grid(GridSettings(), {exposure: corners})
    mosaic = workers.run(children, drizzle, [cal], grid, tmp_path / "quiet").result
    header = fits.getheader(mosaic, "SCI")
    pulls = block_pulls(demo, mosaic, fits.getheader(cal)["FILTER"])
    assert 0.9 < mad_std(pulls) < 1.1
    # Single pixels scatter less, by the factor that the header tells: drizzling onto smaller pixels correlates them.
    assert 0.2 < header["NOISEFAC"] < 0.95


# In the demo 1/f noise along the rows is left, which ERR knows nothing of: 16 neighbours of a row share it, so blocks
# scatter 1.2 times their errors at short wavelengths, where it is a fifth of a pixel's noise; a twelfth at long ones.
@pytest.mark.parametrize(("band", "widest"), [("F115W", 1.3), ("F150W", 1.3), ("F277W", 1.1), ("F444W", 1.1)])
def test_empty_blocks_of_the_demo_scatter_little_more_than_their_errors_say(demo, band, widest):
    assert 0.9 < mad_std(block_pulls(demo, demo.mosaic(band), band)) < widest


@pytest.mark.parametrize("band", BANDS)
def test_the_header_tells_how_much_less_the_pixels_scatter_than_their_errors_say(demo, band):
    with fits.open(demo.mosaic(band)) as hdus:
        header = hdus["SCI"].header
        pulls = hdus["SCI"].data.astype(float) / hdus["ERR"].data
    pulls[near_sources(demo, band, header)] = np.nan
    # Source-free by the truth here, by clipping in the header; what is under neither is known to 1 %.
    assert np.isclose(mad_std(pulls, ignore_nan=True), header["NOISEFAC"], rtol=0.05)


def block_pulls(demo, mosaic, band):
    """Sums over empty blocks of pixels about their median, over the error that ERR gives them."""
    with fits.open(mosaic) as hdus:
        sci, err = hdus["SCI"].data.astype(float), hdus["ERR"].data.astype(float)
        # NaN, where there are no data or sources, makes a block NaN.
        sci[near_sources(demo, band, hdus["SCI"].header)] = np.nan
    blocks, errors = block_sums(sci), np.sqrt(block_sums(err**2))
    pulls = ((blocks - np.nanmedian(blocks)) / errors)[np.isfinite(blocks)]
    # With 500 blocks their scatter is known to 4 %.
    assert len(pulls) > 500
    return pulls


def block_sums(image):
    ny, nx = (length // BLOCK_PIXELS for length in image.shape)
    cut = image[: ny * BLOCK_PIXELS, : nx * BLOCK_PIXELS]
    return cut.reshape(ny, BLOCK_PIXELS, nx, BLOCK_PIXELS).sum(axis=(1, 3))


def near_sources(demo, band, header):
    """Pixels within some half-light radii of any source, and farther about bright ones."""
    sources = demo.sources
    x, y = WCS(header).world_to_pixel(SkyCoord(sources["ra"], sources["dec"]))
    size = np.nan_to_num(sources["half_light_radius"].to_value(u.arcsec), nan=0.0)
    # A circle of 0.5 arcsec holds nearly all of a faint star; the wings of brighter ones fall as the cube of radius.
    reach = np.maximum(4 * size, 0.5 * np.cbrt(np.maximum(sources[f"flux_{band}"].value, 50) / 50)) / 0.03
    near = np.zeros((header["NAXIS2"], header["NAXIS1"]), dtype=bool)
    for x0, y0, radius in zip(x, y, np.minimum(reach, 150), strict=True):
        left, right, low, high = (max(0, round(edge)) for edge in (x0 - radius, x0 + radius, y0 - radius, y0 + radius))
        rows, columns = np.ogrid[low : high + 1, left : right + 1]
        part = near[low : high + 1, left : right + 1]
        part |= ((columns - x0) ** 2 + (rows - y0) ** 2 < radius**2)[: part.shape[0], : part.shape[1]]
    return near
