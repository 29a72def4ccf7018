"""A supplied calibrated exposure without its 1/f noise, made in a child process."""

from pathlib import Path
from shutil import copy
from typing import Literal

from cosmosaic.calibrate.stages import clean_calibrated


def clean_into(path: Path, flicker_noise: Literal["fast", "jwst"], target: Path, folder: Path) -> Path:
    """Clean an exposure and put it into the target folder."""
    made = clean_calibrated(path, flicker_noise, folder).files["cal"]
    assert isinstance(made, Path)
    return Path(copy(made, target))
