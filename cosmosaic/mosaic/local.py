"""All units of a mosaic on this machine, in the order they depend on each other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import NamedTuple

from cosmosaic.exposures import exposure_name
from cosmosaic.mosaic.engine import (
    assemble,
    combine_tile,
    drizzle_frame,
    flag_frame,
    keep_frame,
    make_reference,
    read_summaries,
)
from cosmosaic.mosaic.exposure import read_footprint
from cosmosaic.mosaic.tiles import DEFAULT_TILE_PIXELS, Plan, make_plan
from cosmosaic.records import MosaicGrid
from cosmosaic.steps import Made
from cosmosaic.survey import DrizzleSettings, OutlierSettings, SkySettings


class MosaicSettings(NamedTuple):
    """All that decides a mosaic besides its exposures and its window."""

    sky: SkySettings = SkySettings()
    outliers: OutlierSettings = OutlierSettings()
    drizzle: DrizzleSettings = DrizzleSettings()
    tile_pixels: int = DEFAULT_TILE_PIXELS


def make_mosaic(
    paths: Sequence[Path],
    levels: Mapping[str, float],
    window: MosaicGrid,
    settings: MosaicSettings,
    product_name: str,
    folder: Path,
    executor: Executor,
) -> list[Path]:
    """Do all units of a mosaic, side by side where the executor has several processes.

    Parameters
    ----------
    paths
        ``_cal`` files of one filter.
    levels
        Sky in MJy/sr by the exposure's name; those left out have none.
    window
        The mosaic.
    settings
        Sky, outliers, drizzle and the tiles' side.
    product_name
        Name of the mosaic without ``_i2d.fits``.
    folder
        Gets the mosaic, and ``parts/`` with the ``_crf`` files and intermediates.
    executor
        Where the units run.

    Returns
    -------
    list of Path
        The mosaic, then the ``_crf`` files.
    """
    exposures = {exposure_name(path.name): path for path in sorted(paths)}
    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    footprints = {name: read_footprint(path) for name, path in exposures.items()}
    plan = make_plan(footprints, window, settings.tile_pixels)
    work = _Work(exposures, {name: levels.get(name, 0.0) for name in exposures}, plan, settings, parts, executor.submit)
    sums = work.drizzle()
    flags = work.flag(sums) if settings.outliers.enabled else work.keep()
    tiles = work.combine(sums + flags)
    inputs = [*tiles, *_of_kind(sums, "summary.json"), next(iter(exposures.values()))]
    mosaic = executor.submit(assemble, inputs, window, settings.drizzle, product_name, folder).result().paths
    return mosaic + _of_kind(flags, "crf.fits")


class _Work(NamedTuple):
    """What the stages of one mosaic share."""

    exposures: dict[str, Path]
    levels: dict[str, float]
    plan: Plan
    settings: MosaicSettings
    parts: Path
    submit: Callable[..., Future[Made]]

    def drizzle(self) -> list[Path]:
        tiles, settings = self.plan.tiles_of_frame, self.settings.drizzle
        return _collect(
            self.submit(drizzle_frame, [path], self.levels[name], tiles[name], settings, self.parts)
            for name, path in self.exposures.items()
        )

    def keep(self) -> list[Path]:
        return _collect(
            self.submit(keep_frame, [path], self.levels[name], self.settings.sky, self.parts)
            for name, path in self.exposures.items()
        )

    def flag(self, sums: list[Path]) -> list[Path]:
        references = _collect(
            self.submit(make_reference, _of_tile(sums, tile), tile, self.settings.outliers, self.parts)
            for tile in self.plan.tiles
        )
        by_tile = {path.name.split("_")[0]: path for path in references}
        sky, outliers, drizzle, _ = self.settings
        return _collect(
            self.submit(
                flag_frame,
                [path, *(by_tile[tile.tile] for tile in self.plan.tiles_of_frame[name])],
                self.levels[name],
                self.plan.tiles_of_frame[name],
                sky,
                outliers,
                drizzle,
                self.parts,
            )
            for name, path in self.exposures.items()
        )

    def combine(self, files: list[Path]) -> list[Path]:
        scale = read_summaries(files)[0].pixel_scale_arcsec
        return _collect(
            self.submit(combine_tile, _of_tile(files, tile), tile, self.settings.drizzle, scale, self.parts)
            for tile in self.plan.tiles
        )


def _collect(futures: Iterable[Future[Made]]) -> list[Path]:
    # All are submitted before the first is waited for.
    return [path for future in list(futures) for path in future.result().paths]


def _of_tile(files: Sequence[Path], tile: MosaicGrid) -> list[Path]:
    """Files of one tile, and the exposures' summaries."""
    return [path for path in files if f"_{tile.tile}_" in path.name or path.name.endswith("_summary.json")]


def _of_kind(files: Sequence[Path], ending: str) -> list[Path]:
    return [path for path in files if path.name.endswith(ending)]
