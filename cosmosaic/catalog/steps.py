"""Depths, PSFs and the catalogue of a window over all filters, as steps."""

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Self

from cosmosaic.catalog.ids import PartOfSurvey, SourceIds, keeping, read_ids
from cosmosaic.mosaic.engines import BandInput
from cosmosaic.mosaic.steps import AssembledMosaic, Mosaic
from cosmosaic.outliers.steps import Crf
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.declaration import Job, Outputs, Step, consulted, surviving
from cosmosaic.steps.files import File, Many
from cosmosaic.storage import store
from cosmosaic.survey import CatalogSettings, DrizzleSettings, OtherImage, Survey


class Catalog(File, suffix="_cat.ecsv", kind="cat"):
    """Positions, shapes, fluxes and flags of the sources of a window in all filters."""


class CatalogParquet(File, suffix="_cat.parquet", kind="cat"):
    """The same as Parquet."""


class Segments(File, suffix="_segm.fits", kind="segm"):
    """The segmentation map: numbers of the sources."""


class MeasuredCatalog(CatalogParquet, suffix="_cat.parquet"):
    """A catalogue whose sources are numbered from 1, as Parquet; not published."""


class MeasuredSegments(Segments, suffix="_segm.fits"):
    """Its segmentation map."""


class IdTable(File, suffix="_ids.ecsv", kind="ids"):
    """Ids, names and places of all sources that the survey has ever had."""


class SourceNumbers(File, suffix="_numbers.parquet"):
    """Ids and names of the sources of a window, in the order of its catalogue."""


class CatalogPart(File, suffix="_part.parquet", kind="dataset", parents=2):
    """A window's part of the data set of all sources of the survey."""


class EazyCatalog(File, suffix="_eazy.cat", kind="eazy"):
    """Fluxes of all sources for EAZY."""


class EazyTranslate(File, suffix="_eazy.translate", kind="eazy"):
    """EAZY's filters by the columns of its catalogue."""


class EazyParameters(File, suffix="_eazy.param", kind="eazy"):
    """Parameters of EAZY for its catalogue."""


class DepthMap(File, suffix="_depth.fits", kind="depth"):
    """The depth of a mosaic at each pixel."""


class Psf(File, suffix="_psf.fits", kind="psf"):
    """The PSF of a mosaic and its curve of growth."""


class PsfImage(File):
    """A user's PSF."""


class ExtinctionMap(File):
    """A user's map of E(B-V)."""


class OfCatalogs:
    """A step of surveys that have catalogues."""

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the mosaics have errors to measure with."""
        return survey.drizzle.errors != "none"


@dataclass(frozen=True)
class MeasuredDepth(Outputs):
    """The depth of a mosaic."""

    depth: DepthMap


@dataclass(frozen=True, kw_only=True)
class MeasureDepth(OfCatalogs, Step[MeasuredDepth]):
    """Measure sky, noise and depth of a mosaic."""

    title = "Depth"
    version = 4
    function = "cosmosaic.catalog.depth:measure_depth"
    per = "mosaic"
    written = 0.3
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


@dataclass(frozen=True)
class MadePsf(Outputs):
    """The PSF of a mosaic."""

    psf: Psf


@dataclass(frozen=True, kw_only=True)
class MakePsf(OfCatalogs, Step[MadePsf]):
    """Make the PSF of a mosaic: the user's, or of the stars of the field, or computed."""

    title = "PSF"
    version = 4
    function = "cosmosaic.catalog.measure:make_psf"
    per = "mosaic"
    written = 0.3
    columns: ClassVar = {"psf_fwhm": "psf_fwhm_arcsec", "psf_stars": "psf_stars"}

    mosaic: Mosaic
    model: PsfImage | None
    background_box_arcsec: float
    pixfrac: float
    band: str
    stem: str


@dataclass(frozen=True, kw_only=True)
class DrizzlePsf(Step[MadePsf]):
    """Make the PSF of a mosaic of the user's PSF of the detectors, drizzled through the exposures of the mosaic."""

    title = "PSF (drizzled)"
    version = 2
    function = "cosmosaic.catalog.drizzled:make_drizzled_psf"
    per = "mosaic"
    written = 0.3
    columns: ClassVar = {"psf_fwhm": "psf_fwhm_arcsec", "psf_stars": "psf_stars"}

    mosaic: Mosaic
    models: Mapping[str, PsfImage]
    """By detector."""
    crfs: Mapping[str, Crf]
    window: MosaicGrid
    settings: DrizzleSettings
    band: str
    stem: str

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether there are catalogues, and PSFs of detectors."""
        return survey.drizzle.errors != "none" and bool(survey.catalog.detector_psfs)


class ImageFile(File):
    """The user's image of another telescope, its errors, or its weights."""


class ImageMosaic(Mosaic, suffix="_image.fits"):
    """The part of an image in a window, in the form of a mosaic."""


class ImagePsf(Psf, suffix="_psf.fits"):
    """The PSF of an image."""


