"""Ctrl-C and SIGTERM in a real terminal: the run ends within seconds, says so in one line, and is taken up again."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from support.small_survey import SmallSurvey, new_survey

from tasks.runtime.interruption import LIMIT_S
from tasks.runtime.leftovers import SERVER

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300.0

pytestmark = [pytest.mark.slow, pytest.mark.server]


class Terminal:
    """A command in a pseudo-terminal of its own, as in a user's shell."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.text = ""
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve(command[0], command, environment)

    def wait_for(self, word: str) -> None:
        """Read the screen until a word is on it."""
        limit = time.monotonic() + PATIENCE_S
        while word not in self.text:
            assert self._read(), self.text
            assert time.monotonic() < limit, self.text

    def press_ctrl_c(self) -> None:
        os.write(self._screen, b"\x03")

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        while self._read():
            pass
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def _read(self) -> bool:
        if not select.select([self._screen], [], [], 1.0)[0]:
            return True
        try:
            read = os.read(self._screen, 65536)
        except OSError:  # a terminal's end
            return False
        self.text += read.decode(errors="replace")
        return bool(read)


def cosmosaic(small: SmallSurvey, *arguments: str) -> Terminal:
    """Run a survey as a user does, with a temporary server of its own."""
    foreign = ("PREFECT_", "CRDS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment = {**kept, "PREFECT_HOME": str(small.folder / "prefect"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cosmosaic", "run", str(small.settings_file()), *arguments]
    return Terminal(command, small.folder, environment)


def descendants(terminal: Terminal) -> list[psutil.Process]:
    return psutil.Process(terminal.pid).children(recursive=True)


def last_row(small: SmallSurvey) -> pd.Series:
    return pd.read_parquet(small.products / "summary.parquet").iloc[-1]


@pytest.mark.parametrize(
    ("named", "code", "arguments", "shown"),
    [("Ctrl-C", 130, [], " left"), ("SIGTERM", 143, ["--verbose"], "Inspect: ")],
)
def test_an_interrupted_run_says_what_is_kept_and_is_taken_up_by_the_same_command(
    simulated, tmp_path, named, code, arguments, shown
):
    """It shows a bar with the time left, or each step; the log has each step in both cases."""
    small = new_survey(simulated, tmp_path)
    terminal = cosmosaic(small, *arguments)
    terminal.wait_for("3 exposures")
    terminal.wait_for(shown)
    limit = time.monotonic() + PATIENCE_S
    while not (small.cache / "share_aberration").exists():
        assert time.monotonic() < limit
        time.sleep(0.1)
    assert last_row(small)["state"] == "Running"
    started = descendants(terminal)
    assert any(SERVER in process.cmdline() for process in started)
    moment, said = time.monotonic(), len(terminal.text)
    if named == "Ctrl-C":
        terminal.press_ctrl_c()
    else:
        os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.end() == code
    # Not a timed test: the limit is what the command promises, and it enforces it.
    assert time.monotonic() - moment < LIMIT_S + 1.0
    (line,) = [line for line in terminal.text[said:].splitlines() if "cancelled" in line]
    assert f"cancelled by {named}" in line
    assert "the same command continues from there" in line
    assert "Traceback" not in terminal.text
    assert "failed" not in terminal.text[said:]
    assert psutil.wait_procs(started, timeout=5.0)[1] == []
    (log,) = (small.products / "runs").glob("*.log")
    assert "Calibrate: " in log.read_text()
    assert ("Calibrate: " in terminal.text) == (arguments == ["--verbose"])
    row = last_row(small)
    assert (row["state"], row["error"]) == ("Cancelled", f"cancelled by {named}")
    assert f": {row['steps_executed']:.0f} steps finished" in line
    again = small.run()
    assert again.state == "Completed"
    assert len(again.cached) >= row["steps_executed"]


def test_ctrl_c_before_the_run_has_begun_leaves_nothing(simulated, tmp_path):
    small = new_survey(simulated, tmp_path)
    terminal = cosmosaic(small)
    while not any(SERVER in process.cmdline() for process in descendants(terminal)):
        time.sleep(0.05)
    started = descendants(terminal)
    terminal.press_ctrl_c()
    assert terminal.end() == 130
    assert "before the run began" in terminal.text
    assert "Traceback" not in terminal.text
    assert psutil.wait_procs(started, timeout=5.0)[1] == []
    assert not (small.products / "summary.parquet").exists()


def test_a_killed_run_is_marked_by_the_next_one(simulated, tmp_path):
    small = new_survey(simulated, tmp_path)
    terminal = cosmosaic(small)
    terminal.wait_for("3 exposures")
    os.kill(terminal.pid, signal.SIGKILL)
    terminal.end()
    assert last_row(small)["state"] == "Running"
    assert small.run().state == "Completed"
    states = pd.read_parquet(small.products / "summary.parquet").groupby("run_id", sort=False)["state"].first()
    assert list(states) == ["Crashed", "Completed"]
    assert list((small.products / "runs" / "underway").glob("[!.]*")) == []


def test_a_run_under_way_is_not_taken_for_dead(simulated, tmp_path):
    small = new_survey(simulated, tmp_path)
    terminal = cosmosaic(small)
    terminal.wait_for("3 exposures")
    os.kill(terminal.pid, signal.SIGSTOP)
    small.run()
    os.kill(terminal.pid, signal.SIGCONT)
    assert terminal.end() == 0, terminal.text
    states = pd.read_parquet(small.products / "summary.parquet").groupby("run_id", sort=False)["state"].first()
    assert list(states) == ["Completed", "Completed"]


def test_the_second_signal_does_not_wait(tmp_path):
    """Whoever presses Ctrl-C again while a store does not answer is not kept waiting."""
    script = (
        "import sys, time\n"
        "from tasks.runtime.interruption import run_interruptibly\n"
        "def cancel(cause):\n    print('stuck', flush=True)\n    time.sleep(60)\n"
        "def work():\n    print('at work', flush=True)\n    time.sleep(60)\n"
        "sys.exit(run_interruptibly(work, cancel))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=LIMIT_S / 2) == 130
