"""Every command in the documentation is one that can be given: its program, its files and its options exist."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from cosmosaic.geometry.sphere import GridError
from cosmosaic.geometry.windows import read_tiles
from cosmosaic.survey import GridSettings, load_survey
from cosmosaic.survey.template import template
from flows.command import FLOWS, OTHERS

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
SHELL = {"export", "set", ".", "cd", "mkdir", "curl", "git", "aws", "python3", "docker", "apt-get"}
"""Commands of the system, and of programs that are not the project's."""
SUBCOMMANDS = {"prefect": 3, "dask": 1}
"""Words of a command before its arguments."""


def commands() -> list[tuple[str, str]]:
    """Every command in the blocks of all pages, with the page's name."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            text = re.sub(r"\\\n\s*", "", block)
            if "curl" in text:  # its quoted body has several lines
                continue
            for line in text.splitlines():
                parts = re.split(r"&&|;", re.sub(r"(^|\s)#.*", "", line))
                found += [(page.name, part.strip()) for part in parts if part.strip()]
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_of_a_page_can_be_given(page, command, tmp_path, monkeypatch):
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    if not words:
        return
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if program in SHELL:
        return
    check = CHECKS.get(program)
    assert check, f"{page}: {command}: nobody checks {program}"
    monkeypatch.chdir(tmp_path)
    check(arguments)


def test_the_tables_of_tiles_nest_where_the_page_says_so():
    text = (ROOT / "docs" / "engine.md").read_text()
    public, enlarged = re.findall(r"```\n(name,crpix_x.*?)```", text, re.DOTALL)
    once, twice = (GridSettings(tangent_ra=150.1, tangent_dec=2.2, long_wavelength_factor=factor) for factor in (1, 2))
    assert len(read_tiles(public, "tiles.csv", once)) == 2
    assert [tile.shape for tile in read_tiles(enlarged, "tiles.csv", twice)] == [(24912, 19200)] * 2
    with pytest.raises(GridError, match="does not nest"):
        read_tiles(public, "tiles.csv", twice)


def check_cosmosaic(arguments: list[str]) -> None:
    command, *rest = arguments
    assert command in FLOWS | OTHERS or command.startswith("--")
    if command in FLOWS or command == "check":
        check_settings(rest)


def check_python(arguments: list[str]) -> None:
    script, *rest = arguments
    if script == "-m":
        return
    assert (ROOT / script).is_file()
    if script.startswith("flows/"):
        check_settings(rest)


def check_settings(arguments: list[str]) -> None:
    if arguments and arguments[0].endswith(".toml"):
        Path(arguments[0]).write_text(template())
    load_survey([argument for argument in arguments if argument != "--verbose"])


def check_files(arguments: list[str]) -> None:
    for argument in arguments:
        if argument.startswith(("deployments/", "tests/", "benchmarks/")) and not argument.endswith(".env"):
            assert (ROOT / argument.split("::")[0]).exists()


def check_installed(arguments: list[str]) -> None:
    (target,) = [argument for argument in arguments[1:] if not argument.startswith("-")] or ["."]
    extras = re.search(r"\[(.*)\]", target)
    text = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", text, re.MULTILINE) for extra in (extras[1].split(",") if extras else ()))


def check_options_of(program: str):
    def check(arguments: list[str]) -> None:
        check_files(arguments)
        words = [word for word in arguments if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
        shown = help_of(program, *words[: SUBCOMMANDS[program]])
        options = [word for word in arguments if word.startswith("--")]
        assert [option for option in options if option not in shown] == []

    return check


@cache
def help_of(program: str, *words: str) -> str:
    """The help of the longest subcommand that these words name."""
    for length in range(len(words), -1, -1):
        command = [sys.executable, "-m", program, *words[:length], "--help"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        if shown.returncode == 0:
            return shown.stdout
    raise AssertionError(f"{program} {' '.join(words)} has no help")


CHECKS = {
    "cosmosaic": check_cosmosaic,
    "python": check_python,
    "pytest": check_files,
    "cp": check_files,
    "pip": check_installed,
    "prefect": check_options_of("prefect"),
    "dask": check_options_of("dask"),
    "opentelemetry-instrument": lambda arguments: CHECKS[arguments[0]](arguments[1:]),
    "pre-commit": lambda arguments: None,
    "crds": lambda arguments: None,
}
