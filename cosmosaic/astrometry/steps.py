"""Astrometry of the exposures of one filter, as steps."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from cosmosaic.artefacts.steps import MeasuredWisps, subtract_wisps
from cosmosaic.astrometry.flux_solution import FluxRequest, FluxSolution, keeping_scales, read_fluxes
from cosmosaic.astrometry.solution import JUDGED, Alignment, AlignRequest, keeping, needed_exposures, read_alignment
from cosmosaic.exposures.band import Band, Exposures
from cosmosaic.exposures.files import Cal
from cosmosaic.nircam import star_fwhm_pixels
from cosmosaic.records import MosaicGrid
from cosmosaic.solved import published
from cosmosaic.steps.declaration import Job, Outputs, Step, surviving
from cosmosaic.steps.files import File, Many
from cosmosaic.storage import store
from cosmosaic.survey import Survey


class AlignmentTable(File, suffix="_align.ecsv", kind="alignment"):
    """The correction of each exposure's WCS."""


class StarTable(File, suffix="_stars.ecsv", kind="stars", folder="exposures"):
    """The isolated stars of one exposure."""


class AstrometryTable(File, suffix="_astrometry.ecsv", kind="astrometry"):
    """Agreement of exposures, detectors, modules and filters, before and after."""


class AstrometryMaps(File, suffix="_astromaps.png", kind="astrometry maps"):
    """Offsets of exposures, detectors and filters, before and after."""


class AstrometryPlots(File, suffix="_astroplots.png", kind="astrometry maps"):
    """Plots of the verdict."""


class FluxScaleTable(File, suffix="_fluxscale.ecsv", kind="flux scale"):
    """Flux scale of each detector, from common stars."""


class WcsCorrection(File, suffix="_correction.json"):
    """The correction of one exposure's WCS."""


class FluxFactor(File, suffix="_flux.json"):
    """The flux scale of one exposure's detector."""


class StarCatalogue(File):
    """A user's reference catalogue."""


class OfNetwork:
    """A step of surveys whose exposures one network aligns."""

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether stars are to align the exposures of all filters."""
        return survey.align.is_network


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
        """Return whether tweakreg is to align exposures."""
        return survey.align.enabled and survey.align.method == "tweakreg"


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
        """Return whether exposures are to be aligned."""
        return survey.align.enabled


@dataclass(frozen=True, kw_only=True)
class ShareAberration(Step[CorrectedExposure]):
    """Correct velocity aberration about a point common to all detectors of an exposure group."""

    title = "Aberration"
    version = 2
    function = "cosmosaic.astrometry.aberration:share_aberration"
    per = "exposure"

    exposure: Cal

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether it is to be corrected."""
        return survey.align.aberration


@dataclass(frozen=True)
class FoundStars(Outputs):
    """The stars of one exposure."""

    stars: StarTable


@dataclass(frozen=True, kw_only=True)
class FindStars(OfNetwork, Step[FoundStars]):
    """Find the stars of one exposure."""

    title = "Stars"
    version = 2
    function = "cosmosaic.astrometry.detection:find_exposure_stars"
    per = "exposure"
    columns: ClassVar = {"stars": "stars"}

    exposure: Cal
    snr: float


@dataclass(frozen=True)
class SolvedNetwork(SolvedAlignment):
    """The corrections of all filters, and the agreement of stars before and after."""

    verdict: AstrometryTable
    maps: AstrometryMaps
    plots: AstrometryPlots
    fluxes: FluxScaleTable
    factors: Many[FluxFactor]


@dataclass(frozen=True, kw_only=True)
class SolveNetwork(OfNetwork, Step[SolvedNetwork]):
    """Solve pointings and detector positions of the exposures of all filters, from their common stars."""

    title = "Network"
    version = 5
    function = "cosmosaic.astrometry.survey:solve_survey"
    per = "survey"
    columns: ClassVar = {f"{kind}_mas": f"astrometry_{kind}_mas" for kind in JUDGED} | {
        "scale_ppm": "astrometry_scale_ppm",
        "matches_pct": "astrometry_matches_pct",
        "flux_mmag": "flux_scale_mmag",
    }

    stars: Mapping[str, StarTable] = surviving()
    catalogue: StarCatalogue | None
    request: AlignRequest
    flux: FluxRequest
    tiles: tuple[MosaicGrid, ...]
    """Parts of the sky that are judged one by one."""
    stem: str


