"""Calibration reference files: the CRDS context, the files, and the sha256 of each."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from cosmosaic.calibrate.integrity import fault_of
from cosmosaic.calibrate.steps import STAGE1_KINDS, STAGE2_KINDS
from cosmosaic.exposures.headers import read_header
from cosmosaic.processes import workers
from cosmosaic.records import Exposure, Record, Reference
from cosmosaic.storage import store
from cosmosaic.survey import Survey

SIMULATED_CONTEXT = "jwst_0001.pmap"
"""CRDS context of a synthetic survey's own cache."""

CACHE_VARIABLE = "COSMOSAIC_CRDS_CACHE"
"""Environment variable of the children: URL of a CRDS cache to copy to the local disk."""

NOT_APPLICABLE = "NOT FOUND n/a"


class NoReferenceError(RuntimeError):
    """CRDS has no usable reference file for an exposure."""


def crds_environment(survey: Survey) -> dict[str, str]:
    """Return the CRDS_* variables of the child processes; an empty value unsets a variable.

    A synthetic survey uses its own cache and ignores the user's settings. CRDS reads local files only: the children
    copy a cache on a remote store before they use it, see `localise_cache`.
    """
    if survey.is_synthetic:
        users = {name: "" for name in os.environ if name.startswith("CRDS_")}
        cache = store.absolute_uri(survey.url("crds"))
        place = {CACHE_VARIABLE: cache, "CRDS_PATH": ""} if store.is_remote(cache) else {"CRDS_PATH": cache}
        return {**users, **place, "CRDS_CONTEXT": SIMULATED_CONTEXT, "CRDS_READONLY_CACHE": "1"}
    given = {
        "CRDS_PATH": store.absolute_uri(survey.references.crds_path) if survey.references.crds_path else None,
        "CRDS_CONTEXT": survey.references.crds_context,
        "CRDS_SERVER_URL": survey.references.crds_server_url,
    }
    return {name: value for name, value in given.items() if value}


def localise_cache(shared: Path | None) -> None:
    """Copy a CRDS cache on a remote store to the local disk (in a child process) and let CRDS use the copy.

    Parameters
    ----------
    shared
        Scratch folder shared by the children of one machine; the first makes the copy, the others check it.
    """
    source = os.environ.get(CACHE_VARIABLE)
    if not source or shared is None:
        return
    copy = shared / "crds"
    store.mirror(source, copy)
    os.environ["CRDS_PATH"] = str(copy)
    # Checked once per process: CRDS keeps the files in memory as well.
    del os.environ[CACHE_VARIABLE]


class ResolvedReferences(Record):
    """The reference files with which exposures will be calibrated, by the exposure's URI."""

    found: dict[str, tuple[Reference, ...]]
    """Sorted by type."""
    missing: dict[str, str]
    """The reason, for exposures for which CRDS has no files."""


def resolve_references(asked: tuple[Exposure, ...], folder: Path) -> ResolvedReferences:
    """Ask CRDS which reference files the steps ahead will use for each exposure (in a child process).

    Parameters
    ----------
    asked
        Exposures; an ``uncal`` exposure needs the types of Stage 1 and 2, a ``rate`` exposure those of Stage 2.
    folder
        Scratch folder of this call, not used.

    Raises
    ------
    SystemExit
        CRDS has neither a cache nor a server.
    """
    localise_cache(workers.shared_folder())
    found, missing = {}, {}
    # Exposures of one detector and filter have the same files: their records are made, sent and kept once.
    known: dict[Reference, Reference] = {}
    for exposure in asked:
        try:
            references = _references_of(exposure)
            found[exposure.object.uri] = tuple(known.setdefault(one, one) for one in references)
        except NoReferenceError as error:
            missing[exposure.object.uri] = str(error)
    return ResolvedReferences(found=found, missing=missing)


