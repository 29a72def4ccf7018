"""Depths, PSFs and the catalogue of a window over all filters, as steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from cosmosaic.mosaic.engines import BandInput
from cosmosaic.mosaic.steps import AssembledMosaic, Mosaic
from cosmosaic.outliers.steps import Crf
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.declaration import Job, Outputs, Step, surviving
from cosmosaic.steps.files import File
from cosmosaic.storage.store import checksum
from cosmosaic.survey import CatalogSettings, DrizzleSettings, Survey


class Catalog(File, suffix="_cat.ecsv", kind="cat"):
    """Positions, shapes, fluxes and flags of the sources of a window in all filters."""


class CatalogParquet(File, suffix="_cat.parquet", kind="cat"):
    """The same as Parquet."""


class Segments(File, suffix="_segm.fits", kind="segm"):
    """The segmentation map: numbers of the sources."""


class DepthMap(File, suffix="_depth.fits", kind="depth"):
    """The depth of a mosaic at each pixel."""


class Psf(File, suffix="_psf.fits", kind="psf"):
    """The PSF of a mosaic and its curve of growth."""


class PsfImage(File):
    """A user's PSF."""


@dataclass(frozen=True)
class MeasuredDepth(Outputs):
    """The depth of a mosaic."""

    depth: DepthMap


@dataclass(frozen=True, kw_only=True)
class MeasureDepth(Step[MeasuredDepth]):
    """Measure sky, noise and depth of a mosaic."""

    title = "Depth"
    version = 1
    function = "cosmosaic.catalog.noise:measure_depth"
    per = "mosaic"
    columns: ClassVar = {
        "sky_median": "sky_median_mjy_sr",
        "sky_rms": "sky_rms_mjy_sr",
        "noise_factor": "noise_factor",
        "depth_5sigma_ab": "depth_5sigma_ab",
    }

    mosaic: Mosaic
    background_box_arcsec: float
    band: str
    stem: str

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the mosaics have errors to measure with."""
        return survey.drizzle.errors != "none"


@dataclass(frozen=True)
class MadePsf(Outputs):
    """The PSF of a mosaic."""

    psf: Psf


@dataclass(frozen=True, kw_only=True)
class MakePsf(Step[MadePsf]):
    """Make the PSF of a mosaic: the user's, or of the stars of the field, or computed."""

    title = "PSF"
    version = 2
    function = "cosmosaic.catalog.measure:make_psf"
    per = "mosaic"
    columns: ClassVar = {"psf_fwhm": "psf_fwhm_arcsec", "psf_stars": "psf_stars"}

    mosaic: Mosaic
    model: PsfImage | None
    background_box_arcsec: float
    pixfrac: float
    band: str
    stem: str

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether there are catalogues."""
        return survey.drizzle.errors != "none"


@dataclass(frozen=True, kw_only=True)
class DrizzlePsf(Step[MadePsf]):
    """Make the PSF of a mosaic of the user's PSF of the detectors, drizzled through the exposures of the mosaic."""

    title = "PSF (drizzled)"
    version = 1
    function = "cosmosaic.catalog.drizzled:make_drizzled_psf"
    per = "mosaic"
    columns: ClassVar = {"psf_fwhm": "psf_fwhm_arcsec", "psf_stars": "psf_stars"}

    mosaic: Mosaic
    model: PsfImage
    crfs: Mapping[str, Crf]
    window: MosaicGrid
    settings: DrizzleSettings
    band: str
    stem: str

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether there are catalogues, and PSFs of detectors."""
        return survey.drizzle.errors != "none" and bool(survey.catalog.detector_psfs)


@dataclass(frozen=True)
class MeasuredSources(Outputs):
    """The sources of a window."""

    catalog: Catalog
    parquet: CatalogParquet
    segments: Segments


@dataclass(frozen=True, kw_only=True)
class MeasureSources(Step[MeasuredSources]):
    """Detect the sources of a window in the sum of its filters and measure them in each."""

    title = "Catalogue"
    version = 5
    function = "cosmosaic.catalog.measure:measure_sources"
    per = "survey"
    columns: ClassVar = {"n_sources": "sources"}

    mosaics: Mapping[str, Mosaic] = surviving()
    """By filter."""
    psfs: Mapping[str, Psf] = surviving()
    """By filter."""
    settings: CatalogSettings
    stem: str

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the mosaics have errors to measure with."""
        return survey.drizzle.errors != "none"


