"""Products under their final names."""

from cosmosaic.records import StoredObject
from cosmosaic.steps.step import Step, StepResult, objects_of, publish
from tasks.runtime.caching import step_task
from tasks.runtime.retries import STORING


@step_task("Publish", STORING, perform=lambda step, work: publish(step, work.workers.scratch))
def publish_objects(
    objects: tuple[StoredObject | StepResult, ...], target: str, endings: tuple[str, ...] = ("",)
) -> Step:
    """Copy finished objects whose names end as asked for under a prefix."""
    chosen = tuple(stored for stored in objects_of(*objects) if stored.name.endswith(endings))
    return Step(name="publish_objects", version=1, function="", inputs=chosen, target=target)
