"""The injection as a part of a survey's run, its products and its verdicts."""

from collections.abc import Mapping

from cosmosaic.catalog.steps import MeasuredBand, MeasuredSources, NumberedCatalog
from cosmosaic.injection.placement import NoRoomError
from cosmosaic.injection.steps import Injected, JudgedCatalog, inject
from cosmosaic.records import STATES
from tasks.runtime.run import Run


def inject_with_products(
    bands: Mapping[str, MeasuredBand],
    catalogs: Mapping[str, MeasuredSources],
    numbered: Mapping[str, NumberedCatalog],
    run: Run,
) -> Injected | None:
    """Inject sources into the survey's exposures; None without room for any: its products are made all the same."""
    try:
        injected = inject(bands, catalogs, numbered, run.worker_gb, run)
    except NoRoomError as error:
        run.note(f"warning injection: {error}")
        return None
    publish_injection(injected, run)
    return injected


def publish_injection(injected: Injected, run: Run) -> None:
    """Publish the injected sources, the corrections of each window, and tables, plot and verdict of each filter."""
    run.publish("injected sources", [injected.matched])
    for tile, corrected in injected.corrections.items():
        run.publish(f"corrections {tile}", [corrected], {"tile": tile})
    for band, verdict in injected.verdicts.items():
        run.publish(f"{band} injection", [verdict], {"filter": band})


def tell_verdicts(injected: Injected, run: Run) -> None:
    """Wait for the verdicts and report them to the user."""
    for band, result in run.results(injected.verdicts).items():
        table = JudgedCatalog.of(result).verdict.stored
        run.note(f"{band}: the catalogue is judged: {STATES[int(result.facts['state'])]}; see {table.name}")
