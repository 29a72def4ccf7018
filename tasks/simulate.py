"""A synthetic survey: its reference files, its truth and its frames."""

from cosmosaic.records import StoredObject
from cosmosaic.simulate.plan import PlannedFrame, plan_frames
from cosmosaic.steps.step import Step
from cosmosaic.storage.store import absolute_uri, checksum
from cosmosaic.survey import SimulationSettings
from tasks.runtime.caching import step_task
from tasks.runtime.retries import COMPUTING
from tasks.runtime.run import Run


@step_task("Simulate references", COMPUTING)
def simulate_references(settings: SimulationSettings, target: str) -> Step:
    """Make the CRDS cache that calibrates the frames."""
    return Step(
        name="simulate_references",
        version=1,
        function="cosmosaic.simulate.steps:make_references",
        inputs=(),
        arguments=(settings,),
        target=target,
    )


@step_task("Simulate truth", COMPUTING)
def simulate_truth(sky: tuple[StoredObject, ...], settings: SimulationSettings, target: str) -> Step:
    """Write what there is on the sky and what the frames hide."""
    return Step(
        name="simulate_truth",
        version=1,
        function="cosmosaic.simulate.steps:make_truth",
        inputs=sky,
        arguments=(settings,),
        target=target,
    )


@step_task("Simulate", COMPUTING)
def simulate_frame(
    frame: PlannedFrame, sky: tuple[StoredObject, ...], settings: SimulationSettings, target: str
) -> Step:
    """Observe the scene with one detector."""
    return Step(
        name="simulate_frame",
        version=1,
        function="cosmosaic.simulate.steps:make_frame",
        inputs=sky,
        arguments=(settings, frame),
        target=target,
    )


def simulate_survey(run: Run) -> None:
    """Make the frames, truth and reference files of a synthetic survey under its store.

    Raises
    ------
    RuntimeError
        A frame could not be simulated.
    """
    settings, target = run.survey.simulation, absolute_uri(run.survey.store)
    sky = tuple(checksum(uri, run.work.checksums) for uri in (settings.catalog, settings.image) if uri)
    references = run.submit(simulate_references, "CRDS cache", settings=settings, target=target)
    futures = {
        frame.name: run.submit(simulate_frame, frame.name, frame=frame, sky=sky, settings=settings, target=target)
        for frame in plan_frames(settings)
    }
    futures["truth"] = run.submit(simulate_truth, "sources and frames", sky=sky, settings=settings, target=target)
    futures["references"] = references
    if len(run.results(futures)) < len(futures):
        raise RuntimeError(f"the synthetic survey is incomplete: {run.ledger.causes[0].error}")
