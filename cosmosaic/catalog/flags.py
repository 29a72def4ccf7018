"""The flags of catalogues: one registry, and their decoder."""

from enum import IntFlag

import numpy as np
from numpy.typing import ArrayLike


class CatalogFlag(IntFlag):
    """Warnings about a source; bits of the column ``flags``."""

    EDGE = 1
    """The segment touches the border of the coverage."""
    BLENDED = 2
    """Neighbours cover more than a tenth of the Kron aperture; their pixels are replaced by those opposite."""
    SHALLOW = 4
    """In some filter the weight is below half the window's median: fewer exposures."""
    NO_DATA = 8
    """Pixels inside the segment have no data, as in a saturated core: fluxes are lower limits."""
    TRUNCATED = 16
    """The Kron aperture reaches pixels without data."""
    NOT_POSITIVE = 32
    """The total flux is not positive in any filter: no magnitude."""
    KRON_UNDEFINED = 64
    """No Kron radius could be measured: the smallest aperture allowed is used."""
    SINGLE_EXPOSURE = 128
    """A single exposure saw it in every filter that covers it: it may be a cosmic ray."""
    DEBLENDED = 256
    """The segment was separated from that of a neighbour."""
    NOT_COVERED = 512
    """Some filter does not cover it; that filter's columns are null."""
    PSF_FROM_STARS = 1024
    """The corrections to total flux rest on a PSF made from stars of the field in some filter."""
    REJECTED = 2048
    """In some filter outlier rejection has taken a third of an exposure or more from its core, as where it varied."""
    SATURATED = 4096
    """A saturated pixel of some exposure lies in the segment: the flux may be too low, or rest on fewer exposures."""
    NEAR_BRIGHT = 8192
    """In some filter brighter stars add, by the PSF, more than a tenth of its flux and more than its error."""
    SHARP = 16384
    """Sharper than a point source in every filter that shows it: a cosmic ray or a bad pixel."""


def decode_flags(flags: ArrayLike) -> list[tuple[str, ...]]:
    """Return the names of the flags that are set, for each value of a column ``flags``.

    Parameters
    ----------
    flags
        One value or many.

    Raises
    ------
    ValueError
        A value has a bit that no flag uses.
    """
    values = np.atleast_1d(np.asarray(flags, dtype=np.int64))
    known = sum(CatalogFlag)
    for value in values:
        if value & ~known:
            raise ValueError(f"{value} is not a value of a catalogue's flags; the sum of all flags is {known}")
    return [tuple(flag.name or "" for flag in CatalogFlag if value & flag) for value in values]
