"""The sky of the exposures of one filter: cleaned, measured, taken out, judged."""

from cosmosaic.records import MosaicGrid, StoredObject
from cosmosaic.sky.solution import (
    CLEARED_SUFFIX,
    PATTERNS_SUFFIX,
    WISP_SUFFIX,
    SkyRequest,
    SkySolution,
    WispSolution,
    exposure_of_cells,
    keeping,
)
from cosmosaic.steps.step import Step, StepResult, objects_of
from tasks.runtime.caching import step_task
from tasks.runtime.retries import COMPUTING

Exposure = StepResult | StoredObject
"""The ``_cal`` file of an exposure, or a result that holds it."""
Results = tuple[StepResult, ...]
FLAG_AND_BIN = "cosmosaic.outliers.cleared:flag_and_bin"
"""What flags exposures by an engine's function and bins them for the verdict."""


@step_task("Wisps", COMPUTING)
def measure_wisps(
    exposures: tuple[StoredObject, ...], template: StoredObject | None, solution: WispSolution, stem: str
) -> Step:
    """Find the wisp of each exposure of one detector."""
    return Step(
        name="measure_wisps",
        version=1,
        function="cosmosaic.artefacts.corrections:measure_wisps",
        inputs=(*exposures, template) if template else exposures,
        arguments=(solution, stem),
    )


@step_task("Subtract wisp", COMPUTING)
def subtract_wisp(exposure: StoredObject, name: str, wisps: StepResult) -> Step:
    """Subtract the wisp of one exposure."""
    own = tuple(stored for stored in wisps.objects if stored.name == f"{name}{WISP_SUFFIX}")
    return Step(
        name="subtract_wisp",
        version=1,
        function="cosmosaic.artefacts.corrections:subtract_wisp",
        inputs=(exposure, *own),
    )


@step_task("Cells", COMPUTING)
def bin_frame(exposure: Exposure, name: str, grid: MosaicGrid) -> Step:
    """Bring one exposure onto the survey's lattice of cells."""
    return Step(
        name="bin_frame",
        version=1,
        function="cosmosaic.cells.cells:bin_frame",
        inputs=(exposure_of(exposure, name),),
        arguments=(grid,),
    )


@step_task("Masked cells", COMPUTING)
def bin_masked_frame(exposure: Exposure, name: str, mask: StoredObject, grid: MosaicGrid) -> Step:
    """Bring what one exposure has outside of the user's mask of sources onto the survey's lattice of cells."""
    return Step(
        name="bin_masked_frame",
        version=1,
        function="cosmosaic.cells.cells:bin_masked_frame",
        inputs=(exposure_of(exposure, name), mask),
        arguments=(grid,),
    )


@step_task("Sky", COMPUTING)
def measure_sky(
    cells: Results,
    masked: Results,
    exposures: tuple[Exposure, ...],
    table: StoredObject | None,
    request: SkyRequest,
    earlier: SkySolution | None,
    stem: str,
) -> Step:
    """Measure the sky of each exposure that no earlier solution holds; exposures are for methods that need pixels."""
    digests = {exposure_of_cells(stored.name): stored.sha256 for stored in objects_of(*cells, *masked)}
    return Step(
        name="measure_sky",
        version=7,
        function="cosmosaic.sky.measure:measure_sky",
        inputs=(*objects_of(*cells, *masked), *cals_of(*exposures), *((table,) if table else ())),
        arguments=(keeping(request, earlier, digests), stem),
    )


@step_task("Verdict", COMPUTING)
def judge_sky(
    before: Results,
    flagged: Results,
    sky: StepResult | None,
    grid: MosaicGrid,
    tiles: tuple[MosaicGrid, ...],
    stem: str,
) -> Step:
    """Judge how flat the sky is, before and after."""
    after = tuple(stored for stored in objects_of(*flagged) if stored.name.endswith(CLEARED_SUFFIX))
    table = tuple(stored for stored in objects_of(*(sky,) if sky else ()) if stored.name.endswith("_sky.ecsv"))
    return Step(
        name="judge_sky",
        version=6,
        function="cosmosaic.verdict.judgement:judge_sky",
        inputs=(*objects_of(*before), *after, *table),
        arguments=(grid, tiles, stem),
    )


def exposure_of(exposure: Exposure, name: str) -> StoredObject:
    """Return the ``_cal`` file of an exposure."""
    return next(stored for stored in cals_of(exposure) if stored.name.startswith(f"{name}_"))


def patterns_of(sky: StepResult | None, *names: str) -> tuple[StoredObject, ...]:
    """Return what was found that varies over some exposures; those without are left out."""
    wanted = {f"{name}{PATTERNS_SUFFIX}" for name in names}
    return tuple(stored for stored in objects_of(*(sky,) if sky else ()) if stored.name in wanted)


def cals_of(*exposures: Exposure) -> tuple[StoredObject, ...]:
    """Return the ``_cal`` files among some objects and results."""
    return tuple(stored for stored in objects_of(*exposures) if stored.name.endswith("_cal.fits"))
