"""All sky methods on one tile of a survey."""

from typing import get_args

from prefect.futures import PrefectFuture

from cosmosaic.exposures.library import exposure_name
from cosmosaic.geometry.windows import cell_lattice, make_plan
from cosmosaic.nircam import detector_pixel_arcsec
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.step import Step, StepResult, objects_of
from cosmosaic.survey import SkyMethod
from tasks.calibrate import CalibratedBand
from tasks.flatness import holders, without_wisps
from tasks.publish import publish_objects
from tasks.runtime.caching import step_task
from tasks.runtime.retries import COMPUTING
from tasks.runtime.run import Run
from tasks.sky import Exposure, bin_frame, cals_of

METHODS = tuple(method for method in get_args(SkyMethod) if method not in ("user", "auto"))


@step_task("Compare", COMPUTING)
def compare_methods(
    cells: tuple[StepResult, ...], exposures: tuple[Exposure, ...], names: tuple[str, ...], grid: MosaicGrid, stem: str
) -> Step:
    """Measure the sky by all methods and rank them."""
    return Step(
        name="compare_methods",
        version=3,
        function="cosmosaic.comparison.comparison:compare_methods",
        inputs=(
            *objects_of(*cells),
            *(stored for stored in cals_of(*exposures) if exposure_name(stored.name) in names),
        ),
        arguments=(METHODS, grid, stem),
    )


def compare_band(calibrated: CalibratedBand, grid: MosaicGrid, run: Run) -> PrefectFuture:
    """Submit the comparison on the tile of one filter that most exposures reach."""
    association, frames = calibrated.association, calibrated.frames
    plan = make_plan({name: frames[name].footprint for name in association.members}, grid)
    names = max(plan.frames_of_tile.values(), key=len)
    cleaned, _ = without_wisps(association, calibrated.cals, frames, run)
    cell_grid = cell_lattice(grid, detector_pixel_arcsec(association.filter))
    cells = tuple(run.submit(bin_frame, name, exposure=cleaned[name], name=name, grid=cell_grid) for name in names)
    compared = run.submit(
        compare_methods,
        association.band,
        cells=cells,
        exposures=holders(cleaned),
        names=tuple(names),
        grid=cell_grid,
        stem=association.product_name,
    )
    return run.submit(publish_objects, f"{association.band} comparison", objects=(compared,), target=run.products)
