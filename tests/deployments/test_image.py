"""The image of server and worker, built from its Dockerfile and run: as a container without a registry."""

import os
import subprocess
from pathlib import Path

import pytest
from support.programs import require_program
from support.services import ROOT

pytestmark = [pytest.mark.server, pytest.mark.slow]

SUITE = "bookworm"
PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates"
"""What the image's base has to have; the registry of the usual one cannot be reached everywhere."""
CERTIFICATES = "/etc/ssl/certs:/etc/ssl/certs:ro"
SMALL = "--simulation.detectors NRCBLONG --simulation.subarray SUB160 --simulation.groups 3"


class Builder:
    """Buildah with its images in a folder, which needs no daemon."""

    def __init__(self, folder: Path) -> None:
        self.program = [str(require_program("buildah")), "--root", str(folder / "images")]
        self.program += ["--runroot", str(folder / "run")]

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self.program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, env=self.environment
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "BUILDAH_ISOLATION": "chroot"}

    def run(self, container: str, command: str, *options: str) -> str:
        return self("run", *options, container, "--", "sh", "-c", command)


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    builder = Builder(tmp_path_factory.mktemp("buildah"))
    yield builder
    builder("rm", "--all")
    builder("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def container(builder, tmp_path_factory) -> str:
    base = tmp_path_factory.mktemp("base") / "base.tar"
    bootstrap = [str(require_program("mmdebstrap")), "--variant=minbase", f"--include={PACKAGES}", SUITE, str(base)]
    subprocess.run(bootstrap, check=True, capture_output=True)
    builder("from", "--name", "base", "scratch")
    builder("add", "base", str(base), "/")
    base.unlink()
    builder("commit", "--rm", "base", "localhost/python:debian")
    file = ROOT / "deployments" / "Dockerfile"
    builder(
        *("build", "--pull-never", "--build-arg", "PYTHON=localhost/python:debian", "--volume", CERTIFICATES),
        *("--ignorefile", f"{file}.dockerignore", "--tag", "localhost/cosmosaic:test", "--file", str(file), str(ROOT)),
    )
    return builder("from", "--pull-never", "localhost/cosmosaic:test").strip()


def test_the_image_runs_as_a_user_without_rights_who_owns_its_volumes(builder, container):
    assert builder.run(container, "id --user").strip() == "10001"
    assert builder.run(container, "stat --format %U /crds /scratch").split() == ["cosmosaic", "cosmosaic"]
    # Nothing of the checkout but the package.
    assert builder.run(container, "cosmosaic --version && ls /home/cosmosaic").split()[0] == "cosmosaic"


def test_a_survey_runs_in_the_image(builder, container, tmp_path):
    store = tmp_path / "store"
    store.mkdir(mode=0o777)
    store.chmod(0o777)
    said = builder.run(container, f"cosmosaic run --store /store/small {SMALL} 2>&1", "--volume", f"{store}:/store")
    assert "Completed" in said
    assert list((store / "small" / "products").glob("*_f277w_*_full_i2d.fits"))
