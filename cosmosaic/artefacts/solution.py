"""The wisp template of a detector, which is kept when exposures are added."""

from collections.abc import Mapping

from astropy.table import QTable

from cosmosaic.records import Record

TEMPLATE = 3
"""How templates are made, in their tables: those that were made in an earlier way are not kept."""


class WispSolution(Record):
    """The exposures and template of one detector's wisps."""

    exposures: dict[str, str]
    """sha256 of each exposure by its name."""
    kept: bool
    """Whether the template was from an earlier run."""
    missing: tuple[str, ...] = ()
    """Exposures of the survey that could not be calibrated."""

    def stays_for(self, exposures: Mapping[str, str]) -> bool:
        """Return whether these exposures use the published template.

        The same exposures that made it make it again, with the same bytes; and so do all when one is back that was
        missing.
        """
        return self.kept or (self.exposures != dict(exposures) and set(self.missing).isdisjoint(exposures))


def read_wisps(text: str) -> WispSolution:
    """Read a published table of wisps.

    Raises
    ------
    ValueError, KeyError
        It is not such a table, or its template was made in an earlier way.
    """
    table = QTable.read(text.splitlines(), format="ascii.ecsv")
    if table.meta.get("template") != TEMPLATE:
        raise ValueError("wisps were found in an earlier way")
    digests = zip(table["exposure"], table["sha256"], strict=True)
    return WispSolution(
        exposures={str(name): str(digest) for name, digest in digests},
        kept=table.meta["kept"],
        missing=tuple(table.meta["missing"]),
    )
