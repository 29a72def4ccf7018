"""The two ways to combine the exposures of one filter: in tiles, or with the jwst package's own steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prefect.futures import PrefectFuture

from cosmosaic.geometry.grid import Footprint, overlaps
from cosmosaic.geometry.windows import Plan, box_of, make_plan
from cosmosaic.mosaic.memory import TILE_SIDES, fit_memory, tile_sides
from cosmosaic.nircam import detector_pixel_arcsec
from cosmosaic.records import Association, MosaicGrid, Windows
from tasks.flatness import Exposures, holders
from tasks.mosaic import drizzle_mosaic, flag_outliers
from tasks.runtime.run import Run
from tasks.tiles import assemble_mosaic, combine_tile, drizzle_frame, flag_frame, keep_frame, make_reference

DETECTOR_SHAPE = (2048, 2048)
"""Rows and columns of the largest exposures."""


@dataclass(frozen=True)
class BandInput:
    """What a mosaic is made of."""

    association: Association
    exposures: Exposures
    levels: PrefectFuture | None
    windows: Windows
    footprints: Mapping[str, Footprint]
    """Of the association's members, by their names."""
    cells: MosaicGrid
    """The lattice of the cells that the verdict judges."""

    @property
    def mosaics(self) -> tuple[MosaicGrid, ...]:
        """The windows to fill: the whole, and the named tiles that an exposure reaches."""
        return self.windows.whole, *(tile for tile in self.windows.tiles if self.members(tile))

    def members(self, window: MosaicGrid) -> tuple[str, ...]:
        """Names of the exposures that reach a window."""
        return tuple(name for name in self.association.members if overlaps(window, self.footprints[name]))

    def told(self, verdict: PrefectFuture, window: MosaicGrid) -> tuple[PrefectFuture, ...]:
        """The verdict where a mosaic's header tells it: in the whole, for a named tile stays when far frames come."""
        return (verdict,) if window == self.windows.whole else ()

    def stem(self, window: MosaicGrid) -> str:
        """Name of a mosaic without suffix and extension."""
        return f"{self.association.product_name}_{window.pixel_scale_mas:g}mas_{window.tile}"

    def label(self, window: MosaicGrid) -> str:
        """What a mosaic is called in the run."""
        band = self.association.band
        return band if window == self.windows.whole else f"{band} {window.tile}"


@dataclass(frozen=True)
class Combined:
    """What an engine makes of the exposures of one filter."""

    mosaics: dict[str, PrefectFuture]
    """By the window's name."""
    flagged: Mapping[str, PrefectFuture]
    """What holds the crf file of each exposure."""
    verdict: PrefectFuture
    """On the sky of the crf files."""


Judge = Callable[[Mapping[str, PrefectFuture]], PrefectFuture]
"""Submits the verdict on the sky of the crf files."""


def with_jwst(band: BandInput, judge: Judge, run: Run) -> Combined:
    """Submit the jwst package's outlier detection and resample."""
    survey, name = run.survey, band.association.band
    flagged = run.submit(
        flag_outliers,
        name,
        exposures=holders(band.exposures),
        levels=band.levels,
        sky=survey.sky,
        outliers=survey.outliers,
        drizzle=survey.drizzle,
        cells=band.cells,
    )
    crf = dict.fromkeys(band.association.members, flagged)
    verdict = judge(crf)
    mosaics = {
        window.tile: run.submit(
            drizzle_mosaic,
            band.label(window),
            exposures=flagged,
            members=band.members(window),
            verdicts=band.told(verdict, window),
            grid=window,
            settings=survey.drizzle,
            product_name=band.stem(window),
        )
        for window in band.mosaics
    }
    return Combined(mosaics, crf, verdict)


def in_tiles(band: BandInput, judge: Judge, run: Run) -> Combined:
    """Submit a step for each exposure and tile of the engine's own, and one for each mosaic that is cut from them."""
    survey, label = run.survey, band.association.band
    members = band.association.members
    plan = make_plan(band.footprints, band.windows.whole, _tile_pixels(band, run))
    drizzled = {
        name: run.submit(
            drizzle_frame,
            name,
            exposure=band.exposures[name],
            name=name,
            levels=band.levels,
            trim_pixels=survey.sky.trim_pixels,
            tiles=plan.tiles_of_frame[name],
            settings=survey.drizzle,
        )
        for name in members
    }
    flagged = _flagged(band, plan, drizzled, run)
    tiles = {
        tile: run.submit(
            combine_tile,
            f"{label} {tile.tile}",
            drizzled=tuple(drizzled[name] for name in plan.frames_of_tile[tile.tile]),
            flagged=tuple(flagged[name] for name in plan.frames_of_tile[tile.tile]),
            tile=tile,
            settings=survey.drizzle,
            input_scale_arcsec=detector_pixel_arcsec(band.association.filter),
        )
        for tile in plan.tiles
    }
    verdict = judge(flagged)
    mosaics = {
        window.tile: run.submit(
            assemble_mosaic,
            band.label(window),
            parts=(
                *(tiles[tile] for tile in plan.tiles if box_of(tile).intersection(box_of(window)).pixels),
                *band.told(verdict, window),
            ),
            drizzled=tuple(drizzled[name] for name in band.members(window)),
            flagged=tuple(flagged[name] for name in band.members(window)),
            first=band.exposures[min(band.members(window))],
            grid=window,
            settings=survey.drizzle,
            product_name=band.stem(window),
        )
        for window in band.mosaics
    }
    return Combined(mosaics, flagged, verdict)


def _tile_pixels(band: BandInput, run: Run) -> int:
    """Side of the tiles that the memory allows."""
    scale = 1000.0 * detector_pixel_arcsec(band.association.filter) / band.windows.whole.pixel_scale_mas
    workers = run.work.workers
    share = workers.memory_gb / workers.processes
    return fit_memory(share, 1, DETECTOR_SHAPE, scale, _tile_sides(band, run)).tile_pixels


def _tile_sides(band: BandInput, run: Run) -> tuple[int, ...]:
    given = run.survey.resources.tile_pixels
    if given:
        return (given,)
    # Named tiles are made again each for itself.
    return TILE_SIDES if band.windows.tiles else tile_sides(band.windows.whole)


def _flagged(
    band: BandInput,
    plan: Plan,
    drizzled: Mapping[str, PrefectFuture],
    run: Run,
) -> dict[str, PrefectFuture]:
    survey, members = run.survey, band.association.members
    if not survey.outliers.enabled:
        return {
            name: run.submit(
                keep_frame,
                name,
                exposure=band.exposures[name],
                name=name,
                levels=band.levels,
                sky=survey.sky,
                cells=band.cells,
            )
            for name in members
        }
    references = {
        tile.tile: run.submit(
            make_reference,
            f"{band.association.band} {tile.tile}",
            drizzled=tuple(drizzled[member] for member in plan.companions(tile)),
            tile=tile,
            settings=survey.outliers,
        )
        for tile in plan.tiles
    }
    return {
        name: run.submit(
            flag_frame,
            name,
            exposure=band.exposures[name],
            name=name,
            parts=(drizzled[name], *(references[tile.tile] for tile in plan.tiles_of_frame[name])),
            levels=band.levels,
            tiles=plan.tiles_of_frame[name],
            settings=survey,
            cells=band.cells,
        )
        for name in members
    }


ENGINES = {"tiles": in_tiles, "jwst": with_jwst}
