"""Steps that make a synthetic survey: its reference files, its truth and its exposures."""

from dataclasses import dataclass

from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.steps.declaration import Job, Outputs, Step
from cosmosaic.steps.files import File, Many
from cosmosaic.storage.store import absolute_uri, checksum
from cosmosaic.survey import SimulationSettings, Survey


class SimulatedFile(File):
    """An exposure, its truth, or a reference file."""


class SkyInput(File):
    """A user's catalogue or image to observe."""


@dataclass(frozen=True)
class Simulated(Outputs):
    """The simulated files by their paths under the store."""

    files: Many[SimulatedFile]


@dataclass(frozen=True, kw_only=True)
class SimulateReferences(Step[Simulated]):
    """Make the CRDS cache that calibrates the exposures."""

    title = "Simulate references"
    version = 3
    function = "cosmosaic.simulate.survey:make_references"
    per = "survey"

    settings: SimulationSettings

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the survey is synthetic."""
        return survey.is_synthetic


@dataclass(frozen=True, kw_only=True)
class SimulateTruth(Step[Simulated]):
    """Write true sources and PSFs, a reference catalogue, and the levels and astrometric errors of each exposure."""

    title = "Simulate truth"
    version = 5
    function = "cosmosaic.simulate.survey:make_truth"
    per = "survey"

    catalog: SkyInput | None
    settings: SimulationSettings

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the survey is synthetic."""
        return survey.is_synthetic


@dataclass(frozen=True, kw_only=True)
class SimulateExposure(Step[Simulated]):
    """Observe the scene with one detector."""

    title = "Simulate"
    version = 4
    function = "cosmosaic.simulate.survey:make_exposure"
    per = "exposure"

    catalog: SkyInput | None
    image: SkyInput | None
    exposure: PlannedExposure
    settings: SimulationSettings

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the survey is synthetic."""
        return survey.is_synthetic


def simulate(job: Job) -> dict[str, Simulated]:
    """Submit the steps that make the exposures, truth and reference files of a synthetic survey under its store."""
    settings, target = job.survey.simulation, absolute_uri(job.survey.store)
    catalog, image = (
        SkyInput(checksum(uri, job.checksums)) if uri else None for uri in (settings.catalog, settings.image)
    )
    made = {"references": job.submit(SimulateReferences(settings=settings, target=target), "CRDS cache")}
    for exposure in plan_exposures(settings):
        step = SimulateExposure(catalog=catalog, image=image, exposure=exposure, settings=settings, target=target)
        made[exposure.name] = job.submit(step, exposure.name)
    truth = SimulateTruth(catalog=catalog, settings=settings, target=target)
    return made | {"truth": job.submit(truth, "sources and exposures")}
