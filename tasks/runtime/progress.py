"""The progress of a run, as a progress bar in the UI."""

import time
from contextlib import suppress
from typing import cast
from uuid import UUID

import httpx
from prefect import get_client
from prefect.artifacts import create_progress_artifact
from prefect.client.schemas.actions import ArtifactUpdate

LEAST_INTERVAL_S = 5.0
"""Between two updates; each is a request to the server."""


class Progress:
    """A progress bar; without a server it does nothing."""

    def __init__(self, survey: str) -> None:
        made = create_progress_artifact(0.0, key="progress", description=f"Steps of {survey}")
        self._artifact = cast(UUID, made)
        self._shown = (0.0, time.monotonic())
        # Prefect's own function makes a client for each update, which reads all certificates.
        self._client = get_client(sync_client=True)

    def show(self, done: int, expected: int) -> None:
        """Show how many of the steps are done; the bar never moves back."""
        percent, moment = self._shown
        now = max(percent, round(100.0 * done / max(expected, 1), 1))
        if now == percent or time.monotonic() - moment < LEAST_INTERVAL_S:
            return
        self._move(now)

    def finish(self) -> None:
        """Show that all is done."""
        self._move(100.0)

    def _move(self, percent: float) -> None:
        self._shown = (percent, time.monotonic())
        with suppress(httpx.HTTPError):
            self._client.update_artifact(self._artifact, ArtifactUpdate(data=percent))
