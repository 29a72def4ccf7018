"""Stages 1 and 2 for one exposure, as steps."""

from dataclasses import dataclass

from cosmosaic.exposures.files import Cal, Rate, Uncal
from cosmosaic.records import Exposure, Reference
from cosmosaic.steps.declaration import Job, Outputs, Step
from cosmosaic.steps.files import File
from cosmosaic.storage import store
from cosmosaic.survey import ExposureSettings, FlickerCorrection

STAGE1_KINDS = (
    "mask",
    "saturation",
    "superbias",
    "ipc",
    "refpix",
    "sirskernel",
    "linearity",
    "dark",
    "readnoise",
    "gain",
    "flat",
)
"""Reference types that jwst's Detector1Pipeline asks for on NIRCam images."""

STAGE2_KINDS = ("distortion", "filteroffset", "flat", "photom", "area")
"""Reference types that jwst's Image2Pipeline asks for on NIRCam images, without resample."""


class GainMap(File):
    """A user's gain map, electrons/DN."""


@dataclass(frozen=True)
class CalibratedRamp(Outputs):
    """The product of Stage 1."""

    rate: Rate


@dataclass(frozen=True, kw_only=True)
class CalibrateRamp(Step[CalibratedRamp]):
    """Ramp to count rate."""

    title = "Stage 1"
    version = 5
    function = "cosmosaic.calibrate.stages:calibrate_ramp"
    per = "exposure"

    ramp: Uncal
    gain_map: GainMap | None
    settings: ExposureSettings
    detector: str


@dataclass(frozen=True)
class CalibratedRate(Outputs):
    """The product of Stage 2."""

    cal: Cal


@dataclass(frozen=True, kw_only=True)
class CalibrateRate(Step[CalibratedRate]):
    """Count rate to surface brightness."""

    title = "Stage 2"
    version = 5
    function = "cosmosaic.calibrate.stages:calibrate_rate"
    per = "exposure"

    rate: Rate
    flicker_noise: FlickerCorrection


def calibrate(exposure: Exposure, references: tuple[Reference, ...], job: Job) -> Cal:
    """Submit the steps from the level of one frame to surface brightness."""
    rate = Rate(exposure.object) if exposure.level == "rate" else _ramp(exposure, references, job).rate
    step = CalibrateRate(
        rate=rate, flicker_noise=job.survey.exposures.flicker_noise, references=_of_kinds(references, STAGE2_KINDS)
    )
    return job.submit(step, exposure.name).cal


def _ramp(exposure: Exposure, references: tuple[Reference, ...], job: Job) -> CalibratedRamp:
    gain_map = job.survey.references.gain_maps.get(exposure.detector)
    kinds = tuple(kind for kind in STAGE1_KINDS if not (gain_map and kind == "gain"))
    step = CalibrateRamp(
        ramp=Uncal(exposure.object),
        gain_map=GainMap(store.checksum(gain_map, job.checksums)) if gain_map else None,
        # The correction of 1/f noise is part of Stage 2.
        settings=job.survey.exposures.model_copy(update={"flicker_noise": "none"}),
        detector=exposure.detector,
        references=_of_kinds(references, kinds),
    )
    return job.submit(step, exposure.name)


def _of_kinds(references: tuple[Reference, ...], kinds: tuple[str, ...]) -> tuple[Reference, ...]:
    return tuple(reference for reference in references if reference.kind in kinds)
