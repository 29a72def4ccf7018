"""Ids of sources: who was there keeps its own, whoever comes, goes or moves a little."""

import dataclasses
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from support.scenes import Scene

from cosmosaic.catalog.columns import as_table, column_specs
from cosmosaic.catalog.files import arrow_table, write_catalog
from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.catalog.ids import IdsError, PartOfSurvey, SourceIds, SurveyIds, ids_table, keeping, read_ids
from cosmosaic.catalog.numbering import number_catalog, number_sources, numbered, own_rows, same_sources
from cosmosaic.catalog.steps import MeasuredCatalog, NumberSources
from cosmosaic.records import StoredObject
from cosmosaic.steps.execution import key_of
from cosmosaic.steps.result import Made
from cosmosaic.survey import CatalogSettings

ARCSEC = 1 / 3600
RNG_SEED = 7


def known(*places: tuple[int, float]) -> SourceIds:
    """Sources with these ids, so many arcsec north of the equator."""
    ids, dec = zip(*places, strict=True)
    return SourceIds(
        ids=ids, names=tuple(f"J{one}" for one in ids), ra=(10.0,) * len(ids), dec=tuple(y * ARCSEC for y in dec)
    )


def found(kept: SourceIds, *arcsec: float, window: tuple[int, ...] | None = None) -> tuple[SourceIds, list[int]]:
    dec = np.array(arcsec, dtype=float) * ARCSEC
    names = np.array([f"N{each:g}" for each in arcsec], dtype=str)
    windows = np.zeros(len(dec), int) if window is None else np.array(window)
    sources, ids = numbered(kept, names, np.full(len(dec), 10.0), dec, windows)
    return sources, ids.tolist()


def test_sources_that_were_there_keep_ids_names_and_first_places() -> None:
    kept = known((3, 0.0), (5, 4.0), (8, 9.0))
    sources, ids = found(kept, 9.1, 6.5, 0.25, 3.9)
    assert ids == [8, 9, 3, 5]
    assert sources.first(3) == kept
    assert (sources.ids[3:], sources.names[3:], sources.dec[3:]) == ((9,), ("N6.5",), (6.5 * ARCSEC,))


def test_a_position_just_beyond_the_radius_is_a_new_source() -> None:
    assert found(known((1, 0.0)), 0.299)[1] == [1]
    assert found(known((1, 0.0)), 0.301)[1] == [2]


def test_the_nearest_gets_the_id_and_the_other_the_neighbours() -> None:
    # Both lie near the first source; the farther one is left to the second, though that is not its nearest.
    assert found(known((1, 0.0), (2, 0.3)), 0.1, 0.14)[1] == [1, 2]
    assert found(known((1, 0.0)), 0.2, 0.1)[1] == [2, 1]


def test_ties_go_to_the_first_row() -> None:
    assert found(known((1, 0.0)), -0.2, 0.2)[1] == [1, 2]


def test_a_source_that_vanished_leaves_its_id_to_nobody_and_gets_it_back() -> None:
    sources, ids = found(known((1, 0.0), (2, 5.0)), 0.0, 10.0)
    assert ids == [1, 3]
    again, ids = found(sources, 10.0, 20.0)
    assert ids == [3, 4]
    assert found(again, 5.0)[1] == [2]


def test_the_order_of_rows_does_not_change_who_is_who() -> None:
    rng = np.random.default_rng(RNG_SEED)
    dec = np.cumsum(rng.uniform(0.35, 2.0, 300))
    first, ids = found(SourceIds(), *dec)
    assert ids == list(range(1, 301))
    order = rng.permutation(300)
    moved = dec[order] + rng.normal(0.0, 0.02, 300)
    assert np.array_equal(found(first, *moved)[1], np.array(ids)[order])


def test_a_source_in_two_windows_is_one_source_and_two_in_one_window_are_two() -> None:
    assert found(SourceIds(), 0.0, 3.0, 0.05, window=(0, 0, 1))[1] == [1, 2, 1]
    assert found(SourceIds(), 0.0, 0.2, window=(0, 0))[1] == [1, 2]
    # 0.2 and 0.25 are the same source, and 0.0 another one of the first window.
    assert found(SourceIds(), 0.0, 0.2, 0.25, window=(0, 0, 1))[1] == [1, 2, 2]
    assert found(known((7, 0.1)), 0.0, 0.05, window=(0, 1))[1] == [7, 7]


