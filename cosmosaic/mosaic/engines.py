"""The two ways to combine the exposures of one filter: in tiles, or with the jwst package's own steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

from cosmosaic.astrometry.steps import AstrometryTable
from cosmosaic.drizzle.steps import DrizzledExposure, drizzle
from cosmosaic.exposures.band import Band, Exposures
from cosmosaic.exposures.members import Member, digest_of
from cosmosaic.exposures.steps import ListedMembers, ListMembers
from cosmosaic.geometry.windows import Plan, box_of, make_plan, touched_tiles
from cosmosaic.mosaic.memory import side_of_tiles
from cosmosaic.mosaic.steps import AssembledMosaic, AssembleMosaic, CombinedTile, CombineTile, DrizzleWithJwst
from cosmosaic.nircam import detector_pixel_arcsec
from cosmosaic.outliers.steps import FlaggedBand, flag_outliers, flag_with_jwst
from cosmosaic.records import Lattice, MosaicGrid, Windows
from cosmosaic.sky.steps import BandSky
from cosmosaic.steps.declaration import Job
from cosmosaic.verdict.steps import VerdictTable

Verdict = TypeVar("Verdict", VerdictTable, AstrometryTable)


@dataclass(frozen=True)
class BandInput:
    """The inputs of a filter's mosaics."""

    band: Band
    exposures: Exposures
    """With their artefacts subtracted and their WCS corrected."""
    sky: BandSky
    windows: Windows
    cells: Lattice
    """The lattice of the cells that the verdict judges."""
    astrometry: AstrometryTable | None = None
    """The verdict on the astrometry of the survey, if there is one."""

    @property
    def mosaics(self) -> tuple[MosaicGrid, ...]:
        """The windows to fill: the whole if it is asked for, and the named tiles that exposures reach."""
        return tuple(window for window in self.windows.mosaics if self.members(window))

    @property
    def catalogued(self) -> tuple[MosaicGrid, ...]:
        """The mosaics with a catalogue: the named tiles or, without any, the whole, which may be too large else."""
        return self.named if self.windows.tiles else self.mosaics

    @property
    def named(self) -> tuple[MosaicGrid, ...]:
        """The named tiles that exposures reach."""
        return tuple(tile for tile in self.windows.tiles if self.members(tile))

    def members(self, window: MosaicGrid) -> tuple[str, ...]:
        """Names of the exposures that reach the whole or one of the tiles."""
        return tuple(self._reaching[window])

    @cached_property
    def _reaching(self) -> dict[MosaicGrid, list[str]]:
        windows = (self.windows.whole, *self.windows.tiles)
        reaching: dict[MosaicGrid, list[str]] = {window: [] for window in windows}
        for name, touched in touched_tiles(windows, self.band.footprints).items():
            for window in touched:
                reaching[window].append(name)
        return reaching

    @property
    def tiles_to_judge(self) -> tuple[MosaicGrid, ...]:
        """The parts of the mosaic that the verdict judges one by one."""
        return self.windows.tiles or make_plan(self.band.footprints, self.windows.whole).tiles

    def columns(self, window: MosaicGrid) -> dict[str, Any]:
        """The columns of the run table about a mosaic's exposures."""
        exposures = [self.band.exposures[name] for name in self.members(window)]
        return {
            "filter": self.band.name,
            "tile": window.tile,
            "frames": len(exposures),
            "frames_sha256": digest_of(exposures),
            "exposure_time_s": sum(exposure.exposure_time for exposure in exposures),
        }

    def list_members(self, window: MosaicGrid, job: Job) -> ListedMembers:
        """Submit the list of the exposures that a mosaic is made of."""
        members = tuple(Member.of(self.band.exposures[name]) for name in self.members(window))
        return job.submit(ListMembers(members=members, stem=self.stem(window)), self.label(window))

    def stem(self, window: MosaicGrid) -> str:
        """Name of a mosaic without suffix and extension."""
        return self.band.stem(f"{window.pixel_scale_mas:g}mas_{window.tile}")

    def label(self, window: MosaicGrid) -> str:
        """Name of a mosaic in the run."""
        return self.band.name if window == self.windows.whole else f"{self.band.name} {window.tile}"

    def told(self, verdict: Verdict | None, window: MosaicGrid) -> Verdict | None:
        """A verdict for a mosaic's header: only of the whole; a named tile must not change with distant exposures."""
        return verdict if window == self.windows.whole else None


