"""A run on the terminal: a bar with the time left, or each step as it ends; the log has every line."""

from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

SHOWING_STEPS: ContextVar[bool] = ContextVar("showing_steps", default=True)
"""Whether each step is shown as it ends; a command line without ``--verbose`` shows the bar alone."""


class Terminal:
    """The terminal of one run, and its log."""

    def __init__(self, title: str) -> None:
        self.log: list[str] = []
        self._shows_steps = SHOWING_STEPS.get()
        self._console = Console(stderr=True)
        columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps,")]
        columns += [TimeRemainingColumn(), TextColumn("left")]
        is_hidden = self._shows_steps or not self._console.is_terminal
        self._bar = Progress(*columns, console=self._console, transient=True, disable=is_hidden)
        self._task = self._bar.add_task(title, total=None)
        self._bar.start()

    def say(self, text: str) -> None:
        """Show a message."""
        self._keep(text)
        self._print(f"{'':>9} {text}")

    def step(self, place: str, text: str, has_failed: bool) -> None:
        """Tell how a step ended; in the log alone, where steps are not shown and it did not fail."""
        self._keep(f"{place} {text}")
        if self._shows_steps or has_failed:
            self._print(f"{place:>9} {text}")

    def show_table(self, table: Table) -> None:
        """Show a table."""
        with self._console.capture() as captured:
            self._console.print(table)
        self.log += captured.get().splitlines()
        self._console.print(table)

    def advance(self, done: int, expected: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, total=expected)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def _keep(self, text: str) -> None:
        self.log.append(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}")

    def _print(self, text: str) -> None:
        if self._bar.disable:  # rich takes longer for a line than the run does for a finished step
            print(text, file=self._console.file, flush=True)
        else:
            self._console.out(text, highlight=False)
