"""Fixtures: one Prefect server, and a survey of three small exposures."""

from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness
from support.small_survey import SIMULATION, SmallSurvey, new_survey

from cosmosaic.survey import Survey
from flows.simulate import simulate


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
