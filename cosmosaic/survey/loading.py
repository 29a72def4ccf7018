"""The settings of a run, merged from command line, environment and survey file."""

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from cosmosaic.survey.mistakes import ENVIRONMENT_PREFIX, check_flags, check_variables, setting_paths
from cosmosaic.survey.settings import RENAMED, Survey, renamed

HOW_TO_WRITE = """Settings: in the survey file, in the environment, as flags; later ones have precedence.
  number, word:  --grid.pixel_scale_mas 60             COSMOSAIC_GRID__PIXEL_SCALE_MAS=60
  list:          --filters F115W,F150W                 COSMOSAIC_FILTERS='["F115W", "F150W"]'
                 --outliers.snr 5,4                    in the file: snr = [5.0, 4.0]
  table:         --references.gain_maps NRCB1=a.fits   COSMOSAIC_REFERENCES__GAIN_MAPS='{"NRCB1": "a.fits"}'

Exit codes: 0 success, 1 failure, 2 the settings cannot be used, 3 some steps failed and the other products were
made, 130 and 143 stopped by Ctrl-C and SIGTERM; the same command continues from there.

--verbose prints each step as it ends."""


def load_survey(
    arguments: list[str], program: str = "python flows/mosaic.py", description: str | None = None
) -> Survey:
    """Merge command line over environment over survey file over defaults.

    Parameters
    ----------
    arguments
        Command-line arguments without the program's name: an optional survey file (TOML), then flags as
        ``--grid.pixel_scale_mas 60``. The environment's names are ``COSMOSAIC_GRID__PIXEL_SCALE_MAS``.
    program, description
        Name and description of the command, for ``--help``.

    Raises
    ------
    pydantic.ValidationError
        A key is unknown or a value out of bounds.
    ValueError
        A flag or an environment variable is not a setting or has its earlier name, or the survey file is not
        TOML; the message gives the setting that was probably meant, or the line.
    FileNotFoundError
        The survey file does not exist.
    SystemExit
        ``--help`` was given.
    """
    file = survey_file(arguments)
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"there is no survey file {file}; `--help` lists the settings it may contain")

    given = _read_toml(file) if file else {}
    _refuse_old_names(arguments)
    check_flags(arguments)
    check_variables(os.environ)

    class CommandLine(BaseSettings, Survey):
        """Make mosaics, catalogues and a run table of a NIRCam survey; without arguments, of a synthetic one."""

        model_config = SettingsConfigDict(
            extra="forbid",
            env_prefix=ENVIRONMENT_PREFIX,
            env_nested_delimiter="__",
            cli_prog_name=program,
            cli_kebab_case=False,
            cli_avoid_json=True,
            use_attribute_docstrings=True,
        )
        survey_file: CliPositionalArg[Path | None] = Field(default=None, description="Survey file (TOML).")

        @classmethod
        def settings_customise_sources(  # type: ignore[override]
            cls, settings_cls: type[BaseSettings], **_: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (
                CliSettingsSource(settings_cls, cli_parse_args=arguments),
                EnvSettingsSource(settings_cls),
                InitSettingsSource(settings_cls, given),
            )

    CommandLine.__doc__ = f"{description or CommandLine.__doc__}\n\n{HOW_TO_WRITE}"
    merged = CommandLine()
    return Survey.model_validate(merged.model_dump(exclude={"survey_file"}, exclude_unset=True))


def survey_file(arguments: list[str]) -> Path | None:
    """Return the survey file that a command line begins with, if it does."""
    return Path(arguments[0]) if arguments and not arguments[0].startswith("-") else None


def overridden(file: Path) -> list[str]:
    """Find which settings of a survey file the environment overrides, one sentence each."""
    lines = []
    for path in setting_paths():
        variable = ENVIRONMENT_PREFIX + "__".join(path).upper()
        value = next((value for name, value in os.environ.items() if name.upper() == variable), None)
        written: Any = _read_toml(file)
        for name in path:
            written = written.get(name) if isinstance(written, dict) else None
        if value is not None and written is not None and value != str(written):
            lines.append(f"{variable}={value} in the environment overrides {'.'.join(path)} = {written!r} in {file}")
    return lines


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not TOML: {error}") from error


def _refuse_old_names(arguments: list[str]) -> None:
    """Refuse flags and variables that were renamed; an unknown variable would go unnoticed."""
    flags = {argument.split("=", 1)[0] for argument in arguments}
    variables = {name.upper() for name in os.environ}
    for old, new in RENAMED.items():
        if f"--{old}" in flags:
            raise ValueError(renamed(f"--{old}", f"--{new}"))
        if f"{ENVIRONMENT_PREFIX}{old.upper()}" in variables:
            raise ValueError(renamed(f"{ENVIRONMENT_PREFIX}{old.upper()}", f"{ENVIRONMENT_PREFIX}{new.upper()}"))
