"""Checks of a survey before a run: all errors, and the resources that the run would need.

Nothing is written and no server is started. All problems are reported at once, each with its remedy.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cosmosaic.calibrate.references import NamedReferences, crds_environment, name_references
from cosmosaic.calibrate.steps import is_to_clean
from cosmosaic.exposures.associations import asked_exposures, read_association
from cosmosaic.exposures.doubts import doubtful_settings
from cosmosaic.exposures.exclusion import exclude
from cosmosaic.exposures.search import FoundExposures, choose_exposures, require_files
from cosmosaic.exposures.unused import unused_settings
from cosmosaic.exposures.windows import (
    exposures_in_tiles,
    named_tiles,
    on_grid_of_image,
    survey_windows,
    window_like,
)
from cosmosaic.injection.placement import place_sources
from cosmosaic.mosaic.memory import MOSAIC_BYTES
from cosmosaic.processes import workers
from cosmosaic.records import Exposure, Windows
from cosmosaic.storage import store
from cosmosaic.survey import InjectionSettings, Survey

PROBLEMS = (OSError, ValueError, RuntimeError)
"""Exceptions of the checks for a survey that cannot be run."""
DEPTH_BYTES, SEGMENT_BYTES = 4, 4
"""Of a pixel of a map of depths, and of a segmentation map."""
EXPOSURE_BYTES = 7 * 4
"""Of a pixel of an exposure, as published before and after Stage 3."""
CACHE_FACTOR, ROUND_FACTOR = 1.6, 1.4
"""Size of the cache in sizes of the products, and of what each round of injected sources adds. Measured: 1.5 and 1.3
with 30 full-frame exposures in four filters, 1.5 with the demo."""


class Needs(NamedTuple):
    """Needs and products of a run with the exposures that were found."""

    found: FoundExposures
    windows: dict[str, Windows]
    """By filter."""
    products_gb: float
    cache_gb: float
    references: NamedReferences | None
    """None if no exposure needs any."""
    warnings: tuple[str, ...]


def find_problems(survey: Survey) -> list[str]:
    """List the problems that prevent a run, as far as they can be found without reading exposures."""
    problems = list(_missing_files(survey))
    problems += store_problems(survey)
    for check in (_check_raw, _check_association, _check_tiles, _check_resources):
        problems += _problem_of(check, survey)
    return problems


def store_problems(survey: Survey) -> list[str]:
    """List the problems of writing to a survey's stores."""
    return _problem_of(_check_stores, survey)


def look_ahead(survey: Survey) -> Needs:
    """Read the headers of a survey's exposures and estimate the needs of a run.

    Raises
    ------
    OSError, ValueError, RuntimeError
        The survey cannot be run; the message says why.
    """
    # Imported here: matplotlib and gwcs come with it, which the start of a run does not wait for.
    from cosmosaic.exposures.regions import check_regions

    survey = on_grid_of_image(survey)
    tiles, window = named_tiles(survey), window_like(survey)
    everywhere = choose_exposures(store.absolute_uri(survey.url("raw")), survey.filters)
    excluded = exclude(everywhere, survey.exclude)
    asked = asked_exposures(excluded.found, survey.association)
    inside = exposures_in_tiles(asked.exposures, tiles or ((window,) if window else ()))
    found = FoundExposures(inside, asked.refused, asked.unasked)
    windows = survey_windows(inside, survey, tiles)
    warnings = [f"exclude: {pattern} matches no exposure" for pattern in excluded.unused]
    for told in (unused_settings, doubtful_settings, check_regions):
        warnings += told(survey, inside)
    warnings += [f"{exposure.name}: {warning}" for exposure in inside for warning in exposure.warnings]
    products_gb = _products_gb(inside, windows)
    cache_gb = products_gb * (CACHE_FACTOR + ROUND_FACTOR * _rounds(inside, windows, survey.injection))
    cache_gb += sum(one.object.size for one in inside if is_to_clean(one, survey.exposures)) / 1e9
    return Needs(found, windows, products_gb, cache_gb, _references(survey, inside), tuple(warnings))


def free_gb(uri: str) -> float | None:
    """Return the free space on the disk of a folder, which need not exist yet; None for a remote store."""
    if store.is_remote(uri):
        return None
    place = Path(store.absolute_uri(uri))
    nearest = next(folder for folder in (place, *place.parents) if folder.exists())
    return shutil.disk_usage(nearest).free / 1e9


def _problem_of(check: Callable[[Survey], None], survey: Survey) -> list[str]:
    try:
        check(survey)
    except PROBLEMS as problem:
        return [str(problem)]
    return []


