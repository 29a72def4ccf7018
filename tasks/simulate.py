"""A synthetic survey: its reference files, its truth and its exposures."""

from cosmosaic.simulate.steps import simulate
from tasks.runtime.run import Run


def simulate_survey(run: Run) -> None:
    """Make the exposures, truth and reference files of a synthetic survey under its store.

    Raises
    ------
    RuntimeError
        An exposure could not be simulated.
    """
    made = simulate(run)
    if len(run.results(made)) < len(made):
        raise RuntimeError(f"the synthetic survey is incomplete: {run.ledger.causes[0].error}")
