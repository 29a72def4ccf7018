"""The command line of a flow: settings in, exit code out."""

import sys
from typing import Any

from prefect import Flow
from pydantic import ValidationError

from cosmosaic.survey import load_survey
from tasks.environment import prefect_defaults
from tasks.report import FAILED_IN_PART

SUCCESS, FAILURE, USAGE, PART = 0, 1, 2, 3


def main(flow: Flow, arguments: list[str]) -> int:
    """Run a flow with the settings of a command line.

    Returns
    -------
    int
        0 when everything was made, 1 when nothing was, 2 for wrong settings, 3 when the rest was made without
        what failed.
    """
    try:
        survey = load_survey(arguments)
    except ValidationError as error:
        return _complain(_explain(error))
    except (FileNotFoundError, ValueError) as error:
        return _complain(str(error))
    with prefect_defaults():
        state: Any = flow(survey, return_state=True)
    if state.is_completed():
        return SUCCESS
    if state.name == FAILED_IN_PART:
        return PART
    error = state.result(raise_on_failure=False)
    print(f"failed: {error if isinstance(error, BaseException) else state.message}", file=sys.stderr)
    return FAILURE


def _complain(text: str) -> int:
    print(text, file=sys.stderr)
    return USAGE


def _explain(error: ValidationError) -> str:
    lines = [
        f"  {'.'.join(map(str, fault['loc'])) or 'survey'}: {fault['msg']} (given: {fault['input']!r})"
        for fault in error.errors()
    ]
    return "\n".join(["the settings cannot be used:", *lines, "`--help` lists every setting with its bounds"])
