"""EAZY finds each flux under its filter, in its unit; parsed by the rules of eazy-py's readers."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from cosmosaic.catalog.eazy import NUMBERS, write_eazy
from cosmosaic.nircam import FILTERS

BANDS = ("F115W", "F277W", "F999W")


def part(path: Path, ids: list[int], **columns: list[float | None]) -> Path:
    """A part of a data set; fluxes that are not given are null."""
    number = len(ids)
    named = {f"{band.lower()}_{name}": [None] * number for band in BANDS for name in ("flux", "flux_err")}
    named |= {"ra": [150.123456789] * number, "dec": [-2.5] * number} | columns
    pq.write_table(pa.table({"id": ids} | {name: pa.array(each, pa.float64()) for name, each in named.items()}), path)
    return path


def parameters(path: Path) -> dict[str, str]:
    """The first word of a line is the parameter, the second its value; lines that begin with # are comments."""
    lines = (line.split() for line in path.read_text().splitlines() if not line.strip().startswith("#"))
    return {words[0]: words[1] for words in lines if len(words) >= 2}


def translated(path: Path) -> dict[str, str]:
    return dict(line.split() for line in path.read_text().splitlines())


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Path]:
    parts = {
        "b": part(tmp_path / "b.parquet", [2, 9], f277w_flux=[-3.5, 1e6], f277w_flux_err=[2.25, 10.0]),
        "a": part(tmp_path / "a.parquet", [5], f115w_flux=[1234.5678], f115w_flux_err=[5.0], f277w_flux=[0.0],
                  f277w_flux_err=[1.0], f999w_flux=[7.0], f999w_flux_err=[1.0]),
    }  # fmt: skip
    return write_eazy(parts, BANDS, {}, "small_eazy", tmp_path).files


def test_fluxes_are_in_microjansky_and_missing_ones_below_the_threshold(written: dict[str, Path]) -> None:
    given = parameters(written["parameters"])
    assert given["CATALOG_FILE"] == written["catalog"].name
    table = Table.read(written["catalog"], format=given["CATALOG_FORMAT"])
    assert table["id"].tolist() == [2, 5, 9]
    assert table["ra"].tolist() == pytest.approx([150.123456789] * 3, abs=1e-8)
    np.testing.assert_allclose(table["f277w_flux"], [-3.5e-3, 0.0, 1e3], rtol=1e-5)
    np.testing.assert_allclose(table["f277w_flux_err"], [2.25e-3, 1e-3, 1e-2], rtol=1e-5)
    np.testing.assert_allclose(table["f115w_flux"], [-99.0, 1.2345678, -99.0], rtol=1e-5)
    assert (np.asarray(table["f115w_flux_err"])[[0, 2]] < float(given["NOT_OBS_THRESHOLD"])).all()
    # A magnitude of 23.9 is a microjansky: 1234.5678 nJy are 23.671.
    magnitude = float(given["PRIOR_ABZP"]) - 2.5 * np.log10(table["f115w_flux"][1])
    assert magnitude == pytest.approx(31.4 - 2.5 * np.log10(1234.5678), abs=1e-4)
    assert given["MAGNITUDES"] == "n"


def test_columns_are_translated_to_numbers_of_filters(written: dict[str, Path]) -> None:
    columns = translated(written["translate"])
    assert columns == {"f115w_flux": "F364", "f115w_flux_err": "E364", "f277w_flux": "F375", "f277w_flux_err": "E375"}
    table = Table.read(written["catalog"], format="ascii.commented_header")
    assert set(columns) < set(table.colnames)
    # eazy-py takes columns named F1 and so on for fluxes without translation.
    assert not any(re.fullmatch(r"[FE]\d+", name) for name in table.colnames)


def test_a_filter_without_a_number_is_told(written: dict[str, Path]) -> None:
    text = written["parameters"].read_text()
    assert "# F999W has no number in FILTER.RES.latest" in text
    assert "F115W" not in text
    assert parameters(written["parameters"])["N_MIN_COLORS"] == "2"


def test_every_filter_of_nircam_has_its_number() -> None:
    """Some as FILTER.RES.latest.info lists them."""
    assert set(NUMBERS) == set(FILTERS)
    listed = {"F070W": 362, "F090W": 363, "F150W2": 367, "F210M": 371, "F212N": 374, "F277W": 375, "F444W": 377,
              "F322W2": 378, "F250M": 379, "F410M": 383, "F480M": 386, "F323N": 387, "F470N": 390}  # fmt: skip
    assert {band: NUMBERS[band] for band in listed} == listed


def test_reddening_is_the_mean_of_the_sources(tmp_path: Path, written: dict[str, Path]) -> None:
    assert float(parameters(written["parameters"])["MW_EBV"]) == 0
    parts = {"a": part(tmp_path / "a.parquet", [1, 2, 3], ebv=[0.02, 0.03, None])}
    given = parameters(write_eazy(parts, BANDS, {}, "red_eazy", tmp_path).files["parameters"])
    assert (float(given["MW_EBV"]), given["CAT_HAS_EXTCORR"]) == (0.025, "n")


def test_a_map_that_covers_no_source_gives_no_reddening_and_is_not_called_missing(tmp_path: Path) -> None:
    parts = {"a": part(tmp_path / "a.parquet", [1, 2], ebv=[None, None])}
    text = write_eazy(parts, BANDS, {}, "dark_eazy", tmp_path).files["parameters"].read_text()
    assert "MW_EBV            0.0000  # not known: no source has an E(B-V)\n" in text


def test_without_sources_there_is_an_empty_catalogue(tmp_path: Path) -> None:
    made = write_eazy({"a": part(tmp_path / "a.parquet", [])}, BANDS, {}, "none_eazy", tmp_path).files
    table = Table.read(made["catalog"], format="ascii.commented_header")
    assert (len(table), table.colnames[:3]) == (0, ["id", "ra", "dec"])
