"""The page that says whether the sky is flat."""

from prefect.futures import PrefectFuture

from cosmosaic.steps.step import Step, StepResult
from tasks.combine import BandFutures
from tasks.publish import publish_objects
from tasks.runtime.caching import step_task
from tasks.runtime.retries import COMPUTING
from tasks.runtime.run import Run

PAGE_ENDINGS = ("_verdict.ecsv", "_tiles.ecsv", "_skies.png", "_skyplots.png")


@step_task("Sky page", COMPUTING)
def write_page(verdicts: tuple[StepResult, ...], name: str, bands: tuple[str, ...], stems: tuple[str, ...]) -> Step:
    """Write the verdicts of all filters as one HTML file."""
    return Step(
        name="write_page",
        version=3,
        function="cosmosaic.verdict.page:write_page",
        inputs=tuple(
            stored for verdict in verdicts for stored in verdict.objects if stored.name.endswith(PAGE_ENDINGS)
        ),
        arguments=(name, bands, stems),
    )


def sky_page(bands: list[BandFutures], run: Run) -> PrefectFuture | None:
    """Submit the page of the filters that were judged."""
    judged = run.results({band.association.band: band.verdict for band in bands})
    if not judged:
        return None
    stems = {band.association.band: band.whole.stem for band in bands}
    page = run.submit(
        write_page,
        ", ".join(judged),
        verdicts=tuple(judged.values()),
        name=run.survey.name,
        bands=tuple(judged),
        stems=tuple(stems[band] for band in judged),
    )
    return run.submit(publish_objects, "sky page", objects=(page,), target=run.products)
