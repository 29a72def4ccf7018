"""A job without an orchestrator: steps run on an executor, and nothing is looked up. For benchmarks and tests."""

from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from cosmosaic.records import StoredObject
from cosmosaic.steps.declaration import Made, Step
from cosmosaic.steps.execution import call
from cosmosaic.steps.files import File, Promise
from cosmosaic.steps.result import StepResult
from cosmosaic.survey import Survey


class LocalJob:
    """Runs each step once its inputs are made; an error is raised when its outputs are used.

    Parameters
    ----------
    survey
        The settings.
    folder
        Gets a folder for each step.
    executor
        Executor of the steps.
    """

    checksums = ""

    def __init__(self, survey: Survey, folder: Path, executor: Executor) -> None:
        self.survey = survey
        self.products = str(folder / "products")
        self._folder, self._executor = folder, executor
        self._steps = 0

    def submit(self, step: Step[Made], label: str) -> Made:
        """Wait for a step's inputs, then submit it."""
        folder = self._folder / f"{self._steps:05d}-{step.name}" / "out"
        self._steps += 1
        settled = step.settled(_made)
        return step.outputs.promised(self._executor.submit(_run, settled, folder))  # type: ignore[return-value]

    def path_of(self, file: File) -> Path:
        """Wait for a file and return its path."""
        made = _made(file.source) if isinstance(file.source, Promise) else file.stored
        return Path(made.uri)  # type: ignore[union-attr]

    def note(self, text: str) -> None:
        """Ignore the message."""


def result_of(node: Future[StepResult]) -> StepResult:
    """Wait for a step that was submitted to a `LocalJob`, and return its result."""
    return node.result()


def _made(promise: Promise) -> StoredObject | dict[str, StoredObject] | None:
    made = result_of(promise.node).files[promise.output]
    return made if promise.name is None or not isinstance(made, dict) else made.get(promise.name)


def _run(step: Step, folder: Path) -> StepResult:
    folder.mkdir(parents=True)
    made = call(step, lambda stored: Path(stored.uri), folder)
    files = {
        name: {key: _stored(path) for key, path in value.items()}
        if isinstance(value, dict)
        else value and _stored(value)
        for name, value in made.files.items()
    }
    return StepResult(step=step.name, key="", files=files, facts=made.known_facts, cpu_s=0.0, wall_s=0.0, peak_mb=0.0)


def _stored(made: Any) -> Any:
    if isinstance(made, dict):
        return {name: _stored(path) for name, path in made.items()}
    return made and StoredObject(uri=str(made), sha256="", size=made.stat().st_size)
