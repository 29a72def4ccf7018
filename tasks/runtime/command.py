"""The command line of a flow: settings in, exit code out."""

import os
import sys
from functools import partial

from prefect import Flow
from prefect.states import State
from pydantic import ValidationError

from cosmosaic.check import find_problems, store_problems
from cosmosaic.survey import Survey, load_survey
from cosmosaic.survey.loading import overridden, survey_file
from cosmosaic.survey.mistakes import explain
from tasks.runtime.environment import check_home, prefect_defaults
from tasks.runtime.interruption import run_interruptibly
from tasks.runtime.report import FAILED_IN_PART, cancel_runs
from tasks.runtime.run import describe_failure
from tasks.runtime.server import TemporaryServerError
from tasks.runtime.terminal import SHOWING_STEPS

SUCCESS, FAILURE, USAGE, PART = 0, 1, 2, 3
VERBOSE = "--verbose"
USING_EXPOSURES = ("mosaic", "compare_sky", "inject")
"""Flows that read exposures; their settings are checked in full."""


def main(flow: Flow, arguments: list[str], program: str = "") -> int:
    """Run a flow with the settings of a command line.

    Parameters
    ----------
    flow
        The flow, which takes a `cosmosaic.survey.Survey`.
    arguments
        Of the command line, without the program's name.
    program
        How the command is called, for ``--help``; empty for ``python flows/<flow>.py``.

    Returns
    -------
    int
        0 when everything was made, 1 when nothing was, 2 for settings that cannot be used, 3 when the rest was made
        without what failed. After Ctrl-C or SIGTERM the process ends with 130 or 143.
    """
    SHOWING_STEPS.set(VERBOSE in arguments)
    survey = settings_of(arguments, program or f"python flows/{flow.name}.py", flow.description)
    if isinstance(survey, int):
        return survey
    problems = find_problems(survey) if flow.name in USING_EXPOSURES else store_problems(survey)
    if problems:
        return _complain("\n".join(f"error: {problem}" for problem in problems))
    try:
        check_home()
    except OSError as refused:
        return _complain(f"failed: {refused}", FAILURE)
    return run_interruptibly(partial(_run, flow, survey), cancel_runs)


def settings_of(arguments: list[str], program: str, description: str | None) -> Survey | int:
    """Load the settings of a command line, or print their mistakes and return the exit code."""
    arguments = [argument for argument in arguments if argument != VERBOSE]
    file = survey_file(arguments)
    try:
        survey = load_survey(arguments, program, description)
    except ValidationError as error:
        return _complain(explain(error, file))
    except (FileNotFoundError, ValueError) as error:
        return _complain(str(error))
    for told in overridden(file) if file else ():
        print(told, file=sys.stderr)
    return survey


def _run(flow: Flow, survey: Survey) -> int:
    try:
        with prefect_defaults():
            state: State = flow(survey, return_state=True)  # type: ignore[assignment]
    except RuntimeError as unreachable:
        return _complain(_explain_server(unreachable), FAILURE)
    if state.is_completed():
        return SUCCESS
    if state.name == FAILED_IN_PART:
        return PART
    return _complain(f"failed: {describe_failure(state)}", FAILURE)


def _complain(text: str, code: int = USAGE) -> int:
    print(text, file=sys.stderr)
    return code


def _explain_server(error: RuntimeError) -> str:
    if isinstance(error, TemporaryServerError):
        return str(error)
    url = os.environ.get("PREFECT_API_URL")
    if not url or url.rstrip("/") not in str(error):
        raise error
    return (
        f"the Prefect server at PREFECT_API_URL={url} cannot be reached ({error}). Start it with "
        "`prefect server start`, or unset PREFECT_API_URL to use a temporary server"
    )
