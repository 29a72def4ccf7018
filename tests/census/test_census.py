"""The census of a window counts what its catalogue and its maps hold."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from support.catalogs import PIXEL_ARCSEC, SIGMA, SKY, random_columns, set_flux, write_window

from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.census.census import measure_depths, take_census
from cosmosaic.census.files import MAGNITUDE_EDGES, SAMPLE_ROWS, read_census
from cosmosaic.census.odd import HANDFUL, odd_rows, rows_of
from cosmosaic.census.stamps import GAP, GAP_COLOUR, draw_stamps
from cosmosaic.census.survey import DEPTH_PERCENTILES, add_up, quantiles

BANDS = ("F150W", "F277W", "F444W")


def census_of(window, folder):
    return take_census(window.catalog, window.mosaics, window.depths, window.psfs, {}, window.name, folder).files[
        "census"
    ]


def test_rows_are_counted_as_the_catalogue_has_them(tmp_path):
    columns = random_columns(500, BANDS)
    columns["flags"][:7] = CatalogFlag.EDGE | CatalogFlag.SATURATED
    columns["flags"][7:10] = CatalogFlag.SATURATED
    for band in BANDS:
        flux = columns[f"{band.lower()}_flux"]
        set_flux(columns, band, np.where(np.arange(500) < 480, flux, -flux), columns[f"{band.lower()}_flux_err"])
    for name in ("flux", "flux_err", "mag"):
        columns[f"f277w_{name}"][100:150] = np.nan
    made = read_census(census_of(write_window(tmp_path, "a", columns, BANDS), tmp_path))
    assert made.facts.sources == 500
    assert {name: rows for name, rows in made.facts.flags.items() if rows} == {"EDGE": 7, "SATURATED": 10}
    for place, band in enumerate(BANDS):
        flux, error, magnitude = (columns[f"{band.lower()}_{name}"] for name in ("flux", "flux_err", "mag"))
        facts = made.facts.bands[place]
        assert (facts.name, facts.covered) == (band, np.isfinite(flux).sum())
        assert facts.detected == np.sum(flux / error >= 5) > 200
        assert facts.with_magnitude == np.sum(flux > 0) < 490
        known = magnitude[np.isfinite(magnitude)]
        np.testing.assert_array_equal(made.counts[place, 0], np.histogram(known, MAGNITUDE_EDGES)[0])
        np.testing.assert_array_equal(
            made.counts[place, 1], np.histogram(magnitude[flux / error >= 5], MAGNITUDE_EDGES)[0]
        )
        assert facts.psf_fwhm_arcsec == pytest.approx(0.05 + 0.01 * place)
        assert facts.psf_origin == "stars"


def test_magnitudes_beyond_the_bins_are_counted_in_the_outermost(tmp_path):
    columns = random_columns(3, ("F150W",))
    set_flux(columns, "F150W", 10 ** (0.4 * (31.4 - np.array([5.0, 45.0, 40.25]))), np.full(3, 1e-9))
    made = read_census(census_of(write_window(tmp_path, "a", columns, ("F150W",)), tmp_path))
    assert (made.counts[0, 0, 0], made.counts[0, 0, -1], made.counts[0, 0].sum()) == (1, 2, 3)


@pytest.mark.parametrize("factors", [{}, {"F444W": 2}])
def test_depths_and_areas_are_those_of_the_maps(tmp_path, factors, monkeypatch):
    # Strips that do not end with the map.
    monkeypatch.setattr("cosmosaic.census.census.STRIP_PIXELS", 200 * 30)
    window = write_window(tmp_path, "a", random_columns(10, BANDS), BANDS, factors)
    blind = fits.getdata(window.depths["F150W"])
    blind[:, 100:] = np.nan
    with fits.open(window.depths["F150W"], mode="update") as hdus:
        hdus["DEPTH"].data[:] = blind
    measured = measure_depths(window.depths, BANDS)
    pixel = (PIXEL_ARCSEC / 60) ** 2
    assert measured.areas["F150W"] == pytest.approx(200 * 80 * pixel)
    assert measured.areas["F444W"] == pytest.approx(200 * 180 * pixel)
    # F150W lies within the others.
    assert measured.arcmin2 == pytest.approx(200 * 180 * pixel)
    for band in BANDS:
        depth = fits.getdata(window.depths[band])
        expected = np.nanpercentile(depth, DEPTH_PERCENTILES)
        # A bin, and half the steps between columns of pixels.
        np.testing.assert_allclose(quantiles(measured.by_depth[band], DEPTH_PERCENTILES), expected, atol=0.016)


def test_the_area_of_any_filter_is_the_union(tmp_path):
    window = write_window(tmp_path, "a", random_columns(10, BANDS), BANDS, {"F444W": 2})
    for band, part in (("F150W", slice(0, 60)), ("F277W", slice(60, None)), ("F444W", slice(0, 50))):
        with fits.open(window.depths[band], mode="update") as hdus:
            hdus["DEPTH"].data[:, part] = np.nan
    measured = measure_depths(window.depths, BANDS)
    # Columns 60 to 199 of F150W, 20 to 59 of F277W, and from 100 on of F444W.
    assert measured.arcmin2 == pytest.approx(200 * 180 * (PIXEL_ARCSEC / 60) ** 2)


def test_maps_of_different_windows_are_refused(tmp_path):
    one = write_window(tmp_path / "one", "a", random_columns(5, BANDS), BANDS)
    other = write_window(tmp_path / "other", "b", random_columns(5, BANDS), BANDS, shape=(150, 150))
    with pytest.raises(ValueError, match=r"b_F277W_depth.fits.*do not nest"):
        measure_depths(one.depths | {"F277W": other.depths["F277W"]}, BANDS)


def test_a_table_that_is_no_catalogue_is_refused(tmp_path):
    pq.write_table(pa.table({"id": [1], "ra": [1.0]}), tmp_path / "a_cat.parquet")
    with pytest.raises(ValueError, match=r"a_cat.parquet: no column name, dec, x"):
        take_census(tmp_path / "a_cat.parquet", {}, {}, {}, {}, "a", tmp_path)


def test_without_maps_psfs_and_mosaics_the_rows_are_counted_all_the_same(tmp_path):
    window = write_window(tmp_path, "a", random_columns(50, BANDS), BANDS)
    made = read_census(take_census(window.catalog, {}, {}, {}, {}, "a", tmp_path).files["census"])
    assert made.facts.sources == 50
    assert made.facts.arcmin2 is None
    assert [(band.arcmin2, band.psf_fwhm_arcsec, band.psf_origin) for band in made.facts.bands] == [(None,) * 3] * 3
    assert len(made.facts.odd)
    assert (made.stamps[:, :, 0] == GAP_COLOUR).all()


@pytest.mark.parametrize("bands", [BANDS, ("F444W",)])
def test_a_window_without_a_source_has_a_census(tmp_path, bands):
    made = read_census(census_of(write_window(tmp_path, "empty", random_columns(0, bands), bands), tmp_path))
    assert (made.facts.sources, made.facts.odd, made.counts.sum()) == (0, (), 0)
    assert made.facts.arcmin2 == pytest.approx(200 * 180 * (PIXEL_ARCSEC / 60) ** 2)


def test_equal_windows_give_equal_bytes(tmp_path):
    window = write_window(tmp_path, "a", random_columns(300, BANDS), BANDS)
    first = census_of(window, tmp_path).read_bytes()
    assert census_of(window, tmp_path).read_bytes() == first


def planted():
    """A catalogue with one row for each rule, by rule."""
    columns = random_columns(400, BANDS)
    columns["concentration"] = np.minimum(columns["concentration"], 1.05)
    flux, error = {band: columns[f"{band.lower()}_flux"] for band in BANDS}, columns["f150w_flux_err"]
    rows = {"flagged": 3, "single exposure": 13, "rejected": 23, "large": 33, "sharp": 43, "colour": 53, "negative": 63}
    for place in rows.values():
        for band in BANDS:
            flux[band][place] = 3000.0
    flags = {"flagged": CatalogFlag.SATURATED, "single exposure": CatalogFlag.SINGLE_EXPOSURE}
    for rule, flag in (flags | {"rejected": CatalogFlag.REJECTED}).items():
        columns["flags"][rows[rule]] = flag
    # Flagged rows do not count as large or sharp, whatever their shape.
    columns["half_light_radius"][[3, 33]], columns["concentration"][[3, 43]] = 2.0, 1.8
    flux["F277W"][53], flux["F150W"][63] = 1.0, -20 * error[63]
    for band in BANDS:
        set_flux(columns, band, flux[band], error)
    return columns, rows


def test_rows_stand_out_by_the_stated_rules():
    columns, rows = planted()
    found = odd_rows(rows_of(columns, BANDS))
    first = {}
    for one in found:
        first.setdefault(one.rule, one)
    assert {rule: one.row for rule, one in first.items()} == rows
    reasons = {rule: one.reason for rule, one in first.items()}
    # 3000 nJy against three errors, which are less than the one of 1 nJy.
    limit = -2.5 * np.log10(3000 / (3 * columns["f150w_flux_err"][0]))
    assert reasons["colour"] in (f"F150W - F277W < {limit:.2f}", f"F277W - F444W > {-limit:.2f}")
    assert reasons["negative"] == "S/N -20.0 in F150W"
    assert reasons["flagged"] == f"magnitude {31.4 - 2.5 * np.log10(3000):.2f}"
    assert reasons["sharp"] == "concentration 1.80 of a star's"
    counts = {rule: sum(one.rule == rule for one in found) for rule in rows}
    assert max(counts.values()) == HANDFUL
    assert [counts[rule] for rule in ("flagged", "single exposure", "rejected", "sharp", "negative")] == [1] * 5


def test_rows_that_nothing_is_known_of_do_not_stand_out():
    columns = random_columns(30, BANDS)
    for name in columns:
        if columns[name].dtype.kind == "f":
            columns[name][:] = np.nan
    columns["flags"][:] = sum(CatalogFlag)
    assert odd_rows(rows_of(columns, BANDS)) == []


def test_stamps_show_a_source_in_the_middle_upwards_and_what_lies_beyond_as_gaps(tmp_path):
    window = write_window(tmp_path, "a", random_columns(1, BANDS), BANDS, {"F444W": 2})
    for band, factor in (("F150W", 1), ("F277W", 1), ("F444W", 2)):
        with fits.open(window.mosaics[band], mode="update") as hdus:
            hdus["SCI"].data[100 // factor : 104 // factor, 120 // factor : 124 // factor] = SKY + 100 * SIGMA
            # Above it, a fainter one.
            hdus["SCI"].data[120 // factor : 124 // factor, 120 // factor : 124 // factor] = SKY + 20 * SIGMA
    places = np.array([[121.5, 101.5], [198.0, 198.0], [-500.0, 50.0]])
    stamps = draw_stamps(window.mosaics, (*BANDS, "F480M"), places, [2.4, 2.4, 2.4]).astype(int)
    side = stamps.shape[1]
    for column in range(3):
        stamp = stamps[0, :, column * (side + GAP) : column * (side + GAP) + side, 0]
        rows, columns = np.nonzero(stamp > 250)
        assert (rows.mean(), columns.mean()) == pytest.approx(((side - 1) / 2,) * 2, abs=1.5)
        assert stamp[: side // 2 - 10].max() > stamp[side // 2 + 10 :].max() + 40
        # Two thirds of the second, to the right and above, are beyond the window.
        corner = stamps[1, :, column * (side + GAP) : column * (side + GAP) + side]
        assert (corner[: side // 3, -side // 3 :] == GAP_COLOUR).all()
        assert (corner[-side // 3 :, : side // 3] != GAP_COLOUR).any(axis=2).all()
    missing = stamps[:, :, 3 * (side + GAP) : 3 * (side + GAP) + side]
    assert (missing == GAP_COLOUR).all()
    assert (stamps[2, :, :side] == GAP_COLOUR).all()


def test_no_mosaic_or_map_is_in_memory_as_a_whole(tmp_path):
    columns = random_columns(20, ("F150W",))
    columns["x"], columns["y"] = 2000 * np.ones(20), 3000 * np.ones(20)
    columns["flags"][:] = CatalogFlag.REJECTED
    window = write_window(tmp_path, "a", columns, ("F150W",), shape=(4000, 4000))
    tracemalloc.start()
    made = census_of(window, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # One plane has 64 MB.
    assert peak < 40e6
    assert len(read_census(made).stamps) == HANDFUL


def windows(folder):
    """Three windows, of which one has fewer filters and one is empty."""
    parts = {"a": (random_columns(700, BANDS, 1), BANDS), "b": (random_columns(300, BANDS[1:], 2), BANDS[1:])}
    parts["c"] = (random_columns(0, BANDS), BANDS)
    parts["b"][0]["flags"][:5] = CatalogFlag.REJECTED
    written = {name: write_window(folder / name, name, *part) for name, part in parts.items()}
    return parts, {name: census_of(window, folder) for name, window in written.items()}


def test_a_survey_is_the_sum_of_its_windows(tmp_path):
    parts, paths = windows(tmp_path)
    whole = add_up(paths)
    assert (whole.sources, [band.name for band in whole.bands]) == (1000, list(BANDS))
    assert whole.flags["REJECTED"] == 5
    window = 200 * 180 * (PIXEL_ARCSEC / 60) ** 2
    assert whole.arcmin2 == pytest.approx(3 * window)
    assert [band.arcmin2 for band in whole.bands] == pytest.approx([2 * window, 3 * window, 3 * window])
    assert [band.covered for band in whole.bands] == [700, 1000, 1000]
    for place, band in enumerate(BANDS):
        both = np.concatenate([part[f"{band.lower()}_mag"] for part, bands in parts.values() if band in bands])
        known = both[np.isfinite(both)]
        np.testing.assert_array_equal(whole.counts[place, 0], np.histogram(known, MAGNITUDE_EDGES)[0])
        drawn = whole.sample.magnitude[:, place]
        np.testing.assert_allclose(np.sort(drawn[np.isfinite(drawn)]), np.sort(known), rtol=1e-6)
    assert len(whole.sample.rank) == 1000
    for rule in ("rejected", "large"):
        scores = [row.score for path in paths.values() for row in read_census(path).facts.odd if row.rule == rule]
        shown = [source.row.id for source in whole.odd if rule in dict(source.reasons)]
        assert len(shown) == min(HANDFUL, len(scores))
    rejected = {(source.row.window, source.row.id) for source in whole.odd if "rejected" in dict(source.reasons)}
    brightest = np.argsort(np.nanmin([parts["b"][0][f"{band.lower()}_mag"][:5] for band in BANDS[1:]], axis=0))
    assert rejected == {("b", str(row + 1)) for row in brightest[:HANDFUL]}


def test_a_sample_of_windows_is_a_fair_one_of_the_survey(tmp_path, monkeypatch):
    for module in ("census", "survey"):
        monkeypatch.setattr(f"cosmosaic.census.{module}.SAMPLE_ROWS", 500)
    sizes = {"few": 400, "many": 3600}
    paths = {}
    for number, (name, rows) in enumerate(sizes.items()):
        columns = random_columns(rows, ("F150W",), number)
        # Tells the windows apart.
        columns["half_light_radius"][:] = 1.0 + number
        paths[name] = census_of(write_window(tmp_path / name, name, columns, ("F150W",)), tmp_path)
    assert SAMPLE_ROWS > 500
    sample = add_up(paths).sample
    assert len(sample.rank) == 500
    # A tenth, by binomial noise of 0.013.
    assert np.mean(sample.radius == 1.0) == pytest.approx(0.1, abs=0.045)


def test_the_area_is_unknown_where_a_window_has_no_map(tmp_path):
    _, paths = windows(tmp_path)
    window = write_window(tmp_path / "d", "d", random_columns(50, BANDS), BANDS)
    del window.depths["F277W"]
    paths["d"] = census_of(window, tmp_path)
    whole = add_up(paths)
    assert [band.arcmin2 is None for band in whole.bands] == [False, True, False]
