"""The census of one window: sums that can be added over windows, a sample of rows, and rows that stand out."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosmosaic.records import Record

Floats = NDArray[np.floating]

SAMPLE_ROWS = 20_000
"""Rows that are drawn in plots of single sources, of a window and of the survey."""
MAGNITUDE_EDGES = np.arange(10.0, 40.25, 0.5)
"""Bins of the number counts; the outermost take what lies beyond."""
DEPTH_STEP = 0.01
DEPTH_EDGES = np.round(np.arange(10.0, 40.0 + DEPTH_STEP / 2, DEPTH_STEP), 2)
"""Bins of the depths, to which their percentiles are exact."""
RULES = {
    "flagged": "brightest with EDGE, NO_DATA, TRUNCATED, KRON_UNDEFINED or SATURATED",
    "single exposure": "brightest with SINGLE_EXPOSURE: cosmic rays, or thin coverage",
    "rejected": "brightest with REJECTED: outlier rejection took light from the core",
    "large": "largest half-light radius for its magnitude",
    "sharp": "most concentrated beyond a star: cosmic rays, bad pixels",
    "colour": "colour farthest from the median of neighbouring filters",
    "negative": "most significant negative flux: the sky or a wisp is subtracted too deeply",
}
"""Rules by which rows stand out."""


class BandCensus(Record):
    """One filter of a window."""

    name: str
    wavelength_um: float
    arcmin2: float | None
    """Area with a depth; None without a map of depths."""
    covered: int
    """Rows that the filter covers."""
    detected: int
    """Rows with S/N of `DETECTED_SNR` and more."""
    with_magnitude: int
    """Rows whose flux is positive."""
    psf_fwhm_arcsec: float | None
    psf_origin: str | None


class OddRow(Record):
    """A row that stands out by one rule."""

    rule: str
    score: float
    """By which the rows of a rule are ranked, over all windows."""
    reason: str
    window: str
    id: str
    name: str
    ra: float
    dec: float
    flags: int
    magnitudes: dict[str, float | None]
    """By filter; None where there is none."""
    side_arcsec: float
    """Side of its stamps."""
    stamp: int
    """Its place in the window's stamps."""


class CensusFacts(Record):
    """The numbers of one window."""

    window: str
    sources: int
    arcmin2: float | None
    """Area with a depth in any filter; None without maps of depths."""
    bands: tuple[BandCensus, ...]
    """By wavelength."""
    flags: dict[str, int]
    """Rows that carry each flag."""
    odd: tuple[OddRow, ...]


class Sample(NamedTuple):
    """Rows drawn at random; shape ``(n,)``, or ``(n, filters)``."""

    rank: Floats
    """A random number from 0 to 1: of all rows, those with the lowest are in the sample, of which each part with the
    lowest is a sample too, and the samples of windows are one of the survey."""
    magnitude: Floats
    snr: Floats
    radius: Floats
    """Half-light radius in arcsec."""
    concentration: Floats
    star: Floats
    """Probability of a star."""

    def lowest(self, number: int) -> "Sample":
        """Return the sample of at most this many rows."""
        chosen = np.argsort(self.rank, kind="stable")[:number]
        return Sample(*(column[chosen] for column in self))


class Census(NamedTuple):
    """The census of one window, or of several."""

    facts: CensusFacts
    counts: NDArray[np.int64]
    """Rows by magnitude, all and those with S/N of `DETECTED_SNR`: shape ``(filters, 2, magnitudes)``."""
    depths: Floats
    """Square arcminutes by depth: shape ``(filters, depths)``."""
    sample: Sample
    stamps: NDArray[np.uint8]
    """Pictures of odd rows in all filters, side by side: shape ``(n, height, width, 3)``."""


def write_census(census: Census, path: Path) -> Path:
    """Write the census of a window; equal ones give equal bytes."""
    arrays: dict[str, Any] = {f"sample_{name}": column for name, column in census.sample._asdict().items()}
    arrays |= {"counts": census.counts, "depths": census.depths, "stamps": census.stamps}
    np.savez_compressed(path, facts=np.array(census.facts.model_dump_json()), **arrays)
    return path


def read_facts(path: Path) -> CensusFacts:
    """Read the numbers of a window alone."""
    with np.load(path) as stored:
        return CensusFacts.model_validate_json(str(stored["facts"]))


def read_census(path: Path) -> Census:
    """Read the census of a window."""
    with np.load(path) as stored:
        sample = Sample(*(stored[f"sample_{name}"] for name in Sample._fields))
        return Census(read_facts(path), stored["counts"], stored["depths"], sample, stored["stamps"])
