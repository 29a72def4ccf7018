"""The templates for containers: valid by their schemas, rendered by Prefect's own workers; they are not run here."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import kubernetes_validate
import pytest
import yaml
from botocore.validate import validate_parameters
from moto import mock_aws
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws.workers.ecs_worker import ECSJobConfiguration, ECSWorker
from prefect_docker.worker import DockerWorkerJobConfiguration
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = ROOT / "deployments"
RUN = FlowRun(id="01234567-89ab-cdef-0123-456789abcdef", flow_id="11234567-89ab-cdef-0123-456789abcdef", name="nightly")
POOLS = ("docker", "kubernetes", "ecs")
PINNED = re.compile(r"[\w./-]+:[\w.-]*\d[\w.-]*")


def template(pool: str) -> dict[str, Any]:
    return json.loads((DEPLOYMENTS / "pools" / f"{pool}.json").read_text())


@pytest.fixture
def rendered(api):
    """What a worker of a pool would submit for a run."""

    def render(configuration, pool: str, **variables: Any):
        with temporary_settings({PREFECT_API_URL: api}):
            made = asyncio.run(configuration.from_template_and_values(template(pool), variables))
        made.prepare_for_flow_run(RUN)
        return made

    return render


def check(*command: str) -> None:
    done = subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], capture_output=True, text=True,
                          check=False, cwd=ROOT)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_has_nothing_that_its_linter_minds():
    check("hadolint", "deployments/Dockerfile")


def test_the_image_is_pinned_and_does_not_run_as_root():
    lines = (DEPLOYMENTS / "Dockerfile").read_text().splitlines()
    defaults = dict(line.removeprefix("ARG ").split("=") for line in lines if line.startswith("ARG "))
    images = [line.split()[1] for line in lines if line.startswith("FROM ")]
    images = [defaults.get(image.strip("${}"), image) for image in images]
    assert [image for image in images if not PINNED.fullmatch(image)] == []
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001"]


def test_compose_follows_its_specification_and_pins_every_image():
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deployments/compose.yaml")
    services = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text())["services"]
    assert {"database", "server", "store", "worker"} <= set(services)
    assert [name for name, service in services.items() if not PINNED.fullmatch(service["image"])] == []


def test_compose_needs_what_its_example_names_and_has_no_secret():
    text = (DEPLOYMENTS / "compose.yaml").read_text()
    asked = {name for name, default in re.findall(r"\$\{(\w+)(:-)?", text) if not default}
    example = dict(
        line.split("=") for line in (DEPLOYMENTS / "compose.env.example").read_text().splitlines() if "=" in line
    )
    given = {name for name in example if not name.startswith("#")}
    assert asked == given
    assert {value for name, value in example.items() if name.endswith("PASSWORD")} == {""}


@pytest.mark.server
def test_a_kubernetes_job_is_valid_and_has_its_keys_from_a_secret(rendered):
    job = rendered(KubernetesWorkerJobConfiguration, "kubernetes", memory_limit="8Gi").job_manifest
    pod = job["spec"]["template"]["spec"]
    # Prefect insists on these two here, where Kubernetes passes over them.
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    kubernetes_validate.validate(job, "1.31", strict=True)
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["envFrom"] == [{"secretRef": {"name": "cosmosaic-store"}}]
    assert container["resources"]["limits"]["memory"] == "8Gi"
    assert container["image"] == "cosmosaic:0.1.0"


@pytest.mark.server
def test_an_ecs_task_is_one_that_amazon_takes(rendered):
    configuration = rendered(ECSJobConfiguration, "ecs")
    task = ECSWorker(work_pool_name="cosmosaic")._prepare_task_definition(configuration, "us-east-1", RUN)
    service = botocore.session.get_session().get_service_model("ecs")
    validate_parameters(task, service.operation_model("RegisterTaskDefinition").input_shape)
    assert task["ephemeralStorage"] == {"sizeInGiB": 100}
    assert task["requiresCompatibilities"] == ["FARGATE"]


@pytest.mark.server
def test_an_ecs_run_is_one_that_amazon_takes(rendered, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    configuration = rendered(ECSJobConfiguration, "ecs", cluster="science")
    worker = ECSWorker(work_pool_name="cosmosaic")
    with mock_aws():  # the account's subnets are looked up
        task = worker._prepare_task_definition(configuration, "us-east-1", RUN)
        definition = boto3.client("ecs").register_task_definition(**task)["taskDefinition"]["taskDefinitionArn"]
        request = worker._prepare_task_run_request(configuration, task, definition, True)
    service = botocore.session.get_session().get_service_model("ecs")
    validate_parameters(request, service.operation_model("RunTask").input_shape)
    (container,) = request["overrides"]["containerOverrides"]
    assert (request["cluster"], request["launchType"]) == ("science", "FARGATE")
    assert request["networkConfiguration"]["awsvpcConfiguration"]["subnets"]
    assert {"name": "CRDS_PATH", "value": "/tmp/crds_cache"} in container["environment"]
    assert container["command"][:2] == ["prefect", "flow-run"]


@pytest.mark.server
def test_a_docker_container_has_its_keys_from_a_file_that_is_mounted(rendered):
    configuration = rendered(DockerWorkerJobConfiguration, "docker")
    assert configuration.image == "cosmosaic:0.1.0"
    assert any(volume.endswith("/.aws:ro") for volume in configuration.volumes)


@pytest.mark.server
@pytest.mark.s3
@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_can_be_made_of_a_template(production, pool):
    production.prefect(
        "work-pool", "create", f"a-{pool}-pool", "--type", pool,
        "--base-job-template", str(DEPLOYMENTS / "pools" / f"{pool}.json"),
    )  # fmt: skip
    assert production.ask("GET", f"work_pools/a-{pool}-pool")["base_job_template"] == template(pool)


@pytest.mark.server
@pytest.mark.s3
def test_the_automation_for_dead_runs_can_be_made(production):
    production.prefect("automation", "create", "--from-file", "deployments/automations.yaml")
    (made,) = production.ask("POST", "automations/filter", automations={"name": {"any_": ["dead runs"]}})
    assert made["enabled"]


@pytest.mark.parametrize("pool", POOLS)
def test_no_template_has_room_for_keys_in_its_environment(pool):
    environment = template(pool)["variables"]["properties"]["env"]["default"]
    assert [name for name in environment if "KEY" in name or "SECRET" in name or "PASSWORD" in name] == []
