"""Look for new raw exposures where no bucket notifies, and announce them to the Prefect server.

python flows/watch.py survey.toml
python flows/watch.py --help              every setting; only raw and the store are used
"""

import sys

from prefect import flow
from prefect.states import Completed, State

from cosmosaic.survey import Survey
from tasks.runtime.command import main
from tasks.watch import tell_of_arrivals


@flow(name="watch", flow_run_name="watch {survey.name}")
def watch(survey: Survey = Survey()) -> State:  # noqa: B008
    """Emit an event for exposures that arrived under ``raw`` since the last look; it triggers the survey's run."""
    new = tell_of_arrivals(survey)
    return Completed(message=f"{len(new)} new exposures under {survey.raw}")


if __name__ == "__main__":
    sys.exit(main(watch, sys.argv[1:]))
