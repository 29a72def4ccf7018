"""The products of the synthetic survey: complete, on one pixel grid, and saying where they come from."""

import hashlib
import json
import re
import socket
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.wcs import WCS
from conftest import BANDS
from jwst import datamodels
from PIL import Image
from scipy import ndimage

from cosmosaic.run_table import COLUMNS

pytestmark = pytest.mark.slow

PER_BAND = {
    "i2d": 1,
    "depth": 1,
    "psf": 1,
    "asn": 1,
    "sky": 1,
    "preview": 2,
    "verdict": 1,
    "skymask": 1,
    "skies": 2,
    "defects": 1,
}
MOSAIC_FACTS = [
    "sky_median_mjy_sr",
    "sky_rms_mjy_sr",
    "noise_factor",
    "depth_5sigma_ab",
    "psf_fwhm_arcsec",
    "sky_verdict",
]


@pytest.fixture(scope="module")
def runs(demo):
    table = pd.read_parquet(demo.products / "summary.parquet")
    # Other tests may have run the survey again.
    return table[table["run_id"] == table["run_id"].iloc[0]]


@pytest.mark.parametrize("band", BANDS)
def test_each_band_has_its_products_and_every_exposure_its_cal_and_crf(runs, band):
    counts = runs[runs["filter"] == band]["kind"].value_counts()
    assert {kind: counts[kind] for kind in PER_BAND} == PER_BAND
    exposures = 6 if band in ("F115W", "F150W") else 3
    assert (counts["cal"], counts["crf"]) == (exposures, exposures)


def test_the_four_mosaics_lie_on_one_pixel_grid(demo):
    headers = [fits.getheader(demo.mosaic(band), "SCI") for band in BANDS]
    same = ("CRVAL1", "CRVAL2", "CTYPE1", "CTYPE2", "CDELT1", "CDELT2", "PC1_1", "PC1_2", "PC2_1", "PC2_2")
    for keyword in same:
        assert len({header.get(keyword) for header in headers}) == 1, keyword
    for keyword in ("CRPIX1", "CRPIX2"):
        offsets = [header[keyword] - headers[0][keyword] for header in headers]
        # Whole to the last digit: a fraction of a pixel would smear every colour.
        assert offsets == [round(offset) for offset in offsets]
    # 30 mas to a part in 10^9.
    assert np.isclose(headers[0]["CDELT2"] * 3.6e6, 30.0, rtol=1e-9)


@pytest.mark.parametrize("band", BANDS)
def test_a_mosaic_opens_in_jwst_and_its_two_wcs_agree(demo, band):
    path = demo.mosaic(band)
    with datamodels.open(str(path)) as model:
        assert isinstance(model, datamodels.ImageModel)
        ny, nx = model.data.shape
        x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(0, nx - 1, 9), np.linspace(0, ny - 1, 9)))
        sky = model.meta.wcs(x, y, with_bounding_box=False)
    x_fits, y_fits = WCS(fits.getheader(path, "SCI")).wcs_world2pix(*sky, 0)
    # A hundredth of a pixel is a tenth of the best centroid.
    assert np.hypot(x_fits - x, y_fits - y).max() < 0.01


@pytest.mark.parametrize("band", BANDS)
def test_pixels_without_data_are_nan_not_zero(demo, band):
    with fits.open(demo.mosaic(band)) as hdus:
        sci, err, wht = (hdus[name].data for name in ("SCI", "ERR", "WHT"))
        assert 0.2 < np.mean(wht > 0) < 1
        np.testing.assert_array_equal(np.isnan(sci), wht == 0)
        # A pixel whose only exposure equals its sky level is zero by right; a border of zeros would be thousands.
        assert np.mean(sci == 0) < 1e-4
        assert np.all(err[np.isfinite(sci)] > 0)
        assert np.isfinite(err[np.isfinite(sci)]).all()
        assert hdus["SCI"].header["BUNIT"] == "MJy/sr"


def values(column):
    """A column's values; astropy reads a Parquet column of nulls alone as NaN."""
    return np.ma.masked_invalid(column) if column.dtype.kind == "f" else np.ma.MaskedArray(column)