def _files(survey: Survey) -> Iterator[tuple[str, str]]:
    """Every file that the settings name, by the setting."""
    for setting, uri in (
        ("association", survey.association),
        ("grid.tiles", survey.grid.tiles),
        ("grid.like", survey.grid.like),
        ("sky.levels", survey.sky.levels),
        ("catalog.extinction_map", survey.catalog.extinction_map),
        ("simulation.catalog", survey.simulation.catalog),
        ("simulation.image", survey.simulation.image),
    ):
        if uri:
            yield setting, uri
    for setting, files in (
        ("regions", survey.regions),
        ("catalog.psfs", survey.catalog.psfs),
        ("catalog.detector_psfs", survey.catalog.detector_psfs),
        ("references.gain_maps", survey.references.gain_maps),
        ("sky.wisp_templates", survey.sky.wisp_templates),
        ("sky.source_masks", survey.sky.source_masks),
    ):
        yield from ((f"{setting}.{name}", uri) for name, uri in files.items())
    for name, image in survey.catalog.images.items():
        yield from ((f"catalog.images.{name}.{setting}", uri) for setting, uri in image.files.items())
    catalogue = survey.align.reference_catalog
    if catalogue and "." in catalogue:  # other names are catalogues that jwst knows
        yield "align.reference_catalog", catalogue


def _missing_files(survey: Survey) -> Iterator[str]:
    for setting, uri in _files(survey):
        if not _exists(uri):
            yield f"{setting}: there is no file {uri}"
    cache = None if survey.is_synthetic else survey.references.crds_path
    if cache and not store.is_remote(cache) and not Path(cache).is_dir():
        yield f"references.crds_path: there is no folder {cache}"


def _exists(uri: str) -> bool:
    try:
        return store.stat(uri) is not None
    except OSError:
        return False


def _check_stores(survey: Survey) -> None:
    store.check_access(survey.url("cache"))
    store.check_access(survey.url("products"))


def _check_raw(survey: Survey) -> None:
    if not survey.is_synthetic:
        require_files(store.absolute_uri(survey.url("raw")))


def _check_association(survey: Survey) -> None:
    if survey.association and _exists(survey.association):
        read_association(survey.association)


def _check_tiles(survey: Survey) -> None:
    if survey.grid.tiles and _exists(survey.grid.tiles):
        named_tiles(survey)


def _check_resources(survey: Survey) -> None:
    workers.check_resources(plan_of(survey))


def plan_of(survey: Survey) -> workers.WorkerPlan:
    """Return the child processes of a survey's run."""
    resources = survey.resources
    return workers.plan_workers(
        resources.processes,
        resources.memory_gb,
        resources.time_limit_s,
        resources.scratch,
        crds_environment(survey),
    )


def _products_gb(exposures: tuple[Exposure, ...], windows: dict[str, Windows]) -> float:
    """Estimate the size of the products."""
    pixels = sum(window.shape[0] * window.shape[1] for made in windows.values() for window in made.mosaics)
    return (
        pixels * (MOSAIC_BYTES + DEPTH_BYTES + SEGMENT_BYTES) + sum(_exposure_bytes(exposure) for exposure in exposures)
    ) / 1e9


def _rounds(exposures: tuple[Exposure, ...], windows: dict[str, Windows], settings: InjectionSettings) -> int:
    """Count the rounds of injected sources, none if none are asked for."""
    if not settings.with_products:
        return 0
    first = next(iter(windows.values())).mosaics
    return len(place_sources(first, [exposure.footprint for exposure in exposures], settings))


def _exposure_bytes(exposure: Exposure) -> float:
    """Estimate the size of an exposure's cal and crf files."""
    if exposure.level == "cal":
        return 2.0 * exposure.object.size
    side = int(exposure.subarray.removeprefix("SUB").rstrip("PAB")) if exposure.subarray[3:4].isdigit() else 2048
    return 2.0 * side**2 * EXPOSURE_BYTES


def _references(survey: Survey, exposures: tuple[Exposure, ...]) -> NamedReferences | None:
    """Ask CRDS for one exposure of each detector, filter and level; it names the same files for others like it."""
    alike = {(one.level, one.detector, one.band, one.subarray): one for one in exposures if one.level != "cal"}
    if not alike:
        return None
    plan = plan_of(survey)
    try:
        return workers.run(plan, name_references, tuple(alike.values())).result
    finally:
        workers.stop_workers()


def exposures_by_filter(exposures: tuple[Exposure, ...]) -> list[tuple[str, int, int, float]]:
    """Return filter, number of exposures, number of visits and exposure time in seconds, sorted by filter."""
    counts = Counter(exposure.band for exposure in exposures)
    return [
        (
            band,
            count,
            len({(one.program, one.observation, one.visit) for one in exposures if one.band == band}),
            sum(one.exposure_time for one in exposures if one.band == band),
        )
        for band, count in sorted(counts.items())
    ]
