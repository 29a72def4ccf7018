"""Pictures of mosaics."""

from cosmosaic.steps.step import Step, StepResult
from tasks.runtime.caching import step_task
from tasks.runtime.retries import COMPUTING


@step_task("Preview", COMPUTING)
def preview_mosaic(mosaic: StepResult, stem: str) -> Step:
    """Draw a mosaic and its weight."""
    return Step(
        name="preview_mosaic",
        version=2,
        function="cosmosaic.products:preview_mosaic",
        inputs=mosaic.objects,
        arguments=(stem,),
    )


@step_task("Composite", COMPUTING)
def composite_mosaics(mosaics: tuple[StepResult, ...], bands: tuple[str, ...], stem: str) -> Step:
    """Draw the filters of a survey in one colour picture."""
    return Step(
        name="composite_mosaics",
        version=2,
        function="cosmosaic.products:composite_mosaics",
        inputs=tuple(stored for mosaic in mosaics for stored in mosaic.objects),
        arguments=(bands, stem),
    )
