"""Remove results that no recent run used from a survey's cache; by default only list them.

python flows/cleanup.py survey.toml                              list what would be removed
python flows/cleanup.py survey.toml --cleanup.dry_run false      remove it
"""

import sys

from prefect import flow
from prefect.states import Completed, State

from cosmosaic.survey import Survey
from tasks.cleanup import clean_cache
from tasks.runtime.command import main


@flow(name="cleanup", flow_run_name="cleanup {survey.name}")
def cleanup(survey: Survey = Survey()) -> State:  # noqa: B008
    """Remove unused intermediates from the cache, or list them (``cleanup.dry_run``)."""
    unused = clean_cache(survey)
    verb = "could be" if survey.cleanup.dry_run else "were"
    return Completed(message=f"{len(unused.uris)} objects of {unused.size / 1e9:.3f} GB {verb} removed")


if __name__ == "__main__":
    sys.exit(main(cleanup, sys.argv[1:]))
