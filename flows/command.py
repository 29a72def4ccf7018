"""The ``cosmosaic`` command: every flow as a subcommand, and the run table.

A flow is imported when its command runs, so that ``cosmosaic --help`` is quick.
"""

import os
import sys
from importlib import import_module

import cosmosaic

FLOWS = {
    "run": ("mosaic", "make mosaics, catalogues and a run table of a survey"),
    "simulate": ("simulate", "make the raw exposures of a synthetic survey, and the truth"),
    "compare-sky": ("compare_sky", "rank all sky methods on one tile of each filter"),
    "inject": ("inject", "put sources of known flux into the exposures, and judge the catalogue"),
    "watch": ("watch", "look for new raw exposures and announce them to the Prefect server"),
    "cleanup": ("cleanup", "list or remove cached results that no recent run used"),
}
"""Module of each flow, which has the flow's name, and a summary."""

OTHERS = {
    "check": ("tasks.check:main", "list a survey's problems, and the needs of a run"),
    "init": ("cosmosaic.survey.template:main", "write a survey file with comments, to be filled in"),
    "summary": ("cosmosaic.run_table:main", "print the run table of a survey"),
    "trace": ("cosmosaic.trace:main", "list the exposures that a product, or a source, was made of"),
    "steps": ("tasks.steps:main", "list the steps of a run and their products"),
}
"""Function and summary of each command that is not a flow."""


def usage() -> str:
    """Return the help text."""
    lines = [f"  {name:<12} {what}" for name, (_, what) in (FLOWS | OTHERS).items()]
    return "\n".join(
        [
            "usage: cosmosaic COMMAND [survey.toml] [--setting value ...]",
            "       cosmosaic COMMAND --help     settings of a command",
            "       cosmosaic --version",
            "",
            *lines,
        ]
    )


def main() -> int:
    """Run a command; return its exit code."""
    try:
        return run_command()
    except KeyboardInterrupt:  # before there was anything to cancel
        return 130


def run_command() -> int:
    """Run the command that the arguments name."""
    command, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if command in ("--help", "-h"):
        print(usage())
        return 0
    if command == "--version":
        print(f"cosmosaic {cosmosaic.__version__}")
        return 0
    # Prefect reads this when it is imported.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if command in OTHERS:
        module, function = OTHERS[command][0].split(":")
        return getattr(import_module(module), function)(arguments)
    if command not in FLOWS:
        print(f"there is no command {command!r}\n{usage()}", file=sys.stderr)
        return 2
    from tasks.runtime.command import main as run_flow

    module = FLOWS[command][0]
    return run_flow(getattr(import_module(f"flows.{module}"), module), arguments, f"cosmosaic {command}")


if __name__ == "__main__":
    sys.exit(main())
