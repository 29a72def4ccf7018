"""Count rates of the fused engine compared with those of the jwst package's own steps."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import QTable
from numpy.typing import NDArray

from cosmosaic.calibrate.stages import calibrate_ramp
from cosmosaic.exposures.library import exposure_name
from cosmosaic.steps.result import Made
from cosmosaic.survey import ExposureSettings

PLANES = ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE")


def verify_ramp(
    ramp: Path, rate: Path, gain_map: Path | None, settings: ExposureSettings, detector: str, folder: Path
) -> Made:
    """Calibrate a ramp with the jwst package's steps and compare.

    Parameters
    ----------
    ramp
        The ``_uncal`` file.
    rate
        Count rate made by the engine of the settings.
    gain_map, settings, detector
        As for `cosmosaic.calibrate.stages.calibrate_ramp`.
    folder
        Gets ``_verification.ecsv``: by plane the number of pixels that differ, and the largest difference.
    """
    own = folder / "jwst"
    own.mkdir()
    by_jwst = settings.model_copy(update={"engine": "jwst"})
    expected = calibrate_ramp(ramp, gain_map, by_jwst, detector, own).files["rate"]
    rows = compare_planes(rate, expected)
    expected.unlink()
    own.rmdir()
    table = folder / f"{exposure_name(ramp.name)}_verification.ecsv"
    QTable(rows=rows, names=("plane", "pixels_different", "largest_difference")).write(table, format="ascii.ecsv")
    facts = {
        "planes_different": float(sum(pixels > 0 for _, pixels, _ in rows)),
        "engine_difference": max(largest for _, _, largest in rows),
    }
    return Made(table=table, facts=facts)


def compare_planes(first: Path, second: Path) -> list[tuple[str, int, float]]:
    """Return name, number of different pixels and largest difference of each plane of two count rates.

    The difference is infinite where one has a value and the other none.
    """
    with fits.open(first) as one, fits.open(second) as other:
        return [(name, *_difference(one[name].data, other[name].data)) for name in PLANES]


def _difference(first: NDArray[np.number], second: NDArray[np.number]) -> tuple[int, float]:
    different = (first != second) & ~(np.isnan(first) & np.isnan(second))
    if not different.any():
        return 0, 0.0
    sizes = np.abs(first[different].astype(float) - second[different].astype(float))
    return int(np.count_nonzero(different)), float(np.where(np.isnan(sizes), np.inf, sizes).max())
