"""Astrometry of the exposures of one filter, as steps."""

from collections.abc import Mapping
from dataclasses import dataclass

from cosmosaic.astrometry.solution import Alignment, AlignRequest, keeping, needed_exposures, read_alignment
from cosmosaic.exposures.band import Band, Exposures
from cosmosaic.exposures.files import Cal
from cosmosaic.nircam import star_fwhm_pixels
from cosmosaic.solved import published
from cosmosaic.steps.declaration import Job, Outputs, Step
from cosmosaic.steps.files import File, Many
from cosmosaic.storage import store
from cosmosaic.survey import Survey


class AlignmentTable(File, suffix="_align.ecsv", kind="alignment"):
    """The correction of each exposure's WCS."""


class WcsCorrection(File, suffix="_correction.json"):
    """The correction of one exposure's WCS."""


class StarCatalogue(File):
    """A user's reference catalogue."""


@dataclass(frozen=True)
class SolvedAlignment(Outputs):
    """The corrections of one filter."""

    table: AlignmentTable
    corrections: Many[WcsCorrection]


@dataclass(frozen=True, kw_only=True)
class SolveAlignment(Step[SolvedAlignment]):
    """Find the corrections of the exposures that have none from an earlier alignment."""

    title = "Alignment"
    version = 3
    function = "cosmosaic.astrometry.align:solve_alignment"
    per = "filter"

    exposures: Mapping[str, Cal]
    """The exposures whose stars are needed."""
    catalogue: StarCatalogue | None
    request: AlignRequest
    stem: str

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Tell whether exposures are to be aligned."""
        return survey.align.enabled


@dataclass(frozen=True)
class CorrectedExposure(Outputs):
    """An exposure with its correction."""

    cal: Cal


@dataclass(frozen=True, kw_only=True)
class AlignExposure(Step[CorrectedExposure]):
    """Apply the correction of one exposure to its WCS."""

    title = "Align"
    version = 2
    function = "cosmosaic.astrometry.align:align_exposure"
    per = "exposure"

    exposure: Cal
    correction: WcsCorrection

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Tell whether exposures are to be aligned."""
        return survey.align.enabled


@dataclass(frozen=True)
class Aligned:
    """The exposures of one filter, aligned if asked for."""

    exposures: Exposures
    solution: SolvedAlignment | None = None
    """None if no alignment is asked for."""
    earlier: Alignment | None = None
    """The alignment that an earlier run published."""


def align(band: Band, cleaned: Exposures, job: Job) -> Aligned:
    """Submit the alignment of the cleaned exposures of one filter, if it is asked for.

    An exposure is identified by its calibrated file: subtracting a wisp does not move stars.
    """
    if not job.survey.align.enabled:
        return Aligned(cleaned)
    catalogue = _own_catalogue(job)
    stem = band.stem("align")
    earlier = published(store.join(job.products, f"{stem}.ecsv"), read_alignment, job.note)
    asked = AlignRequest(
        settings=job.survey.align,
        fwhm_pixels=star_fwhm_pixels(band.name),
        exposures={name: band.cals[name].stored.sha256 for name in band.members},
        catalog=catalogue.stored.sha256 if catalogue else "",
        missing=band.missing,
    )
    request = keeping(asked, None if job.survey.resolve else earlier)
    needed = needed_exposures(request, band.footprints)
    step = SolveAlignment(
        exposures={name: cleaned[name] for name in needed},
        catalogue=catalogue if needed else None,
        request=request,
        stem=stem,
    )
    solution = job.submit(step, band.name)
    aligned = {
        name: job.submit(AlignExposure(exposure=exposure, correction=solution.corrections[name]), name).cal
        for name, exposure in cleaned.items()
    }
    return Aligned(aligned, solution, earlier)


def _own_catalogue(job: Job) -> StarCatalogue | None:
    """Return the user's reference catalogue, if the setting names a file and not a catalogue known to jwst."""
    given = job.survey.align.reference_catalog
    return StarCatalogue(store.checksum(given, job.checksums)) if given and "." in given else None
