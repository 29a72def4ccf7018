"""The drawn sources sample each filter around its depth, with shapes and colours, by the seed alone."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from support.scenes import SCALE, tangent_wcs

from cosmosaic.catalog.psf import model_psf, read_psf, write_psf
from cosmosaic.injection.records import Draw
from cosmosaic.injection.sources import AROUND_DEPTH, RADII_ARCSEC, SERSIC, draw_sources

DEPTHS = {"F150W": 29.0, "F444W": 27.0}
SHAPE = (300, 300)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, Path]]:
    """Depth maps whose left half has no F444W and whose lowest rows have nothing, and computed PSFs."""
    folder, depths, psfs = tmp_path_factory.mktemp("inputs"), {}, {}
    for band, depth in DEPTHS.items():
        image = np.full(SHAPE, depth, np.float32)
        image[:30] = np.nan
        if band == "F444W":
            image[:, :150] = np.nan
        depths[band] = folder / f"{band}_depth.fits"
        hdu = fits.ImageHDU(image, tangent_wcs(SHAPE).to_header(), name="DEPTH")
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(depths[band])
        psfs[band] = write_psf(model_psf(band, SCALE, 1.0), band, folder / f"{band}_psf.fits")
    return depths, psfs


def drawn(inputs: tuple, folder: Path, number: int = 0, seed: int = 1, count: int = 900) -> Table:
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(7).uniform(0, 299, (count, 2))
    sky = tuple((float(ra), float(dec)) for ra, dec in tangent_wcs(SHAPE).wcs_pix2world(pixels, 0))
    made = draw_sources(*inputs, sky, 0.4, Draw(seed=seed, number=number), "full", folder)
    return Table.read(made.files["sources"])


def test_each_filter_is_sampled_around_its_depth_and_uncovered_places_are_left_out(inputs, tmp_path):
    table = drawn(inputs, tmp_path)
    y = tangent_wcs(SHAPE).wcs_world2pix(np.stack([table["ra"], table["dec"]], axis=1), 0)
    assert y[:, 1].min() > 29
    assert len(table) == pytest.approx(0.9 * 900, abs=40)
    uncovered = np.isnan(table["snr_F444W"])
    np.testing.assert_array_equal(uncovered, y[:, 0] < 149.5)
    relative = (np.asarray(table["flux_F150W"]) * u.nJy).to_value(u.ABmag)[uncovered] - DEPTHS["F150W"]
    counts, _ = np.histogram(relative, bins=4, range=AROUND_DEPTH)
    assert counts.sum() == uncovered.sum()
    assert counts.min() > 0.7 * counts.mean()


def test_true_significance_is_that_of_the_depths_aperture(inputs, tmp_path):
    table = drawn(inputs, tmp_path)
    inside = read_psf(inputs[1]["F150W"], SCALE).within(0.15)[0]
    magnitude = (np.asarray(table["flux_F150W"]) * inside * u.nJy).to_value(u.ABmag)
    np.testing.assert_allclose(table["snr_F150W"], 5 * 10 ** (0.4 * (DEPTHS["F150W"] - magnitude)), rtol=1e-5)


def test_galaxies_have_shapes_and_sources_colours(inputs, tmp_path):
    table = drawn(inputs, tmp_path)
    galaxies = table["kind"] == "galaxy"
    assert np.mean(galaxies) == pytest.approx(0.4, abs=0.06)
    assert np.isnan(table["half_light_radius"][~galaxies]).all()
    assert set(table["sersic_n"][galaxies]) == set(SERSIC)
    radii = table["half_light_radius"][galaxies]
    assert RADII_ARCSEC[0] <= radii.min() < radii.max() <= RADII_ARCSEC[1]
    slope = np.log(table["flux_F444W"] / table["flux_F150W"]) / np.log(4.44 / 1.5)
    assert np.std(slope) == pytest.approx(0.7, abs=0.06)
    assert np.mean(slope) == pytest.approx(0.0, abs=0.1)


def test_seed_and_round_decide_the_sources(inputs, tmp_path):
    once, again = (drawn(inputs, tmp_path / name) for name in "ab")
    assert (once["flux_F150W"] == again["flux_F150W"]).all()
    for changes in ({"seed": 2}, {"number": 1}):
        other = drawn(inputs, tmp_path / str(changes), **changes)
        assert not set(other["flux_F150W"]) & set(once["flux_F150W"])
    assert set(drawn(inputs, tmp_path / "second", number=1)["round"]) == {2}