@dataclass(frozen=True)
class TakenImage(Outputs):
    """An image in a window; nothing if it has no data there."""

    mosaic: ImageMosaic | None
    psf: ImagePsf | None


@dataclass(frozen=True, kw_only=True)
class TakeImage(OfCatalogs, Step[TakenImage]):
    """Cut an image of another telescope to a window, in the mosaics' unit."""

    title = "Image"
    version = 1
    function = "cosmosaic.catalog.images:take_image"
    per = "mosaic"

    files: Mapping[str, ImageFile]
    """``image``, ``psf``, and ``error`` or ``weight``."""
    window: MosaicGrid
    zero_point_ab: float | None
    band: str
    stem: str

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether there are catalogues, and such images."""
        return survey.drizzle.errors != "none" and bool(survey.catalog.images)


@dataclass(frozen=True)
class MeasuredSources(Outputs):
    """The sources of a window, numbered from 1."""

    catalog: MeasuredCatalog
    segments: MeasuredSegments


@dataclass(frozen=True, kw_only=True)
class MeasureSources(OfCatalogs, Step[MeasuredSources]):
    """Detect the sources of a window in the sum of its filters and measure them in each."""

    title = "Catalogue"
    version = 11
    function = "cosmosaic.catalog.measure:measure_sources"
    per = "survey"
    written = 0.3

    mosaics: Mapping[str, Mosaic] = surviving()
    """By filter, those of other telescopes too."""
    psfs: Mapping[str, Psf] = surviving()
    """By filter."""
    settings: CatalogSettings
    stem: str


@dataclass(frozen=True)
class NumberedSources(Outputs):
    """The ids of the sources of all windows."""

    table: IdTable
    numbers: Many[SourceNumbers]
    """By window."""


@dataclass(frozen=True, kw_only=True)
class NumberSources(OfCatalogs, Step[NumberedSources]):
    """Give ids to the sources of all windows; those that an earlier run had found keep theirs."""

    title = "Ids"
    version = 1
    function = "cosmosaic.catalog.numbering:number_sources"
    per = "survey"

    catalogs: Mapping[str, MeasuredCatalog] = surviving()
    """By window."""
    stem: str
    earlier: str | None = consulted()
    """Text of the published table."""
    kept: SourceIds = dataclasses.field(default_factory=SourceIds)
    digests: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """sha256 of the catalogues."""

    def prepared(self) -> Self:
        """Keep the published ids."""
        digests = {tile: catalog.stored.sha256 for tile, catalog in self.catalogs.items()}
        earlier = None if self.earlier is None else read_ids(self.earlier, f"{self.stem}.ecsv")
        return dataclasses.replace(self, kept=keeping(earlier, digests), digests=digests, earlier=None)


@dataclass(frozen=True)
class NumberedCatalog(Outputs):
    """The sources of a window with the survey's ids."""

    catalog: Catalog
    parquet: CatalogParquet
    segments: Segments
    part: CatalogPart


@dataclass(frozen=True, kw_only=True)
class NumberCatalog(OfCatalogs, Step[NumberedCatalog]):
    """Write the catalogue of a window with the survey's ids, and its part of the survey's data set."""

    title = "Catalogue with ids"
    version = 3
    function = "cosmosaic.catalog.numbering:number_catalog"
    per = "survey"
    columns: ClassVar = {"n_sources": "sources"}

    catalog: MeasuredCatalog
    segments: MeasuredSegments
    numbers: SourceNumbers
    extinction: ExtinctionMap | None
    part: PartOfSurvey
    settings: CatalogSettings


@dataclass(frozen=True)
class EazyInput(Outputs):
    """Input of EAZY."""

    catalog: EazyCatalog
    translate: EazyTranslate
    parameters: EazyParameters


@dataclass(frozen=True, kw_only=True)
class WriteEazy(OfCatalogs, Step[EazyInput]):
    """Write the fluxes of all sources as input of EAZY, for photometric redshifts."""

    title = "EAZY"
    version = 3
    function = "cosmosaic.catalog.eazy:write_eazy"
    per = "survey"

    parts: Mapping[str, CatalogPart] = surviving()
    """By window."""
    bands: tuple[str, ...]
    numbers: Mapping[str, int]
    """Numbers of other telescopes' filters in EAZY's list."""
    stem: str


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


Images = Mapping[str, Mapping[str, TakenImage]]
"""Images of other telescopes by window and filter."""


def submit_images(bands: Mapping[str, MeasuredBand], job: Job) -> Images:
    """Submit the images of other telescopes in each window that gets a catalogue."""
    windows: dict[str, MosaicGrid] = {}
    for window in (window for measured in bands.values() for window in measured.given.catalogued):
        if window.tile not in windows or window.pixel_scale_mas < windows[window.tile].pixel_scale_mas:
            windows[window.tile] = window
    return {
        tile: {band: _submit_image(band, given, window, job) for band, given in job.survey.catalog.images.items()}
        for tile, window in windows.items()
    }


