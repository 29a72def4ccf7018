"""The verdict on a catalogue, from sources whose fate is known."""

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from PIL import Image

from cosmosaic.catalog.columns import as_table
from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.injection.judgement import FEWEST, Sample, completeness_table, judge, judge_catalog, purity_table
from cosmosaic.injection.recovery import MEASURED, matched_specs
from cosmosaic.records import STATES

BAND = "F444W"
SPECS = matched_specs((BAND,))


def sources(count: int = 600, **changes: object) -> dict[str, np.ndarray]:
    """Isolated stars of S/N 4 to 40, measured without bias and with the stated errors; 90 % at the limit are found."""
    random = np.random.default_rng(2)
    snr = np.geomspace(4.0, 40.0, count)
    true = 10.0 * snr
    aperture = true + 10.0 * random.standard_normal(count)
    columns = {
        "id": np.arange(count), "tile": np.full(count, "full"), "round": np.ones(count, int),
        "ra": np.full(count, 150.0), "dec": np.full(count, 2.0), "kind": np.full(count, "star"),
        "sersic_n": np.full(count, np.nan), "half_light_radius": np.full(count, np.nan),
        "axis_ratio": np.full(count, np.nan), "position_angle": np.full(count, np.nan),
        "found": np.arange(count) % 10 > 0, "isolated": np.full(count, True), "offset": np.zeros(count),
        "flags": np.zeros(count, int), "f444w_true_flux": true, "f444w_snr": snr, "f444w_flux": aperture,
        "f444w_flux_err": np.full(count, 10.0), "f444w_aper_flux": aperture,
        "f444w_aper_flux_err": np.full(count, 10.0),
    }  # fmt: skip
    columns |= {f"measured_{name}": np.full(count, np.nan) for name in MEASURED}
    return columns | changes


def sample(**changes: object) -> Sample:
    return Sample.of(as_table(SPECS, sources(**changes)), BAND)


def states(of: Sample) -> dict[str, str]:
    return {metric.name: metric.state for metric in judge(of)}


def values(of: Sample) -> dict[str, float]:
    return {metric.name: metric.value for metric in judge(of)}


def test_a_right_catalogue_passes_and_what_is_missing_is_not_measurable():
    assert states(sample()) == {
        "completeness": "pass", "bias": "pass", "galaxy_bias": "not measurable", "pull_width": "pass"
    }  # fmt: skip
    found = values(sample())
    assert found["completeness"] == pytest.approx(0.9, abs=0.01)
    assert found["bias"] == pytest.approx(0.0, abs=0.01)
    assert found["pull_width"] == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize(("share", "state"), [(0.7, "warn"), (0.3, "fail")])
def test_missing_stars_at_the_stated_depth_are_told(share, state):
    judged = sample(found=(np.arange(600) * 7919 % 1000) / 1000 < share)
    assert states(judged)["completeness"] == state
    assert values(judged)["completeness"] == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize(("factor", "state"), [(0.965, "warn"), (0.9, "fail"), (1.1, "fail")])
def test_a_bias_of_bright_stars_is_told(factor, state):
    judged = sample(f444w_flux=factor * sources()["f444w_flux"])
    assert states(judged)["bias"] == state
    assert values(judged)["bias"] == pytest.approx(-2.5 * np.log10(factor), abs=0.01)


@pytest.mark.parametrize(("factor", "state"), [(0.8, "warn"), (0.5, "fail"), (1.25, "warn"), (2.0, "fail")])
def test_errors_that_are_too_large_or_too_small_are_told(factor, state):
    judged = sample(f444w_aper_flux_err=np.full(600, 10.0 * factor))
    assert states(judged)["pull_width"] == state
    assert values(judged)["pull_width"] == pytest.approx(1 / factor, rel=0.1)


@pytest.mark.parametrize(("number", "state"), [(FEWEST - 1, "not measurable"), (FEWEST, "pass")])
def test_a_metric_rests_on_ten_sources(number, state):
    snr = np.where(np.arange(600) < number, 5.0, 3.0)
    judged = sample(f444w_snr=snr, found=np.full(600, True))
    assert states(judged)["completeness"] == state
    assert np.isnan(values(judged)["completeness"]) == (state != "pass")


def test_blends_count_for_completeness_and_not_for_errors():
    spoilt = np.arange(600) % 2 == 0
    flux = np.where(spoilt, 10.0, 1.0) * sources()["f444w_flux"]
    judged = sample(f444w_flux=flux, f444w_aper_flux=flux, flags=np.where(spoilt, CatalogFlag.BLENDED.value, 0))
    assert states(judged) == states(sample())
    assert values(judged)["completeness"] == values(sample())["completeness"]


