"""The verdict's key figures in the header of a mosaic."""

from pathlib import Path

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
"""Keyword of each figure, in per cent of the rms of one pixel in one exposure."""


def note_verdict(mosaic: Path, table: Path) -> None:
    """Write how flat the sky is into the header of a mosaic's SCI: SKYMETH, SKYSTATE and `KEYWORDS`.

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
        header["SKYSTATE"] = (verdict.meta["state"], "is the sky flat: pass, look or fail")
        for figure in verdict:
            words = f"[%] {figure['figure']}, of one pixel's rms in one exposure"
            header[KEYWORDS[figure["figure"]]] = (round(float(figure["after"]), 2), words)
