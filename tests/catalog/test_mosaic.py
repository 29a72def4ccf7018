"""The catalogue's files say what was measured, the same bytes each time."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS
from support.scenes import Scene

from cosmosaic.catalog.measure import MosaicCatalog, measure_mosaic, write_catalog
from cosmosaic.catalog.photometry import column_specs
from cosmosaic.survey import CatalogSettings


@pytest.fixture
def mosaic(tmp_path: Path) -> Path:
    """A mosaic with four stars."""
    sky = Scene(shape=(200, 200), rotation=15.0)
    for x, y in ((50, 50), (150, 50), (50, 150), (150, 150)):
        sky.add_star(1000.0, x, y)
    sky.add_white_noise()
    return sky.write(tmp_path / "demo_i2d.fits")


@pytest.fixture
def catalog(mosaic: Path) -> MosaicCatalog:
    return measure_mosaic(mosaic, CatalogSettings(), "F150W")


def test_equal_mosaics_give_equal_bytes(mosaic: Path, catalog: MosaicCatalog, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    first = write_catalog(catalog, tmp_path, "a")
    second = write_catalog(
        measure_mosaic(mosaic.rename(elsewhere / "x_i2d.fits"), CatalogSettings(), "F150W"), elsewhere, "b"
    )
    for kind in ("ecsv", "parquet", "segments"):
        assert getattr(first, kind).read_bytes() == getattr(second, kind).read_bytes(), kind


def test_astropy_reads_the_same_table_from_both_files(catalog: MosaicCatalog, tmp_path: Path) -> None:
    files = write_catalog(catalog, tmp_path, "demo_f150w")
    assert files.ecsv.name == "demo_f150w_cat.ecsv"
    for path, form in ((files.ecsv, "ascii.ecsv"), (files.parquet, "parquet")):
        table = QTable.read(path, format=form)
        assert table.colnames == catalog.table.colnames
        assert table["kron_flux"].unit == u.nJy
        assert table["background"].unit == u.MJy / u.sr
        assert (table["ra"] == catalog.table["ra"]).all()
        assert list(table["name"]) == list(catalog.table["name"])
        assert table.meta["band"] == "F150W"
        assert table.meta["aperture_radii_arcsec"]["0p15"] == 0.15
        assert table.meta["settings"]["threshold_sigma"] == 1.5
        assert set(table.meta["software"]) == {"cosmosaic", "photutils", "astropy"}


def test_pandas_and_arrow_find_units(catalog: MosaicCatalog, tmp_path: Path) -> None:
    path = write_catalog(catalog, tmp_path, "demo").parquet
    frame = pd.read_parquet(path)
    assert len(frame) == 4
    assert frame.attrs["units"]["aper_flux_0p15"] == "nJy"
    assert frame.attrs["statistics"]["n_sources"] == 4
    assert pq.read_schema(path).field("ra").metadata[b"unit"] == b"deg"


def test_the_segmentation_image_lies_on_the_mosaics_sky(catalog: MosaicCatalog, tmp_path: Path) -> None:
    path = write_catalog(catalog, tmp_path, "demo").segments
    with fits.open(path) as hdus:
        segments, wcs = hdus["SEGM"].data, WCS(hdus["SEGM"].header)
    assert segments.dtype.newbyteorder("=") == np.int32
    for row in catalog.table:
        x, y = wcs.all_world2pix(row["ra"].value, row["dec"].value, 0)
        assert segments[round(float(y)), round(float(x))] == row["label"]


def test_a_mosaic_without_sources_gives_an_empty_catalogue(tmp_path: Path) -> None:
    sky = Scene(shape=(100, 100))
    sky.add_white_noise()
    catalog = measure_mosaic(sky.write(tmp_path / "empty_i2d.fits"), CatalogSettings(), "F150W")
    files = write_catalog(catalog, tmp_path, "empty")
    assert catalog.statistics.n_sources == 0
    assert not catalog.segments.any()
    for table in (QTable.read(files.ecsv), QTable.read(files.parquet)):
        assert len(table) == 0
        assert table.colnames == list(column_specs(CatalogSettings()))
        assert table["kron_flux"].unit == u.nJy
    assert list(pd.read_parquet(files.parquet).dtypes) == list(catalog.table.to_pandas().dtypes)


def test_a_mosaic_without_data_is_refused_by_name(tmp_path: Path) -> None:
    sky = Scene(shape=(100, 100))
    sky.remove(slice(None), slice(None))
    with pytest.raises(ValueError, match=r"blank_i2d\.fits: no pixel"):
        measure_mosaic(sky.write(tmp_path / "blank_i2d.fits"), CatalogSettings(), "F150W")


def test_a_file_that_is_no_mosaic_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.fits"
    fits.PrimaryHDU(np.zeros((10, 10))).writeto(path)
    with pytest.raises(ValueError, match=r"other\.fits: no extension SCI, ERR, WHT"):
        measure_mosaic(path, CatalogSettings(), "F150W")


@pytest.mark.parametrize(("keyword", "value"), [("PIXAR_SR", None), ("PIXAR_SR", 0.0), ("BUNIT", "DN/s")])
def test_a_mosaic_without_a_flux_scale_is_refused_by_keyword(mosaic: Path, keyword: str, value: object) -> None:
    fits.delval(mosaic, keyword, ext=("SCI", 1))
    if value is not None:
        fits.setval(mosaic, keyword, value=value, ext=("SCI", 1))
    with pytest.raises(ValueError, match=keyword):
        measure_mosaic(mosaic, CatalogSettings(), "F150W")
