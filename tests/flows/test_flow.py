"""The main job as a user runs it: what goes wrong is named, what can be made is made."""

import shutil

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from conftest import run_flow

from cosmosaic.run_table import read_runs

pytestmark = pytest.mark.slow


def last_run(products):
    table = read_runs(str(products))
    return table[table["run_id"] == table["run_id"].iloc[-1]]


def test_a_second_run_executes_no_step(demo, prefect_home):
    before = last_run(demo.products)
    again = run_flow(demo.folder, prefect_home=prefect_home)
    assert again.code == 0, again.output
    after = last_run(demo.products)
    assert set(after["steps_executed"]) == {0}
    assert set(after["steps_cached"]) == set(before["steps_executed"])
    made = [frame.set_index("product")["sha256"].to_dict() for frame in (before, after)]
    assert made[0] == made[1]
    assert "0 steps executed" in again.output


@pytest.fixture(scope="module")
def damaged(demo, prefect_home, tmp_path_factory):
    """A survey of three good F277W exposures and one of each kind of bad input, run once."""
    folder = tmp_path_factory.mktemp("damaged")
    raw = folder / "raw"
    raw.mkdir()
    for path in demo.cals("F277W"):
        shutil.copy(path, raw)
    blank = raw / path.name.replace("_0000", "_0009")
    shutil.copy(path, blank)
    with fits.open(blank, mode="update") as hdus:
        hdus[0].header["EXPOSURE"] = "00099"
        hdus["DQ"].data |= 1
    ramps = sorted((demo.store / "raw").glob("*_uncal.fits"))
    long_ramp = next(path for path in ramps if "03101_00001_nrcblong" in path.name)
    shutil.copy(long_ramp, raw)
    (raw / ramps[0].name).write_bytes(ramps[0].read_bytes()[:200_000])
    primary, image = fits.PrimaryHDU(), fits.ImageHDU(np.zeros((8, 8), np.float32), name="SCI")
    primary.header["TELESCOP"] = "HST"
    fits.HDUList([primary, image]).writeto(raw / "flat_field_of_another_telescope.fits")
    shutil.copy(ramps[1], raw)
    with fits.open(raw / ramps[1].name, mode="update") as hdus:
        del hdus[0].header["FILTER"]
    gain = next((demo.store / "crds").rglob("*nrcb1*gain*.fits"))
    (folder / "survey.toml").write_text(
        f'name = "damaged"\nstore = "{folder}"\nraw = "{raw}"\n'
        f'[references]\ncrds_path = "{demo.store / "crds"}"\ncrds_context = "jwst_0001.pmap"\n'
        'crds_server_url = "https://serverless.invalid"\n'
        f'[references.gain_maps]\nNRCBLONG = "{gain}"\n'
    )
    return folder, run_flow(folder, "survey.toml", prefect_home=prefect_home), ramps


def test_the_rest_is_made_and_the_run_ends_as_failed_in_part(damaged):
    folder, run, _ = damaged
    assert run.code == 3, run.output
    table = last_run(folder / "products")
    assert set(table["state"]) == {"Failed in part"}
    assert set(table["filter"].dropna()) == {"F277W"}
    assert (folder / "products" / "damaged_f277w_30mas_full_i2d.fits").exists()
    assert set(table["frames_refused"]) == {3}
    # Only what failed by itself is listed at the end.
    listed = [line.split("failed: ")[1].split(":")[0] for line in run.output.splitlines() if "   failed: " in line]
    assert set(listed) == {"Calibrate", "Inspect"}
    assert "skipped for it" in table["error"].iloc[0]


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ("truncated", "truncated"),
        ("foreign", "TELESCOP"),
        ("keyword", "FILTER"),
        ("gain", "NRCB1"),
        ("blank", "no usable pixel"),
    ],
)
def test_each_bad_input_is_named_with_its_reason(damaged, which, reason):
    _, run, ramps = damaged
    names = {
        "truncated": ramps[0].name,
        "foreign": "flat_field_of_another_telescope.fits",
        "keyword": ramps[1].name,
        "gain": "Calibrate: jw01727001001_03101_00001_nrcblong",
        "blank": "Inspect: jw01727001001_02101_0009",
    }
    lines = [line for line in run.output.splitlines() if names[which] in line]
    assert any(reason in line for line in lines), run.output


def test_a_filter_that_nobody_observed_is_named_with_those_that_are_there(damaged, prefect_home):
    folder, _, _ = damaged
    run = run_flow(folder, "survey.toml", "--filters", "F200W", prefect_home=prefect_home)
    assert run.code == 1
    (line,) = [line for line in run.output.splitlines() if line.startswith("failed:")]
    assert "F200W" in line
    assert "F277W" in line
    assert pd.isna(last_run(folder / "products")["product"]).all()


def test_an_empty_prefix_says_what_was_looked_for_and_where(damaged, prefect_home, tmp_path):
    run = run_flow(tmp_path, "--raw", str(tmp_path / "nothing"), prefect_home=prefect_home)
    assert run.code == 2
    assert f"under {tmp_path / 'nothing'}" in run.output
    assert "_uncal.fits" in run.output


def test_an_unknown_key_in_the_survey_file_stops_before_anything_starts(tmp_path):
    (tmp_path / "survey.toml").write_text("[gird]\nrotation = 3\n")
    run = run_flow(tmp_path, "survey.toml")
    assert run.code == 2
    assert "gird" in run.output
    assert "Traceback" not in run.output


def test_a_server_that_does_not_answer_is_explained(tmp_path):
    run = run_flow(tmp_path, api_url="http://127.0.0.1:9/api")
    assert run.code == 1
    assert "PREFECT_API_URL" in run.output
    assert "Traceback" not in run.output.splitlines()[-1]
