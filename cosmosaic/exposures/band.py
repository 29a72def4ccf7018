"""The exposures of one filter, and their files."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cosmosaic.exposures.files import Cal
from cosmosaic.geometry.sphere import Footprint
from cosmosaic.records import Association, Exposure

Exposures = Mapping[str, Cal]
"""The calibrated file of each exposure by its name: supplied, or the output of a step."""


@dataclass(frozen=True)
class Band:
    """The exposures of one filter that could be calibrated."""

    association: Association
    exposures: Mapping[str, Exposure]
    """All exposures of the filter by name, including those that failed."""
    cals: Exposures
    """Calibrated file of each member of the association."""

    @property
    def name(self) -> str:
        """The filter."""
        return self.association.band

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the exposures."""
        return self.association.members

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the filter's exposures that could not be calibrated."""
        return tuple(name for name in sorted(self.exposures) if name not in self.cals)

    @cached_property
    def footprints(self) -> dict[str, Footprint]:
        """Footprint of each exposure."""
        return {name: self.exposures[name].footprint for name in self.members}

    @cached_property
    def visits(self) -> dict[str, list[str]]:
        """Names of each visit's exposures by its identifier, as in VISIT_ID."""
        visits: dict[str, list[str]] = {}
        for name in self.members:
            exposure = self.exposures[name]
            visits.setdefault(f"{exposure.program}{exposure.observation}{exposure.visit}", []).append(name)
        return visits

    def stem(self, part: str) -> str:
        """Name of a product of the whole filter, without extension."""
        return f"{self.association.product_name}_{part}"
