"""Astrometry of the exposures of one filter."""

from cosmosaic.records import StoredObject
from cosmosaic.steps import Step
from cosmosaic.survey import AlignSettings
from tasks.caching import step_task
from tasks.retries import COMPUTING
from tasks.sky import Exposure, cals_of


@step_task("Align", COMPUTING)
def align_exposures(
    exposures: tuple[Exposure, ...], catalog: StoredObject | None, settings: AlignSettings, fwhm_pixels: float
) -> Step:
    """Shift exposures onto each other and onto a reference catalogue."""
    return Step(
        name="align_exposures",
        version=1,
        function="cosmosaic.align:align_exposures",
        inputs=(*cals_of(*exposures), *((catalog,) if catalog else ())),
        arguments=(settings, fwhm_pixels),
    )
