"""The execution of a step in a child process, and the key of its result.

The key depends on everything that decides the result, and on nothing else: the step's name and version, its parameters,
the sha256 of every input and of every reference file. The same key means the same bytes.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from pydantic import BaseModel

from cosmosaic.processes import workers
from cosmosaic.provenance import stamp
from cosmosaic.records import StoredObject
from cosmosaic.steps.declaration import Step
from cosmosaic.steps.files import File, stored_in
from cosmosaic.steps.result import Made, StepResult
from cosmosaic.storage import store
from cosmosaic.storage.scratch import require_space

KEY_LENGTH = 32
"""Hexadecimal digits of a key that are used in names: 128 bits."""


class DeclarationError(TypeError):
    """The outputs of a step's function differ from its declaration."""


def key_of(step: Step) -> str:
    """Return the hash of all that decides a step's result."""
    decisive = {
        "step": step.name,
        "version": step.version,
        **_versions(),
        "inputs": {name: _digests(value) for name, value in step.inputs.items()},
        "sources": _digests(step.sources),
        "parameters": {name: _plain(value) for name, value in step.parameters.items()},
        "references": sorted((reference.kind, reference.sha256) for reference in step.references),
        "target": step.target,
    }
    text = json.dumps(decisive, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def execute(step: Step, cache: str, plan: workers.WorkerPlan) -> StepResult:
    """Execute a step in a child process and store its files under its target or ``<cache>/<step>/<key>/``.

    Raises
    ------
    cosmosaic.processes.workers.WorkerError
        The child process ended badly.
    Exception
        Raised by the step's function.
    """
    key = key_of(step)
    target = step.target or store.join(cache, step.name, key)
    outcome = workers.run(plan, _perform, step, key, target, needed_gb=step.needed_gb)
    files, facts, warnings, requests = outcome.result
    return StepResult(
        step=step.name,
        key=key,
        files=files,
        facts=facts,
        warnings=warnings,
        requests=requests,
        cpu_s=round(outcome.cpu_s, 3),
        wall_s=round(outcome.wall_s, 3),
        peak_mb=round(outcome.peak_mb, 1),
    )


def scratch_bytes(step: Step) -> float:
    """Return the room that a step with stored inputs needs on the scratch disk; local inputs are read in place."""
    inputs = set(stored_in(tuple(step.inputs.values())))
    return sum(stored.size for stored in inputs if store.is_remote(stored.uri)) + step.written_bytes


def is_intact(result: StepResult) -> bool:
    """Return whether all files of the step are still stored, unaltered."""
    return store.all_intact(result.objects)


def call(step: Step, path_of: Callable[[StoredObject], Path], folder: Path) -> Made:
    """Call a step's function with local paths in place of its files, and check its outputs against the declaration.

    Raises
    ------
    DeclarationError
        An output is missing, of another kind, or not declared; or a fact is missing that a column shows.
    """
    arguments = {name: _with_paths(value, path_of) for name, value in step.inputs.items()}
    made: Made = resolve_name(step.function)(**arguments, **step.parameters, folder=folder)
    _check_made(step, made)
    return made


@cache
def _versions() -> dict[str, str]:
    """Versions that results depend on; cached, since looking up each takes milliseconds."""
    return {name: version(name) for name in ("cosmosaic", "jwst")}


def _perform(
    step: Step, key: str, target: str, folder: Path
) -> tuple[dict[str, StoredObject | dict[str, StoredObject] | None], dict[str, float], tuple[str, ...], int]:
    sent = store.requests_sent()
    outputs = folder / "out"
    outputs.mkdir()
    inputs = stored_in(tuple(step.inputs.values()))
    require_space(folder, scratch_bytes(step), step.name)
    paths = _fetch(inputs, folder)
    with _kept_warnings() as warnings:
        made = call(step, paths.__getitem__, outputs)
    for stored in inputs:
        # A local input is read in place; if it changed meanwhile, the result would not belong to the key.
        if not store.is_remote(stored.uri):
            store.check_unaltered(stored)
    if not step.target:
        for path in made.paths:
            stamp(path, step.name, key, inputs + stored_in(step.sources), step.references)
    published = {
        path: store.publish_once(path, store.join(target, path.relative_to(outputs).as_posix())) for path in made.paths
    }
    files = {name: _with_objects(value, published) for name, value in made.files.items()}
    return files, made.known_facts, tuple(warnings), store.requests_sent() - sent


@contextmanager
def _kept_warnings() -> Iterator[list[str]]:
    """Collect what the library warns of: the log of a child process ends with its step."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    library = logging.getLogger("cosmosaic")
    library.addHandler(handler)
    try:
        yield messages
    finally:
        library.removeHandler(handler)


def _fetch(inputs: tuple[StoredObject, ...], folder: Path) -> dict[StoredObject, Path]:
    paths: dict[StoredObject, Path] = {}
    for number, stored in enumerate(dict.fromkeys(inputs)):
        # One folder per input: two inputs may have the same name.
        place = folder / "in" / str(number)
        place.mkdir(parents=True)
        paths[stored] = store.fetch(stored, place, workers.shared_folder())
    return paths


def _with_paths(value: Any, path_of: Callable[[StoredObject], Path]) -> Any:
    if isinstance(value, File):
        return path_of(value.stored)
    if isinstance(value, Mapping):
        return {name: _with_paths(item, path_of) for name, item in value.items()}
    return tuple(path_of(stored) for stored in stored_in(value))


def _with_objects(value: Any, published: Mapping[Path, StoredObject]) -> Any:
    if isinstance(value, Mapping):
        return {name: published[path] for name, path in value.items()}
    return None if value is None else published[value]


def _check_made(step: Step, made: Made) -> None:
    declared = step.outputs.fields()
    if set(made.files) != set(declared):
        raise DeclarationError(f"{step.function} made {sorted(made.files)}, its step declares {sorted(declared)}")
    unknown = sorted(set(step.columns) - set(made.facts))
    if unknown:
        raise DeclarationError(f"{step.function} gave no facts {unknown}, which its step's columns show")
    for name, field in declared.items():
        value = made.files[name]
        if value is None and not field.is_optional:
            raise DeclarationError(f"{step.function} did not make {name}")
        if isinstance(value, Mapping) != field.is_many:
            raise DeclarationError(f"{step.function}: {name} is {'many files' if field.is_many else 'one file'}")
        paths = value.values() if isinstance(value, Mapping) else [value] if value else []
        wrong = [path.name for path in paths if not path.name.endswith(field.kind.suffix)]
        if wrong:
            raise DeclarationError(f"{step.function}: {name} {wrong[0]} does not end in {field.kind.suffix}")


def _digests(value: Any) -> Any:
    """Names and checksums of an input's files, with the order, and the names of a mapping."""
    if isinstance(value, Mapping):
        return {name: _digests(item) for name, item in value.items()}
    return [(stored.name, stored.sha256) for stored in stored_in(value)]


def _plain(argument: Any) -> Any:
    if isinstance(argument, BaseModel):
        return argument.model_dump(mode="json")
    if isinstance(argument, tuple | list):
        return [_plain(item) for item in argument]
    if isinstance(argument, Mapping):
        return {str(name): _plain(value) for name, value in argument.items()}
    if argument is None or isinstance(argument, str | int | float | bool):
        return argument
    raise TypeError(f"{argument!r} cannot be part of a step's key; give plain values, settings or records")
