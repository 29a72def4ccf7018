"""Combination of the exposures of one filter: outliers, then drizzle."""

from cosmosaic.exposures.library import exposure_name
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.step import Step, StepResult
from cosmosaic.survey import DrizzleSettings, OutlierSettings, SkySettings
from tasks.runtime.caching import step_task
from tasks.runtime.retries import COMPUTING
from tasks.sky import FLAG_AND_BIN, Exposure, cals_of, patterns_of


@step_task("Outliers", COMPUTING)
def flag_outliers(
    exposures: tuple[Exposure, ...],
    levels: StepResult | None,
    sky: SkySettings,
    outliers: OutlierSettings,
    drizzle: DrizzleSettings,
    cells: MosaicGrid,
) -> Step:
    """Take the sky out and flag what differs from exposure to exposure, and bin what goes into the mosaic."""
    cals = cals_of(*exposures)
    given = (dict(levels.facts) if levels else None, sky, outliers, drizzle)
    return Step(
        name="flag_outliers",
        version=4,
        function=FLAG_AND_BIN,
        inputs=(*cals, *patterns_of(levels, *(exposure_name(stored.name) for stored in cals))),
        arguments=("cosmosaic.mosaic.jwst_engine:flag_outliers", given, cells),
    )


@step_task("Drizzle", COMPUTING)
def drizzle_mosaic(
    exposures: StepResult,
    members: tuple[str, ...],
    verdicts: tuple[StepResult, ...],
    grid: MosaicGrid,
    settings: DrizzleSettings,
    product_name: str,
) -> Step:
    """Combine exposures on the survey's grid."""
    return Step(
        name="drizzle_mosaic",
        version=3,
        function="cosmosaic.mosaic.jwst_engine:drizzle_mosaic",
        inputs=(
            *(
                stored
                for stored in exposures.objects
                if stored.name.endswith("_crf.fits") and exposure_name(stored.name) in members
            ),
            *(verdict.named("_verdict.ecsv") for verdict in verdicts),
        ),
        arguments=(grid, settings, product_name),
    )
