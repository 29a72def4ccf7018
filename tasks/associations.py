"""Association files."""

from cosmosaic.records import Association, StoredObject
from cosmosaic.steps.step import Step
from tasks.runtime.caching import step_task
from tasks.runtime.retries import COMPUTING


@step_task("Association", COMPUTING)
def write_association(association: Association, exposures: tuple[StoredObject, ...]) -> Step:
    """Write which exposures make a mosaic, as the jwst package reads it."""
    return Step(
        name="write_association",
        version=1,
        function="cosmosaic.products:write_association",
        inputs=exposures,
        arguments=(association,),
    )
