"""Real material beside the checkout; tests of it are skipped where it is absent, and fail in CI."""

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "shared" / "real"


def real(pattern: str) -> Path:
    """The first real file of a pattern, e.g. ``cal/*.fits``."""
    found = sorted(FOLDER.glob(pattern))
    if not found:
        message = f"no real material {pattern} beside the checkout"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return found[0]