def test_the_catalogue_has_all_filters_in_both_formats_and_labels_the_segments(demo):
    ecsv, parquet = (Table.read(demo.product(f"_full_cat.{ending}")) for ending in ("ecsv", "parquet"))
    assert parquet.colnames == ecsv.colnames
    for name in ecsv.colnames:
        one, other = values(ecsv[name]), values(parquet[name])
        np.testing.assert_array_equal(np.ma.getmaskarray(one), np.ma.getmaskarray(other), err_msg=name)
        assert (one.compressed() == other.compressed()).all(), name
    assert all((ecsv[f"{band.lower()}_flux"].count() > 10) for band in BANDS)
    with fits.open(demo.product("_full_segm.fits")) as hdus:
        segments, header = hdus["SEGM"].data, hdus["SEGM"].header
    assert set(np.unique(segments)) - {0} == set(ecsv["id"])
    mosaic = fits.getheader(demo.mosaic("F115W"), "SCI")
    assert segments.shape == (mosaic["NAXIS2"], mosaic["NAXIS1"])
    corners = [[0, 0], [mosaic["NAXIS1"], 0], [0, mosaic["NAXIS2"]]]
    from_segments, from_mosaic = (WCS(each).wcs_pix2world(corners, 0) for each in (header, mosaic))
    # A thousandth of a milliarcsecond.
    np.testing.assert_allclose(from_segments, from_mosaic, rtol=0, atol=1e-3 / 3.6e6)


@pytest.mark.parametrize("band", BANDS)
def test_the_association_names_the_cal_files_beside_it(demo, band):
    path = demo.product(f"{band.lower()}_asn.json")
    (product,) = json.loads(path.read_text())["products"]
    members = [path.parent / member["expname"] for member in product["members"]]
    assert sorted(members) == sorted(demo.cals(band))
    assert {fits.getheader(member)["FILTER"] for member in members} == {band}


@pytest.mark.parametrize("ending", [*(f"{band.lower()}_30mas_full.png" for band in BANDS), "_colour.png"])
def test_pictures_show_something(demo, ending):
    with Image.open(demo.product(ending)) as picture:
        values = np.asarray(picture.convert("L"))
    assert min(values.shape) > 300
    assert values.std() > 5


@pytest.mark.parametrize("ending", [f"{band.lower()}_30mas_full_i2d.fits" for band in BANDS])
def test_a_mosaic_says_which_work_made_it_and_of_what(demo, ending):
    path = demo.product(ending)
    with fits.open(path) as hdus:
        primary = hdus[0].header
        assert primary["CMSTEP"] == "assemble_mosaic"
        assert len(primary["CMKEY"]) == 32
        assert all(primary[keyword] for keyword in ("CMVER", "CMJWST", "CMDRIZ"))
        inputs = {str(row["NAME"]): str(row["SHA256"]) for row in hdus["PROVENANCE"].data}
        assert 0.3 < hdus["SCI"].header["NOISEFAC"] < 0.9
    exposures = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in demo.products.rglob("*_crf.fits")}
    named = {name: sha256 for name, sha256 in inputs.items() if name.endswith("_crf.fits")}
    assert len(named) >= 3
    assert named.items() <= exposures.items()


def test_no_product_tells_the_machine_the_folder_or_the_day(demo):
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    words = [str(demo.folder), rf"\b{re.escape(socket.gethostname())}\b", today, "/tmp/", "/home/"]
    secret = re.compile("|".join(words).encode())
    paths = [*demo.products.rglob("*.fits"), *demo.products.rglob("*_cat.*"), *demo.products.rglob("*_asn.json")]
    assert len(paths) > 40
    told = {path.name: found.group() for path in paths for text in texts(path) if (found := secret.search(text))}
    assert not told


def texts(path):
    """What people may read in a file: headers, tables of text, the tree of the ASDF extension, whole text files."""
    if path.suffix == ".parquet":
        return [pq.read_schema(path).to_string(truncate_metadata=False).encode()]
    if path.suffix != ".fits":
        return [path.read_bytes()]
    found = []
    with fits.open(path, memmap=True) as hdus:
        for hdu in hdus:
            found.append(repr(hdu.header).encode())
            if hdu.name == "ASDF":
                found.append(hdu.data.tobytes().split(b"\n...\n")[0])
            elif hdu.name in ("HDRTAB", "PROVENANCE"):
                columns = [hdu.data[name] for name in hdu.columns.names]
                found += [" ".join(map(str, column)).encode() for column in columns if column.dtype.kind in "US"]
    return found


