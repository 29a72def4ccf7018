"""Images that the settings name are measured at the survey's sources, in the whole run."""

import shutil

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from support.small_survey import BAND, new_survey

pytestmark = [pytest.mark.slow, pytest.mark.server]

COPY = "F814W"
"""The survey's own mosaic, given as another telescope's."""


@pytest.fixture(scope="module")
def small(simulated, tmp_path_factory):
    return new_survey(simulated, tmp_path_factory.mktemp("others"))


@pytest.fixture(scope="module")
def named(small, tmp_path_factory):
    """Settings that name the survey's mosaic as another telescope's image."""
    assert small.run().state == "Completed"
    folder = tmp_path_factory.mktemp("archive")
    (mosaic,) = small.products.glob(f"*_{BAND.lower()}_*_i2d.fits")
    (psf,) = small.products.glob(f"*_{BAND.lower()}_*_psf.fits")
    for source, name in ((mosaic, "acs.fits"), (psf, "acs_psf.fits")):
        shutil.copy(source, folder / name)
    image = str(folder / "acs.fits")
    given = {"image": image, "error": image, "psf": str(folder / "acs_psf.fits")}
    return given | {"wavelength_um": 0.814, "eazy_number": 239}


@pytest.fixture(scope="module")
def observed(small, named):
    return small.run(catalog={"images": {COPY: named}})


def steps(labels):
    return {label.split(": ")[0] for label in labels}


def test_an_image_costs_the_catalogue_alone(observed):
    assert (observed.state, observed.failed) == ("Completed", {})
    assert "Image" in steps(observed.executed)
    assert not {"Calibrate", "Drizzle", "Mosaic", "Depth", "PSF"} & steps(observed.executed)


def test_sources_have_the_fluxes_of_the_image(observed, small):
    for file in ("small_full_cat.parquet", "small_catalog.parquet/tile=full/small_full_part.parquet"):
        table = pd.read_parquet(small.products / file)
        assert len(table)
        own = BAND.lower()
        np.testing.assert_allclose(table["f814w_aper_flux_0p30"], table[f"{own}_aper_flux_0p30"], rtol=1e-3)
        # The filter that matches PSFs smooths the noise.
        assert np.all(np.abs(table["f814w_flux"] - table[f"{own}_flux"]) < table[f"{own}_flux_err"])
        assert table["f814w_exposures"].isna().all()


def test_eazy_and_the_page_have_its_filter(observed, small):
    assert "f814w_flux F239\nf814w_flux_err E239\n" in (small.products / "small_eazy.translate").read_text()
    page = (small.products / "small_catalogue.html").read_text()
    assert page.index(COPY) < page.index(BAND)


def test_an_image_that_is_off_the_grid_costs_itself_alone(observed, small, named, tmp_path):
    shifted = tmp_path / "shifted.fits"
    with fits.open(named["image"]) as hdus:
        hdus["SCI"].header["CRPIX1"] += 0.4
        hdus.writeto(shifted)
    again = small.run(catalog={"images": {COPY: named | {"image": str(shifted)}}})
    assert again.state == "Failed in part"
    (reason,) = [text for label, text in again.failed.items() if label.startswith("Image: ")]
    assert "shifted.fits is up to 0.4 pixels off the survey's grid" in reason
    table = pd.read_parquet(small.products / "small_full_cat.parquet")
    assert table[f"{BAND.lower()}_flux"].notna().any()
    assert "f814w_flux" not in table or table["f814w_flux"].isna().all()
