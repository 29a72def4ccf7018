"""Make the exposures of a synthetic survey, their truth and the reference files that calibrate them.

python flows/simulate.py --store mock --simulation.catalog sources.ecsv
python flows/simulate.py --help           every setting; only those of the simulation are used
"""

import sys

from prefect import flow
from prefect.states import Completed, State

from cosmosaic.survey import Survey
from tasks.runtime.command import main
from tasks.runtime.report import open_run
from tasks.simulate import simulate_survey


@flow(name="simulate", flow_run_name="simulate {survey.name}")
def simulate(survey: Survey = Survey()) -> State:  # noqa: B008
    """Make the raw exposures of a synthetic survey under ``<store>/raw``, the truth under ``<store>/truth``."""
    with open_run(survey) as run:
        simulate_survey(run)
        raw, truth, crds = survey.url("raw"), survey.url("truth"), survey.url("crds")
        run.note(f"exposures in {raw}, truth in {truth}, CRDS cache in {crds}")
        return Completed(message=f"{len(run.ledger.executed)} steps executed, {len(run.ledger.cached)} from cache")


if __name__ == "__main__":
    sys.exit(main(simulate, sys.argv[1:]))
