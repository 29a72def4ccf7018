"""Stages 1 and 2 for one exposure."""

from cosmosaic.calibrate.references import STAGE1_KINDS, STAGE2_KINDS
from cosmosaic.records import Frame, Reference, StoredObject
from cosmosaic.steps.step import Step, StepResult, objects_of
from cosmosaic.survey import ExposureSettings, FlickerCorrection
from tasks.runtime.caching import step_task
from tasks.runtime.retries import COMPUTING


@step_task("Stage 1", COMPUTING)
def calibrate_ramp(
    frame: Frame, references: tuple[Reference, ...], gain_map: StoredObject | None, settings: ExposureSettings
) -> Step:
    """Ramp to count rate."""
    used = tuple(reference for reference in references if reference.kind in STAGE1_KINDS)
    if gain_map:
        used = tuple(reference for reference in used if reference.kind != "gain")
    return Step(
        name="calibrate_ramp",
        version=3,
        function="cosmosaic.calibrate.stages:calibrate_ramp",
        inputs=(frame.object, gain_map) if gain_map else (frame.object,),
        # The correction of 1/f noise, which Stage 2 begins with, is no part of Stage 1.
        arguments=(settings.model_copy(update={"flicker_noise": "none"}), frame.detector),
        references=used,
    )


@step_task("Stage 2", COMPUTING)
def calibrate_rate(
    rate: StepResult | StoredObject, references: tuple[Reference, ...], flicker_noise: FlickerCorrection
) -> Step:
    """Count rate to surface brightness."""
    return Step(
        name="calibrate_rate",
        version=3,
        function="cosmosaic.calibrate.stages:calibrate_rate",
        inputs=objects_of(rate),
        arguments=(flicker_noise,),
        references=tuple(reference for reference in references if reference.kind in STAGE2_KINDS),
    )