@dataclass(frozen=True, kw_only=True)
class ScaleExposure(Step[CorrectedExposure]):
    """Multiply one exposure with the measured flux scale of its detector."""

    title = "Flux scale"
    version = 1
    function = "cosmosaic.astrometry.scaling:scale_exposure"
    per = "exposure"

    exposure: Cal
    factor: FluxFactor

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether flux scales are to be applied."""
        return survey.exposures.flux_scale == "measured"


@dataclass(frozen=True)
class Aligned:
    """The exposures of one filter, aligned if asked for."""

    band: Band
    exposures: Exposures
    wisps: tuple[MeasuredWisps, ...]
    stars: tuple[FoundStars, ...] = ()
    solution: SolvedAlignment | None = None
    """None if alignment is off."""
    tiles: tuple[MosaicGrid, ...] = ()
    """Parts of the sky in which a network is judged."""
    earlier: Alignment | None = None
    """The alignment that an earlier run published."""
    earlier_fluxes: FluxSolution | None = None
    """The flux scales that an earlier run published."""

    @property
    def network(self) -> SolvedNetwork | None:
        """The solution of all filters, if there is one."""
        return self.solution if isinstance(self.solution, SolvedNetwork) else None

    @property
    def verdict(self) -> AstrometryTable | None:
        """The verdict on the astrometry of all filters, if there is one."""
        return self.network.verdict if self.network else None

    @property
    def products(self) -> tuple[Outputs | None, ...]:
        """The outputs that belong to this filter alone."""
        return (None if self.network else self.solution, *self.wisps)


def align_bands(bands: Iterable[Band], tiles: tuple[MosaicGrid, ...], job: Job) -> Iterator[Aligned]:
    """Submit the alignment of all exposures, if it is asked for, and yield each filter.

    An exposure is identified by its calibrated file: subtracting a wisp does not move stars. Filters are yielded as
    they come, unless one network aligns them all.

    Parameters
    ----------
    bands
        The filters.
    tiles
        Parts of the sky in which the network is judged.
    job
        The run.
    """
    cleaned = (_cleaned(band, job) for band in bands)
    if not job.survey.align.enabled:
        yield from cleaned
    elif job.survey.align.is_network:
        yield from _by_network(list(cleaned), tiles, job)
    else:
        for one in cleaned:
            yield _by_tweakreg(one, job)


def _cleaned(band: Band, job: Job) -> Aligned:
    """Submit the steps before the detection of stars: wisps are subtracted, and aberration is corrected."""
    exposures, wisps = subtract_wisps(band, job)
    if job.survey.align.aberration:
        exposures = {name: job.submit(ShareAberration(exposure=cal), name).cal for name, cal in exposures.items()}
    return Aligned(band, exposures, wisps)


def _by_network(bands: list[Aligned], tiles: tuple[MosaicGrid, ...], job: Job) -> list[Aligned]:
    """Submit one solution for the exposures of all filters."""
    if not bands:
        return bands
    snr = job.survey.align.snr_threshold
    found = {
        name: job.submit(FindStars(exposure=cal, snr=snr), name) for one in bands for name, cal in one.exposures.items()
    }
    catalogue = _own_catalogue(job)
    stem = f"{job.survey.name}_align"
    earlier = published(store.join(job.products, f"{stem}.ecsv"), read_alignment, job.note)
    request = AlignRequest(
        settings=job.survey.align,
        fwhm_pixels=0.0,
        exposures={name: one.band.cals[name].stored.sha256 for one in bands for name in one.band.members},
        catalog=catalogue.stored.sha256 if catalogue else "",
        missing=tuple(sorted(name for one in bands for name in one.band.missing)),
    )
    earlier_fluxes = published(store.join(job.products, f"{job.survey.name}_fluxscale.ecsv"), read_fluxes, job.note)
    step = SolveNetwork(
        stars={name: one.stars for name, one in found.items()},
        catalogue=catalogue,
        request=keeping(request, None if job.survey.resolve else earlier),
        flux=_flux_request(request, earlier_fluxes, bands, job),
        tiles=tiles,
        stem=stem,
    )
    solution = job.submit(step, ", ".join(one.band.name for one in bands))
    return [
        replace(
            one,
            exposures=_scaled(_corrected(one.exposures, solution, job), solution, job),
            stars=tuple(found[name] for name in one.exposures),
            solution=solution,
            tiles=tiles,
            earlier=earlier,
            earlier_fluxes=earlier_fluxes,
        )
        for one in bands
    ]


def _flux_request(request: AlignRequest, earlier: FluxSolution | None, bands: list[Aligned], job: Job) -> FluxRequest:
    """Ask for the flux scales of all detectors, of which those of an earlier run stay."""
    asked = FluxRequest(
        exposures=request.exposures,
        detectors={
            name: (one.band.name, one.band.exposures[name].detector) for one in bands for name in one.band.members
        },
        missing=request.missing,
        is_applied=job.survey.exposures.flux_scale == "measured",
    )
    return keeping_scales(asked, None if job.survey.resolve else earlier)


def _scaled(exposures: Exposures, solution: SolvedNetwork, job: Job) -> Exposures:
    """Submit the flux scale of each exposure, if it is asked for."""
    if job.survey.exposures.flux_scale == "none":
        return exposures
    return {
        name: job.submit(ScaleExposure(exposure=cal, factor=solution.factors[name]), name).cal
        for name, cal in exposures.items()
    }


def _corrected(exposures: Exposures, solution: SolvedAlignment, job: Job) -> Exposures:
    """Submit the correction of each exposure."""
    return {
        name: job.submit(AlignExposure(exposure=exposure, correction=solution.corrections[name]), name).cal
        for name, exposure in exposures.items()
    }


def _by_tweakreg(one: Aligned, job: Job) -> Aligned:
    """Submit the alignment of the exposures of one filter."""
    band, cleaned = one.band, one.exposures
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
    return replace(one, exposures=_corrected(cleaned, solution, job), solution=solution, earlier=earlier)


def _own_catalogue(job: Job) -> StarCatalogue | None:
    """Return the user's reference catalogue, if the setting names a file and not a catalogue known to jwst."""
    given = job.survey.align.reference_catalog
    return StarCatalogue(store.checksum(given, job.checksums)) if given and "." in given else None
