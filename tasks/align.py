"""Astrometry of the exposures of one filter."""

from collections.abc import Mapping
from dataclasses import dataclass

from prefect.futures import PrefectFuture

from cosmosaic.astrometry.solution import (
    CORRECTION_SUFFIX,
    Alignment,
    AlignRequest,
    keeping,
    needed_exposures,
    read_alignment,
)
from cosmosaic.exposures.library import exposure_name
from cosmosaic.nircam import star_fwhm_pixels
from cosmosaic.records import Association, Frame, StoredObject
from cosmosaic.steps.step import Step, StepResult
from cosmosaic.storage import store
from tasks.flatness import Exposures, holders, missing_of, published
from tasks.runtime.caching import step_task
from tasks.runtime.retries import COMPUTING
from tasks.runtime.run import Run
from tasks.sky import Exposure, cals_of, exposure_of


@dataclass(frozen=True)
class AlignmentFutures:
    """The astrometry of one filter, as it is being found."""

    exposures: Exposures
    """With their corrections, where alignment is asked for."""
    solution: PrefectFuture | None
    """The table of corrections."""
    earlier: Alignment | None
    """What an earlier run published."""


@step_task("Alignment", COMPUTING)
def solve_alignment(
    exposures: tuple[Exposure, ...],
    names: tuple[str, ...],
    catalog: StoredObject | None,
    request: AlignRequest,
    stem: str,
) -> Step:
    """Find the corrections of the exposures that no earlier alignment holds; only those named are looked at."""
    needed = {exposure_name(stored.name): stored for stored in cals_of(*exposures)}
    return Step(
        name="solve_alignment",
        version=1,
        function="cosmosaic.astrometry.align:solve_alignment",
        inputs=(*(needed[name] for name in names), *((catalog,) if catalog else ())),
        arguments=(request, stem),
    )


@step_task("Align", COMPUTING)
def align_exposure(exposure: Exposure, name: str, solution: StepResult) -> Step:
    """Put the correction of one exposure into its WCS."""
    return Step(
        name="align_exposure",
        version=1,
        function="cosmosaic.astrometry.align:align_exposure",
        inputs=(
            exposure_of(exposure, name),
            next(stored for stored in solution.objects if stored.name == f"{name}{CORRECTION_SUFFIX}"),
        ),
    )


def align_band(
    association: Association,
    cals: Mapping[str, StoredObject],
    cleaned: Exposures,
    frames: Mapping[str, Frame],
    run: Run,
) -> AlignmentFutures:
    """Submit the steps that align the cleaned exposures of one filter.

    An exposure is known again by its calibrated file: a wisp that is taken out of it or not moves no stars.
    """
    settings = run.survey.align
    if not settings.enabled:
        return AlignmentFutures(cleaned, None, None)
    own = settings.reference_catalog if settings.reference_catalog and "." in settings.reference_catalog else None
    catalog = store.checksum(own, run.work.checksums) if own else None
    stem = f"{association.product_name}_align"
    earlier = published(stem, read_alignment, run)
    asked = AlignRequest(
        settings=settings,
        fwhm_pixels=star_fwhm_pixels(association.filter),
        exposures={name: cals[name].sha256 for name in association.members},
        catalog=catalog.sha256 if catalog else "",
        missing=missing_of(association, frames),
    )
    request = keeping(asked, None if run.survey.solve_anew else earlier)
    needed = needed_exposures(request, {name: frames[name].footprint for name in association.members})
    solution = run.submit(
        solve_alignment,
        association.band,
        exposures=holders({name: cleaned[name] for name in needed}),
        names=needed,
        catalog=catalog if needed else None,
        request=request,
        stem=stem,
    )
    aligned = {
        name: run.submit(align_exposure, name, exposure=exposure, name=name, solution=solution)
        for name, exposure in cleaned.items()
    }
    return AlignmentFutures(aligned, solution, earlier)
