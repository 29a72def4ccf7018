"""Injection into the exposures, as steps: sources, exposures, the window's mosaics and catalogue again, the verdict."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cosmosaic.catalog.steps import (
    CatalogParquet,
    DepthMap,
    MeasuredBand,
    MeasuredCatalog,
    MeasuredSources,
    NumberedCatalog,
    Psf,
    submit_catalog,
)
from cosmosaic.exposures.files import Cal
from cosmosaic.geometry.windows import lattice
from cosmosaic.injection.placement import NoRoomError, Positions, place_sources, reaches
from cosmosaic.injection.records import Combination, Draw
from cosmosaic.mosaic.engines import open_engine
from cosmosaic.mosaic.steps import AssembledMosaic, Mosaic
from cosmosaic.records import STATES
from cosmosaic.steps.declaration import Job, Made, Outputs, Step, surviving
from cosmosaic.steps.files import File
from cosmosaic.survey import CatalogSettings, Survey

FOLDER = "injection"
"""Products of the injection are in this folder of the survey's products; the others are the survey's own."""


class Injecting:
    """A step of the injection of sources."""

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether runs of the survey inject sources."""
        return survey.injection.with_products


class SourceTable(File, suffix="_injected.ecsv"):
    """The sources that are injected into one window."""


class InjectedCal(Cal, suffix="_cal.fits"):
    """An exposure with injected sources; not published."""


class NegativeCatalog(File, suffix="_negative.parquet"):
    """What is found in the negative of a window's mosaics."""


class InjectedTable(File, suffix="_injected.ecsv", kind="injected", folder=FOLDER):
    """What became of every injected source."""


class InjectedParquet(File, suffix="_injected.parquet", kind="injected", folder=FOLDER):
    """The same as Parquet."""


class CorrectionTable(File, suffix="_corrections.ecsv", kind="corrections", folder=FOLDER):
    """Completeness and flux correction for each source of a window's catalogue."""


class CorrectionParquet(File, suffix="_corrections.parquet", kind="corrections", folder=FOLDER):
    """The same as Parquet."""


class CompletenessTable(File, suffix="_completeness.ecsv", kind="completeness", folder=FOLDER):
    """Completeness and flux bias of a filter by magnitude and size."""


class CompletenessParquet(File, suffix="_completeness.parquet", kind="completeness", folder=FOLDER):
    """The same as Parquet."""


class InjectionVerdict(File, suffix="_injection.ecsv", kind="injection verdict", folder=FOLDER):
    """Verdict on the catalogue in a filter."""


class InjectionPlot(File, suffix="_injection.png", kind="injection plot", folder=FOLDER):
    """Completeness, bias, pulls and purity."""


@dataclass(frozen=True)
class DrawnSources(Outputs):
    """Sources to be injected."""

    sources: SourceTable


@dataclass(frozen=True, kw_only=True)
class DrawSources(Injecting, Step[DrawnSources]):
    """Draw fluxes, shapes and colours of the sources that are injected into one window."""

    title = "Draw sources"
    version = 1
    function = "cosmosaic.injection.sources:draw_sources"
    per = "mosaic"

    depths: Mapping[str, DepthMap] = surviving()
    """By filter."""
    psfs: Mapping[str, Psf] = surviving()
    """By filter."""
    positions: Positions
    galaxies: float
    draw: Draw
    tile: str


@dataclass(frozen=True)
class InjectedExposure(Outputs):
    """An exposure with injected sources."""

    cal: InjectedCal


@dataclass(frozen=True, kw_only=True)
class InjectSources(Injecting, Step[InjectedExposure]):
    """Add the light and the photon noise of sources to one exposure."""

    title = "Inject"
    version = 1
    function = "cosmosaic.injection.exposure:inject_sources"
    per = "exposure"

    exposure: Cal
    injected: Mapping[str, SourceTable]
    """By window."""
    psfs: Mapping[str, Psf]
    """By window."""
    combination: Combination
    draw: Draw


@dataclass(frozen=True)
class MeasuredNegative(Outputs):
    """False sources."""

    catalog: NegativeCatalog


@dataclass(frozen=True, kw_only=True)
class MeasureNegative(Injecting, Step[MeasuredNegative]):
    """Make the catalogue of the negative of a window's mosaics, where all sources are false."""

    title = "Negative"
    version = 6
    function = "cosmosaic.injection.recovery:measure_negative"
    per = "mosaic"
    written = 0.3

    mosaics: Mapping[str, Mosaic] = surviving()
    psfs: Mapping[str, Psf] = surviving()
    settings: CatalogSettings
    stem: str


@dataclass(frozen=True)
class MatchedSources(Outputs):
    """What became of the injected sources."""

    table: InjectedTable
    parquet: InjectedParquet


