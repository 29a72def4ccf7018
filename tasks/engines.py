"""The two ways to combine the exposures of one filter: in tiles, or with the jwst package's own steps."""

from collections.abc import Mapping
from dataclasses import dataclass

from prefect.futures import PrefectFuture

from cosmosaic.filters import detector_pixel_arcsec
from cosmosaic.mosaic.grid import Footprint
from cosmosaic.mosaic.memory import fit_memory
from cosmosaic.mosaic.tiles import Plan, make_plan
from cosmosaic.records import Association, MosaicGrid, StoredObject
from tasks.mosaic import drizzle_mosaic, flag_outliers
from tasks.run import Run
from tasks.tiles import assemble_mosaic, combine_tile, drizzle_frame, flag_frame, keep_frame, make_reference

DETECTOR_SHAPE = (2048, 2048)
"""Rows and columns of the largest exposures."""


@dataclass(frozen=True)
class BandInput:
    """What a mosaic is made of."""

    association: Association
    exposures: tuple[StoredObject | PrefectFuture, ...]
    """The ``cal`` files, aligned where that is asked for."""
    levels: PrefectFuture | None
    grid: MosaicGrid
    footprints: Mapping[str, Footprint]
    stem: str
    """Name of the mosaic without suffix and extension."""


def with_jwst(band: BandInput, run: Run) -> tuple[PrefectFuture, tuple[PrefectFuture, ...]]:
    """Submit the jwst package's outlier detection and resample; return the mosaic and what holds the crf files."""
    survey, name = run.survey, band.association.band
    flagged = run.submit(
        flag_outliers,
        name,
        exposures=band.exposures,
        levels=band.levels,
        sky=survey.sky,
        outliers=survey.outliers,
        drizzle=survey.drizzle,
    )
    mosaic = run.submit(
        drizzle_mosaic, name, exposures=flagged, grid=band.grid, settings=survey.drizzle, product_name=band.stem
    )
    return mosaic, (flagged,)


def in_tiles(band: BandInput, run: Run) -> tuple[PrefectFuture, tuple[PrefectFuture, ...]]:
    """Submit a step for each exposure and tile; return the mosaic and what holds the crf files."""
    survey, label = run.survey, band.association.band
    members = band.association.members
    footprints = {name: band.footprints[name] for name in members}
    plan = make_plan(footprints, band.grid, _tile_pixels(band, run))
    drizzled = {
        name: run.submit(
            drizzle_frame,
            name,
            exposures=band.exposures,
            name=name,
            levels=band.levels,
            tiles=plan.tiles_of_frame[name],
            settings=survey.drizzle,
        )
        for name in members
    }
    flagged = _flagged(band, plan, drizzled, run)
    tiles = tuple(
        run.submit(
            combine_tile,
            f"{label} {tile.tile}",
            drizzled=tuple(drizzled[name] for name in plan.frames_of_tile[tile.tile]),
            flagged=tuple(flagged[name] for name in plan.frames_of_tile[tile.tile]),
            tile=tile,
            settings=survey.drizzle,
            input_scale_arcsec=detector_pixel_arcsec(band.association.filter),
        )
        for tile in plan.tiles
    )
    mosaic = run.submit(
        assemble_mosaic,
        label,
        tiles=tiles,
        drizzled=tuple(drizzled.values()),
        flagged=tuple(flagged.values()),
        exposures=band.exposures,
        grid=band.grid,
        settings=survey.drizzle,
        product_name=band.stem,
    )
    return mosaic, tuple(flagged.values())


def _tile_pixels(band: BandInput, run: Run) -> int:
    """Side of the tiles that the memory allows."""
    scale = 1000.0 * detector_pixel_arcsec(band.association.filter) / band.grid.pixel_scale_mas
    workers = run.work.workers
    share = workers.memory_gb / workers.processes
    return fit_memory(share, 1, DETECTOR_SHAPE, scale, run.survey.resources.tile_pixels).tile_pixels


def _flagged(
    band: BandInput,
    plan: Plan,
    drizzled: Mapping[str, PrefectFuture],
    run: Run,
) -> dict[str, PrefectFuture]:
    survey, members = run.survey, band.association.members
    if not survey.outliers.enabled:
        return {
            name: run.submit(keep_frame, name, exposures=band.exposures, name=name, levels=band.levels, sky=survey.sky)
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
            exposures=band.exposures,
            name=name,
            drizzled=drizzled[name],
            references=tuple(references[tile.tile] for tile in plan.tiles_of_frame[name]),
            levels=band.levels,
            tiles=plan.tiles_of_frame[name],
            settings=survey,
        )
        for name in members
    }


ENGINES = {"tiles": in_tiles, "jwst": with_jwst}
