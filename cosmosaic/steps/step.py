"""A step: a function from stored objects to stored objects, and the key under which its result is kept.

The key is made of what decides the result and of nothing else: the step's name and version, its own
parameters, the sha256 of every input and of every reference file. The same key means the same bytes.
"""

import hashlib
import json
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from cosmosaic.calibrate import references
from cosmosaic.processes import workers
from cosmosaic.provenance import stamp
from cosmosaic.records import Made, Record, Reference, StoredObject
from cosmosaic.storage import store
from cosmosaic.storage.scratch import require_space, scratch_folder

SCRATCH_FACTOR = 3
"""A step's inputs, outputs and intermediates in units of its inputs (Stage 1 leaves a quarter of the ramp, outlier
detection about as much as it reads, twice)."""

KEY_LENGTH = 32
"""Hexadecimal digits of a key that are used in names: 128 bits."""


class Step(NamedTuple):
    """One unit of work."""

    name: str
    version: int
    function: str
    """``module:function``, imported in the child process alone: jwst takes seconds to import. It is called with
    the local paths of the inputs, in order, the arguments, and an empty folder to write to, and returns what it
    `Made`."""
    inputs: tuple[StoredObject, ...]
    arguments: tuple[Any, ...] = ()
    """Parameters of this step alone: settings models, records, strings and numbers."""
    references: tuple[Reference, ...] = ()
    sources: tuple[StoredObject, ...] = ()
    """What the inputs were made of, where the product's header should name it too; not fetched."""
    target: str = ""
    """Prefix that the files go to under their paths relative to the step's folder; left out, the cache."""

    @property
    def key(self) -> str:
        """Hash of all that decides the result."""
        decisive = {
            "step": self.name,
            "version": self.version,
            **_versions(),
            "inputs": [(stored.name, stored.sha256) for stored in self.inputs],
            "sources": [(stored.name, stored.sha256) for stored in self.sources],
            "arguments": [_plain(argument) for argument in self.arguments],
            "references": sorted((reference.kind, reference.sha256) for reference in self.references),
            "target": self.target,
        }
        text = json.dumps(decisive, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


@cache
def _versions() -> dict[str, str]:
    """Versions that decide a result; each is searched for in all of ``sys.path``, which takes milliseconds."""
    return {name: version(name) for name in ("cosmosaic", "jwst")}


class StepResult(Record):
    """What a step left in the store, and what it cost when it was executed."""

    step: str
    key: str
    objects: tuple[StoredObject, ...]
    facts: dict[str, float] = Field(default_factory=dict)
    cpu_s: float
    wall_s: float
    peak_mb: float

    def named(self, suffix: str) -> StoredObject:
        """The one object whose name ends with ``suffix``."""
        return next(stored for stored in self.objects if stored.name.endswith(suffix))


def objects_of(*sources: StepResult | StoredObject | tuple) -> tuple[StoredObject, ...]:
    """Return the objects of results, objects and tuples of them, in order."""
    flat: list[StoredObject] = []
    for source in sources:
        if isinstance(source, StoredObject):
            flat.append(source)
        else:
            flat += source.objects if isinstance(source, StepResult) else objects_of(*source)
    return tuple(flat)


def execute(step: Step, cache: str, plan: workers.WorkerPlan) -> StepResult:
    """Do a step's work in a child process and leave its files under its target or ``<cache>/<step>/<key>/``.

    Raises
    ------
    cosmosaic.processes.workers.WorkerError
        The child process ended badly.
    Exception
        What the step's function raised.
    """
    outcome = workers.run(plan, _perform, step, step.target or store.join(cache, step.name, step.key))
    objects, facts = outcome.result
    return StepResult(
        step=step.name,
        key=step.key,
        objects=objects,
        facts=facts,
        cpu_s=round(outcome.cpu_s, 3),
        wall_s=round(outcome.wall_s, 3),
        peak_mb=round(outcome.peak_mb, 1),
    )


def publish(step: Step, scratch: str | None) -> StepResult:
    """Copy a step's inputs under its target, each whole or not at all."""
    start = time.perf_counter()
    with scratch_folder(scratch, "publish") as folder:
        objects = tuple(store.copy(stored, store.join(step.target, stored.name), folder) for stored in step.inputs)
    wall_s = round(time.perf_counter() - start, 3)
    return StepResult(step=step.name, key=step.key, objects=objects, cpu_s=0.0, wall_s=wall_s, peak_mb=0.0)


def is_intact(result: StepResult) -> bool:
    """Tell whether everything the step left is still there, unaltered."""
    return store.all_intact(result.objects)


def _perform(step: Step, target: str, folder: Path) -> tuple[tuple[StoredObject, ...], dict[str, float]]:
    outputs = folder / "out"
    outputs.mkdir()
    if step.references:
        references.localise_cache(workers.shared_folder())
    paths = _fetch_inputs(step, folder)
    made: Made = resolve_name(step.function)(paths, *step.arguments, outputs)
    for stored in step.inputs:
        # A local input is read where it lies; had it changed meanwhile, the result would not be that of the key.
        if not store.is_remote(stored.uri):
            store.check_unaltered(stored)
    if not step.target:
        for path in made.paths:
            stamp(path, step.name, step.key, step.inputs + step.sources, step.references)
    names = [path.relative_to(outputs).as_posix() for path in made.paths]
    uris = [store.join(target, name) for name in names]
    return tuple(map(store.publish_once, made.paths, uris)), made.facts


def _fetch_inputs(step: Step, folder: Path) -> list[Path]:
    require_space(folder, SCRATCH_FACTOR * sum(stored.size for stored in step.inputs), step.name)
    paths = []
    for number, stored in enumerate(step.inputs):
        # A folder for each: two inputs may have the same name.
        place = folder / "in" / str(number)
        place.mkdir(parents=True)
        paths.append(store.fetch(stored, place, workers.shared_folder()))
    return paths


def _plain(argument: Any) -> Any:
    if isinstance(argument, BaseModel):
        return argument.model_dump(mode="json")
    if isinstance(argument, tuple | list):
        return [_plain(item) for item in argument]
    if isinstance(argument, dict):
        return {str(name): _plain(value) for name, value in argument.items()}
    if argument is None or isinstance(argument, str | int | float | bool):
        return argument
    raise TypeError(f"{argument!r} cannot be part of a step's key; give plain values, settings or records")
