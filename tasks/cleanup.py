"""Removal of unused results from the cache."""

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact

from cosmosaic.steps import retention
from cosmosaic.steps.retention import Unused
from cosmosaic.storage import store
from cosmosaic.survey import Survey

LISTED = 1000
"""Largest number of rows in the artifact."""


@task(name="Clean up", persist_result=False)
def clean_cache(survey: Survey) -> Unused:
    """Find results that no recent run used; remove them unless this is a dry run."""
    settings = survey.cleanup
    unused = retention.find_unused(store.absolute_uri(survey.url("cache")), settings.older_than_days)
    done = "would be removed" if settings.dry_run else "removed"
    get_run_logger().info(f"{len(unused.uris)} objects, {unused.size / 1e9:.3f} GB {done}")
    rows = [{"object": uri} for uri in unused.uris[:LISTED]]
    create_table_artifact(rows, key="cleanup", description=f"{len(unused.uris)} objects {done}")
    if not settings.dry_run:
        for uri in unused.uris:
            store.remove(uri)
    return unused