@dataclass(frozen=True, kw_only=True)
class MatchInjected(Injecting, Step[MatchedSources]):
    """Find the injected sources in the catalogues that were made after their injection."""

    title = "Match injected"
    version = 3
    function = "cosmosaic.injection.recovery:match_injected"
    per = "survey"

    drawn: tuple[SourceTable, ...]
    catalogs: tuple[MeasuredCatalog, ...]
    own: Mapping[str, MeasuredCatalog]
    """The survey's own, by window."""
    tiles: tuple[str, ...]
    """Window of each table of sources and catalogue."""
    stem: str


@dataclass(frozen=True)
class CorrectedCatalog(Outputs):
    """Completeness and flux corrections."""

    table: CorrectionTable
    parquet: CorrectionParquet


@dataclass(frozen=True, kw_only=True)
class CorrectCatalog(Injecting, Step[CorrectedCatalog]):
    """Find completeness and flux correction for each source of a window by the injected sources."""

    title = "Corrections"
    version = 1
    function = "cosmosaic.injection.corrections:correct_catalog"
    per = "mosaic"

    matched: InjectedTable
    catalog: CatalogParquet
    """With the survey's ids."""
    stem: str


@dataclass(frozen=True)
class JudgedCatalog(Outputs):
    """The verdict on the catalogue in one filter."""

    completeness: CompletenessTable
    parquet: CompletenessParquet
    verdict: InjectionVerdict
    plot: InjectionPlot


@dataclass(frozen=True, kw_only=True)
class JudgeCatalog(Injecting, Step[JudgedCatalog]):
    """Measure completeness, flux bias, error pulls and purity of the catalogue in one filter, and judge them."""

    title = "Verdict on catalogue"
    version = 2
    function = "cosmosaic.injection.judgement:judge_catalog"
    per = "filter"
    columns: ClassVar = {
        "injected": "injected_sources",
        "completeness_pct": "injection_completeness_pct",
        "bias_mag": "injection_bias_mag",
        "galaxy_bias_mag": "injection_galaxy_bias_mag",
        "pull_width": "injection_pull_width",
        "purity_pct": "injection_purity_pct",
    }

    matched: InjectedTable
    own: tuple[MeasuredCatalog, ...]
    negative: tuple[NegativeCatalog, ...]
    band: str
    stem: str

    @classmethod
    def row(cls, facts: Mapping[str, float]) -> dict[str, Any]:
        """Return the columns, and the verdict in words."""
        return {"injection_verdict": STATES[int(facts["state"])], **super().row(facts)}


@dataclass(frozen=True)
class Injected:
    """The outputs of the injection."""

    matched: MatchedSources
    verdicts: Mapping[str, JudgedCatalog]
    """By filter."""
    corrections: Mapping[str, CorrectedCatalog]
    """By window."""


@dataclass(frozen=True)
class _Labelled(Job):
    """The same run, with the round of injection in the labels of its steps."""

    job: Job
    number: int

    @property
    def survey(self) -> Survey:
        return self.job.survey

    @property
    def products(self) -> str:
        return self.job.products

    @property
    def checksums(self) -> str:
        return self.job.checksums

    def submit(self, step: Step[Made], label: str) -> Made:
        return self.job.submit(step, f"{label}, injection {self.number}")

    def note(self, text: str) -> None:
        self.job.note(text)


def require_errors(survey: Survey) -> None:
    """Check that the mosaics have the errors without which there is no catalogue.

    Raises
    ------
    ValueError
        They have none.
    """
    if survey.drizzle.errors == "none":
        raise ValueError('injection tests the catalogue, which needs drizzle.errors = "jwst" or "propagated"')


def inject(
    bands: Mapping[str, MeasuredBand],
    catalogs: Mapping[str, MeasuredSources],
    numbered: Mapping[str, NumberedCatalog],
    worker_gb: float,
    job: Job,
) -> Injected:
    """Submit the injection into the exposures of all filters, and all steps from there to the verdict.

    The levels of the sky, the alignment, wisps and masks, the PSFs and the depths are the survey's own.

    Parameters
    ----------
    bands
        Filters with their aligned exposures, sky, mosaics, depths and PSFs.
    catalogs, numbered
        The survey's own catalogue by window, and with the survey's ids.
    worker_gb
        Memory of one worker, which limits tiles.
    job
        The run.

    Raises
    ------
    NoRoomError
        There are no catalogues, or there is no room for sources.
    """
    if not catalogs:
        raise NoRoomError("there is no catalogue to inject sources for: no exposure could be used")
    settings, name = job.survey.injection, job.survey.name
    sources, found, tiles = list[SourceTable](), list[MeasuredCatalog](), list[str]()
    for number, places in enumerate(_places(bands, catalogs, job)):
        draw = Draw(seed=settings.seed, number=number)
        for tile, drawn, catalog in _inject_once(bands, places, draw, worker_gb, _Labelled(job, number + 1)):
            tiles.append(tile)
            sources.append(drawn)
            found.append(catalog)
    own = {tile: catalogs[tile].catalog for tile in dict.fromkeys(tiles)}
    step = MatchInjected(drawn=tuple(sources), catalogs=tuple(found), own=own, tiles=tuple(tiles), stem=name)
    matched = job.submit(step, f"{settings.sources} sources")
    negative = tuple(_measure_negative(bands, tile, job) for tile in own)
    verdicts = {}
    for band in bands:
        judge = JudgeCatalog(
            matched=matched.table,
            own=tuple(own.values()),
            negative=negative,
            band=band,
            stem=f"{name}_{band.lower()}",
        )
        verdicts[band] = job.submit(judge, band)
    corrections = {
        tile: job.submit(CorrectCatalog(matched=matched.table, catalog=one.parquet, stem=f"{name}_{tile}"), tile)
        for tile, one in numbered.items()
    }
    return Injected(matched, verdicts, corrections)


