"""Tasks that are submitted to a Dask cluster: each gets what it was given, and the run's settings at little cost."""

import pytest
from prefect import flow, task
from prefect.context import SettingsContext
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, temporary_settings

from tasks.runtime.cluster import ClusterRunner

NUMBER = 6


@pytest.fixture
def serialized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was serialised: a name for each time."""
    seen: list[str] = []
    serialize = SettingsContext.serialize

    def watched(self: SettingsContext, include_secrets: bool = True) -> dict[str, object]:
        seen.append(type(self).__name__)
        return serialize(self, include_secrets)

    monkeypatch.setattr(SettingsContext, "serialize", watched)
    return seen


def test_each_task_has_its_parameters_and_the_settings_of_the_run(prefect_server: None, serialized: list[str]) -> None:
    @task
    def squared(value: int) -> tuple[int, float]:
        from prefect.settings import get_current_settings

        return value**2, get_current_settings().api.request_timeout

    @flow
    def submits() -> tuple[list[tuple[int, float]], int]:
        local = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
        with ClusterRunner(cluster_kwargs=local) as runner:
            serialized.clear()
            # The same task with the same value twice is done twice: steps, not Dask, decide what is done already.
            futures = [runner.submit(squared, {"value": value}) for value in (3, *range(NUMBER))]
            assert len({future.task_run_id for future in futures}) == NUMBER + 1
            return [future.result() for future in futures], len(serialized)

    with temporary_settings({PREFECT_API_REQUEST_TIMEOUT: 123.0}):
        results, serializations = submits()
    assert results == [(value**2, 123.0) for value in (3, *range(NUMBER))]
    assert serializations == 1
