"""The mosaic engine: each exposure and each tile is a step of its own, so that a new frame costs what it touches."""

from cosmosaic.records import MosaicGrid, StoredObject
from cosmosaic.steps.step import Step, StepResult, objects_of
from cosmosaic.survey import DrizzleSettings, OutlierSettings, SkySettings, Survey
from tasks.runtime.caching import step_task
from tasks.runtime.retries import COMPUTING
from tasks.sky import FLAG_AND_BIN, Exposure, exposure_of, patterns_of


@step_task("Drizzle", COMPUTING)
def drizzle_frame(
    exposure: Exposure,
    name: str,
    levels: StepResult | None,
    trim_pixels: int,
    tiles: tuple[MosaicGrid, ...],
    settings: DrizzleSettings,
) -> Step:
    """Drizzle one exposure into the tiles it reaches, without its sky."""
    return Step(
        name="drizzle_frame",
        version=4,
        function="cosmosaic.mosaic.engine:drizzle_frame",
        inputs=(exposure_of(exposure, name), *patterns_of(levels, name)),
        arguments=(_level(levels, name), trim_pixels, tiles, settings),
    )


@step_task("Reference", COMPUTING)
def make_reference(drizzled: tuple[StepResult, ...], tile: MosaicGrid, settings: OutlierSettings) -> Step:
    """Make what the exposures of a tile are compared with."""
    return Step(
        name="make_reference",
        version=2,
        function="cosmosaic.mosaic.engine:make_reference",
        inputs=_ending(drizzled, f"_{tile.tile}_sums.npy", "_summary.json"),
        arguments=(tile, settings),
    )


@step_task("Outliers", COMPUTING)
def flag_frame(
    exposure: Exposure,
    name: str,
    parts: tuple[StepResult, ...],
    levels: StepResult | None,
    tiles: tuple[MosaicGrid, ...],
    settings: Survey,
    cells: MosaicGrid,
) -> Step:
    """Flag what differs from the references of the tiles it reaches, and bin what goes into the mosaic."""
    given = (_level(levels, name), tiles, settings.sky, settings.outliers, settings.drizzle)
    return Step(
        name="flag_frame",
        version=4,
        function=FLAG_AND_BIN,
        inputs=(
            exposure_of(exposure, name),
            *patterns_of(levels, name),
            *_ending(parts, "_map.npy"),
            *(stored for stored in _ending(parts, "_reference.npy") if stored.name.startswith(f"{name}_")),
        ),
        arguments=("cosmosaic.mosaic.engine:flag_frame", given, cells),
    )


@step_task("Keep", COMPUTING)
def keep_frame(exposure: Exposure, name: str, levels: StepResult | None, sky: SkySettings, cells: MosaicGrid) -> Step:
    """Take the sky out of an exposure that is not searched for outliers, and bin what goes into the mosaic."""
    return Step(
        name="keep_frame",
        version=3,
        function=FLAG_AND_BIN,
        inputs=(exposure_of(exposure, name), *patterns_of(levels, name)),
        arguments=("cosmosaic.mosaic.engine:keep_frame", (_level(levels, name), sky), cells),
    )


@step_task("Combine", COMPUTING)
def combine_tile(
    drizzled: tuple[StepResult, ...],
    flagged: tuple[StepResult, ...],
    tile: MosaicGrid,
    settings: DrizzleSettings,
    input_scale_arcsec: float,
) -> Step:
    """Add the exposures of a tile."""
    sums = _ending(drizzled, f"_{tile.tile}_sums.npy", "_summary.json")
    return Step(
        name="combine_tile",
        version=3,
        function="cosmosaic.mosaic.engine:combine_tile",
        inputs=(*sums, *_ending(flagged, f"_{tile.tile}_patch.npy")),
        arguments=(tile, settings, input_scale_arcsec),
    )


@step_task("Mosaic", COMPUTING)
def assemble_mosaic(
    parts: tuple[StepResult, ...],
    drizzled: tuple[StepResult, ...],
    flagged: tuple[StepResult, ...],
    first: Exposure,
    grid: MosaicGrid,
    settings: DrizzleSettings,
    product_name: str,
) -> Step:
    """Write the tiles of a window as one FITS file, with the verdict on its sky; its header is the first exposure's."""
    summaries = _ending(drizzled, "_summary.json")
    name = min(stored.name for stored in summaries).removesuffix("_summary.json")
    return Step(
        name="assemble_mosaic",
        version=3,
        function="cosmosaic.mosaic.engine:assemble",
        inputs=(exposure_of(first, name), *_ending(parts, "_mosaic.npy", "_verdict.ecsv"), *summaries),
        arguments=(grid, settings, product_name),
        sources=_ending(flagged, "_crf.fits"),
    )


def _level(levels: StepResult | None, name: str) -> float:
    return levels.facts[name] if levels else 0.0


def _ending(results: tuple[StepResult, ...], *endings: str) -> tuple[StoredObject, ...]:
    return tuple(stored for stored in objects_of(*results) if stored.name.endswith(endings))
