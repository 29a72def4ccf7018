"""The ids of a survey's sources, which are kept when exposures are added.

The survey's published table of ids is the memory: it has every source that was ever in a catalogue, with its place and
name when it was first found.
"""

from collections.abc import Mapping

import numpy as np
from astropy import units
from astropy.table import QTable

from cosmosaic.records import Record


class IdsError(ValueError):
    """The published table of ids cannot be read."""


class SourceIds(Record):
    """Sources in the order of their ids."""

    ids: tuple[int, ...] = ()
    """Positive; an id is never given to another source."""
    names: tuple[str, ...] = ()
    """IAU-style designations, which stay as the ids do."""
    ra: tuple[float, ...] = ()
    """Degrees, ICRS, where the source was first found."""
    dec: tuple[float, ...] = ()

    def first(self, number: int) -> "SourceIds":
        """Return the first so many sources."""
        return SourceIds(**{name: values[:number] for name, values in dict(self).items()})


class SurveyIds(Record):
    """All sources of a survey, as published."""

    sources: SourceIds
    known: int
    """How many of them, the first ones, an earlier run had published."""
    catalogs: dict[str, str]
    """sha256 of the catalogue of each window in which the sources were numbered."""


class PartOfSurvey(Record):
    """A window as a part of its survey."""

    survey: str
    tile: str
    bands: tuple[str, ...]
    """Filters of the survey, of which the window may lack some."""


def keeping(earlier: SurveyIds | None, catalogs: Mapping[str, str]) -> SourceIds:
    """Return the sources whose ids are kept.

    If the catalogues are the same as then, these are the ones that were kept then: the work is repeated and gives the
    same bytes.

    Parameters
    ----------
    earlier
        The published ids.
    catalogs
        sha256 of the catalogue of each window of now.
    """
    if earlier is None:
        return SourceIds()
    is_repeated = earlier.catalogs == dict(catalogs)
    return earlier.sources.first(earlier.known) if is_repeated else earlier.sources


def ids_table(survey: SurveyIds) -> QTable:
    """Return the ids as the table that is published."""
    sources = survey.sources
    table = QTable(
        {
            "id": np.array(sources.ids, dtype=np.int64),
            "name": np.array(sources.names, dtype=str),
            "ra": np.array(sources.ra, dtype=float) * units.deg,
            "dec": np.array(sources.dec, dtype=float) * units.deg,
        }
    )
    table.meta |= {
        "sources": len(sources.ids),
        "known": survey.known,
        "catalogs": dict(sorted(survey.catalogs.items())),
    }
    return table


def read_ids(text: str, name: str) -> SurveyIds:
    """Read a table that a survey published.

    Parameters
    ----------
    text
        Its text.
    name
        Its name, for errors.

    Raises
    ------
    IdsError
        It is not such a table, or not a complete one.
    """
    try:
        table = QTable.read(text.splitlines(), format="ascii.ecsv")
        sources = SourceIds(
            ids=tuple(table["id"].tolist()),
            names=tuple(table["name"].tolist()),
            ra=tuple(table["ra"].to_value(units.deg).tolist()),
            dec=tuple(table["dec"].to_value(units.deg).tolist()),
        )
        survey = SurveyIds(sources=sources, known=table.meta["known"], catalogs=table.meta["catalogs"])
        _check(sources, table.meta["sources"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise IdsError(
            f"{name} among the products cannot be used ({error}). Without it sources would get other ids: restore it, "
            "or remove it to number all sources anew"
        ) from error
    return survey


def _check(sources: SourceIds, number: int) -> None:
    """Refuse a table with lost or altered rows."""
    if len(sources.ids) != number:
        raise ValueError(f"{len(sources.ids)} of its {number} rows are left")
    if number and not (sources.ids[0] > 0 and (np.diff(sources.ids) > 0).all()):
        raise ValueError("its ids are not positive and rising")
    if not (np.isfinite(sources.ra).all() and np.isfinite(sources.dec).all()):
        raise ValueError("a position is not a number")
