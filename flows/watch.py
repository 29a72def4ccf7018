"""Look for new raw frames where no bucket notifies, and tell the Prefect server of them.

python flows/watch.py survey.toml
python flows/watch.py --help              every setting; raw and the store count here
"""

import sys

from prefect import flow
from prefect.states import Completed, State

from cosmosaic.survey import Survey
from tasks.runtime.command import main
from tasks.watch import tell_of_arrivals


@flow(name="watch", flow_run_name="watch {survey.name}")
def watch(survey: Survey = Survey()) -> State:  # noqa: B008
    """Tell of frames that arrived under ``raw`` since the last look: an event, which triggers the survey's run."""
    new = tell_of_arrivals(survey)
    return Completed(message=f"{len(new)} new frames under {survey.raw}")


if __name__ == "__main__":
    sys.exit(main(watch, sys.argv[1:]))
