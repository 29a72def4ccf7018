"""The catalogue's files say what was measured, the same bytes each time, and the field's tools read them."""

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Column, Table
from astropy.wcs import WCS
from support.programs import require_program
from support.scenes import Scene, psf_of

from cosmosaic.catalog.columns import column_specs
from cosmosaic.catalog.files import read_catalog
from cosmosaic.catalog.measure import make_psf, measure_sources
from cosmosaic.catalog.psf import write_psf
from cosmosaic.survey import CatalogSettings

BANDS = ("F150W", "F277W")
SURE = CatalogSettings(threshold_sigma=6.0)
"""No peak of the noise is a source."""


def scene(seed: int) -> Scene:
    sky = Scene(shape=(200, 200), rotation=15.0, seed=seed)
    for x, y in ((50, 50), (150, 50), (50, 150), (150, 150)):
        sky.add_star(1000.0, x, y)
    sky.add_white_noise()
    return sky


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, Path]]:
    """Mosaics with four stars in two filters, one of which covers three of them, and their PSFs."""
    folder = tmp_path_factory.mktemp("inputs")
    skies = {band: scene(number) for number, band in enumerate(BANDS)}
    skies["F277W"].remove(slice(100, 200), slice(100, 200))
    mosaics = {band: sky.write(folder / f"{band}_i2d.fits") for band, sky in skies.items()}
    psfs = {band: write_psf(psf_of(sky), band, folder / f"{band}_psf.fits") for band, sky in skies.items()}
    return mosaics, psfs


