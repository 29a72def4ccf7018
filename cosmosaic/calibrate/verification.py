"""Count rates of the fused engine compared with those of the jwst package's own steps."""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray

from cosmosaic.calibrate.stages import count_rate
from cosmosaic.exposures.library import exposure_name
from cosmosaic.steps.result import Made
from cosmosaic.survey import ExposureSettings

PLANES = {"SCI": "data", "ERR": "err", "DQ": "dq", "VAR_POISSON": "var_poisson", "VAR_RNOISE": "var_rnoise"}
"""Attributes of a data model by their extensions."""


def verify_ramp(ramp: Path, gain_map: Path | None, settings: ExposureSettings, detector: str, folder: Path) -> Made:
    """Make the count rate of a ramp with the engine of the settings and with the jwst package's steps, and compare.

    Parameters
    ----------
    ramp, gain_map, settings, detector
        As for `cosmosaic.calibrate.stages.calibrate_ramp`.
    folder
        Gets ``_verification.ecsv``: by plane the number of pixels that differ, and the largest difference.
    """
    by_jwst = settings.model_copy(update={"engine": "jwst"})
    rows = compare_planes(*(count_rate(ramp, gain_map, engine, detector) for engine in (settings, by_jwst)))
    table = folder / f"{exposure_name(ramp.name)}_verification.ecsv"
    QTable(rows=rows, names=("plane", "pixels_different", "largest_difference")).write(table, format="ascii.ecsv")
    facts = {
        "planes_different": float(sum(pixels > 0 for _, pixels, _ in rows)),
        "engine_difference": max(largest for _, _, largest in rows),
    }
    return Made(table=table, facts=facts)


def compare_planes(first: Any, second: Any) -> list[tuple[str, int, float]]:
    """Return extension, number of different pixels and largest difference of each plane of two data models.

    The difference is infinite where one has a value and the other none.
    """
    return [(name, *_difference(getattr(first, plane), getattr(second, plane))) for name, plane in PLANES.items()]


def _difference(first: NDArray[np.number], second: NDArray[np.number]) -> tuple[int, float]:
    different = (first != second) & ~(np.isnan(first) & np.isnan(second))
    if not different.any():
        return 0, 0.0
    sizes = np.abs(first[different].astype(float) - second[different].astype(float))
    return int(np.count_nonzero(different)), float(np.where(np.isnan(sizes), np.inf, sizes).max())
