"""The sky of one filter, from calibrated exposures to the verdict."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from prefect.futures import PrefectFuture

from cosmosaic.geometry.windows import cell_lattice
from cosmosaic.nircam import WISP_DETECTORS, detector_pixel_arcsec
from cosmosaic.records import Association, Frame, MosaicGrid, StoredObject
from cosmosaic.sky.solution import (
    MaskedSkyRequest,
    SkyRequest,
    SkySolution,
    WispSolution,
    read_solution,
    read_wisps,
)
from cosmosaic.storage import store
from tasks.runtime.run import Run
from tasks.sky import (
    bin_frame,
    bin_masked_frame,
    judge_sky,
    measure_sky,
    measure_wisps,
    subtract_wisp,
)
from tasks.source_masks import SourceMask

Exposures = Mapping[str, StoredObject | PrefectFuture]
"""The ``cal`` file of each exposure, or the step that makes it."""

Solution = TypeVar("Solution")


@dataclass(frozen=True)
class SkyFutures:
    """The sky of one filter, as it is being measured."""

    cells: tuple[PrefectFuture, ...]
    levels: PrefectFuture | None
    earlier: SkySolution | None
    """What an earlier run published."""
    grid: MosaicGrid
    """The lattice of the cells."""


def without_wisps(
    association: Association, cals: Mapping[str, StoredObject], frames: Mapping[str, Frame], run: Run
) -> tuple[Exposures, tuple[PrefectFuture, ...]]:
    """Submit the correction of wisps for each detector that has them; return all exposures, and what measures wisps."""
    settings = run.survey.sky
    if not settings.wisps:
        return cals, ()
    cleaned: dict[str, StoredObject | PrefectFuture] = dict(cals)
    futures = []
    for detector in sorted(WISP_DETECTORS):
        members = [name for name in cals if frames[name].detector == detector]
        if not members:
            continue
        # However few they are: one that has nothing to subtract is the same when there are enough for a template.
        template = settings.wisp_templates.get(f"{detector}_{association.filter}")
        stem = f"{association.product_name}_{detector.lower()}_wisp"
        digests = {name: cals[name].sha256 for name in members}
        own = None if template or run.survey.solve_anew else published_template(stem, digests, run)
        future = run.submit(
            measure_wisps,
            f"{association.band} {detector}",
            exposures=tuple(cals[name] for name in members),
            template=store.checksum(template, run.work.checksums) if template else own,
            solution=WispSolution(exposures=digests, kept=own is not None, missing=missing_of(association, frames)),
            stem=stem,
        )
        futures.append(future)
        cleaned |= {
            name: run.submit(subtract_wisp, name, exposure=cals[name], name=name, wisps=future) for name in members
        }
    return cleaned, tuple(futures)


def missing_of(association: Association, frames: Mapping[str, Frame]) -> tuple[str, ...]:
    """Return the names of a filter's frames that could not be calibrated."""
    return tuple(
        name
        for name, frame in sorted(frames.items())
        if frame.band == association.band and name not in association.members
    )


def holders(exposures: Exposures) -> tuple[StoredObject | PrefectFuture, ...]:
    """Return what holds all exposures, each once."""
    return tuple(dict.fromkeys(exposures.values()))


def measure_band(
    association: Association,
    exposures: Exposures,
    frames: Mapping[str, Frame],
    grid: MosaicGrid,
    mask: SourceMask | None,
    run: Run,
) -> SkyFutures:
    """Submit the steps that find the sky of each exposure."""
    settings, band = run.survey.sky, association.band
    cell_grid = cell_lattice(grid, detector_pixel_arcsec(association.filter))
    cells = tuple(
        run.submit(bin_frame, name, exposure=exposures[name], name=name, grid=cell_grid) for name in association.members
    )
    if settings.method == "none" and not settings.slow_stripes:
        return SkyFutures(cells, None, None, cell_grid)
    # The verdict judges all light, whatever the mask.
    masked = tuple(
        run.submit(bin_masked_frame, name, exposure=exposures[name], name=name, mask=mask.stored, grid=cell_grid)
        for name in association.members
        if mask and name in mask.frames
    )
    stem = f"{association.product_name}_sky"
    earlier = published_solution(stem, run)
    # Whether the level is subtracted or only recorded does not change what is measured.
    request = SkyRequest(
        method=settings.method,
        slow_stripes=settings.slow_stripes,
        grid=cell_grid,
        missing=missing_of(association, frames),
    )
    if mask:
        request = MaskedSkyRequest(**dict(request), mask=mask.stored.sha256)
    levels = run.submit(
        measure_sky,
        band,
        cells=cells,
        masked=masked,
        exposures=holders(exposures) if settings.needs_pixels else (),
        table=store.checksum(settings.levels, run.work.checksums) if settings.levels else None,
        request=request,
        earlier=None if run.survey.solve_anew else earlier,
        stem=stem,
    )
    return SkyFutures(cells, levels, earlier, cell_grid)


def published_solution(stem: str, run: Run) -> SkySolution | None:
    """Return the levels that an earlier run of the survey published; None where there are none to be read."""
    return published(stem, read_solution, run)


def published_template(stem: str, exposures: Mapping[str, str], run: Run) -> StoredObject | None:
    """Return the wisp template that an earlier run published, if it stays that of these exposures."""
    solution, uri = published(stem, read_wisps, run), store.join(run.products, f"{stem}.fits")
    if solution is None or not solution.stays_for(exposures) or store.stat(uri) is None:
        return None
    return store.checksum(uri, run.work.checksums)


def published(stem: str, read: Callable[[str], Solution], run: Run) -> Solution | None:
    """Return what an earlier run of the survey published in a table; None where there is none to be read."""
    uri = store.join(run.products, f"{stem}.ecsv")
    try:
        return read(store.read_bytes(uri).decode())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        run.note(f"{uri} is none of this version's tables ({error}): what it holds is solved anew")
        return None


def judge_band(
    association: Association,
    sky: SkyFutures,
    tiles: tuple[MosaicGrid, ...],
    run: Run,
    flagged: Mapping[str, PrefectFuture],
) -> PrefectFuture:
    """Submit the verdict on the exposures as they went into the mosaic, as a whole and for some windows of it."""
    return run.submit(
        judge_sky,
        association.band,
        before=sky.cells,
        flagged=holders(flagged),
        sky=sky.levels,
        grid=sky.grid,
        tiles=tiles,
        stem=association.product_name,
    )
