"""The sky level of each exposure of one filter, as a step."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cosmosaic.cells.files import Cells
from cosmosaic.cells.steps import BinnedBand, SourceMask
from cosmosaic.exposures.band import Band, Exposures
from cosmosaic.exposures.files import Cal
from cosmosaic.sky.solution import MaskedSkyRequest, SkyRequest, SkySolution, keeping, read_solution
from cosmosaic.solved import published
from cosmosaic.steps.declaration import Job, Outputs, Step, consulted
from cosmosaic.steps.files import File, Many
from cosmosaic.storage import store
from cosmosaic.survey import Survey


class SkyTable(File, suffix="_sky.ecsv", kind="sky"):
    """The sky level of each exposure."""


class ExposureSkyFile(File, suffix="_sky.json"):
    """What is taken out of one exposure."""


class LevelTable(File):
    """A user's own levels."""


@dataclass(frozen=True)
class MeasuredSky(Outputs):
    """The sky of one filter."""

    table: SkyTable
    exposures: Many[ExposureSkyFile]


@dataclass(frozen=True, kw_only=True)
class MeasureSky(Step[MeasuredSky]):
    """Measure the sky of each exposure that no earlier solution holds."""

    title = "Sky"
    version = 12
    function = "cosmosaic.sky.measure:measure_sky"
    per = "filter"

    cells: Mapping[str, Cells]
    masked: Mapping[str, Cells]
    exposures: Mapping[str, Cal]
    """For methods that look at pixels."""
    levels: LevelTable | None
    request: SkyRequest
    stem: str
    earlier: SkySolution | None = consulted()  # noqa: RUF009

    def prepared(self) -> Self:
        """Keep what stays of an earlier solution, which the checksums of the cells decide."""
        digests = {name: cells.stored.sha256 for name, cells in {**self.cells, **self.masked}.items()}
        return dataclasses.replace(self, request=keeping(self.request, self.earlier, digests), earlier=None)

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Tell whether the method is not to be chosen."""
        return survey.sky.method != "auto"


@dataclass(frozen=True)
class BandSky:
    """The sky of one filter, as it is being measured."""

    measured: MeasuredSky | None = None
    """None where no sky is to be measured."""
    earlier: SkySolution | None = None
    """What an earlier run published."""

    def of(self, name: str) -> ExposureSkyFile | None:
        """What is taken out of one exposure."""
        return self.measured.exposures[name] if self.measured else None

    @property
    def table(self) -> SkyTable | None:
        """The levels."""
        return self.measured.table if self.measured else None


def measure_sky(
    band: Band, exposures: Exposures, binned: BinnedBand, mask: SourceMask | None, step: type[MeasureSky], job: Job
) -> BandSky:
    """Submit what finds the sky of each exposure.

    Parameters
    ----------
    band, exposures, binned
        The exposures, their files and their cells.
    mask
        The user's mask of sources.
    step
        What measures.
    job
        Submits it.
    """
    settings = job.survey.sky
    if settings.method == "none" and not settings.slow_stripes:
        return BandSky()
    stem = band.stem("sky")
    earlier = published(store.join(job.products, f"{stem}.ecsv"), read_solution, job.note)
    # Whether the level is subtracted or only recorded does not change what is measured.
    request = SkyRequest(
        method=settings.method,
        slow_stripes=settings.slow_stripes,
        grid=binned.grid,
        missing=band.missing,
        zero=settings.zero,
    )
    if mask:
        request = MaskedSkyRequest(**dict(request), mask=mask.image.stored.sha256)
    measured = job.submit(
        step(
            cells=binned.cells,
            masked=binned.masked,
            exposures=exposures if settings.needs_pixels else {},
            levels=LevelTable(store.checksum(settings.levels, job.checksums)) if settings.levels else None,
            request=request,
            stem=stem,
            earlier=None if job.survey.resolve else earlier,
        ),
        band.name,
    )
    return BandSky(measured, earlier)