class Engine(Protocol):
    """Combines the exposures of one filter, in two parts: the verdict on the sky comes between them."""

    def flag_outliers(self) -> FlaggedBand:
        """Submit the search for outliers."""

    def assemble(self, window: MosaicGrid, verdict: VerdictTable | None) -> AssembledMosaic:
        """Submit the mosaic of one window."""


@dataclass
class TiledEngine:
    """A step for each exposure and tile, and one for each mosaic that is cut from them."""

    given: BandInput
    worker_gb: float
    """Memory of one worker, which limits the tiles."""
    input_scale_arcsec: float | None
    """Pixel scale of the detectors, by which ERR and variances are scaled, the same for the whole survey; None for
    that of the first exposure by name."""
    job: Job
    _tiles: dict[str, CombinedTile] = field(default_factory=dict)

    @cached_property
    def plan(self) -> Plan:
        """The exposures that reach each tile."""
        windows, pixel = self.given.windows, detector_pixel_arcsec(self.given.band.name)
        side = side_of_tiles(windows, pixel, self.worker_gb, self.job.survey.resources.tile_pixels)
        return make_plan(self.given.band.footprints, windows.whole, side)

    @cached_property
    def drizzled(self) -> Mapping[str, DrizzledExposure]:
        """The exposures on the survey's lattice."""
        given = self.given
        return drizzle(given.band, given.exposures, given.sky, self.plan, self.job)

    @cached_property
    def flagged(self) -> FlaggedBand:
        """The exposures in the state in which they are combined."""
        given = self.given
        return flag_outliers(given.band, given.exposures, given.sky, self.drizzled, self.plan, given.cells, self.job)

    def flag_outliers(self) -> FlaggedBand:
        """Submit the search for outliers, and the tiles of exposures without them."""
        for tile in self.plan.tiles:
            self._tiles[tile.tile] = self._combined(tile)
        return self.flagged

    def assemble(self, window: MosaicGrid, verdict: VerdictTable | None) -> AssembledMosaic:
        """Submit the mosaic of one window."""
        given, members = self.given, self.given.members(window)
        step = AssembleMosaic(
            tiles=tuple(
                self._tiles[tile.tile].tile
                for tile in self.plan.tiles
                if box_of(tile).intersection(box_of(window)).pixels
            ),
            summaries={name: self.drizzled[name].summary for name in members},
            first=given.exposures[min(members)],
            verdict=given.told(verdict, window),
            astrometry=given.told(given.astrometry, window),
            window=window,
            settings=self.job.survey.drizzle,
            product_name=given.stem(window),
            sources=tuple(self.flagged.crfs[name] for name in members),
        )
        return self.job.submit(step, given.label(window))

    def _combined(self, tile: MosaicGrid) -> CombinedTile:
        names, patches = self.plan.exposures_of_tile[tile.tile], self.flagged.patches
        first = () if self.input_scale_arcsec else (min(self.drizzled),)
        step = CombineTile(
            sums={name: self.drizzled[name].sums for name in names},
            patches={name: one for name in names if name in patches and (one := patches[name].get(tile.tile))},
            summaries={name: self.drizzled[name].summary for name in dict.fromkeys((*first, *names))},
            tile=tile,
            settings=self.job.survey.drizzle,
            input_scale_arcsec=self.input_scale_arcsec,
        )
        return self.job.submit(step, f"{self.given.band.name} {tile.tile}")


@dataclass
class JwstEngine:
    """The jwst package's outlier detection and resample."""

    given: BandInput
    job: Job

    @cached_property
    def flagged(self) -> FlaggedBand:
        """The exposures as they go into the mosaic."""
        given = self.given
        return flag_with_jwst(given.band, given.exposures, given.sky, given.cells, self.job)

    def flag_outliers(self) -> FlaggedBand:
        """Submit the outlier detection."""
        return self.flagged

    def assemble(self, window: MosaicGrid, verdict: VerdictTable | None) -> AssembledMosaic:
        """Submit the mosaic of one window."""
        given = self.given
        step = DrizzleWithJwst(
            crfs={name: self.flagged.crfs[name] for name in given.members(window)},
            verdict=given.told(verdict, window),
            astrometry=given.told(given.astrometry, window),
            window=window,
            settings=self.job.survey.drizzle,
            product_name=given.stem(window),
        )
        return self.job.submit(step, given.label(window))


def open_engine(given: BandInput, worker_gb: float, job: Job) -> Engine:
    """Return the engine that the settings ask for; tiles fit the memory of one worker in GB."""
    if job.survey.engine == "jwst":
        return JwstEngine(given, job)
    return TiledEngine(given, worker_gb, detector_pixel_arcsec(given.band.name), job)