@pytest.fixture(scope="module")
def files(inputs: tuple[dict[str, Path], dict[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return measure_sources(*inputs, SURE, "demo_full", tmp_path_factory.mktemp("made")).files


def test_equal_mosaics_give_equal_bytes(inputs: tuple, files: dict[str, Path], tmp_path: Path) -> None:
    again = measure_sources(*inputs, SURE, "other", tmp_path).files
    assert files["catalog"].name == "demo_full_cat.parquet"
    for kind, path in files.items():
        assert path.read_bytes() == again[kind].read_bytes(), kind


def values(column: Column) -> np.ma.MaskedArray:
    """A column's values; astropy reads a Parquet column of nulls alone as NaN."""
    return np.ma.masked_invalid(column) if column.dtype.kind == "f" else np.ma.MaskedArray(column)


def test_astropy_reads_the_same_table_from_both_files(files: dict[str, Path], tmp_path: Path) -> None:
    read_catalog(files["catalog"]).write(tmp_path / "cat.ecsv", format="ascii.ecsv")
    ecsv, parquet = Table.read(tmp_path / "cat.ecsv"), Table.read(files["catalog"])
    assert ecsv.colnames == parquet.colnames == list(column_specs(BANDS, CatalogSettings()))
    for name in ecsv.colnames:
        one, other = (values(table[name]) for table in (ecsv, parquet))
        np.testing.assert_array_equal(np.ma.getmaskarray(one), np.ma.getmaskarray(other), err_msg=name)
        assert (one.compressed() == other.compressed()).all(), name
        assert ecsv[name].unit == parquet[name].unit
        assert ecsv[name].meta["ucd"]
    assert ecsv["f277w_flux"].mask.sum() == 1
    assert ecsv.meta["bands"] == list(BANDS)
    assert ecsv.meta["aperture_diameters_arcsec"]["0p30"] == 0.3
    assert ecsv.meta["settings"]["threshold_sigma"] == 6.0


def test_pandas_and_arrow_find_units_and_nulls(files: dict[str, Path]) -> None:
    frame = pd.read_parquet(files["catalog"])
    assert len(frame) == 4
    assert frame.attrs["units"]["f150w_aper_flux_0p30"] == "nJy"
    field = pq.read_schema(files["catalog"]).field("ra")
    assert (field.metadata[b"unit"], field.metadata[b"ucd"]) == (b"deg", b"pos.eq.ra;meta.main")
    assert pq.read_table(files["catalog"])["f277w_flux"].null_count == 1


def test_a_votable_reader_finds_units_and_ucds_in_parquet(files: dict[str, Path]) -> None:
    table = Table.read(files["catalog"], format="parquet.votable")
    assert table["f150w_flux"].unit == "nJy"
    assert table["f150w_flux"].meta["ucd"].startswith("phot.flux.density;em.IR")


def test_topcat_reads_the_ecsv(files: dict[str, Path], tmp_path: Path) -> None:
    stilts = require_program("stilts")
    read_catalog(files["catalog"]).write(tmp_path / "cat.ecsv", format="ascii.ecsv")
    columns = subprocess.run(
        [stilts, "tpipe", f"in={tmp_path / 'cat.ecsv'}", "ifmt=ecsv", "cmd=meta name class units", "ofmt=csv"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "f150w_flux,Double,nJy" in columns
    assert "ra,Double,deg" in columns


def test_the_segmentation_map_lies_on_the_mosaics_sky(files: dict[str, Path]) -> None:
    with fits.open(files["segments"]) as hdus:
        segments, wcs = hdus["SEGM"].data, WCS(hdus["SEGM"].header)
    assert segments.dtype.newbyteorder("=") == np.int32
    for row in Table.read(files["catalog"]):
        x, y = wcs.all_world2pix(row["ra"], row["dec"], 0)
        assert segments[round(float(y)), round(float(x))] == row["id"]


def test_mosaics_without_sources_give_an_empty_catalogue(inputs: tuple, tmp_path: Path) -> None:
    sky = Scene(shape=(100, 100))
    sky.add_white_noise()
    mosaics = {"F150W": sky.write(tmp_path / "empty_i2d.fits")}
    made = measure_sources(mosaics, inputs[1], CatalogSettings(threshold_sigma=7), "empty", tmp_path)
    assert made.facts["n_sources"] == 0
    assert not fits.getdata(made.files["segments"]).any()
    table = read_catalog(made.files["catalog"])
    assert len(table) == 0
    assert table.colnames == list(column_specs(["F150W"], CatalogSettings()))
    assert table["f150w_flux"].unit == "nJy"


def test_long_wavelength_pixels_that_are_larger_serve_the_same_catalogue(inputs: tuple, tmp_path: Path) -> None:
    with fits.open(inputs[0]["F150W"]) as hdus:
        for name in ("SCI", "ERR", "WHT"):
            data, header = hdus[name].data, hdus[name].header
            binned = data.reshape(100, 2, 100, 2).mean(axis=(1, 3))
            hdus[name].data = binned / 2 if name == "ERR" else binned
            header["CDELT1"], header["CDELT2"] = 2 * header["CDELT1"], 2 * header["CDELT2"]
            header["CRPIX1"], header["CRPIX2"] = 50.5, 50.5
            header["PIXAR_SR"] *= 4
        hdus.writeto(tmp_path / "large_i2d.fits")
    mosaics = {"F150W": inputs[0]["F150W"], "F277W": tmp_path / "large_i2d.fits"}
    psf = Table.read(measure_sources(mosaics, inputs[1], SURE, "a", tmp_path).files["catalog"])
    assert len(psf) == 4
    assert np.asarray(psf["f277w_aper_flux_1p00"]) == pytest.approx(np.asarray(psf["f150w_aper_flux_1p00"]), rel=0.01)
    assert np.asarray(psf["f277w_aper_flux_err_1p00"]) == pytest.approx(
        np.asarray(psf["f150w_aper_flux_err_1p00"]), rel=0.2
    )


def test_mosaics_of_different_windows_are_refused_by_name(inputs: tuple, tmp_path: Path) -> None:
    other = Scene(shape=(100, 200), rotation=15.0).write(tmp_path / "other_i2d.fits")
    with pytest.raises(ValueError, match=r"other_i2d\.fits: its pixels do not nest"):
        measure_sources({"F150W": inputs[0]["F150W"], "F277W": other}, inputs[1], CatalogSettings(), "a", tmp_path)


@pytest.mark.parametrize("setting", ["filters", "match_to"])
def test_a_filter_that_was_not_observed_is_refused_by_setting(inputs: tuple, tmp_path: Path, setting: str) -> None:
    settings = CatalogSettings(**{setting: ("F090W",) if setting == "filters" else "F090W"})
    with pytest.raises(ValueError, match=rf"catalog\.{setting} .*F090W.* F150W, F277W"):
        measure_sources(*inputs, settings, "a", tmp_path)


def test_the_users_psf_is_taken_and_without_stars_one_is_computed(inputs: tuple, tmp_path: Path) -> None:
    mosaics, psfs = inputs
    given = make_psf(mosaics["F150W"], psfs["F150W"], 6.0, 1.0, "F150W", "given", tmp_path)
    computed = make_psf(mosaics["F150W"], None, 6.0, 1.0, "F150W", "computed", tmp_path)
    assert fits.getheader(given.files["psf"])["PSFFROM"] == "file"
    assert fits.getheader(computed.files["psf"])["PSFFROM"] == "model"


def test_a_mosaic_without_data_is_refused_by_name(inputs: tuple, tmp_path: Path) -> None:
    sky = Scene(shape=(100, 100))
    sky.remove(slice(None), slice(None))
    with pytest.raises(ValueError, match=r"blank_i2d\.fits: no pixel"):
        measure_sources({"F150W": sky.write(tmp_path / "blank_i2d.fits")}, inputs[1], CatalogSettings(), "a", tmp_path)


def test_a_file_that_is_no_mosaic_is_refused_by_name(inputs: tuple, tmp_path: Path) -> None:
    path = tmp_path / "other.fits"
    fits.PrimaryHDU(np.zeros((10, 10))).writeto(path)
    with pytest.raises(ValueError, match=r"other\.fits: no extension SCI, ERR, WHT"):
        measure_sources({"F150W": path}, inputs[1], CatalogSettings(), "a", tmp_path)


@pytest.mark.parametrize(("keyword", "value"), [("PIXAR_SR", None), ("PIXAR_SR", 0.0), ("BUNIT", "DN/s")])
def test_a_mosaic_without_a_flux_scale_is_refused_by_keyword(tmp_path: Path, keyword: str, value: object) -> None:
    mosaic = Scene(shape=(50, 50)).write(tmp_path / "a_i2d.fits")
    fits.delval(mosaic, keyword, ext=("SCI", 1))
    if value is not None:
        fits.setval(mosaic, keyword, value=value, ext=("SCI", 1))
    with pytest.raises(ValueError, match=keyword):
        measure_sources({"F150W": mosaic}, {"F150W": mosaic}, CatalogSettings(), "a", tmp_path)
