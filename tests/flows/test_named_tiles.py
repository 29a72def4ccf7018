"""Tiles that a user names are mosaics of their own, cut from the same pixels as the mosaic of all."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from jwst import datamodels
from support.small_survey import BAND

from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.geometry.grid import sky_to_pixel, survey_grid
from cosmosaic.geometry.windows import box_of, lattice
from cosmosaic.survey import GridSettings

pytestmark = [pytest.mark.slow, pytest.mark.server]

TANGENT = {"tangent_ra": 150.11, "tangent_dec": 2.2, "rotation": 20.0}
PLANES = ("SCI", "ERR", "WHT", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT", "NEXP", "EXPTIME", "DQ")


@pytest.fixture(scope="module")
def whole_box(small):
    footprints = {path.name: read_footprint(path) for path in small.frames}
    return box_of(survey_grid(GridSettings(**TANGENT), footprints))


@pytest.fixture(scope="module")
def run(small, whole_box):
    """Two tiles that share the survey, and one far away."""
    box, half = whole_box, whole_box.width // 2
    rows = [
        ("west", box.x, box.y, half, box.height),
        ("east", box.x + half, box.y + 40, 400, 300),
        ("far", box.x + 100_000, box.y, 50, 50),
    ]
    table = Table(
        rows=[(name, -x - 0.5, -y - 0.5, nx, ny) for name, x, y, nx, ny in rows],
        names=["name", "crpix_x", "crpix_y", "nx", "ny"],
    )
    table.write(small.folder / "tiles.ecsv", format="ascii.ecsv")
    return small.run(grid=TANGENT | {"tiles": str(small.folder / "tiles.ecsv"), "whole": True})


def mosaic(small, tile):
    return small.products / f"small_{BAND.lower()}_30mas_{tile}_i2d.fits"


def planes(path):
    with fits.open(path) as hdus:
        return {name: np.array(hdus[name].data) for name in PLANES}


def test_each_named_tile_that_an_exposure_reaches_is_a_mosaic(small, run):
    assert (run.state, run.failed) == ("Completed", {})
    assert [mosaic(small, tile).exists() for tile in ("west", "east", "far")] == [True, True, False]
    assert {f"Mosaic: {BAND}", f"Mosaic: {BAND} west", f"Mosaic: {BAND} east"} <= run.executed


def test_each_mosaic_has_a_colour_picture(small, run):
    assert all((small.products / f"small{name}_colour.png").exists() for name in ("", "_west", "_east"))


def test_their_pixels_are_those_of_the_mosaic_of_all(small, run):
    whole = planes(mosaic(small, "full"))
    header = fits.getheader(mosaic(small, "full"), "SCI")
    for tile in ("west", "east"):
        part, own = planes(mosaic(small, tile)), fits.getheader(mosaic(small, tile), "SCI")
        x, y = (round(header[key] - own[key]) for key in ("CRPIX1", "CRPIX2"))
        rows, columns = part["SCI"].shape
        assert np.isfinite(part["SCI"]).mean() > 0.2
        # The whole is clipped to the exposures; beyond it nothing was observed.
        seen = {name: plane[: whole[name].shape[0] - y, : whole[name].shape[1] - x] for name, plane in part.items()}
        for name, plane in seen.items():
            np.testing.assert_array_equal(plane, whole[name][y : y + rows, x : x + columns], err_msg=name)


def test_their_wcs_is_on_the_survey_grid(small, run):
    with datamodels.open(str(mosaic(small, "east"))) as model:
        sky = model.meta.wcs(np.array([0.0, 399.0]), np.array([0.0, 299.0]))
    grid = survey_grid(GridSettings(**TANGENT), {path.name: read_footprint(path) for path in small.frames})
    pixels = sky_to_pixel(lattice(grid), np.stack(sky, axis=1))
    np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-4)
    np.testing.assert_allclose(pixels[1] - pixels[0], (399.0, 299.0), atol=1e-4)


def test_they_have_catalogues_of_their_own_and_rows_in_the_run_table(small, run):
    table = pd.read_parquet(small.products / "summary.parquet")
    rows = table[table["run_id"] == table["run_id"].iloc[-1]]
    assert set(rows.loc[rows["kind"] == "i2d", "tile"]) == {"full", "west", "east"}
    assert set(rows.loc[rows["kind"] == "cat", "tile"]) == {"west", "east"}
    assert (rows.loc[rows["kind"] == "depth", "depth_5sigma_ab"] > 20).all()


def test_the_data_set_has_each_source_of_the_tiles_once(small, run):
    """The whole is made too, but has no catalogue; where the tiles overlap, each source is one tile's."""
    assert "Catalogue: full" not in run.executed | run.cached
    # Runs of other tests may have left tile=full.
    dataset = pd.read_parquet(small.products / "small_catalog.parquet", filters=[("tile", "in", ["west", "east"])])
    tiles = {tile: Table.read(small.products / f"small_{tile}_cat.ecsv") for tile in ("west", "east")}
    ids = {tile: set(table["id"].tolist()) for tile, table in tiles.items()}
    assert sorted(dataset["id"]) == sorted(ids["west"] | ids["east"])
    for tile, rows in dataset.groupby("tile", observed=True):
        assert set(rows["id"]) <= ids[tile]
    for tile, table in tiles.items():
        labels = np.unique(fits.getdata(small.products / f"small_{tile}_segm.fits", "SEGM"))
        assert set(labels.tolist()) - {0} == set(table["id"].tolist())


