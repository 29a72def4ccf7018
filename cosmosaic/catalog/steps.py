"""The catalogue of one mosaic, as a step."""

from dataclasses import dataclass
from typing import ClassVar

from cosmosaic.mosaic.steps import Mosaic
from cosmosaic.steps.declaration import Outputs, Step
from cosmosaic.steps.files import File
from cosmosaic.survey import CatalogSettings, Survey


class Catalogue(File, suffix="_cat.ecsv", kind="cat"):
    """Positions, shapes, fluxes and flags of the sources of a mosaic."""


class CatalogueParquet(File, suffix="_cat.parquet", kind="cat"):
    """The same as Parquet."""


class Segments(File, suffix="_segm.fits", kind="segm"):
    """The segmentation map: labels of the sources."""


@dataclass(frozen=True)
class MeasuredSources(Outputs):
    """The sources of a mosaic."""

    catalogue: Catalogue
    parquet: CatalogueParquet
    segments: Segments


@dataclass(frozen=True, kw_only=True)
class MeasureSources(Step[MeasuredSources]):
    """Detect and measure the sources of a mosaic."""

    title = "Catalogue"
    version = 3
    function = "cosmosaic.catalog.measure:catalog_mosaic"
    per = "mosaic"
    columns: ClassVar = {
        "sky_median": "sky_median_mjy_sr",
        "sky_rms": "sky_rms_mjy_sr",
        "noise_factor": "noise_factor",
        "depth_5sigma_ab": "depth_5sigma_ab",
        "n_sources": "sources",
    }

    mosaic: Mosaic
    settings: CatalogSettings
    band: str
    stem: str

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Tell whether the mosaics have errors to measure with."""
        return survey.drizzle.errors != "none"
