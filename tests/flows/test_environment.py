"""What a command line asks of the Prefect that it starts."""

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    get_current_settings,
    temporary_settings,
)

from tasks.runtime.environment import prefect_defaults


@pytest.mark.parametrize(("server", "beats"), [(None, False), ("http://127.0.0.1:1/api", True)])
def test_heartbeats_go_to_a_server_that_the_user_named_and_to_no_temporary_one(server, beats):
    with temporary_settings({PREFECT_API_URL: server}), prefect_defaults():
        assert bool(get_current_settings().flows.heartbeat_frequency) == beats


def test_what_the_user_has_set_stays():
    chosen = {PREFECT_API_URL: None, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 60, PREFECT_SERVER_ANALYTICS_ENABLED: True}
    with temporary_settings(chosen), prefect_defaults():
        assert get_current_settings().flows.heartbeat_frequency == 60
        assert get_current_settings().server.analytics_enabled
