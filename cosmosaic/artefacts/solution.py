"""What the wisps of a detector were taken out with, and how it stays when exposures are added."""

from collections.abc import Mapping

from astropy.table import QTable

from cosmosaic.records import Record


class WispSolution(Record):
    """What the wisps of one detector were taken out with."""

    exposures: dict[str, str]
    """sha256 of each exposure by its name."""
    kept: bool
    """Whether the template was that of an earlier run."""
    missing: tuple[str, ...] = ()
    """Exposures of the survey that a fault took."""

    def stays_for(self, exposures: Mapping[str, str]) -> bool:
        """Tell whether these exposures take the template that was published.

        The same exposures that made it make it again, with the same bytes; and so do all when one is back that was
        missing.
        """
        return self.kept or (self.exposures != dict(exposures) and set(self.missing).isdisjoint(exposures))


def read_wisps(text: str) -> WispSolution:
    """Read a table of wisps that a survey published.

    Raises
    ------
    ValueError, KeyError
        It is no such table.
    """
    table = QTable.read(text.splitlines(), format="ascii.ecsv")
    digests = zip(table["exposure"], table["sha256"], strict=True)
    return WispSolution(
        exposures={str(name): str(digest) for name, digest in digests},
        kept=table.meta["kept"],
        missing=tuple(table.meta["missing"]),
    )
