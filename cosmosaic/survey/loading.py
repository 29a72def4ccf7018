"""The settings of a run, merged from command line, environment and survey file."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from cosmosaic.survey.settings import RENAMED, Survey, renamed

ENVIRONMENT_PREFIX = "COSMOSAIC_"


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
        How the command is called and what it does, for ``--help``.

    Raises
    ------
    pydantic.ValidationError
        A key is unknown or a value out of bounds.
    ValueError
        A flag or an environment variable has a name of an earlier version.
    FileNotFoundError
        The survey file does not exist.
    SystemExit
        ``--help`` was asked for, or a flag is unknown.
    """
    file = Path(arguments[0]) if arguments and not arguments[0].startswith("-") else None
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"there is no survey file {file}; `--help` lists the settings it may contain")

    _refuse_old_names(arguments)

    class CommandLine(BaseSettings, Survey):
        """Make mosaics, catalogues and a run table of a NIRCam survey; without arguments, of a synthetic one."""

        model_config = SettingsConfigDict(
            extra="forbid",
            env_prefix=ENVIRONMENT_PREFIX,
            env_nested_delimiter="__",
            toml_file=file,
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
                TomlConfigSettingsSource(settings_cls),
            )

    if description:
        CommandLine.__doc__ = description
    merged = CommandLine()
    return Survey.model_validate(merged.model_dump(exclude={"survey_file"}, exclude_unset=True))


def _refuse_old_names(arguments: list[str]) -> None:
    """Refuse flags and variables that were renamed; an unknown variable would go unnoticed."""
    flags = {argument.split("=", 1)[0] for argument in arguments}
    variables = {name.upper() for name in os.environ}
    for old, new in RENAMED.items():
        if f"--{old}" in flags:
            raise ValueError(renamed(f"--{old}", f"--{new}"))
        if f"{ENVIRONMENT_PREFIX}{old.upper()}" in variables:
            raise ValueError(renamed(f"{ENVIRONMENT_PREFIX}{old.upper()}", f"{ENVIRONMENT_PREFIX}{new.upper()}"))