def _places(
    bands: Mapping[str, MeasuredBand], catalogs: Mapping[str, MeasuredSources], job: Job
) -> tuple[dict[str, Positions], ...]:
    """Draw the positions of each round, and tell the user if there are fewer than wanted."""
    inputs = [measured.given for measured in bands.values()]
    windows = [window for window in inputs[0].catalogued if window.tile in catalogs]
    footprints = [footprint for given in inputs for footprint in given.band.footprints.values()]
    rounds = place_sources(windows, footprints, job.survey.injection)
    number = sum(len(positions) for places in rounds for positions in places.values())
    wanted = job.survey.injection.sources
    job.note(f"injection: {number} sources in {len(rounds)} rounds")
    if number < wanted:
        job.note(
            f"warning injection: only {number} of {wanted} sources fit into {len(rounds)} rounds at "
            f"{job.survey.injection.per_arcmin2:g} per square arcminute; raise injection.per_arcmin2, or ask for fewer"
        )
    return rounds


def _inject_once(
    bands: Mapping[str, MeasuredBand], places: Mapping[str, Positions], draw: Draw, worker_gb: float, job: Job
) -> Iterator[tuple[str, SourceTable, MeasuredCatalog]]:
    """Submit one round: yield each window with its sources and the catalogue after their injection."""
    settings, mosaics = job.survey.injection, defaultdict[str, dict[str, AssembledMosaic]](dict)
    drawn = {
        tile: job.submit(
            DrawSources(
                depths={band: each.depths[tile].depth for band, each in bands.items() if tile in each.depths},
                psfs={band: each.psfs[tile].psf for band, each in bands.items() if tile in each.psfs},
                positions=positions,
                galaxies=settings.galaxies,
                draw=draw,
                tile=tile,
            ),
            tile,
        ).sources
        for tile, positions in places.items()
    }
    for band, measured in bands.items():
        given = measured.given
        exposures = {name: _injected(name, measured, places, drawn, draw, job) for name in given.band.members}
        engine = open_engine(replace(given, exposures=exposures), worker_gb, job)
        engine.flag_outliers()
        for window in given.catalogued:
            if window.tile in places:
                mosaics[window.tile][band] = engine.assemble(window, None)
    for tile in places:
        psfs = {band: bands[band].psfs[tile] for band in mosaics[tile]}
        yield tile, drawn[tile], submit_catalog(mosaics[tile], psfs, {}, tile, job).catalog


def _injected(
    name: str,
    measured: MeasuredBand,
    places: Mapping[str, Positions],
    drawn: Mapping[str, SourceTable],
    draw: Draw,
    job: Job,
) -> Cal:
    """Submit the injection into one exposure; return it unchanged if no source's light reaches it."""
    given, exposure = measured.given, measured.given.exposures[name]
    footprint = given.band.footprints[name]
    reached = [
        window.tile
        for window in given.catalogued
        if window.tile in places and reaches(places[window.tile], footprint, window)
    ]
    if not reached:
        return exposure
    step = InjectSources(
        exposure=exposure,
        injected={tile: drawn[tile] for tile in reached},
        psfs={tile: measured.psfs[tile].psf for tile in reached},
        combination=Combination(
            band=given.band.name, grid=lattice(given.windows.whole), pixfrac=job.survey.drizzle.pixfrac
        ),
        draw=draw,
    )
    return job.submit(step, name).cal


def _measure_negative(bands: Mapping[str, MeasuredBand], tile: str, job: Job) -> NegativeCatalog:
    step = MeasureNegative(
        mosaics={band: each.mosaics[tile].mosaic for band, each in bands.items() if tile in each.psfs},
        psfs={band: each.psfs[tile].psf for band, each in bands.items() if tile in each.psfs},
        settings=job.survey.catalog.of_measurement,
        stem=f"{job.survey.name}_{tile}",
    )
    return job.submit(step, tile).catalog
