"""The records that the steps of an injection share."""

from cosmosaic.records import Lattice, Record


class Draw(Record):
    """What the random numbers of one round depend on."""

    seed: int
    number: int
    """Number of the round, from 0."""


class Combination(Record):
    """How the exposures of a filter become a mosaic."""

    band: str
    grid: Lattice
    """The survey's pixels in this filter."""
    pixfrac: float
