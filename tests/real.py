"""Real material beside the checkout; tests of it are skipped where it is absent, and fail in CI."""

from pathlib import Path

from support.programs import missing

FOLDER = Path(__file__).parents[2] / "shared" / "real"


def real(pattern: str) -> Path:
    """The first real file of a pattern, e.g. ``cal/*.fits``."""
    found = sorted(FOLDER.glob(pattern))
    if not found:
        missing(f"no real material {pattern} beside the checkout")
    return found[0]
