"""What is wrong with a mosaic, place by place."""

from collections.abc import Mapping

from cosmosaic.geometry.grid import Footprint
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.step import Step, StepResult
from tasks.runtime.caching import step_task
from tasks.runtime.retries import COMPUTING


@step_task("Defects", COMPUTING)
def list_defects(
    mosaic: StepResult, verdict: StepResult, grid: MosaicGrid, footprints: Mapping[str, Footprint], stem: str
) -> Step:
    """Name each connected defect of a mosaic by its cause."""
    return Step(
        name="list_defects",
        version=1,
        function="cosmosaic.mosaic.defects:list_defects",
        inputs=(mosaic.named("_i2d.fits"), verdict.named("_verdict.ecsv")),
        arguments=(grid, dict(footprints), stem),
    )
