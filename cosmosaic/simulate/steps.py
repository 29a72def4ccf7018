"""A synthetic survey: its reference files, its truth and its frames, as steps."""

from dataclasses import dataclass

from cosmosaic.simulate.plan import PlannedFrame, plan_frames
from cosmosaic.steps.declaration import Job, Outputs, Step
from cosmosaic.steps.files import File, Many
from cosmosaic.storage.store import absolute_uri, checksum
from cosmosaic.survey import SimulationSettings, Survey


class SimulatedFile(File):
    """A frame, its truth, or a reference file."""


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
        """Tell whether the survey is synthetic."""
        return survey.is_synthetic


@dataclass(frozen=True, kw_only=True)
class SimulateTruth(Step[Simulated]):
    """Write the true sources, a reference catalogue, and the levels and astrometric errors of each exposure."""

    title = "Simulate truth"
    version = 3
    function = "cosmosaic.simulate.survey:make_truth"
    per = "survey"

    catalog: SkyInput | None
    settings: SimulationSettings

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Tell whether the survey is synthetic."""
        return survey.is_synthetic


@dataclass(frozen=True, kw_only=True)
class SimulateFrame(Step[Simulated]):
    """Observe the scene with one detector."""

    title = "Simulate"
    version = 3
    function = "cosmosaic.simulate.survey:make_frame"
    per = "exposure"

    catalog: SkyInput | None
    image: SkyInput | None
    frame: PlannedFrame
    settings: SimulationSettings

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Tell whether the survey is synthetic."""
        return survey.is_synthetic


def simulate(job: Job) -> dict[str, Simulated]:
    """Submit the frames, truth and reference files of a synthetic survey, which go under its store."""
    settings, target = job.survey.simulation, absolute_uri(job.survey.store)
    catalog, image = (
        SkyInput(checksum(uri, job.checksums)) if uri else None for uri in (settings.catalog, settings.image)
    )
    made = {"references": job.submit(SimulateReferences(settings=settings, target=target), "CRDS cache")}
    for frame in plan_frames(settings):
        step = SimulateFrame(catalog=catalog, image=image, frame=frame, settings=settings, target=target)
        made[frame.name] = job.submit(step, frame.name)
    truth = SimulateTruth(catalog=catalog, settings=settings, target=target)
    return made | {"truth": job.submit(truth, "sources and frames")}
