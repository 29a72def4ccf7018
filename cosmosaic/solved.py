"""Solutions for the exposures of a survey, which are kept when exposures are added."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from cosmosaic.records import Record
from cosmosaic.storage import store


class Solved(Record):
    """Solution for one exposure."""

    name: str
    sha256: str
    """Checksum of the file it was solved from."""
    kept: bool
    """Whether this was known before, or solved with the others."""


class Moves(NamedTuple):
    """Changes of earlier solutions."""

    exposures: int
    largest: float
    rms: float


Kind = TypeVar("Kind", bound=Solved)
Solution = TypeVar("Solution")


def published(uri: str, read: Callable[[str], Solution], note: Callable[[str], None]) -> Solution | None:
    """Return the solution that an earlier run published in a table; None if there is no readable one.

    Parameters
    ----------
    uri
        The table.
    read
        Reads its text; raises ValueError or KeyError if it is not such a table.
    note
        Called with a warning if the table cannot be read.
    """
    try:
        return read(store.read_bytes(uri).decode())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        note(f"{uri} was not written by this version ({error}): its exposures are solved again")
        return None


def staying(earlier: Sequence[Kind], missing: Sequence[str], digests: Mapping[str, str]) -> tuple[Kind, ...]:
    """Return the part of an earlier solution that is kept, marked as such.

    If the exposures are the same as then, only that part is kept that was kept then: the work is repeated and gives the
    same bytes. Likewise if an exposure that was missing then is back.

    Parameters
    ----------
    earlier
        The published solution.
    missing
        Names of the exposures that were missing then because of a failure.
    digests
        sha256 of each exposure of now by its name.
    """
    same = [one for one in earlier if digests.get(one.name) == one.sha256]
    is_back = not set(missing).isdisjoint(digests)
    if is_back or len(same) == len(earlier) == len(digests):
        same = [one for one in same if one.kept]
    return tuple(one.model_copy(update={"kept": True}) for one in same)


def moves_of(steps: ArrayLike) -> Moves:
    """Tell the largest and the rms of the steps that exposures have moved by, all in one unit."""
    sizes = np.abs(np.asarray(steps, dtype=float))
    if not sizes.size:
        return Moves(0, 0.0, 0.0)
    return Moves(sizes.size, float(sizes.max()), float(np.sqrt(np.mean(np.square(sizes)))))
