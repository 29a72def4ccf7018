"""Mistakes in settings are told in words: where they stand, and what was probably meant."""

import pytest
from pydantic import ValidationError

from cosmosaic.survey import Survey, load_survey
from cosmosaic.survey.loading import overridden
from cosmosaic.survey.mistakes import explain, setting_paths


def explained(tmp_path, text: str) -> str:
    file = tmp_path / "survey.toml"
    file.write_text(text)
    with pytest.raises(ValidationError) as caught:
        load_survey([str(file)])
    return explain(caught.value, file)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("name = 'a'\n[gird]\nrotation = 3\n", 2, "gird: there is no such setting; did you mean grid?"),
        (
            "[grid]\n\npixel_scale_mass = 3\n",
            3,
            "grid.pixel_scale_mass: there is no such setting; did you mean grid.pixel_scale_mas?",
        ),
        (
            "pixel_scale_mas = 3\n[grid]\nrotation = 0\n",
            1,
            "pixel_scale_mas: there is no such setting; did you mean grid.pixel_scale_mas?",
        ),
        ("[sky]\n# x\nmethod = 'best'\n", 3, "sky.method: Input should be "),
        (
            "filters = [\n  'F115X']\n",
            1,
            "filters.0: NIRCam has no filter 'F115X', did you mean F115W?; its filters are F070W",
        ),
        ("[simulation]\ndetectors = ['NRCA5']\n", 2, "NIRCam has no detector 'NRCA5'; its detectors are NRCA1 to"),
        ("[grid]\ntangent_ra = 3\n", 1, "give tangent_ra and tangent_dec together"),
    ],
)
def test_a_mistake_in_the_survey_file_is_told_with_its_line(tmp_path, text, line, said):
    message = explained(tmp_path, text)
    assert f"survey.toml, line {line}: " in message
    assert said in message
    assert "pattern" not in message


def test_settings_that_exclude_each_other_are_told_with_the_variables_that_may_have_set_them(tmp_path, monkeypatch):
    monkeypatch.setenv("COSMOSAIC_RAW", "/data/raw")
    monkeypatch.setenv("COSMOSAIC_GRID__ROTATION", "3")
    monkeypatch.setenv("COSMOSAIC_SCREENSHOTS", "pictures")
    message = explained(tmp_path, "[simulation]\ngroups = 3\n")
    assert "give either raw (existing exposures) or simulation" in message
    assert "settings in the environment: COSMOSAIC_GRID__ROTATION, COSMOSAIC_RAW\n" in message
    assert "{" not in message


def test_all_mistakes_are_told_at_once(tmp_path):
    message = explained(tmp_path, "[grid]\nrotation = 900\nsclae = 3\n[sky]\nmethod = 'x'\n")
    assert [f"line {number}: " in message for number in (2, 3, 5)] == [True] * 3


def test_a_file_that_is_no_toml_is_named_with_the_line(tmp_path):
    file = tmp_path / "survey.toml"
    file.write_text("name = 'a'\nstore = \n")
    with pytest.raises(ValueError, match=r"survey.toml is not TOML: .*line 2"):
        load_survey([str(file)])


@pytest.mark.parametrize(
    ("flag", "meant"),
    [("--gird.rotation", "grid.rotation"), ("--grid.rotatoin=3", "grid.rotation"), ("--rotation", "grid.rotation")],
)
def test_an_unknown_flag_is_refused_with_the_setting_that_was_meant(flag, meant):
    with pytest.raises(ValueError, match=f"there is no such setting; did you mean {meant}"):
        load_survey([flag, "3"])


@pytest.mark.parametrize("path", setting_paths())
def test_every_setting_is_a_flag(path, capsys):
    with pytest.raises(SystemExit):
        load_survey([f"--{'.'.join(path)}", "1", "--help"])


def test_tables_and_lists_are_given_as_the_help_says(monkeypatch):
    survey = load_survey(
        ["--references.gain_maps", "NRCB1=a.fits", "--outliers.snr", "5,4", "--filters", "F115W,F150W"]
    )
    assert survey.references.gain_maps == {"NRCB1": "a.fits"}
    assert survey.outliers.snr == (5.0, 4.0)
    assert survey.filters == ("F115W", "F150W")
    monkeypatch.setenv("COSMOSAIC_REFERENCES__GAIN_MAPS", '{"NRCB1": "a.fits"}')
    monkeypatch.setenv("COSMOSAIC_FILTERS", '["F115W", "F150W"]')
    assert load_survey([]).filters == ("F115W", "F150W")
    assert load_survey([]).references.gain_maps == {"NRCB1": "a.fits"}


def test_a_misspelt_variable_is_refused_and_somebody_elses_is_not(monkeypatch):
    monkeypatch.setenv("COSMOSAIC_HELPER_SESSION", "1")
    load_survey([])
    monkeypatch.setenv("COSMOSAIC_STROE", "x")
    with pytest.raises(ValueError, match="COSMOSAIC_STROE is not a setting; did you mean COSMOSAIC_STORE"):
        load_survey([])


def test_what_the_environment_overrides_is_told(tmp_path, monkeypatch):
    file = tmp_path / "survey.toml"
    file.write_text("store = 'mine'\n[grid]\nrotation = 3.0\n")
    monkeypatch.setenv("COSMOSAIC_GRID__ROTATION", "9")
    monkeypatch.setenv("COSMOSAIC_NAME", "other")
    (told,) = overridden(file)
    assert "COSMOSAIC_GRID__ROTATION=9" in told
    assert "grid.rotation = 3.0" in told
    assert load_survey([str(file)]).grid.rotation == 9


def test_the_users_own_settings_come_first_and_the_simulation_last():
    names = list(Survey.model_fields)
    assert names[:3] == ["name", "store", "raw"]
    assert names[-1] == "simulation"
