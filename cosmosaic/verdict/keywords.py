"""The verdict's metrics in the header of a mosaic."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

KEYWORDS = {
    "step": "SKYSTEP",
    "zero": "SKYZERO",
    "rows": "SKYROWS",
    "columns": "SKYCOLS",
    "detector": "SKYDET",
    "halo": "SKYHALO",
    "growth": "SKYGROW",
}
"""Keyword of each metric, in per cent of the rms of one pixel in one exposure."""


def note_verdict(mosaic: Path, table: Path) -> None:
    """Write the verdict into the header of a mosaic's SCI: SKYMETH, SKYSTATE and the known values of `KEYWORDS`.

    Parameters
    ----------
    mosaic
        ``_i2d`` file, changed in place.
    table
        ``_verdict.ecsv`` of the same exposures.
    """
    verdict = Table.read(table, format="ascii.ecsv")
    with fits.open(mosaic, mode="update", memmap=True) as hdus:
        header = hdus["SCI"].header
        header["SKYMETH"] = (verdict.meta["method"], "how the sky was measured")
        header["SKYSTATE"] = (verdict.meta["state"], "is the sky flat: pass, warn, fail or not measurable")
        for metric in verdict:
            value = float(metric["after"])
            # FITS has no number for unknown values.
            if np.isfinite(value):
                comment = f"[%] {metric['metric']}, of one pixel's rms in one exposure"
                header[KEYWORDS[metric["metric"]]] = (round(value, 2), comment)
