"""What is deployed is what was written: from an empty PREFECT_HOME to products in the store.

Prefect server on PostgreSQL, process worker and S3 store are real ones, each a process of its own.
"""

import pytest
import yaml
from support.services import ROOT

pytestmark = [pytest.mark.server, pytest.mark.s3, pytest.mark.slow]

DEPLOYMENTS = {
    "mosaic/demo", "mosaic/survey", "watch/new-exposures", "cleanup/clean-cache", "compare_sky/sky-methods",
    "inject/catalogue-test", "simulate/synthetic",
}  # fmt: skip


def test_every_flow_is_deployed(production):
    flows = {path.stem for path in (ROOT / "flows").glob("*.py") if "@flow(" in path.read_text()}
    assert {name.split("/")[0] for name in DEPLOYMENTS} == flows
    assert all(production.deployment(name)["work_pool_name"] == "cosmosaic" for name in DEPLOYMENTS)


def test_the_name_of_a_deployment_tells_it_from_the_others():
    names = [
        each["name"] for each in yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]
    ]
    assert sorted(names) == sorted({name.split("/")[1] for name in DEPLOYMENTS})


@pytest.mark.parametrize("name", sorted(DEPLOYMENTS))
def test_nothing_is_left_in_the_temporary_folder_that_a_run_starts_in(production, name):
    assert production.deployment(name)["parameters"]["survey"]["store"].startswith(f"{production.bucket}/small")


@pytest.mark.parametrize("name", sorted(DEPLOYMENTS))
def test_the_form_has_every_setting_with_description_unit_and_choices(production, name):
    schema = production.deployment(name)["parameter_openapi_schema"]
    assert list(schema["properties"]) == ["survey"]
    definitions = schema["definitions"]
    settings = {
        f"{model}.{key}": field
        for model, definition in definitions.items()
        for key, field in definition["properties"].items()
    }
    assert "milliarcseconds" in settings["GridSettings.pixel_scale_mas"]["description"]
    assert settings["GridSettings.pixel_scale_mas"]["minimum"] == 5
    assert settings["DrizzleSettings.kernel"]["enum"] == ["square", "point", "turbo", "gaussian", "lanczos3"]
    sections = {name for name, field in settings.items() if "$ref" in field or "allOf" in field}
    assert {name for name, field in settings.items() if "description" not in field} <= sections


@pytest.mark.parametrize(
    ("survey", "named"),
    [
        ({"grid": {"pixel_scale_mas": -30}}, "pixel_scale_mas"),
        ({"drizzle": {"kernel": "cubic"}}, "kernel"),
        ({"gird": {"rotation": 3}}, "gird"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(production, survey, named):
    deployment = production.deployment("mosaic/survey")["id"]
    refused = production.answer("POST", f"deployments/{deployment}/create_flow_run", parameters={"survey": survey})
    assert refused.status_code == 409
    assert named in refused.text


def test_the_first_run_leaves_its_products_in_the_store(production, first_run):
    assert first_run["state"]["type"] == "COMPLETED", first_run["state"]
    products = production.products()
    assert {
        "small_f444w_30mas_full_i2d.fits",
        "small_full_cat.ecsv",
        "small_full_segm.fits",
        "small_f444w_30mas_full.png",
        "small_colour.png",
    } <= set(products)
    assert sum(name.startswith("exposures/") and name.endswith("_crf.fits") for name in products) == 2


def test_the_run_has_its_artifacts(production, first_run):
    artifacts = production.artifacts(first_run["id"])
    assert {"exposures", "summary", "previews"} <= set(artifacts)
    assert artifacts["progress"]["data"] == 100.0


def test_the_log_names_each_step_with_its_exposure(production, first_run):
    frames = [frame.name.removesuffix("_uncal.fits") for frame in production.frames[:2]]
    logs = production.logs(first_run["id"])
    for name in (f"{step}: {frame}" for step in ("Calibrate", "Drizzle", "Outliers") for frame in frames):
        assert sum(line.startswith(f"{name}: ") for line in logs) == 1


def test_the_keys_of_the_store_are_nowhere_in_the_server(production, first_run):
    """Neither in parameters, blocks and artifacts nor in logs: what the server has, its database has."""
    dumped = production.dump()
    assert first_run["id"] in dumped
    assert production.s3.secret_key not in dumped
    assert production.s3.access_key not in dumped
