"""All units of a mosaic on this machine, in the order they depend on each other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.exposures.library import exposure_name
from cosmosaic.geometry.windows import DEFAULT_TILE_PIXELS, Plan, make_plan
from cosmosaic.records import Made, MosaicGrid
from cosmosaic.survey import DrizzleSettings, OutlierSettings, SkySettings

Files = dict[str, list[Path]]
"""What was made, by the name of the exposure or tile it was made of."""


class MosaicSettings(NamedTuple):
    """All that decides a mosaic besides its exposures and its window."""

    sky: SkySettings = SkySettings()
    outliers: OutlierSettings = OutlierSettings()
    drizzle: DrizzleSettings = DrizzleSettings()
    tile_pixels: int = DEFAULT_TILE_PIXELS
    input_scale_arcsec: float | None = None
    """Pixel scale of the detectors, which ERR is scaled by; left out, that of the first exposure by name."""


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
    tiles = work.combine(sums, flags)
    inputs = [next(iter(exposures.values())), *_chosen(tiles, tiles), *_chosen(sums, sums, "_summary.json")]
    future = executor.submit(do_unit, "assemble", inputs, window, settings.drizzle, product_name, folder)
    return future.result().paths + _chosen(flags, flags, "_crf.fits")


def do_unit(unit: str, paths: list[Path], *arguments: Any) -> Made:
    """Do one unit of `cosmosaic.mosaic.engine`, which workers import and the process that waits for them does not."""
    done: Made = resolve_name(f"cosmosaic.mosaic.engine:{unit}")(paths, *arguments)
    return done


class _Work(NamedTuple):
    """What the stages of one mosaic share."""

    exposures: dict[str, Path]
    levels: dict[str, float]
    plan: Plan
    settings: MosaicSettings
    parts: Path
    submit: Callable[..., Future[Made]]

    def drizzle(self) -> Files:
        tiles, sky, settings = self.plan.tiles_of_frame, self.settings.sky, self.settings.drizzle
        return _collect(
            (
                name,
                self.submit(
                    do_unit,
                    "drizzle_frame",
                    [path],
                    self.levels[name],
                    sky.trim_pixels,
                    tiles[name],
                    settings,
                    self.parts,
                ),
            )
            for name, path in self.exposures.items()
        )

    def keep(self) -> Files:
        return _collect(
            (name, self.submit(do_unit, "keep_frame", [path], self.levels[name], self.settings.sky, self.parts))
            for name, path in self.exposures.items()
        )

    def flag(self, sums: Files) -> Files:
        sky, outliers, drizzle, *_ = self.settings
        references = _collect(
            (
                tile.tile,
                self.submit(do_unit, "make_reference", self._drizzled(sums, tile), tile, outliers, self.parts),
            )
            for tile in self.plan.tiles
        )
        tiles = self.plan.tiles_of_frame
        return _collect(
            (
                name,
                self.submit(
                    do_unit,
                    "flag_frame",
                    [
                        path,
                        *_chosen(sums, [name], "_map.npy"),
                        *(
                            file
                            for tile in tiles[name]
                            for file in _chosen(references, [tile.tile], f"{name}_{tile.tile}_reference.npy")
                        ),
                    ],
                    self.levels[name],
                    tiles[name],
                    sky,
                    outliers,
                    drizzle,
                    self.parts,
                ),
            )
            for name, path in self.exposures.items()
        )

    def combine(self, sums: Files, flags: Files) -> Files:
        frames = self.plan.frames_of_tile
        scale = self.settings.input_scale_arcsec
        # By the first of all exposures, where no scale is given, errors are scaled in every tile.
        first = [] if scale else _chosen(sums, [min(sums)], "_summary.json")
        return _collect(
            (
                tile.tile,
                self.submit(
                    do_unit,
                    "combine_tile",
                    [
                        *dict.fromkeys(first + _chosen(sums, frames[tile.tile], "_summary.json")),
                        *_chosen(sums, frames[tile.tile], f"_{tile.tile}_sums.npy"),
                        *_chosen(flags, frames[tile.tile], f"_{tile.tile}_patch.npy"),
                    ],
                    tile,
                    self.settings.drizzle,
                    scale,
                    self.parts,
                ),
            )
            for tile in self.plan.tiles
        )

    def _drizzled(self, sums: Files, tile: MosaicGrid) -> list[Path]:
        """Sums of a tile, and summaries of all detectors of the exposures that reach it."""
        return _chosen(sums, self.plan.frames_of_tile[tile.tile], f"_{tile.tile}_sums.npy") + _chosen(
            sums, self.plan.companions(tile), "_summary.json"
        )


def _collect(futures: Iterable[tuple[str, Future[Made]]]) -> Files:
    # All are submitted before the first is waited for.
    return {name: future.result().paths for name, future in list(futures)}


def _chosen(files: Files, names: Iterable[str], ending: str = "") -> list[Path]:
    return [path for name in names for path in files[name] if path.name.endswith(ending)]
