"""All sky methods on one tile of a filter, as steps."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from astropy.table import QTable

from cosmosaic.cells.files import Cells, needed_jointly
from cosmosaic.cells.steps import bin_exposures
from cosmosaic.exposures.band import Band, Exposures
from cosmosaic.exposures.files import Cal
from cosmosaic.geometry.windows import make_plan
from cosmosaic.records import Lattice, MosaicGrid
from cosmosaic.sky.steps import MeasureSky
from cosmosaic.steps.declaration import Job, Outputs, Step, consulted
from cosmosaic.steps.files import File
from cosmosaic.survey import SkyMethod, SkySettings, Survey

METHODS = tuple(method for method in get_args(SkyMethod) if method not in ("user", "auto"))


class ComparisonTable(File, suffix="_compare.ecsv", kind="comparison"):
    """The methods, best first."""


class ComparisonPicture(File, suffix="_compare.png", kind="comparison"):
    """The skies of the methods at one stretch."""


@dataclass(frozen=True)
class ComparedMethods(Outputs):
    """The ranking of the methods."""

    table: ComparisonTable
    picture: ComparisonPicture


@dataclass(frozen=True, kw_only=True)
class CompareMethods(Step[ComparedMethods]):
    """Measure the sky by all methods and rank them."""

    title = "Compare"
    version = 8
    function = "cosmosaic.comparison.comparison:compare_methods"
    per = "filter"

    cells: Mapping[str, Cells]
    exposures: Mapping[str, Cal]
    methods: tuple[str, ...]
    grid: Lattice
    stem: str
    window_cells: int = consulted()
    """Number of cells of the window that holds all exposures."""

    @property
    def needed_gb(self) -> float:
        """Memory for the window, and for what is kept of each exposure."""
        return needed_jointly(len(self.cells), self.window_cells)

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the main job compares methods, which it does not."""
        return False


@dataclass(frozen=True, kw_only=True)
class ChooseSky(MeasureSky):
    """Measure the sky by the method that the verdict ranks first."""

    title = "Sky"
    version = 5
    function = "cosmosaic.comparison.comparison:choose_sky"

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the method is to be chosen."""
        return survey.sky.method == "auto"


def sky_step(settings: SkySettings) -> type[MeasureSky]:
    """Return the step that measures the sky by the method in the settings."""
    return ChooseSky if settings.method == "auto" else MeasureSky


def best_method(table: str) -> str:
    """Return the method that a comparison's table ranks first."""
    return str(QTable.read(table.splitlines(), format="ascii.ecsv")["method"][0])


def compare_methods(band: Band, cleaned: Exposures, grid: MosaicGrid, job: Job) -> ComparedMethods:
    """Submit the comparison on the tile of one filter that most exposures reach."""
    plan = make_plan(band.footprints, grid)
    names = max(plan.exposures_of_tile.values(), key=len)
    part = dataclasses.replace(band, association=band.association.model_copy(update={"members": tuple(names)}))
    binned = bin_exposures(part, cleaned, grid, None, job)
    step = CompareMethods(
        cells=binned.cells,
        exposures={name: cleaned[name] for name in names},
        methods=METHODS,
        grid=binned.grid,
        stem=band.association.product_name,
        window_cells=binned.window_cells,
    )
    return job.submit(step, band.name)
