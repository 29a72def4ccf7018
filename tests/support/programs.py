"""Programs that tests need beside Python."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def require_program(name: str, *places: Path) -> Path:
    """Return a program's path; without it the test is skipped, but fails in CI."""
    path = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, places)]))
    if path is None:
        packages = "postgresql chromium stilts starlink-ecsv-java buildah mmdebstrap xfsprogs"
        missing(f"{name} is not installed (Debian and Ubuntu: apt-get install {packages})")
    return Path(path)


def missing(what: str) -> NoReturn:
    """Skip a test that cannot run here, or fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def require_browser() -> Path:
    """Return the path of Chromium, or of Chrome, which is the same to the tests."""
    chrome = shutil.which("google-chrome")
    return Path(chrome) if chrome else require_program("chromium")