def _submit_image(band: str, given: OtherImage, window: MosaicGrid, job: Job) -> TakenImage:
    step = TakeImage(
        files={kind: ImageFile(store.checksum(uri, job.checksums)) for kind, uri in given.files.items()},
        window=window,
        zero_point_ab=given.zero_point_ab,
        band=band,
        stem=f"{job.survey.name}_{band.lower()}_{window.tile}",
    )
    return job.submit(step, f"{band} {window.tile}")


def with_images(mosaics: Mapping[str, Mosaic], images: Mapping[str, TakenImage]) -> dict[str, Mosaic]:
    """Return the mosaics of a window by filter, those of other telescopes too."""
    return {**mosaics, **{band: made.mosaic for band, made in images.items() if made.mosaic}}


def with_psfs(psfs: Mapping[str, Psf], images: Mapping[str, TakenImage]) -> dict[str, Psf]:
    """Return the PSFs of a window by filter, those of other telescopes too."""
    return {**psfs, **{band: made.psf for band, made in images.items() if made.psf}}


def submit_catalogs(bands: Mapping[str, MeasuredBand], images: Images, job: Job) -> dict[str, MeasuredSources]:
    """Submit the catalogue of each window over all filters."""
    catalogs = {}
    for tile in dict.fromkeys(tile for measured in bands.values() for tile in measured.psfs):
        here = {band: measured for band, measured in bands.items() if tile in measured.psfs}
        mosaics = {band: measured.mosaics[tile] for band, measured in here.items()}
        psfs = {band: one.psfs[tile] for band, one in here.items()}
        catalogs[tile] = submit_catalog(mosaics, psfs, images[tile], tile, job)
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
    uri, members = survey.catalog.psfs.get(band), given.members(window)
    on_detectors = {
        detector: survey.catalog.detector_psf(detector, band)
        for detector in sorted({given.band.exposures[name].detector for name in members})
    }
    if all(on_detectors.values()) and not uri:
        drizzled = DrizzlePsf(
            mosaic=mosaic.mosaic,
            models={name: PsfImage(store.checksum(each, job.checksums)) for name, each in on_detectors.items() if each},
            crfs={name: crfs[name] for name in members},
            window=window,
            settings=survey.drizzle,
            band=band,
            stem=given.stem(window),
        )
        return job.submit(drizzled, given.label(window))
    made = MakePsf(
        mosaic=mosaic.mosaic,
        model=PsfImage(store.checksum(uri, job.checksums)) if uri else None,
        background_box_arcsec=survey.catalog.background_box_arcsec,
        pixfrac=survey.drizzle.pixfrac,
        band=band,
        stem=given.stem(window),
    )
    return job.submit(made, given.label(window))


def submit_catalog(
    mosaics: Mapping[str, AssembledMosaic],
    psfs: Mapping[str, MadePsf],
    images: Mapping[str, TakenImage],
    tile: str,
    job: Job,
) -> MeasuredSources:
    """Submit the catalogue of one window."""
    step = MeasureSources(
        mosaics=with_images({band: made.mosaic for band, made in mosaics.items()}, images),
        psfs=with_psfs({band: made.psf for band, made in psfs.items()}, images),
        settings=job.survey.catalog.of_measurement,
        stem=f"{job.survey.name}_{tile}",
    )
    return job.submit(step, tile)


@dataclass(frozen=True)
class SurveyCatalogs:
    """The catalogues of a survey, with its ids."""

    ids: NumberedSources
    windows: Mapping[str, NumberedCatalog]
    eazy: EazyInput


def number_catalogs(measured: Mapping[str, MeasuredSources], bands: tuple[str, ...], job: Job) -> SurveyCatalogs:
    """Submit the ids of the sources of all windows, and their catalogues with them.

    Parameters
    ----------
    measured
        The catalogue of each window as it was measured; one or more.
    bands
        Filters of the survey.
    job
        The run.
    """
    name = job.survey.name
    earlier = None
    with suppress(FileNotFoundError):
        earlier = store.read_bytes(store.join(job.products, f"{name}_ids.ecsv")).decode(errors="replace")
    catalogs = {tile: one.catalog for tile, one in measured.items()}
    given = job.survey.catalog.extinction_map
    extinction = ExtinctionMap(store.checksum(given, job.checksums)) if given else None
    ids = job.submit(NumberSources(catalogs=catalogs, stem=f"{name}_ids", earlier=earlier), name)
    windows = {}
    for tile, one in measured.items():
        step = NumberCatalog(
            catalog=one.catalog,
            segments=one.segments,
            numbers=ids.numbers[tile],
            extinction=extinction,
            part=PartOfSurvey(survey=name, tile=tile, bands=(*bands, *job.survey.catalog.images)),
            settings=job.survey.catalog.of_measurement,
        )
        windows[tile] = job.submit(step, tile)
    parts = {tile: one.part for tile, one in windows.items()}
    others = job.survey.catalog.images
    numbers = {band: one.eazy_number for band, one in others.items() if one.eazy_number}
    eazy = job.submit(WriteEazy(parts=parts, bands=(*bands, *others), numbers=numbers, stem=f"{name}_eazy"), name)
    return SurveyCatalogs(ids, windows, eazy)
