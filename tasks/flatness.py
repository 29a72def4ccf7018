"""The sky of one filter, from calibrated exposures to the verdict."""

from collections.abc import Mapping
from dataclasses import dataclass

from prefect.futures import PrefectFuture

from cosmosaic import store
from cosmosaic.filters import WISP_DETECTORS, detector_pixel_arcsec
from cosmosaic.mosaic.tiles import cell_lattice
from cosmosaic.records import Association, Frame, MosaicGrid, StoredObject
from tasks.run import Run
from tasks.sky import bin_cleared_frame, bin_frame, flatten_frame, judge_sky, measure_sky, remove_wisps

Exposures = tuple[StoredObject | PrefectFuture, ...]

FEWEST_FOR_TEMPLATE = 3
"""Exposures of a detector that tell wisps from sources."""


@dataclass(frozen=True)
class SkyFutures:
    """The sky of one filter, as it is being measured."""

    exposures: Exposures
    """The ``cal`` files, flattened where that is asked for; the levels are still in."""
    cells: tuple[PrefectFuture, ...]
    levels: PrefectFuture | None
    grid: MosaicGrid
    """The lattice of the cells."""


def without_wisps(
    association: Association, cals: Mapping[str, StoredObject], frames: Mapping[str, Frame], run: Run
) -> tuple[Exposures, tuple[PrefectFuture, ...]]:
    """Submit the correction of wisps for each detector that has them; return all exposures, and those steps."""
    settings = run.survey.sky
    if not settings.wisps:
        return tuple(cals.values()), ()
    untouched, futures = dict(cals), []
    for detector in sorted(WISP_DETECTORS):
        members = [name for name in cals if frames[name].detector == detector]
        template = settings.wisp_templates.get(f"{detector}_{association.filter}")
        if not members or (template is None and len(members) < FEWEST_FOR_TEMPLATE):
            continue
        future = run.submit(
            remove_wisps,
            f"{association.band} {detector}",
            exposures=tuple(untouched.pop(name) for name in members),
            template=store.checksum(template, run.work.checksums) if template else None,
            stem=f"{association.product_name}_{detector.lower()}_wisp",
        )
        futures.append(future)
    return (*untouched.values(), *futures), tuple(futures)


def measure_band(association: Association, exposures: Exposures, grid: MosaicGrid, run: Run) -> SkyFutures:
    """Submit the steps that find the sky of each exposure and take out what varies over it."""
    settings, band = run.survey.sky, association.band
    cell_grid = cell_lattice(grid, detector_pixel_arcsec(association.filter))
    cells = tuple(
        run.submit(bin_frame, name, exposures=exposures, name=name, grid=cell_grid) for name in association.members
    )
    if settings.method == "none" and not settings.changes_pixels:
        return SkyFutures(exposures, cells, None, cell_grid)
    levels = run.submit(
        measure_sky,
        band,
        cells=cells,
        exposures=exposures,
        table=store.checksum(settings.levels, run.work.checksums) if settings.levels else None,
        settings=settings,
        grid=cell_grid,
        stem=f"{association.product_name}_sky",
    )
    if not settings.changes_pixels:
        return SkyFutures(exposures, cells, levels, cell_grid)
    flat = tuple(
        run.submit(flatten_frame, name, exposures=exposures, name=name, sky=levels, settings=settings)
        for name in association.members
    )
    return SkyFutures(flat, cells, levels, cell_grid)


def judge_band(
    association: Association, sky: SkyFutures, flagged: tuple[PrefectFuture, ...], run: Run
) -> PrefectFuture:
    """Submit the verdict on the exposures as they went into the mosaic."""
    cleared = tuple(
        run.submit(bin_cleared_frame, name, exposures=flagged, name=name, grid=sky.grid) for name in association.members
    )
    return run.submit(
        judge_sky,
        association.band,
        before=sky.cells,
        after=cleared,
        sky=sky.levels,
        grid=sky.grid,
        stem=association.product_name,
    )
