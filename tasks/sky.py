"""Sky levels of the exposures of one filter."""

from cosmosaic.records import StoredObject
from cosmosaic.steps import Step, StepResult, objects_of
from cosmosaic.survey import SkySettings
from tasks.caching import step_task
from tasks.retries import COMPUTING


@step_task("Sky", COMPUTING)
def measure_sky(exposures: StepResult | tuple[StoredObject, ...], settings: SkySettings, stem: str) -> Step:
    """Measure the sky level of each exposure."""
    return Step(
        name="measure_sky",
        version=1,
        function="cosmosaic.sky:measure_sky",
        inputs=objects_of(exposures),
        # Whether the level is subtracted or only recorded does not change what is measured.
        arguments=(settings.method, stem),
    )
