"""Stages 1 and 2 for one exposure, as steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from math import prod
from typing import Any, ClassVar, NamedTuple

from cosmosaic.exposures.files import Cal, Rate, Uncal
from cosmosaic.records import Exposure, Reference
from cosmosaic.steps.declaration import Job, Outputs, Step, consulted
from cosmosaic.steps.files import File
from cosmosaic.storage import store
from cosmosaic.survey import CalibrationEngine, ExposureSettings, FlickerCorrection

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


MEMORY_GB = {"fused": (0.95, 7.0), "jwst": (0.7, 56.0)}
"""Memory that each engine needs at its peak: a constant, and for each 10^9 samples of the ramp (0.025 for a full frame
of 6 groups). The compiled functions hold a sample as a float, as it was read, and its flags."""


class GainMap(File):
    """A user's gain map, electrons/DN."""


ENGINE_COLUMN = "stage1_engine"
WARNINGS: Mapping[str, str] = {"groups_without_search": "groups_without_search", "dark_left": "dark_left"}
"""Columns for what an exposure's own record of its steps says, whichever step calibrates it."""


@dataclass(frozen=True)
class CalibratedRamp(Outputs):
    """The product of Stages 1 and 2."""

    cal: Cal
    rate: Rate | None
    """None if the settings do not ask for it."""


@dataclass(frozen=True, kw_only=True)
class CalibrateRamp(Step[CalibratedRamp]):
    """Convert a ramp to surface brightness."""

    title = "Calibrate"
    version = 9
    function = "cosmosaic.calibrate.stages:calibrate_ramp"
    per = "exposure"
    columns: ClassVar = WARNINGS

    ramp: Uncal
    gain_map: GainMap | None
    settings: ExposureSettings
    detector: str
    shape: tuple[int, ...] = consulted()
    """Integrations, groups, rows and columns of the ramp."""

    @property
    def needed_gb(self) -> float:
        """Memory for the ramp; the jwst package's steps calibrate those of several integrations."""
        return peak_gb(self.shape, "jwst" if self.shape[0] > 1 else self.settings.engine)

    @classmethod
    def row(cls, facts: Mapping[str, float]) -> dict[str, Any]:
        """Name the engine of Stage 1 beside the facts."""
        return super().row(facts) | {ENGINE_COLUMN: _engine(facts)}


@dataclass(frozen=True)
class CalibratedRate(Outputs):
    """The product of Stage 2."""

    cal: Cal


@dataclass(frozen=True, kw_only=True)
class CalibrateRate(Step[CalibratedRate]):
    """Convert a count rate that was supplied to surface brightness."""

    title = "Calibrate rate"
    version = 7
    function = "cosmosaic.calibrate.stages:calibrate_rate"
    per = "exposure"
    columns: ClassVar = WARNINGS

    rate: Rate
    flicker_noise: FlickerCorrection

    @classmethod
    def is_asked_for(cls, survey: Any) -> bool:
        """Return False: an exposure is counted as a ramp until its level is known."""
        return False

    @classmethod
    def row(cls, facts: Mapping[str, float]) -> dict[str, Any]:
        """Name the engine of Stage 1 beside the facts; none if other software made the count rate."""
        return super().row(facts) | {ENGINE_COLUMN: _engine(facts)}


@dataclass(frozen=True, kw_only=True)
class CleanCalibrated(Step[CalibratedRate]):
    """Subtract the 1/f noise of an exposure that was supplied calibrated."""

    title = "Clean calibrated"
    version = 1
    function = "cosmosaic.calibrate.stages:clean_calibrated"
    per = "exposure"

    exposure: Cal
    flicker_noise: FlickerCorrection

    @classmethod
    def is_asked_for(cls, survey: Any) -> bool:
        """Return False: an exposure is counted as a ramp until its level is known."""
        return False


def _engine(facts: Mapping[str, float]) -> str | None:
    if "fused" not in facts:
        return None
    return "fused" if facts["fused"] else "jwst"


class Verification(File, suffix="_verification.ecsv", kind="verification", folder="exposures"):
    """Differences of a count rate from that of the jwst package, by plane."""


@dataclass(frozen=True)
class VerifiedRamp(Outputs):
    """The comparison."""

    table: Verification


