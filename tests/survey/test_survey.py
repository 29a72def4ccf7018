"""One model for file, environment, flags and form: all check alike, and later sources win."""

import re

import pytest
from pydantic import ValidationError

from cosmosaic.survey import AlignSettings, SkySettings, Survey, load_survey
from cosmosaic.survey.template import template


@pytest.fixture
def survey_file(tmp_path):
    path = tmp_path / "survey.toml"
    path.write_text('name = "deep"\nraw = "s3://bucket/raw"\n[grid]\npixel_scale_mas = 40.0\nrotation = 20.0\n')
    return str(path)


def test_no_argument_is_the_synthetic_survey_under_demo():
    survey = load_survey([])
    assert survey == Survey()
    assert survey.is_synthetic
    assert survey.url("products") == "demo/products"


def test_flags_win_over_environment_over_file_over_defaults(survey_file, monkeypatch):
    monkeypatch.setenv("COSMOSAIC_GRID__ROTATION", "30")
    monkeypatch.setenv("COSMOSAIC_GRID__PIXEL_SCALE_MAS", "50")
    survey = load_survey([survey_file, "--grid.pixel_scale_mas", "60", "--filters", "F115W,F277W"])
    assert survey.grid.pixel_scale_mas == 60
    assert survey.grid.rotation == 30
    assert survey.name == "deep"
    assert survey.filters == ("F115W", "F277W")
    assert survey.drizzle == Survey().drizzle
    assert not survey.is_synthetic


@pytest.mark.parametrize("text", ['nmae = "deep"', "[grid]\npixelscale = 30", "[grid]\npixel_scale_mas = -3"])
def test_unknown_keys_and_bad_values_in_a_file_are_refused_by_name(tmp_path, text):
    path = tmp_path / "survey.toml"
    path.write_text(text)
    with pytest.raises(ValidationError, match=r"nmae|grid\.pixelscale|grid\.pixel_scale_mas"):
        load_survey([str(path)])


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.toml"):
        load_survey([str(tmp_path / "nowhere.toml")])


def test_help_teaches_every_setting(capsys):
    with pytest.raises(SystemExit):
        load_survey(["--help"])
    shown = capsys.readouterr().out
    for path in setting_paths(Survey):
        assert f"--{path} " in shown


def test_every_setting_has_a_description_in_the_form():
    for path, description in setting_paths(Survey).items():
        assert description, path


def _tuples_of_two(schema: dict) -> list[str]:
    """Descriptions of the fields, at any depth, that take two values, or a list of such."""
    fields = [field for model in schema["$defs"].values() for field in model.get("properties", {}).values()]
    return [field["description"] for field in fields if "prefixItems" in (field | field.get("items", {}))]


def test_a_field_of_two_numbers_says_so_in_the_form():
    told = _tuples_of_two(Survey.model_json_schema())
    assert len(told) == 3
    assert [each for each in told if not each.startswith("Two numbers")] == []


def test_exposures_to_make_and_exposures_to_read_exclude_each_other():
    with pytest.raises(ValidationError, match="not both"):
        Survey.model_validate({"raw": "s3://bucket/raw", "simulation": {"seed": 3}})


def test_a_form_may_send_the_untouched_settings_of_the_simulation_along():
    defaults = Survey().model_dump(mode="json")
    assert Survey.model_validate(defaults | {"raw": "s3://bucket/raw"}).raw == "s3://bucket/raw"


def test_a_form_shows_the_settings_in_their_order():
    """A database may lose the order of keys, so each field says its place."""
    fields = Survey.model_json_schema()["properties"]
    assert [fields[name]["position"] for name in Survey.model_fields] == list(range(len(Survey.model_fields)))


def test_tangent_point_is_whole_or_absent():
    with pytest.raises(ValidationError, match="tangent_ra and tangent_dec together"):
        Survey.model_validate({"grid": {"tangent_ra": 150.0}})


def test_example_file_is_valid_and_shows_the_defaults(tmp_path):
    example = tmp_path / "survey.toml"
    example.write_text(template())
    survey = load_survey([str(example)])
    assert survey.model_copy(update={"raw": None, "name": Survey().name, "store": Survey().store}) == Survey()


def test_settings_that_the_example_file_only_suggests_are_settings(tmp_path):
    example = tmp_path / "survey.toml"
    suggested = re.sub(r"^# (?=\w+ = )", "", template(), flags=re.MULTILINE)
    assert suggested.count("\n") == template().count("\n")
    example.write_text(suggested.replace('method = "overlap"', 'method = "user"'))
    survey = load_survey([str(example)])
    assert (survey.sky.levels, survey.resources.processes) == ("levels.ecsv", 8)


def setting_paths(model, prefix=""):
    paths = {}
    for name, field in model.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            paths |= setting_paths(field.annotation, f"{prefix}{name}.")
        else:
            paths[prefix + name] = field.description
    return paths


@pytest.mark.parametrize("written", ["F470N", "F444W-F470N", "f470n-f444w", "F470N+F444W", "f470n"])
def test_a_filter_has_one_name_however_it_is_written(written: str) -> None:
    survey = Survey(filters=(written,), sky={"source_masks": {written: "mask.fits"}})
    assert survey.filters == ("F470N",)
    assert survey.sky.source_masks == {"F470N": "mask.fits"}


def test_templates_of_wisps_are_keyed_by_the_name_of_the_band() -> None:
    templates = {"NRCB4_F150W2-F162M": "a.fits", "nrcb3_f162m": "b.fits"}
    assert SkySettings(wisp_templates=templates).wisp_templates == {"NRCB4_F162M": "a.fits", "NRCB3_F162M": "b.fits"}


def test_an_old_name_of_a_setting_is_refused_with_the_new_one(tmp_path, monkeypatch):
    file = tmp_path / "survey.toml"
    file.write_text("solve_anew = true")
    with pytest.raises(ValidationError, match="solve_anew is now called resolve"):
        load_survey([str(file)])
    with pytest.raises(ValidationError, match="solve_anew is now called resolve"):
        Survey.model_validate({"solve_anew": False})
    for flags in (["--solve_anew", "true"], ["--solve_anew=true"]):
        with pytest.raises(ValueError, match="--solve_anew is now called --resolve"):
            load_survey(flags)
    monkeypatch.setenv("COSMOSAIC_SOLVE_ANEW", "true")
    with pytest.raises(ValueError, match="COSMOSAIC_SOLVE_ANEW is now called COSMOSAIC_RESOLVE"):
        load_survey([])
    monkeypatch.delenv("COSMOSAIC_SOLVE_ANEW")
    assert load_survey(["--resolve", "true"]).resolve


def test_the_network_takes_a_file_as_catalogue() -> None:
    with pytest.raises(ValidationError, match="GAIADR3"):
        AlignSettings(method="network", reference_catalog="GAIADR3")
    assert AlignSettings(method="network", reference_catalog="gaia.ecsv").reference_catalog == "gaia.ecsv"
