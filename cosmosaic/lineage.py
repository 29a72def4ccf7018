"""Lineage: which file was made of which, as OpenLineage events of each run in a file beside its log.

A run's file has an event for each of its steps, looked up or executed, and so is whole. A dataset is a file; a version
is a sha256 (https://openlineage.io/docs/spec/naming has the rules of names).
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cosmosaic.records import Reference, StoredObject
from cosmosaic.storage import store

NAMESPACE = "cosmosaic"
PRODUCER = "https://github.com/cosmosaic/cosmosaic"
FOLDER, SUFFIX = "runs", ".openlineage.jsonl"
LOCAL = "file"
"""OpenLineage's namespace of files on a disk."""
KEPT_DATASETS = 10_000
"""Files whose descriptions are kept for the next steps while events are written."""


@dataclass(frozen=True)
class StepLineage:
    """The files of one step of a run."""

    function: str
    """``module:function``."""
    key: str
    inputs: tuple[StoredObject, ...]
    references: tuple[Reference, ...]
    outputs: tuple[StoredObject, ...]
    ended: datetime


@dataclass
class Lineage:
    """What one run knows of the files that it used: which were made of which.

    URIs are the names; versions are sha256.
    """

    run_id: str = ""
    made_of: dict[str, set[str]] = field(default_factory=dict)
    """Inputs of each file that a step made."""
    made_by: dict[str, str] = field(default_factory=dict)
    """Function of the step that made each."""
    sha256: dict[str, str] = field(default_factory=dict)


def write_lineage(products: str, run_id: str, survey: str, started: datetime, steps: Iterable[StepLineage]) -> str:
    """Write the events of a run, one by one: all together have hundreds of megabytes; return the file's URI."""
    # A file is used by several steps, which follow each other closely.
    dataset, common = lru_cache(KEPT_DATASETS)(_dataset), _common(run_id, survey, started)
    uri = store.join(products, FOLDER, f"{started:%Y%m%d%H%M%S%f}_{run_id}{SUFFIX}")
    with tempfile.NamedTemporaryFile("w", prefix="cosmosaic-lineage-", encoding="utf-8") as file:
        for step in steps:
            file.write(f"{json.dumps(_event(step, common, run_id, dataset), sort_keys=True)}\n")
        file.flush()
        store.publish(Path(file.name), uri)
    return uri


def read_lineages(products: str) -> Iterator[Lineage]:
    """Read what each run wrote under a products prefix, the last run first."""
    written = list(store.list_objects(store.join(products, FOLDER), f"*{SUFFIX}"))
    for listed in sorted(written, key=lambda listed: listed.name, reverse=True):
        yield _lineage(store.read_bytes(listed.uri).decode().splitlines())


def _common(run_id: str, survey: str, started: datetime) -> dict[str, Any]:
    """Return what the events of a run share, checked by OpenLineage's classes once."""
    # Imported here: a run needs it once, at its end.
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import parent_run
    from openlineage.client.serde import Serde

    parent = parent_run.ParentRunFacet(parent_run.Run(run_id), parent_run.Job(NAMESPACE, survey), producer=PRODUCER)
    event = RunEvent(
        eventTime=started.isoformat(),
        eventType=RunState.COMPLETE,
        producer=PRODUCER,
        run=Run(run_id, facets={"parent": parent}),
        job=Job(NAMESPACE, survey),
    )
    return Serde.to_dict(event)


def _event(
    step: StepLineage, common: dict[str, Any], run_id: str, dataset: Callable[[type, str, str], dict[str, Any]]
) -> dict[str, Any]:
    from openlineage.client.event_v2 import InputDataset, OutputDataset

    used = {one.uri: one.sha256 for one in step.inputs} | {one.path: one.sha256 for one in step.references}
    made = {one.uri: one.sha256 for one in step.outputs}
    own_id = str(uuid5(NAMESPACE_URL, f"{run_id} {step.function} {step.key}"))
    return common | {
        "eventTime": step.ended.isoformat(),
        "run": common["run"] | {"runId": own_id},
        "job": common["job"] | {"name": step.function},
        "inputs": [dataset(InputDataset, uri, sha256) for uri, sha256 in used.items()],
        "outputs": [dataset(OutputDataset, uri, sha256) for uri, sha256 in made.items()],
    }


def _dataset(kind: type, uri: str, sha256: str) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset
    from openlineage.client.serde import Serde

    version = dataset_version_dataset.DatasetVersionDatasetFacet(sha256, producer=PRODUCER)
    namespace, name = _named(uri)
    return Serde.to_dict(kind(namespace, name, facets={"version": version}))


def _named(uri: str) -> tuple[str, str]:
    """OpenLineage's namespace and name of a file."""
    if not store.is_remote(uri):
        return LOCAL, uri
    scheme, _, rest = uri.partition("://")
    place, _, name = rest.partition("/")
    return f"{scheme}://{place}", name


def _uri(dataset: dict[str, Any]) -> str:
    namespace, name = dataset["namespace"], dataset["name"]
    return name if namespace == LOCAL else f"{namespace}/{name}"


def _lineage(lines: Iterable[str]) -> Lineage:
    lineage = Lineage()
    for event in map(json.loads, lines):
        lineage.run_id = event["run"]["facets"]["parent"]["run"]["runId"]
        for dataset in (*event["inputs"], *event["outputs"]):
            lineage.sha256[_uri(dataset)] = dataset["facets"]["version"]["datasetVersion"]
        inputs = {_uri(dataset) for dataset in event["inputs"]}
        for made in map(_uri, event["outputs"]):
            lineage.made_by[made] = event["job"]["name"]
            lineage.made_of[made] = _originals(made, inputs, lineage.sha256) or inputs
    return lineage


def _originals(made: str, inputs: set[str], sha256: dict[str, str]) -> set[str]:
    """Those inputs of a step that a file is a copy of: they have its name and its bytes."""
    name = made.rpartition("/")[2]
    return {one for one in inputs if one.endswith(f"/{name}") and sha256[one] == sha256[made]}