class NamedReferences(Record):
    """The reference files that CRDS names for some exposures."""

    context: str
    local: tuple[str, ...]
    """Names of the files on this machine."""
    absent: tuple[str, ...]
    """Names of the files that would be fetched from the CRDS server."""
    missing: tuple[str, ...]
    """The reason, for exposures for which CRDS has none."""


def name_references(asked: tuple[Exposure, ...], folder: Path) -> NamedReferences:
    """Ask CRDS which reference files it would use, without fetching any (in a child process).

    Parameters
    ----------
    asked
        Exposures at the levels ``uncal`` or ``rate``; one of each detector and filter is enough.
    folder
        Scratch folder of this call, not used.

    Raises
    ------
    SystemExit
        CRDS has neither a cache nor a server.
    """
    import crds
    from crds.core.exceptions import CrdsError

    names, missing = set[str](), []
    for exposure in asked:
        try:
            found = crds.getrecommendations(
                _crds_parameters(exposure.object.uri), reftypes=_kinds_of(exposure), observatory="jwst"
            )
        except CrdsError as error:
            missing.append(_no_references(exposure, error))
        else:
            names |= {name for name in found.values() if NOT_APPLICABLE not in name}
    local = {name for name in names if Path(crds.locate_file(name, "jwst")).is_file()}
    context = os.environ.get("CRDS_CONTEXT") or str(crds.get_default_context("jwst"))
    return NamedReferences(
        context=context, local=tuple(sorted(local)), absent=tuple(sorted(names - local)), missing=tuple(missing)
    )


def _kinds_of(exposure: Exposure) -> list[str]:
    return sorted({*STAGE1_KINDS, *STAGE2_KINDS} if exposure.level == "uncal" else STAGE2_KINDS)


def _no_references(exposure: Exposure, error: Exception) -> str:
    return (
        f"CRDS has no reference files for {exposure.object.uri} ({exposure.detector} {exposure.filter} "
        f"{exposure.subarray}) in context {os.environ.get('CRDS_CONTEXT', 'of the server')}: {error}"
    )


def _references_of(exposure: Exposure) -> tuple[Reference, ...]:
    import crds
    from crds.core.exceptions import CrdsError

    parameters = _crds_parameters(exposure.object.uri)
    try:
        found = crds.getreferences(parameters, reftypes=_kinds_of(exposure), observatory="jwst")
    except CrdsError as error:
        raise NoReferenceError(_no_references(exposure, error)) from error
    usable = {kind: path for kind, path in found.items() if NOT_APPLICABLE not in path}
    for kind, path in usable.items():
        _check(Path(path), kind, exposure)
    return tuple(
        Reference(kind=kind, name=Path(path).name, path=path, sha256=_hash_file(path, *_size_and_time(path)))
        for kind, path in sorted(usable.items())
    )


def _check(path: Path, kind: str, exposure: Exposure) -> None:
    fault = _fault_of(path, kind, exposure.detector, *(_size_and_time(path) if path.is_file() else (0, 0)))
    if fault:
        raise NoReferenceError(
            f"the reference file {path} ({kind}), which {exposure.name} needs, {fault}; delete it and fetch it again "
            f"(`crds sync --files {path.name}`), or set references.crds_path to a whole cache"
        )


@lru_cache(maxsize=4096)
def _fault_of(path: Path, kind: str, detector: str, size: int, modified_ns: int) -> str:
    """Check a reference file once per path, size and modification time."""
    return fault_of(path, kind, detector)


def _crds_parameters(uri: str) -> dict[str, str | int | float | bool]:
    from astropy.io import fits
    from stdatamodels.jwst.datamodels import JwstDataModel

    with store.open_object(uri) as stream:
        primary = fits.PrimaryHDU(header=read_header(stream).primary)
    with JwstDataModel(fits.HDUList([primary])) as model:
        return model.get_crds_parameters()


def _size_and_time(path: str | Path) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4096)
def _hash_file(path: str, size: int, modified_ns: int) -> str:
    """Hash a reference file once per path, size and modification time."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
