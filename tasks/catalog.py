"""The catalogue of one mosaic."""

from cosmosaic.steps.step import Step, StepResult
from cosmosaic.survey import CatalogSettings
from tasks.runtime.caching import step_task
from tasks.runtime.retries import COMPUTING


@step_task("Catalogue", COMPUTING)
def catalog_mosaic(mosaic: StepResult, settings: CatalogSettings, band: str, stem: str) -> Step:
    """Detect and measure the sources of a mosaic."""
    return Step(
        name="catalog_mosaic",
        version=1,
        function="cosmosaic.products:catalog_mosaic",
        inputs=mosaic.objects,
        arguments=(settings, band, stem),
    )
