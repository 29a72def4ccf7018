"""The catalogues of a survey as products."""

from collections.abc import Mapping

from cosmosaic.catalog.steps import MeasuredSources, number_catalogs
from tasks.runtime.run import Run


def publish_catalogs(measured: Mapping[str, MeasuredSources], run: Run) -> None:
    """Publish the catalogue of each window with the survey's ids, and the table of the ids."""
    if not measured:
        return
    catalogs = number_catalogs(measured, run)
    run.publish("ids", [catalogs.ids])
    for tile, catalog in catalogs.windows.items():
        run.publish(f"catalogue {tile}", [catalog], {"tile": tile})