@pytest.mark.parametrize(
    ("places", "is_told"),
    [
        ((0.5, 10.5, 20.5), True),  # all have moved
        ((0.1, 10.1, 20.1), False),
        ((0.0, 0.8, 10.0, 19.2, 20.0), False),  # many are new, beside those that were there
        ((20.0, 30.0), False),  # two are not found again
        ((), False),
    ],
)
def test_positions_that_have_moved_as_a_whole_are_told(
    tmp_path: Path, places: tuple[float, ...], is_told: bool
) -> None:
    kept = known((1, 0.0), (2, 10.0), (3, 20.0))
    given = catalogue(tmp_path, "full", *places)
    made = number_sources({"full": given["parquet"]}, kept, {}, "small_ids", tmp_path)
    assert made.facts["ids_moved"] == (3 if is_told else 0)


def test_without_sources_there_are_no_new_ids() -> None:
    assert found(SourceIds()) == (SourceIds(), [])
    kept = known((4, 1.0))
    assert found(kept) == (kept, [])


def test_positions_on_both_sides_of_the_first_meridian_are_compared_on_the_sphere() -> None:
    sky = np.array([[359.99999, 60.0], [0.00001, 60.0], [180.0, 0.0]])
    assert same_sources(sky, np.array([-1, 0, 0])).tolist() == [0, 0, 2]


def test_crowds_keep_their_ids() -> None:
    """Only pairs within the radius are looked at: all pairs would take 13 GB."""
    rng = np.random.default_rng(RNG_SEED)
    ra, dec = rng.uniform(0, 0.4, 40_000), rng.uniform(-0.2, 0.2, 40_000)
    window = np.zeros(40_000, int)
    names = np.full(40_000, "J")
    first, ids = numbered(SourceIds(), names, ra, dec, window)
    assert ids.tolist() == list(range(1, 40_001))
    _, again = numbered(first, names, ra + 2e-6, dec, window)
    assert again.tolist() == ids.tolist()


def survey() -> SurveyIds:
    return SurveyIds(sources=known((1, 0.0), (2, 5.0), (4, 1 / 3)), known=2, catalogs={"b": "2" * 64, "a": "1" * 64})


def text_of(ids: SurveyIds, folder: Path) -> str:
    path = folder / "small_ids.ecsv"
    ids_table(ids).write(path, format="ascii.ecsv", overwrite=True)
    return path.read_text()


def test_the_published_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_ids(text_of(survey(), tmp_path), "x") == survey()
    empty = SurveyIds(sources=SourceIds(), known=0, catalogs={"full": "1" * 64})
    assert read_ids(text_of(empty, tmp_path), "x") == empty


def test_of_the_same_catalogues_only_what_was_kept_then_is_kept() -> None:
    assert keeping(None, {}) == SourceIds()
    assert keeping(survey(), {"a": "1" * 64, "b": "2" * 64}) == survey().sources.first(2)
    assert keeping(survey(), {"a": "1" * 64, "b": "3" * 64}) == survey().sources
    assert keeping(survey(), {"a": "1" * 64}) == survey().sources