def test_one_page_tells_of_the_catalogues_of_all(small, run):
    table = pd.read_parquet(small.products / "summary.parquet")
    rows = table[table["run_id"] == table["run_id"].iloc[-1]]
    sources = {tile: len(Table.read(small.products / f"small_{tile}_cat.ecsv")) for tile in ("west", "east")}
    (told,) = rows.loc[rows["kind"] == "catalogue page", "sources"]
    assert told == sum(sources.values()) > 0
    text = (small.products / "small_catalogue.html").read_text(encoding="utf-8")
    for tile, number in sources.items():
        assert f'<tr><td>{tile}</td><td class="number">{number}</td>' in text
        assert f'href="small_{tile}_cat.parquet"' in text


def test_a_second_run_executes_nothing_and_tiles_of_another_table_are_cut_from_what_was_made(small, run, whole_box):
    settings = TANGENT | {"tiles": str(small.folder / "tiles.ecsv"), "whole": True}
    assert small.run(grid=settings).executed == set()
    box = whole_box
    other = small.folder / "other.csv"
    other.write_text(f"name,crpix_x,crpix_y,nx,ny\nall,{-box.x - 0.5},{-box.y - 0.5},{box.width},{box.height}\n")
    again = small.run(grid=TANGENT | {"tiles": str(other), "whole": True})
    assert f"Mosaic: {BAND} all" in again.executed
    assert not any(label.startswith(("Drizzle", "Outliers", "Combine", "Sky")) for label in again.executed)


def test_the_whole_is_made_only_where_it_is_asked_for_and_may_be_of_any_size(small, run, whole_box):
    """The survey has more pixels than allowed for a mosaic, its tile has not."""
    x, y = whole_box.x + whole_box.width // 2 + 10, whole_box.y + 60
    table = small.folder / "one.csv"
    table.write_text(f"name,crpix_x,crpix_y,nx,ny\ncut,{-x - 0.5},{-y - 0.5},300,200\n")
    largest = 0.5 * (whole_box.width * whole_box.height + 300 * 200) / 1e6
    settings = TANGENT | {"tiles": str(table), "largest_mpix": largest}
    made = small.run(grid=settings, products=str(small.folder / "cut"))
    assert (made.state, made.failed) == ("Completed", {})
    images = {path.name for path in (small.folder / "cut").rglob("*_i2d.fits")}
    assert images == {f"small_{BAND.lower()}_30mas_cut_i2d.fits"}
    assert {path.name for path in (small.folder / "cut").rglob("*_colour.png")} == {"small_cut_colour.png"}
    assert (small.folder / "cut" / "small_sky.html").exists()
    assert f"Mosaic: {BAND}" not in made.executed | made.cached
