"""The verdict on astrometry in the header of a mosaic."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

KEYWORDS = {
    "exposure": "ASTEXP",
    "roll": "ASTROLL",
    "detector": "ASTDET",
    "module": "ASTMOD",
    "scale": "ASTSCALE",
    "matches": "ASTMATCH",
    "filter": "ASTFILT",
    "cell": "ASTCELL",
    "absolute": "ASTABS",
    "flux": "ASTFLUX",
}
"""Keyword of each metric: the worst of its kind, mas (scale: ppm, matches: %, flux: mmag)."""


def note_astrometry(mosaic: Path, table: Path) -> None:
    """Write the verdict into the header of a mosaic's SCI: ASTSTATE and the known values of `KEYWORDS`.

    Parameters
    ----------
    mosaic
        ``_i2d`` file, changed in place.
    table
        ``_astrometry.ecsv`` of the survey.
    """
    verdict = Table.read(table, format="ascii.ecsv")
    with fits.open(mosaic, mode="update", memmap=True) as hdus:
        header = hdus["SCI"].header
        header["ASTSTATE"] = (verdict.meta["state"], "stars agree: pass, warn, fail, not measurable")
        for metric in verdict:
            value = float(metric["value"])
            # FITS has no number for unknown values.
            if (metric["when"], metric["scope"]) == ("after", "survey") and np.isfinite(value):
                comment = f"[{metric['unit']}] worst {metric['name']} against the others"
                header[KEYWORDS[metric["name"]]] = (round(value, 2), comment)
