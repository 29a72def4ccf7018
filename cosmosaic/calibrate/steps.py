"""Stages 1 and 2 for one exposure, as steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, NamedTuple

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


BASE_GB = 0.7
GB_PER_GB_OF_RAMP = 28.0
"""The jwst package's steps need 2.0 GB for a full frame of 6 groups (0.05 GB), 2.9 GB for one of 10; the compiled
functions 1.1 and 1.3 GB, but they do not apply to all ramps."""
COMPRESSION = 3.0
"""Of gzipped ramps."""


class GainMap(File):
    """A user's gain map, electrons/DN."""


@dataclass(frozen=True)
class CalibratedRamp(Outputs):
    """The product of Stage 1."""

    rate: Rate


@dataclass(frozen=True, kw_only=True)
class CalibrateRamp(Step[CalibratedRamp]):
    """Convert a ramp to a count rate."""

    title = "Stage 1"
    version = 7
    function = "cosmosaic.calibrate.stages:calibrate_ramp"
    per = "exposure"

    ramp: Uncal
    gain_map: GainMap | None
    settings: ExposureSettings
    detector: str

    @property
    def needed_gb(self) -> float:
        """Memory for the ramp."""
        return ramp_gb(self.ramp)


@dataclass(frozen=True)
class CalibratedRate(Outputs):
    """The product of Stage 2."""

    cal: Cal


@dataclass(frozen=True, kw_only=True)
class CalibrateRate(Step[CalibratedRate]):
    """Convert a count rate to surface brightness."""

    title = "Stage 2"
    version = 6
    function = "cosmosaic.calibrate.stages:calibrate_rate"
    per = "exposure"
    columns: ClassVar = {"groups_without_search": "groups_without_search", "dark_left": "dark_left"}

    rate: Rate
    flicker_noise: FlickerCorrection

    @classmethod
    def row(cls, facts: Mapping[str, float]) -> dict[str, Any]:
        """Name the engine of Stage 1 beside the facts; none if the count rate was supplied."""
        engine = "fused" if facts.get("fused") else "jwst" if "fused" in facts else None
        return super().row(facts) | {"stage1_engine": engine}


class Verification(File, suffix="_verification.ecsv", kind="verification", folder="exposures"):
    """Differences of a count rate from that of the jwst package, by plane."""


@dataclass(frozen=True)
class VerifiedRamp(Outputs):
    """The comparison."""

    table: Verification


@dataclass(frozen=True, kw_only=True)
class VerifyRamp(Step[VerifiedRamp]):
    """Calibrate a ramp with the jwst package's steps as well, and compare the count rates."""

    title = "Verify Stage 1"
    version = 1
    function = "cosmosaic.calibrate.verification:verify_ramp"
    per = "exposure"
    columns: ClassVar = {"planes_different": "planes_different", "engine_difference": "engine_difference"}

    ramp: Uncal
    rate: Rate
    gain_map: GainMap | None
    settings: ExposureSettings
    detector: str

    @property
    def needed_gb(self) -> float:
        """Memory for the ramp."""
        return ramp_gb(self.ramp)

    @classmethod
    def is_asked_for(cls, survey: Any) -> bool:
        """Return whether exposures are compared."""
        return number_to_verify(survey.exposures) > 0


def ramp_gb(ramp: Uncal) -> float:
    """Return the memory that Stage 1 needs at its peak, from the size of a ramp: its groups times its shape."""
    stored = ramp.stored
    size = stored.size * (COMPRESSION if stored.name.endswith(".gz") else 1.0)
    return BASE_GB + GB_PER_GB_OF_RAMP * size / 1e9


TESTED_VERSIONS = {"jwst": "3.0.0", "stcal": "1.20.0"}
"""Versions of the packages that the compiled functions of Stage 1 were tested with."""


def number_to_verify(settings: ExposureSettings) -> int:
    """Return the number of exposures of a run that both engines calibrate."""
    if settings.engine == "jwst":
        return 0
    if settings.verify is not None:
        return settings.verify
    return int(any(version(package) != tested for package, tested in TESTED_VERSIONS.items()))


class Calibrated(NamedTuple):
    """The steps of one exposure, submitted."""

    cal: Cal
    stage1: CalibrateRamp | None
    """None for exposures that enter as count rates."""
    rate: Rate


def calibrate(exposure: Exposure, references: tuple[Reference, ...], job: Job) -> Calibrated:
    """Submit the steps from the level of one exposure to surface brightness."""
    stage1 = None if exposure.level == "rate" else _stage1(exposure, references, job)
    rate = Rate(exposure.object) if stage1 is None else job.submit(stage1, exposure.name).rate
    step = CalibrateRate(
        rate=rate, flicker_noise=job.survey.exposures.flicker_noise, references=_of_kinds(references, STAGE2_KINDS)
    )
    return Calibrated(job.submit(step, exposure.name).cal, stage1, rate)


def verify(name: str, calibrated: Calibrated, job: Job) -> VerifiedRamp | None:
    """Submit the comparison of one exposure's count rate with the jwst package's; none if it entered as one."""
    stage1 = calibrated.stage1
    if stage1 is None:
        return None
    step = VerifyRamp(
        ramp=stage1.ramp,
        rate=calibrated.rate,
        gain_map=stage1.gain_map,
        settings=stage1.settings,
        detector=stage1.detector,
        references=stage1.references,
    )
    return job.submit(step, name)


def _stage1(exposure: Exposure, references: tuple[Reference, ...], job: Job) -> CalibrateRamp:
    gain_map = job.survey.references.gain_maps.get(exposure.detector)
    kinds = tuple(kind for kind in STAGE1_KINDS if not (gain_map and kind == "gain"))
    return CalibrateRamp(
        ramp=Uncal(exposure.object),
        gain_map=GainMap(store.checksum(gain_map, job.checksums)) if gain_map else None,
        settings=settings_of_stage1(job.survey.exposures),
        detector=exposure.detector,
        references=_of_kinds(references, kinds),
    )


def settings_of_stage1(settings: ExposureSettings) -> ExposureSettings:
    """Return the settings with defaults for those that do not change the count rate, and must not change its key."""
    return ExposureSettings(
        engine=settings.engine,
        jump_rejection_sigma=settings.jump_rejection_sigma,
        expand_large_events=settings.expand_large_events,
    )


def _of_kinds(references: tuple[Reference, ...], kinds: tuple[str, ...]) -> tuple[Reference, ...]:
    return tuple(reference for reference in references if reference.kind in kinds)