@dataclass(frozen=True, kw_only=True)
class VerifyRamp(Step[VerifiedRamp]):
    """Make the count rate of a ramp with both engines, and compare."""

    title = "Verify Stage 1"
    version = 2
    function = "cosmosaic.calibrate.verification:verify_ramp"
    per = "exposure"
    columns: ClassVar = {"planes_different": "planes_different", "engine_difference": "engine_difference"}

    ramp: Uncal
    gain_map: GainMap | None
    settings: ExposureSettings
    detector: str
    shape: tuple[int, ...] = consulted()
    """Integrations, groups, rows and columns of the ramp."""

    @property
    def needed_gb(self) -> float:
        """Memory for the ramp: both engines calibrate it, one after the other."""
        return peak_gb(self.shape, "jwst")

    @classmethod
    def is_asked_for(cls, survey: Any) -> bool:
        """Return whether exposures are compared."""
        return number_to_verify(survey.exposures) > 0


def peak_gb(shape: tuple[int, ...], engine: CalibrationEngine) -> float:
    """Return the memory that an engine needs at its peak for a ramp of some shape."""
    constant, per_sample = MEMORY_GB[engine]
    return constant + per_sample * prod(shape) / 1e9


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
    rate: Rate | None = None
    """None unless it is to be published."""
    step: CalibrateRamp | None = None
    """None for exposures that enter as count rates."""


def clean_calibrated(exposure: Exposure, job: Job) -> Cal:
    """Submit the step that subtracts 1/f noise from an exposure supplied calibrated, if it has any to subtract."""
    supplied, settings = Cal(exposure.object), job.survey.exposures
    if not is_to_clean(exposure, settings):
        return supplied
    return job.submit(CleanCalibrated(exposure=supplied, flicker_noise=settings.flicker_noise), exposure.name).cal


def is_to_clean(exposure: Exposure, settings: ExposureSettings) -> bool:
    """Return whether an exposure is supplied calibrated, but with its 1/f noise."""
    return exposure.level == "cal" and settings.flicker_noise != "none" and not exposure.flicker_removed


def calibrate(exposure: Exposure, references: tuple[Reference, ...], job: Job) -> Calibrated:
    """Submit the step from the level of one exposure to surface brightness."""
    if exposure.level == "rate":
        flicker_noise = job.survey.exposures.flicker_noise
        of_rate = CalibrateRate(
            rate=Rate(exposure.object), flicker_noise=flicker_noise, references=_of_kinds(references, STAGE2_KINDS)
        )
        return Calibrated(job.submit(of_rate, exposure.name).cal)
    gain_map = job.survey.references.gain_maps.get(exposure.detector)
    step = CalibrateRamp(
        ramp=Uncal(exposure.object),
        gain_map=GainMap(store.checksum(gain_map, job.checksums)) if gain_map else None,
        settings=settings_of_calibration(job.survey.exposures),
        detector=exposure.detector,
        shape=exposure.ramp,
        references=_without_gain(references) if gain_map else references,
    )
    made = job.submit(step, exposure.name)
    return Calibrated(made.cal, made.rate if step.settings.publish_rates else None, step)


def verify(name: str, step: CalibrateRamp, job: Job) -> VerifiedRamp:
    """Submit the comparison of both engines' count rates of one exposure."""
    comparison = VerifyRamp(
        ramp=step.ramp,
        gain_map=step.gain_map,
        settings=settings_of_stage1(step.settings),
        detector=step.detector,
        shape=step.shape,
        references=_of_kinds(step.references, STAGE1_KINDS),
    )
    return job.submit(comparison, name)


def settings_of_calibration(settings: ExposureSettings) -> ExposureSettings:
    """Return the settings with defaults for those that do not change the calibrated exposure, nor must its key."""
    also = {"flicker_noise": settings.flicker_noise, "publish_rates": settings.publish_rates}
    return settings_of_stage1(settings).model_copy(update=also)


def settings_of_stage1(settings: ExposureSettings) -> ExposureSettings:
    """Return the settings with defaults for those that do not change the count rate, nor must its key."""
    return ExposureSettings(
        engine=settings.engine,
        jump_rejection_sigma=settings.jump_rejection_sigma,
        expand_large_events=settings.expand_large_events,
    )


def _without_gain(references: tuple[Reference, ...]) -> tuple[Reference, ...]:
    return tuple(reference for reference in references if reference.kind != "gain")


def _of_kinds(references: tuple[Reference, ...], kinds: tuple[str, ...]) -> tuple[Reference, ...]:
    return tuple(reference for reference in references if reference.kind in kinds)
