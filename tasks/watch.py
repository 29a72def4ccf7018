"""New frames are announced to Prefect by the same event as a bucket's notification."""

from prefect import task
from prefect.client.orchestration import get_client
from prefect.events import Event, Resource

from cosmosaic.exposures import arrivals
from cosmosaic.storage import store
from cosmosaic.survey import Survey
from tasks.runtime.retries import STORING

ARRIVED = "cosmosaic.frame.arrived"
"""The event that triggers a run; its resource is the frame's URI."""

NAMED_FRAMES = 100
"""Largest number of frames that the event names; the rest are counted."""


@task(
    name="Look for new frames",
    retries=STORING.times,
    retry_delay_seconds=list(STORING.delays_s),
    retry_condition_fn=STORING.condition,
    persist_result=False,
)
def tell_of_arrivals(survey: Survey) -> tuple[str, ...]:
    """Emit one event if there are frames that were absent at the last look; return their URIs.

    Raises
    ------
    ValueError
        The survey is synthetic: its frames are made, they do not arrive.
    """
    if survey.raw is None:
        raise ValueError("there is nothing to watch: set raw to the prefix where frames arrive")
    prefix = store.absolute_uri(survey.raw)
    memory = arrivals.memory_uri(store.absolute_uri(survey.url("cache")), prefix)
    found = arrivals.find_arrivals(prefix, memory)
    if found.new:
        _emit(found.new)
        # Only now: an event that did not reach the server is emitted again at the next look.
        arrivals.remember(found, memory)
    return found.new


def _emit(uris: tuple[str, ...]) -> None:
    event = Event(
        event=ARRIVED,
        resource=Resource({"prefect.resource.id": uris[0]}),
        payload={"count": len(uris), "frames": list(uris[:NAMED_FRAMES])},
    )
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")])
