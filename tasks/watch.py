"""Announcement of new exposures to Prefect, by the same event as a bucket's notification."""

from prefect import task
from prefect.client.orchestration import get_client
from prefect.events import Event, Resource

from cosmosaic.exposures import arrivals
from cosmosaic.storage import store
from cosmosaic.survey import Survey
from tasks.runtime.retries import STORING

ARRIVED = "cosmosaic.exposure.arrived"
"""The event that triggers a run; its resource is the exposure's URI."""

NAMED_EXPOSURES = 100
"""Largest number of exposures listed in the event; the rest are only counted."""


@task(
    name="Look for new exposures",
    retries=STORING.times,
    retry_delay_seconds=list(STORING.delays_s),
    retry_condition_fn=STORING.condition,
    persist_result=False,
)
def tell_of_arrivals(survey: Survey) -> tuple[str, ...]:
    """Emit one event if there are exposures that were absent at the last look; return their URIs.

    Raises
    ------
    ValueError
        The survey is synthetic, so that no exposures arrive.
    """
    if survey.raw is None:
        raise ValueError("there is nothing to watch: set raw to the prefix under which exposures arrive")
    prefix = store.absolute_uri(survey.raw)
    memory = arrivals.memory_uri(store.absolute_uri(survey.url("cache")), prefix)
    found = arrivals.find_arrivals(prefix, memory)
    if found.new:
        _emit(found.new)
        # After the event, so that one that did not reach the server is emitted again at the next look.
        arrivals.remember(found, memory)
    return found.new


def _emit(uris: tuple[str, ...]) -> None:
    event = Event(
        event=ARRIVED,
        resource=Resource({"prefect.resource.id": uris[0]}),
        payload={"count": len(uris), "exposures": list(uris[:NAMED_EXPOSURES])},
    )
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")])
