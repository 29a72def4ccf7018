"""Sets of calibrated exposures on disk, as the Stage 3 steps of the jwst package take them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from cosmosaic.provenance import save_model

if TYPE_CHECKING:
    from jwst.datamodels import ModelLibrary

PRODUCT_NAME = "group"
"""Name of the product in the association that only carries the exposures into a step."""


def open_exposures(paths: list[Path], folder: Path) -> "ModelLibrary":
    """Open exposures as a library that keeps one of them in memory at a time.

    Parameters
    ----------
    paths
        Files of level ``cal`` or ``crf``.
    folder
        Folder of the association that names them.
    """
    # It takes seconds to import, and names of exposures are also needed where no exposure is opened.
    from jwst.datamodels import ModelLibrary

    members = [{"expname": str(path), "exptype": "science"} for path in paths]
    association = {
        "asn_id": "a3001",
        "asn_pool": "none",
        "asn_type": "image3",
        "products": [{"name": PRODUCT_NAME, "members": members}],
    }
    table = folder / "group_asn.json"
    table.write_text(json.dumps(association))
    return ModelLibrary(str(table), on_disk=True)


def save_exposures(library: "ModelLibrary", suffix: str, folder: Path) -> list[Path]:
    """Write each exposure of a library under its own name with another suffix, e.g. ``_crf``."""
    saved = []
    with library:
        for model in library:
            saved.append(save_model(model, folder / f"{exposure_name(model.meta.filename)}{suffix}.fits"))
            library.shelve(model, modify=False)
    return saved


def exposure_name(filename: str) -> str:
    """Return a file's name without level and extension: ``jw01727001001_02101_00001_nrcb1``."""
    return Path(filename).name.split(".fits")[0].rsplit("_", 1)[0]