@dataclass(frozen=True)
class MeasuredBand:
    """The mosaics of one filter with their depths and PSFs, by window."""

    given: BandInput
    """What they were made of."""
    mosaics: Mapping[str, AssembledMosaic]
    depths: Mapping[str, MeasuredDepth]
    """Only of windows that get a catalogue, as the PSFs."""
    psfs: Mapping[str, MadePsf]


def measure_mosaics(
    given: BandInput, mosaics: Mapping[str, AssembledMosaic], crfs: Mapping[str, Crf], job: Job
) -> MeasuredBand:
    """Submit depth and PSF of each mosaic of a filter that gets a catalogue; ``crfs`` are its exposures by name."""
    windows = given.catalogued if job.survey.drizzle.errors != "none" else ()
    depths = {
        window.tile: submit_depth(mosaics[window.tile], given.band.name, given.stem(window), given.label(window), job)
        for window in windows
    }
    psfs = {window.tile: submit_psf(mosaics[window.tile], given, window, crfs, job) for window in windows}
    return MeasuredBand(given, mosaics, depths, psfs)


def submit_catalogs(bands: Mapping[str, MeasuredBand], job: Job) -> dict[str, MeasuredSources]:
    """Submit the catalogue of each window over all filters."""
    catalogs = {}
    for tile in dict.fromkeys(tile for measured in bands.values() for tile in measured.psfs):
        here = {band: measured for band, measured in bands.items() if tile in measured.psfs}
        mosaics = {band: measured.mosaics[tile] for band, measured in here.items()}
        catalogs[tile] = submit_catalog(mosaics, {band: one.psfs[tile] for band, one in here.items()}, tile, job)
    return catalogs


def submit_depth(mosaic: AssembledMosaic, band: str, stem: str, label: str, job: Job) -> MeasuredDepth:
    """Submit the depth of one mosaic."""
    box = job.survey.catalog.background_box_arcsec
    return job.submit(MeasureDepth(mosaic=mosaic.mosaic, background_box_arcsec=box, band=band, stem=stem), label)


def submit_psf(
    mosaic: AssembledMosaic, given: BandInput, window: MosaicGrid, crfs: Mapping[str, Crf], job: Job
) -> MadePsf:
    """Submit the PSF of one mosaic."""
    survey, band = job.survey, given.band.name
    uri, on_detector = survey.catalog.psfs.get(band), survey.catalog.detector_psfs.get(band)
    if on_detector and not uri:
        drizzled = DrizzlePsf(
            mosaic=mosaic.mosaic,
            model=PsfImage(checksum(on_detector, job.checksums)),
            crfs={name: crfs[name] for name in given.members(window)},
            window=window,
            settings=survey.drizzle,
            band=band,
            stem=given.stem(window),
        )
        return job.submit(drizzled, given.label(window))
    made = MakePsf(
        mosaic=mosaic.mosaic,
        model=PsfImage(checksum(uri, job.checksums)) if uri else None,
        background_box_arcsec=survey.catalog.background_box_arcsec,
        pixfrac=survey.drizzle.pixfrac,
        band=band,
        stem=given.stem(window),
    )
    return job.submit(made, given.label(window))


def submit_catalog(
    mosaics: Mapping[str, AssembledMosaic], psfs: Mapping[str, MadePsf], tile: str, job: Job
) -> MeasuredSources:
    """Submit the catalogue of one window."""
    step = MeasureSources(
        mosaics={band: made.mosaic for band, made in mosaics.items()},
        psfs={band: made.psf for band, made in psfs.items()},
        settings=job.survey.catalog,
        stem=f"{job.survey.name}_{tile}",
    )
    return job.submit(step, tile)
