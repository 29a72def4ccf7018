"""The catalogues of a run, the injection that tests them, and the page on both."""

from collections.abc import Mapping

from cosmosaic.catalog.steps import MeasuredBand, submit_catalogs
from cosmosaic.census.steps import write_catalog_page
from tasks.injection import inject_with_products
from tasks.runtime.run import Run


def publish_catalogs(bands: Mapping[str, MeasuredBand], run: Run) -> None:
    """Submit and publish the catalogue of each window, the injection of sources if asked for, and the page."""
    catalogs = submit_catalogs(bands, run)
    for tile, catalog in catalogs.items():
        run.publish(f"catalogue {tile}", [catalog], {"tile": tile})
    injected = inject_with_products(bands, catalogs, run) if run.survey.injection.with_products else None
    if catalogs:
        run.publish("catalogue page", [write_catalog_page(bands, catalogs, injected, run)])
