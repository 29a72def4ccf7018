"""The finished steps of a survey's last run in one object of a remote store.

With it and a listing of the store, the next run finds what is finished by a request for a thousand files instead of one
for each file and each record. A local disk answers at once and has no manifest.
"""

import gzip
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from math import inf

from cosmosaic.steps.result import StepResult
from cosmosaic.storage import store
from cosmosaic.storage.store import ListedObject, join

Dated = tuple[ListedObject, float]
"""An object and the time it was last written."""

FOLDER, RESULTS = "manifests", "results"
"""Parts of the cache: the manifests, and the orchestrator's record of each finished step, named by its key."""


def write_manifest(cache: str, survey: str, results: Iterable[StepResult], products: str) -> None:
    """Keep the steps that a run used, with the versions of their files.

    A step is left out if one of its files was written after the record that says it is finished, and thus perhaps by
    somebody else: the next run looks at it more closely. S3 tells times in whole seconds, so that a file which was
    written within the second of the record counts as the step's own.

    Parameters
    ----------
    cache, products
        Prefixes of all files.
    survey
        The survey's name.
    results
        What the steps made.
    """
    if not store.is_remote(cache):
        return
    listed = _listed(cache, products)
    entries = []
    for result in {result.key: result for result in results}.values():
        _, finished = listed.get(join(cache, RESULTS, result.key), (None, -inf))
        files = [listed.get(stored.uri, (None, inf)) for stored in result.objects]
        if all(file and written <= finished for file, written in files):
            versions = [file.version for file, _ in files if file]
            entries.append({"result": result.model_dump(mode="json"), "versions": versions})
    content = gzip.compress(json.dumps(entries).encode(), mtime=0)
    store.publish_bytes(content, _uri(cache, survey))


def read_manifest(cache: str, survey: str, products: str) -> dict[str, StepResult]:
    """Return the steps of the survey's last run whose files are unaltered, by their keys; none without a manifest."""
    if not store.is_remote(cache):
        return {}
    entries = []
    with suppress(OSError, ValueError, EOFError):
        entries = json.loads(gzip.decompress(store.read_bytes(_uri(cache, survey))))
    listed = _listed(cache, products) if entries else {}
    known: dict[str, StepResult] = {}
    with suppress(ValueError, KeyError, TypeError):  # written by another version
        for entry in entries:
            result = StepResult.model_validate(entry["result"])
            if _is_unaltered(result, entry["versions"], listed):
                known[result.key] = result
    return known


def _is_unaltered(result: StepResult, versions: list[str], listed: Mapping[str, Dated]) -> bool:
    files = [listed[stored.uri][0] for stored in result.objects if stored.uri in listed]
    expected = [(stored.uri, stored.size, version) for stored, version in zip(result.objects, versions, strict=True)]
    return [(file.uri, file.size, file.version) for file in files] == expected


def _listed(cache: str, products: str) -> dict[str, Dated]:
    return {found[0].uri: found for prefix in (cache, products) for found in store.list_dated(prefix)}


def _uri(cache: str, survey: str) -> str:
    return join(cache, FOLDER, f"{survey}.json.gz")
