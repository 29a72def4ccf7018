"""Mistakes in a user's settings, in words: their line, and the setting that was probably meant."""

import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from cosmosaic.survey.settings import Survey

ENVIRONMENT_PREFIX = "COSMOSAIC_"
LIKENESS = 0.6
"""Similarity of a name to the one that was probably meant, by difflib."""


def explain(error: ValidationError, file: Path | None = None) -> str:
    """Describe all mistakes, one line each: the setting, its line in the survey file, the fault, the probable meaning.

    Parameters
    ----------
    error
        Error from the validation of a survey.
    file
        The survey file, if there is one.
    """
    lines = file.read_text().splitlines() if file else []
    told = ["the settings cannot be used:"]
    for fault in error.errors():
        path = tuple(str(part) for part in fault["loc"])
        number = line_of(lines, path)
        place = f"{file}, line {number}: " if number else ""
        told.append(f"  {place}{'.'.join(path) or 'survey'}: {_wrong(path, fault)}")
    if variables := set_variables():
        told.append(f"settings in the environment: {', '.join(variables)}")
    return "\n".join([*told, "`--help` lists every setting with its bounds"])


def set_variables() -> list[str]:
    """Return the environment variables that are settings."""
    fields = {name.upper() for name in Survey.model_fields}
    return sorted(name for name in os.environ if _field_of(name) in fields)


def unknown_setting(path: Sequence[str]) -> str:
    """Return the message for an unknown setting, with the one that was probably meant."""
    *sections, name = path
    model = _model_at(sections)
    elsewhere = [".".join(path) for path in setting_paths() if path[-1] == name]
    close = get_close_matches(name, list(model.model_fields) if model else [], 1, LIKENESS)
    meant = elsewhere or [".".join([*sections, *close])] if elsewhere or close else []
    return f"there is no such setting{f'; did you mean {meant[0]}?' if meant else ''}"


def setting_paths(model: type[BaseModel] = Survey) -> list[tuple[str, ...]]:
    """Return every setting, as the names that lead to it."""
    paths: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        inner = _model_of(field.annotation)
        paths += [(name, *path) for path in setting_paths(inner)] if inner else [(name,)]
    return paths


def line_of(lines: Sequence[str], path: Sequence[str]) -> int | None:
    """Return the line of a TOML file on which a setting stands, counted from 1; None if it is not found."""
    for depth in range(len(path), 0, -1):
        section, key = ".".join(path[: depth - 1]), path[depth - 1]
        current = ""
        for number, line in enumerate(lines, 1):
            if header := re.match(r"\s*\[\[?([^]]+)\]", line):
                current = header[1].strip()
                if current == ".".join(path[:depth]):
                    return number
            elif current == section and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line):
                return number
    return None


def check_flags(flags: Iterable[str]) -> None:
    """Refuse flags that are not settings.

    Raises
    ------
    ValueError
        A flag is unknown; the message gives the one that was probably meant.
    """
    leaves = set(setting_paths())
    sections = {path[:depth] for path in leaves for depth in range(1, len(path))}
    for flag in flags:
        path = tuple(flag.removeprefix("--").split("=", 1)[0].split("."))
        # The name of a table is followed by a key of the user's.
        is_setting = path in sections or any(path[:depth] in leaves for depth in range(1, len(path) + 1))
        if flag.startswith("--") and not is_setting and path != ("help",):
            raise ValueError(f"--{'.'.join(path)}: {unknown_setting(path)}")


def check_variables(names: Iterable[str]) -> None:
    """Refuse environment variables that resemble a setting but are none; others belong to other software.

    Raises
    ------
    ValueError
        A variable is misspelt; the message gives the one that was probably meant.
    """
    fields = {name.upper(): name for name in Survey.model_fields}
    for variable in names:
        first = _field_of(variable)
        close = get_close_matches(first, fields, 1, 0.8) if first and first not in fields else []
        if close:
            raise ValueError(
                f"the environment variable {variable} is not a setting; did you mean {ENVIRONMENT_PREFIX}{close[0]}?"
            )


def _field_of(variable: str) -> str | None:
    """The setting or section that an environment variable would be, in upper case; None if it is not ours."""
    if not variable.upper().startswith(ENVIRONMENT_PREFIX):
        return None
    return variable.upper().removeprefix(ENVIRONMENT_PREFIX).split("__")[0]


def _wrong(path: Sequence[str], fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return unknown_setting(path)
    told = str(fault["msg"].removeprefix("Value error, "))
    # Of several settings that exclude each other, the message has the names.
    return told if isinstance(fault["input"], dict | BaseModel) else f"{told} (given: {fault['input']!r})"


def _model_at(sections: Sequence[str]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Survey
    for name in sections:
        field = model.model_fields.get(name) if model else None
        model = _model_of(field.annotation) if field else None
    return model


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a section; settings that hold several models are none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [one for one in get_args(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
    return inner[0] if len(inner) == 1 and type(None) in get_args(annotation) else None
