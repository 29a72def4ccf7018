"""Fixtures: one Prefect server, and a survey of three small exposures."""

from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from prefect.testing.utilities import prefect_test_harness
from support.small_survey import SIMULATION, SmallSurvey, new_survey

from cosmosaic.processes import workers
from cosmosaic.survey import Survey
from flows.simulate import simulate
from tasks.runtime import report


@pytest.fixture(scope="session", autouse=True)
def children_that_stay():
    """Child processes that outlive a run of this process, so that the next one need not import jwst again."""
    with mock.patch.object(report, "workers", SimpleNamespace(**{**vars(workers), "stop_workers": lambda: None})):
        yield
    workers.stop_workers()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory):
    """One Prefect server for all tests of this folder."""
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="session")
def simulated(prefect_server, tmp_path_factory) -> Path:
    """Exposures and reference files, made once and never changed."""
    folder = tmp_path_factory.mktemp("simulated")
    assert simulate(Survey(store=str(folder), simulation=SIMULATION), return_state=True).is_completed()
    return folder


@pytest.fixture(scope="session")
def small(simulated, tmp_path_factory) -> SmallSurvey:
    """A survey that was run once; who changes it puts it back."""
    return new_survey(simulated, tmp_path_factory.mktemp("small"))