def test_sources_with_a_brighter_neighbour_are_left_out_of_the_verdict_and_stay_in_the_table():
    crowded = np.arange(600) % 2 == 0
    right = sources()["f444w_flux"]
    doubled = {name: np.where(crowded, 2 * right, right) for name in ("f444w_flux", "f444w_aper_flux")}
    judged = sample(isolated=~crowded, found=~crowded, **doubled)
    assert values(judged)["completeness"] == 1.0
    assert values(judged)["bias"] == pytest.approx(0.0, abs=0.01)
    assert values(judged)["pull_width"] == pytest.approx(1.0, abs=0.1)
    table = completeness_table(judged)
    assert np.sum(table["found"]) == 300
    assert np.sum(table["injected"]) == 600
    np.testing.assert_allclose(table["completeness"], 0.5, atol=0.02)
    np.testing.assert_allclose(table["completeness_isolated"], 1.0)


def test_what_a_filter_does_not_cover_does_not_count():
    uncovered = np.arange(600) % 3 == 0
    judged = sample(f444w_snr=np.where(uncovered, np.nan, sources()["f444w_snr"]))
    assert len(judged.snr) == 400


def test_the_table_of_completeness_is_by_magnitude_and_size():
    radius = np.tile([0.1, 0.2, 0.5], 200)
    judged = sample(kind=np.full(600, "galaxy"), half_light_radius=radius, found=radius < 0.3)
    table = completeness_table(judged)
    for radii, share in (((0.0, 0.15), 1.0), ((0.15, 0.35), 1.0), ((0.35, None), 0.0)):
        rows = table[table["radius_low"] == radii[0]]
        assert np.sum(rows["injected"]) == 200
        assert rows["radius_high"].mask.all() if radii[1] is None else (rows["radius_high"] == radii[1]).all()
        assert (rows["completeness"] == share).all()
        assert (rows["completeness_low"] <= share).all()
        assert (rows["completeness_high"] >= share).all()
    assert (np.diff(np.unique(table["mag_low"])) == 1.0).all()


def test_purity_is_what_the_negative_image_leaves():
    rows = purity_table(np.full(100, 6.0), np.full(20, 6.0))
    (row,) = [row for row in rows if row["sources"]]
    assert (row["snr_low"], row["sources"], row["negative"], row["purity"]) == (5.0, 100, 20, 0.8)
    assert all(row["purity"] is None for row in rows if not row["sources"])


def catalog(snr: list[float], path: Path) -> Path:
    table = Table({"f444w_flux": snr, "f444w_flux_err": np.ones(len(snr))}) if snr else Table({"id": []})
    table.write(path)
    return path


def judged_files(tmp_path: Path, **changes: object):
    matched = tmp_path / "demo_injected.ecsv"
    as_table(SPECS, sources(**changes)).write(matched, format="ascii.ecsv")
    own, negative = catalog([3.5, 6.0, 8.0], tmp_path / "own.parquet"), catalog([6.5], tmp_path / "negative.parquet")
    # A window that the filter does not reach has no columns of it.
    other = catalog([], tmp_path / "other.parquet")
    return judge_catalog(matched, (own, other), (negative, other), BAND, "demo_f444w", tmp_path)


def test_the_files_tell_the_verdict(tmp_path: Path):
    made = judged_files(tmp_path)
    verdict = Table.read(made.files["verdict"])
    assert verdict.meta["state"] == "not measurable"
    assert STATES[int(made.facts["state"])] == "not measurable"
    assert made.facts["completeness_pct"] == pytest.approx(90.0, abs=1.0)
    assert made.facts["purity_pct"] == 50.0
    assert made.facts["galaxy_bias_mag"] is None
    assert "only 0 sources" in verdict["message"][list(verdict["name"]).index("galaxy_bias")]
    ecsv = Table.read(made.files["completeness"])
    parquet = Table.read(made.files["parquet"], format="parquet.votable")
    assert list(ecsv["completeness"]) == list(parquet["completeness"])
    with Image.open(made.files["plot"]) as picture:
        assert np.asarray(picture.convert("L")).std() > 20


def test_no_covered_source_at_all_is_not_measurable(tmp_path: Path):
    made = judged_files(tmp_path, f444w_snr=np.full(600, np.nan))
    assert STATES[int(made.facts["state"])] == "not measurable"
    assert len(Table.read(made.files["completeness"])) == 0


def test_equal_sources_give_equal_bytes(tmp_path: Path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    once, again = (judged_files(folder).files for folder in folders)
    for kind, path in once.items():
        assert path.read_bytes() == again[kind].read_bytes(), kind