def damaged(text: str) -> dict[str, str]:
    lines = text.splitlines()
    swapped = [*lines[:-2], lines[-1], lines[-2]]
    return {
        "empty": "",
        "another table": "id ra dec\n1 2 3\n",
        "a half": text[: len(text) // 2],
        "without its last row": "\n".join(lines[:-1]),
        "without a column": text.replace("name: ra,", "name: rb,").replace("id name ra", "id name rb"),
        "rows in another order": "\n".join(swapped),
        "a position that is no number": text.replace(lines[-1].split()[-1], "nan"),
        "no text": "\ufffd\x00\ufffd",
        "no yaml": text.replace("# meta: !!omap", "# meta: {[!"),
    }


DAMAGES = tuple(damaged("a\nb c\n"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_is_refused_by_name(damage: str, tmp_path: Path) -> None:
    text = damaged(text_of(survey(), tmp_path))[damage]
    assert text != text_of(survey(), tmp_path)
    with pytest.raises(IdsError, match=r"small_ids\.ecsv among the products cannot be used .*restore it, or remove it"):
        read_ids(text, "small_ids.ecsv")


def stored(digest: str) -> MeasuredCatalog:
    return MeasuredCatalog(StoredObject(uri=f"/cache/{digest}/small_full_cat.parquet", sha256=digest * 64, size=1))


def test_the_step_that_is_repeated_has_the_key_that_it_had(tmp_path: Path) -> None:
    """The table of one run is read by the next: what follows from it must come to rest."""
    step = NumberSources(catalogs={"full": stored("a")}, stem="small_ids", earlier=None).prepared()
    published = SurveyIds(sources=known((1, 0.0), (2, 5.0)), known=0, catalogs=dict(step.digests))
    again = NumberSources(
        catalogs={"full": stored("a")}, stem="small_ids", earlier=text_of(published, tmp_path)
    ).prepared()
    assert key_of(again) == key_of(step)
    grown = dataclasses.replace(again, catalogs={"full": stored("b")}, earlier=text_of(published, tmp_path)).prepared()
    assert grown.kept == published.sources
    assert key_of(grown) != key_of(step)
    later = SurveyIds(sources=known((1, 0.0), (2, 5.0), (3, 9.0)), known=2, catalogs=dict(grown.digests))
    at_rest = dataclasses.replace(grown, earlier=text_of(later, tmp_path)).prepared()
    assert key_of(at_rest) == key_of(grown)


SPECS = column_specs(["F444W"], CatalogSettings())
BANDS = ("F150W", "F444W")


def catalogue(folder: Path, tile: str, *arcsec: float, bands: tuple[str, ...] = ("F444W",)) -> dict[str, Path]:
    """A catalogue and a map of sources so many arcsec north of the equator; the first one is cut by the border."""
    number, specs = len(arcsec), column_specs(bands, CatalogSettings())
    columns = {name: np.zeros(number, dtype=spec.dtype) for name, spec in specs.items()}
    columns["flags"] = np.where(np.arange(number) == 0, CatalogFlag.EDGE.value, 0)
    columns |= {"id": np.arange(number) + 1, "name": np.array([f"N{each:g}" for each in arcsec], dtype=str)}
    columns |= {"ra": np.full(number, 10.0), "dec": np.array(arcsec) * ARCSEC}
    columns["f444w_mag"] = np.where(np.arange(number) == 1, np.nan, 25.1)
    table = as_table(specs, columns)
    table.meta = {"bands": list(bands)}
    segments = np.zeros((30, 40), np.int32)
    for label in range(1, number + 1):
        segments[label * 5, label * 5 : label * 5 + 3] = label
    made = write_catalog(table, segments, Scene(shape=(30, 40)).wcs, folder, f"small_{tile}")
    table.write(folder / f"small_{tile}_before.ecsv", format="ascii.ecsv")
    return dataclasses.asdict(made) | {"ecsv": folder / f"small_{tile}_before.ecsv"}


def with_ids(given: dict[str, Path], made: Made, tile: str, folder: Path, extinction: Path | None = None) -> Made:
    part = PartOfSurvey(survey="small", tile=tile, bands=BANDS)
    return number_catalog(
        given["parquet"], given["segments"], made.files["numbers"][tile], extinction, part, CatalogSettings(), folder
    )


def test_catalogue_and_map_get_the_ids_of_the_survey(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    files = {tile: catalogue(tmp_path, tile, *places) for tile, places in (("b", (0, 2)), ("a", (2.01, 8, 9)))}
    made = number_sources(
        {tile: each["parquet"] for tile, each in files.items()}, known((6, 9.0)), {"a": "x", "b": "y"}, "small_ids",
        tmp_path,
    )  # fmt: skip
    ids = read_ids(made.files["table"].read_text(), "small_ids")
    assert (ids.sources.ids, ids.known, ids.catalogs) == ((6, 7, 8, 9), 1, {"a": "x", "b": "y"})
    for tile, expected in {"a": [7, 8, 6], "b": [9, 7]}.items():
        given = files[tile]
        out = with_ids(given, made, tile, tmp_path / "out")
        table, before = Table.read(out.files["catalog"]), Table.read(given["ecsv"])
        assert table["id"].tolist() == Table.read(out.files["parquet"])["id"].tolist() == expected
        assert out.facts["n_sources"] == len(expected)
        assert table["id"].description == before["id"].description
        names = dict(zip(ids.sources.ids, ids.sources.names, strict=True))
        assert table["name"].tolist() == [names[one] for one in expected]
        # The source at 2 arcsec is called as it was in the window that comes first.
        assert names[7] == "N2.01"
        assert names[6] == "J6"
        labels, old = (fits.getdata(path, "SEGM") for path in (out.files["segments"], given["segments"]))
        for number, one in enumerate(expected):
            np.testing.assert_array_equal(labels == one, old == number + 1)
        assert ((labels == 0) == (old == 0)).all()


def test_the_files_are_as_they_were_but_for_the_ids(tmp_path: Path) -> None:
    """With the numbers that it has, a catalogue is written again byte for byte: no value, unit or null is lost."""
    (tmp_path / "out").mkdir()
    given = catalogue(tmp_path, "full", 0, 3, 7)
    made = number_sources({"full": given["parquet"]}, SourceIds(), {}, "small_ids", tmp_path)
    out = with_ids(given, made, "full", tmp_path / "out")
    for kind, name in (("catalog", "ecsv"), ("parquet", "parquet"), ("segments", "segments")):
        assert out.files[kind].read_bytes() == given[name].read_bytes(), kind


def test_a_source_of_several_windows_counts_as_the_first_ones_that_has_it_whole() -> None:
    ids, window = np.array([4, 4, 2, 2, 9, 9, 5]), np.array([0, 1, 0, 1, 1, 2, 2])
    is_cut = np.array([True, False, False, False, True, True, True])
    assert own_rows(ids, window, is_cut).tolist() == [False, True, True, False, True, False, True]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of two tiles with one in common, in tile b of one filter, in tile a of another one."""
    given, folder = tmp_path_factory.mktemp("given"), tmp_path_factory.mktemp("made")
    files = {
        "a": catalogue(given, "a", 2.01, 8, 9, bands=("F150W",)),
        "b": catalogue(given, "b", 0, 2, 20, bands=("F444W",)),
    }
    made = number_sources({tile: each["parquet"] for tile, each in files.items()}, SourceIds(), {}, "small_ids", given)
    for tile, each in files.items():
        out = with_ids(each, made, tile, folder)
        assert out.files["part"] == folder / "small_catalog.parquet" / f"tile={tile}" / f"small_{tile}_part.parquet"
    return folder / "small_catalog.parquet"


def test_arrow_reads_the_data_set_as_one_table_with_each_source_once(dataset: Path) -> None:
    table = ds.dataset(dataset, partitioning="hive").to_table().sort_by("id")
    # The source at 2 arcsec is cut in tile a, and so counts as tile b's.
    assert table.column_names == [*column_specs(BANDS, CatalogSettings()), "tile"]
    assert table["tile"].to_pylist() == ["b", "a", "a", "b", "b"]
    assert table["id"].to_pylist() == [1, 2, 3, 4, 5]
    assert table["f150w_flux"].null_count == 3
    assert table["f444w_flux"].null_count == 2
    for name, spec in column_specs(BANDS, CatalogSettings()).items():
        metadata = table.schema.field(name).metadata
        assert (metadata[b"unit"].decode(), metadata[b"ucd"].decode()) == (spec.unit or "", spec.ucd), name


def test_pandas_reads_the_data_set(dataset: Path) -> None:
    frame = pd.read_parquet(dataset)
    assert frame.groupby("tile", observed=True)["id"].apply(sorted).to_dict() == {"a": [2, 3], "b": [1, 4, 5]}
    assert frame.attrs["units"]["f444w_flux"] == "nJy"


def test_duckdb_reads_the_data_set(dataset: Path) -> None:
    rows = duckdb.sql(
        f"select tile, count(*), count(f444w_flux), min(id) from read_parquet('{dataset}/*/*.parquet') "
        "group by tile order by tile"
    ).fetchall()
    assert rows == [("a", 2, 0, 2), ("b", 3, 3, 1)]
    assert duckdb.sql(f"select id from '{dataset}/**/*.parquet' where tile = 'a' order by id").fetchall() == [
        (2,),
        (3,),
    ]


def test_with_a_map_each_source_gets_its_reddening(tmp_path: Path) -> None:
    """The map covers the first two sources."""
    (tmp_path / "out").mkdir()
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [10.0, 0.0], [2.0, 2.0]
    wcs.wcs.cdelt = [-2 * ARCSEC, 2 * ARCSEC]
    rows = np.repeat(np.array([[0.1], [0.2], [0.3]]), 3, axis=1)
    fits.PrimaryHDU(rows, header=wcs.to_header()).writeto(tmp_path / "sfd.fits")
    given = catalogue(tmp_path, "full", 0, 1, 30)
    made = number_sources({"full": given["parquet"]}, SourceIds(), {}, "small_ids", tmp_path)
    out = with_ids(given, made, "full", tmp_path / "out", tmp_path / "sfd.fits")
    for table in (Table.read(out.files["catalog"]), Table.read(out.files["parquet"]), Table.read(out.files["part"])):
        assert np.ma.filled(table["ebv"], np.nan) == pytest.approx([0.2, 0.25, np.nan], nan_ok=True, abs=1e-6)
        assert table["ebv"].unit == "mag"
        assert table.meta["extinction_map"] == "sfd.fits"
        assert table.colnames.index("ebv") == table.colnames.index("flags") + 1


def test_a_survey_without_sources_has_an_empty_table_and_empty_catalogues(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    given = catalogue(tmp_path, "full")
    made = number_sources({"full": given["parquet"]}, SourceIds(), {"full": "x"}, "small_ids", tmp_path)
    assert read_ids(made.files["table"].read_text(), "x").sources == SourceIds()
    out = with_ids(given, made, "full", tmp_path / "out")
    table = Table.read(out.files["catalog"])
    assert len(table) == 0
    assert table.colnames == list(SPECS)
    assert arrow_table(Table(table, masked=True)).num_rows == 0
