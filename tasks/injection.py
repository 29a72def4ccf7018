"""The products of the injection, and its verdicts."""

from cosmosaic.injection.steps import Injected, JudgedCatalog
from cosmosaic.records import STATES
from tasks.runtime.run import Run


def publish_injection(injected: Injected, run: Run) -> None:
    """Publish the injected sources, and the tables, plot and verdict of each filter."""
    run.publish("injected sources", [injected.matched])
    for band, verdict in injected.verdicts.items():
        run.publish(f"{band} injection", [verdict], {"filter": band})


def tell_verdicts(injected: Injected, run: Run) -> None:
    """Wait for the verdicts and report them to the user."""
    for band, result in run.results(injected.verdicts).items():
        table = JudgedCatalog.of(result).verdict.stored
        run.note(f"{band}: the catalogue is judged: {STATES[int(result.facts['state'])]}; see {table.name}")