def test_the_run_table_tells_product_inputs_cost_and_versions(demo, runs):
    assert list(runs.columns) == list(COLUMNS)
    first = runs[runs["run_id"] == runs["run_id"].iloc[0]]
    assert set(first["state"]) == {"Completed"}
    always = ["run_id", "flow_run_id", "survey", "start", "end", "wall_s", "cpu_s", "peak_mb", "steps_executed"]
    always += ["bytes_read", "bytes_written", "bytes_kept"]
    always += ["steps_cached", "kind", "parameters_sha256", "cosmosaic_version", "jwst_version", "crds_context"]
    always += ["product", "sha256", "size"]
    for column in always:
        assert first[column].notna().all(), column
        assert (first[column].astype(str) != "").all(), column
    mosaics = first[first["kind"] == "i2d"]
    assert sorted(mosaics["filter"]) == list(BANDS)
    for column in ["frames", "frames_sha256", "exposure_time_s", "tile", *MOSAIC_FACTS]:
        assert mosaics[column].notna().all(), column
    raw = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (demo.store / "raw").glob("*.fits")}
    for _, row in mosaics.iterrows():
        members = pd.read_parquet(demo.product(f"{row['filter'].lower()}_30mas_full_members.parquet"))
        assert row["frames"] == len(members) > 1
        assert members["sha256"].tolist() == [raw[name] for name in members["file"]]
        listed = "".join(
            sorted(f"{sha256}  {name}\n" for sha256, name in zip(members["sha256"], members["file"], strict=True))
        )
        assert row["frames_sha256"] == hashlib.sha256(listed.encode()).hexdigest()
    catalogs = first[first["kind"] == "cat"]
    assert len(catalogs) == 2
    assert set(catalogs["sources"]) == {len(demo.catalog)}


def test_the_page_on_the_catalogue_tells_its_numbers_links_its_files_and_is_in_the_run_table(demo, runs):
    (row,) = (row for _, row in runs[runs["kind"] == "catalogue page"].iterrows())
    path = demo.product("_catalogue.html")
    assert row["product"].endswith(f"/products/{path.name}")
    assert row["sources"] == len(demo.catalog)
    assert row["injection_verdict"] == "not measured"
    depths = {band: fits.getdata(demo.product(f"{band.lower()}_30mas_full_depth.fits")) for band in BANDS}
    seen = np.any([np.isfinite(depth) for depth in depths.values()], axis=0)
    assert row["catalogue_arcmin2"] == pytest.approx(seen.sum() * (0.03 / 60) ** 2, rel=1e-4)
    text = path.read_text(encoding="utf-8")
    assert f"<h2>{len(demo.catalog)} sources</h2>" in text
    assert ">pass</span>" not in text
    for band, depth in depths.items():
        stored = runs[(runs["filter"] == band) & (runs["kind"] == "depth")]["depth_5sigma_ab"].item()
        assert stored == pytest.approx(np.nanmedian(depth), abs=0.01)
        # Of a bin of 0.01.
        shown = float(re.search(rf"<tr><td>{band}</td>.*?(\d\d\.\d\d)</td>", text, re.DOTALL)[1])
        assert shown == pytest.approx(stored, abs=0.016)
    links = re.findall(r'href="([^"]*)"', text)
    assert len(links) == 4
    assert all((demo.products / link).is_file() for link in links)


def test_checksums_and_sizes_in_the_run_table_are_the_files_own(demo, runs):
    for _, row in runs.iterrows():
        path = demo.products / row["product"].split("/products/")[1]
        content = path.read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (row["sha256"], row["size"]), path.name


def test_the_csv_summary_says_of_the_last_run_what_the_parquet_one_says(demo):
    runs = pd.read_parquet(demo.products / "summary.parquet")
    runs = runs[runs["run_id"] == runs["run_id"].iloc[-1]]
    csv = pd.read_csv(demo.products / "summary.csv", dtype={"error": str})
    assert list(csv.columns) == list(runs.columns)
    assert csv["sha256"].tolist() == runs["sha256"].tolist()
    np.testing.assert_allclose(csv["size"], runs["size"].astype(float))


@pytest.mark.parametrize("band", BANDS)
def test_every_hole_in_the_coverage_is_listed_at_its_place(demo, band):
    table = QTable.read(demo.product(f"{band.lower()}_30mas_full_defects.ecsv"))
    assert set(table["cause"]) <= {
        "no coverage",
        "line of bad pixels",
        "bad pixels",
        "single exposure",
        "1/f noise",
        "step",
    }
    holes = table[np.isin(table["cause"], ["no coverage", "line of bad pixels", "bad pixels"])]
    sci = fits.getdata(demo.mosaic(band), "SCI")
    for row in holes:
        assert np.isnan(sci[round(row["y"]), round(row["x"])])
    enclosed = ndimage.binary_fill_holes(np.isfinite(sci)) & ~np.isfinite(sci)
    assert holes["pixels"].sum() == enclosed.sum()
