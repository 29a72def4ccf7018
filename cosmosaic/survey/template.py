"""``cosmosaic init``: a survey file with comments, to be filled in."""

import argparse
import sys
from importlib.resources import files
from pathlib import Path

DEFAULT_NAME = "survey.toml"


def template() -> str:
    """Return the text of a survey file whose values are the defaults."""
    return files("cosmosaic.survey").joinpath("survey.toml").read_text()


def main(arguments_given: list[str]) -> int:
    """Write a survey file; return the exit code."""
    parser = argparse.ArgumentParser(prog="cosmosaic init", description="Write a survey file with comments.")
    parser.add_argument("file", nargs="?", type=Path, default=Path(DEFAULT_NAME), help=f"by default {DEFAULT_NAME}")
    file = parser.parse_args(arguments_given).file
    try:
        with file.open("x") as stream:
            stream.write(template())
    except FileExistsError:
        print(f"{file} exists already and is not changed; give another name", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{file} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(f"{file} is written: name your exposures in it, then `cosmosaic check {file}`")
    return 0
