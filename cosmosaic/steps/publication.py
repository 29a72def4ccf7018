"""Products under their final names."""

import time
from dataclasses import dataclass

from cosmosaic.steps.declaration import Outputs, Step
from cosmosaic.steps.execution import key_of
from cosmosaic.steps.files import File, Many, files_in
from cosmosaic.steps.result import StepResult
from cosmosaic.storage import store
from cosmosaic.storage.scratch import scratch_folder


@dataclass(frozen=True)
class Published(Outputs):
    """Products under their final names."""

    products: Many[File]


@dataclass(frozen=True, kw_only=True)
class Publish(Step[Published]):
    """Copy finished files under a prefix, each kind into its folder."""

    title = "Publish"
    version = 2
    function = "cosmosaic.steps.publication:publish"
    per = "mosaic"

    files: tuple[File | Many, ...]


def publish(step: Publish, scratch: str | None) -> StepResult:
    """Copy a step's files under its target, each completely or not at all."""
    start = time.perf_counter()
    with scratch_folder(scratch, "publish") as folder:
        products = {
            place: store.copy(file.stored, store.join(step.target, place), folder)
            for place, file in ((place_of(file), file) for file in files_in(step.files))
        }
    wall_s = round(time.perf_counter() - start, 3)
    return StepResult(
        step=step.name, key=key_of(step), files={"products": products}, cpu_s=0.0, wall_s=wall_s, peak_mb=0.0
    )


def place_of(file: File) -> str:
    """Return the path of a product relative to all products."""
    path = "/".join(file.stored.uri.split("/")[-1 - file.parents :])
    return f"{file.folder}/{path}" if file.folder else path
