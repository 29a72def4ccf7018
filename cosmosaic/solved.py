"""What was solved for the exposures of a survey, and what of it stays when exposures are added."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from cosmosaic.records import Record
from cosmosaic.storage import store


class Solved(Record):
    """What was found for one exposure."""

    name: str
    sha256: str
    """Of what it was found in."""
    kept: bool
    """Whether this was known before, or found with the others."""


class Moves(NamedTuple):
    """How far what was solved before has moved."""

    exposures: int
    largest: float
    rms: float


Kind = TypeVar("Kind", bound=Solved)
Solution = TypeVar("Solution")


def published(uri: str, read: Callable[[str], Solution], note: Callable[[str], None]) -> Solution | None:
    """Return what an earlier run of the survey published in a table; None where there is none that can be read.

    Parameters
    ----------
    uri
        The table.
    read
        Reads its text; raises ValueError or KeyError where it is no such table.
    note
        Is told of a table that cannot be read.
    """
    try:
        return read(store.read_bytes(uri).decode())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        note(f"{uri} was not written by this version ({error}): what it holds is solved again")
        return None


def staying(earlier: Sequence[Kind], missing: Sequence[str], digests: Mapping[str, str]) -> tuple[Kind, ...]:
    """Return what stays of an earlier solution, marked as kept.

    Where the exposures are those of the earlier solution it is what that one kept: the same is done as then, and gives
    the same bytes. Likewise where an exposure is back that was missing then.

    Parameters
    ----------
    earlier
        What was published.
    missing
        Names of the exposures that a fault had taken then.
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
