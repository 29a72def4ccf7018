"""The catalogues of a survey as products."""

from collections.abc import Mapping

from cosmosaic.catalog.steps import MeasuredSources, number_catalogs
from cosmosaic.storage import store
from tasks.runtime.run import Run


def publish_catalogs(measured: Mapping[str, MeasuredSources], bands: tuple[str, ...], run: Run) -> None:
    """Publish the catalogue of each window with the survey's ids, the ids, and all sources as a data set and for EAZY.

    Parameters
    ----------
    measured
        The catalogue of each window as it was measured.
    bands
        Filters of the survey.
    run
        The run.
    """
    if not measured:
        return
    catalogs = number_catalogs(measured, bands, run)
    run.publish("ids", [catalogs.ids])
    run.publish("EAZY", [catalogs.eazy])
    for tile, catalog in catalogs.windows.items():
        run.publish(f"catalogue {tile}", [catalog], {"tile": tile})
    dataset = store.join(run.products, f"{run.survey.name}_catalog.parquet")
    parts = {listed.uri.removeprefix(f"{dataset}/").split("/")[0] for listed in store.list_objects(dataset)}
    for part in sorted(parts - {f"tile={tile}" for tile in measured}):
        run.note(
            f"warning catalogue: {dataset}/{part} is of an earlier run with other tiles; "
            "remove it if the tiles of now have its sources too"
        )
