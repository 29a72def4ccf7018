"""The catalogues of a run, the injection that tests them, and the page on both."""

from collections.abc import Mapping

from cosmosaic.catalog.steps import MeasuredBand, SurveyCatalogs, number_catalogs, submit_catalogs, submit_images
from cosmosaic.census.steps import write_catalog_page
from cosmosaic.storage import store
from tasks.injection import inject_with_products
from tasks.runtime.run import Run


def publish_catalogs(bands: Mapping[str, MeasuredBand], run: Run) -> None:
    """Submit and publish the catalogues of all windows, the injection of sources if asked for, and the page."""
    images = submit_images(bands, run)
    measured = submit_catalogs(bands, images, run)
    if not measured:
        return
    catalogs = number_catalogs(measured, tuple(bands), run)
    _publish(catalogs, run)
    wanted = run.survey.injection.with_products
    injected = inject_with_products(bands, measured, catalogs.windows, run) if wanted else None
    run.publish("catalogue page", [write_catalog_page(bands, images, catalogs.windows, injected, run)])


def _publish(catalogs: SurveyCatalogs, run: Run) -> None:
    """Publish the ids, EAZY's input and each window's catalogue, and tell of windows of earlier runs."""
    run.publish("ids", [catalogs.ids])
    run.publish("EAZY", [catalogs.eazy])
    for tile, catalog in catalogs.windows.items():
        run.publish(f"catalogue {tile}", [catalog], {"tile": tile})
    dataset = store.join(run.products, f"{run.survey.name}_catalog.parquet")
    parts = {listed.uri.removeprefix(f"{dataset}/").split("/")[0] for listed in store.list_objects(dataset)}
    for part in sorted(parts - {f"tile={tile}" for tile in catalogs.windows}):
        run.note(
            f"warning catalogue: {dataset}/{part} is of an earlier run with other tiles; "
            "remove it if the tiles of now have its sources too"
        )
