"""The sky level of each exposure of one filter, as a step."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cosmosaic.cells.files import Cells, needed_jointly
from cosmosaic.cells.steps import BinnedBand, SourceMask, cells_around
from cosmosaic.exposures.band import Band, Exposures
from cosmosaic.exposures.files import Cal
from cosmosaic.geometry.sphere import Footprint
from cosmosaic.sky.solution import (
    MaskedSkyRequest,
    SkyRequest,
    SkySolution,
    keeping,
    measured_exposures,
    read_solution,
)
from cosmosaic.solved import published
from cosmosaic.steps.declaration import Job, Outputs, Step, consulted
from cosmosaic.steps.files import File, Many
from cosmosaic.storage import store
from cosmosaic.survey import Survey


class SkyTable(File, suffix="_sky.ecsv", kind="sky"):
    """The sky level of each exposure."""


class ExposureSkyFile(File, suffix="_sky.json"):
    """Sky level and patterns of one exposure."""


class LevelTable(File):
    """A user's own levels."""


@dataclass(frozen=True)
class MeasuredSky(Outputs):
    """The sky of one filter."""

    table: SkyTable
    exposures: Many[ExposureSkyFile]


@dataclass(frozen=True, kw_only=True)
class MeasureSky(Step[MeasuredSky]):
    """Measure the sky of each exposure that is not in an earlier solution."""

    title = "Sky"
    version = 14
    function = "cosmosaic.sky.measure:measure_sky"
    per = "filter"

    cells: Mapping[str, Cells]
    masked: Mapping[str, Cells]
    exposures: Mapping[str, Cal]
    """For methods that need pixels."""
    levels: LevelTable | None
    request: SkyRequest
    stem: str
    earlier: SkySolution | None = consulted()  # noqa: RUF009
    window_cells: int = consulted()
    """Number of cells of the window that holds all exposures."""
    footprints: Mapping[str, Footprint] = consulted()

    @property
    def needed_gb(self) -> float:
        """Memory for the window, and for what is kept of each exposure."""
        return needed_jointly(len(self.cells) + len(self.masked), self.window_cells)

    def prepared(self) -> Self:
        """Keep the part of an earlier solution whose cells have the same checksums, and measure around the others."""
        digests = {name: cells.stored.sha256 for name, cells in {**self.cells, **self.masked}.items()}
        request = keeping(self.request, self.earlier, digests)
        measured = measured_exposures(request, {name: self.footprints[name] for name in self.cells})
        return dataclasses.replace(
            self,
            request=request,
            earlier=None,
            cells={name: self.cells[name] for name in measured},
            masked={name: cells for name, cells in self.masked.items() if name in measured},
            window_cells=cells_around(request.grid, [self.footprints[name] for name in measured]),
        )

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the method is given, not chosen by the run."""
        return survey.sky.method != "auto"


@dataclass(frozen=True)
class BandSky:
    """The sky of one filter, as promises."""

    measured: MeasuredSky | None = None
    """None if no sky is measured."""
    earlier: SkySolution | None = None
    """Solution published by an earlier run."""

    def of(self, name: str) -> ExposureSkyFile | None:
        """Sky level and patterns of one exposure."""
        return self.measured.exposures[name] if self.measured else None

    @property
    def table(self) -> SkyTable | None:
        """The levels."""
        return self.measured.table if self.measured else None


def measure_sky(
    band: Band, exposures: Exposures, binned: BinnedBand, mask: SourceMask | None, step: type[MeasureSky], job: Job
) -> BandSky:
    """Submit the step that measures the sky of each exposure.

    Parameters
    ----------
    band, exposures, binned
        The exposures, their files and their cells.
    mask
        The user's mask of sources.
    step
        The step.
    job
        The run.
    """
    settings = job.survey.sky
    if settings.method == "none" and not settings.slow_stripes:
        return BandSky()
    stem = band.stem("sky")
    earlier = published(store.join(job.products, f"{stem}.ecsv"), read_solution, job.note)
    # Whether the level is subtracted or only recorded does not change the measurement.
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
            window_cells=binned.window_cells,
            footprints={name: band.footprints[name] for name in binned.cells},
        ),
        band.name,
    )
    return BandSky(measured, earlier)
