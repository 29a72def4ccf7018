"""Table of the exposures in a mosaic."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Self

from cosmosaic.records import Exposure, Record
from cosmosaic.steps.result import Made


class Member(Record):
    """An exposure of a mosaic."""

    exposure: str
    """Its name."""
    file: str
    """Name of the file in which it entered the survey."""
    sha256: str
    """Checksum of that file."""
    detector: str
    start: str
    """UTC, ISO 8601."""
    exposure_time_s: float

    @classmethod
    def of(cls, exposure: Exposure) -> Self:
        """Return an exposure as a member."""
        return cls(
            exposure=exposure.name,
            file=exposure.object.name,
            sha256=exposure.object.sha256,
            detector=exposure.detector,
            start=exposure.start,
            exposure_time_s=exposure.exposure_time,
        )


def digest_of(exposures: Iterable[Exposure]) -> str:
    """Return one sha256 for the files of many exposures: that of the lines ``sha256  file name``, sorted."""
    lines = sorted(f"{exposure.object.sha256}  {exposure.object.name}\n" for exposure in exposures)
    return sha256("".join(lines).encode()).hexdigest()


def list_members(members: tuple[Member, ...], stem: str, folder: Path) -> Made:
    """Write the exposures of a mosaic to ``_members.parquet``, a row for each, in their order."""
    path = folder / f"{stem}_members.parquet"
    import pandas as pd  # not at the top, which the flow's own process imports

    pd.DataFrame([member.model_dump() for member in members]).to_parquet(path, index=False)
    return Made(members=path)
