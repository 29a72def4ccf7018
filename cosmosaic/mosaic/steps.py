"""The mosaic of one window and its defects, as steps."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cosmosaic.astrometry.steps import AstrometryTable
from cosmosaic.drizzle.steps import Summary, Sums
from cosmosaic.exposures.files import Cal
from cosmosaic.geometry.sphere import Footprint
from cosmosaic.mosaic.memory import MOSAIC_BYTES
from cosmosaic.outliers.steps import Crf, Patch
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.declaration import Outputs, Step
from cosmosaic.steps.files import File
from cosmosaic.survey import DrizzleSettings, Survey
from cosmosaic.verdict.steps import VerdictTable


class TilePlanes(File, suffix="_mosaic.packed"):
    """The planes of one tile."""


class Mosaic(File, suffix="_i2d.fits", kind="i2d"):
    """A mosaic: SCI in MJy/sr, ERR, WHT, variances, exposure time and flags."""


class DefectTable(File, suffix="_defects.ecsv", kind="defects"):
    """Holes, thin spots, stripes and steps of a mosaic, each with its cause and position."""


@dataclass(frozen=True)
class CombinedTile(Outputs):
    """One tile of a mosaic."""

    tile: TilePlanes


@dataclass(frozen=True, kw_only=True)
class CombineTile(Step[CombinedTile]):
    """Add the exposures of a tile."""

    title = "Combine"
    version = 7
    function = "cosmosaic.mosaic.units:combine_tile"
    per = "tile"

    sums: Mapping[str, Sums]
    patches: Mapping[str, Patch]
    summaries: Mapping[str, Summary]
    tile: MosaicGrid
    settings: DrizzleSettings
    input_scale_arcsec: float | None

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the engine is the one in tiles."""
        return survey.engine == "tiles"


@dataclass(frozen=True)
class AssembledMosaic(Outputs):
    """A mosaic."""

    mosaic: Mosaic


@dataclass(frozen=True, kw_only=True)
class AssembleMosaic(Step[AssembledMosaic]):
    """Write the tiles of a window as one FITS file, with the verdict on its sky; its header is the first exposure's."""

    title = "Mosaic"
    version = 8
    function = "cosmosaic.mosaic.units:assemble_mosaic"
    per = "mosaic"

    tiles: tuple[TilePlanes, ...]
    summaries: Mapping[str, Summary]
    first: Cal
    verdict: VerdictTable | None
    astrometry: AstrometryTable | None
    window: MosaicGrid
    settings: DrizzleSettings
    product_name: str

    @property
    def written_bytes(self) -> float:
        """Room for the mosaic; its tiles are packed."""
        return float(np.prod(self.window.shape)) * MOSAIC_BYTES

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the engine is the one in tiles."""
        return survey.engine == "tiles"


@dataclass(frozen=True, kw_only=True)
class DrizzleWithJwst(Step[AssembledMosaic]):
    """Combine exposures on the survey's grid with the jwst package."""

    title = "Mosaic (jwst)"
    version = 7
    function = "cosmosaic.mosaic.with_jwst:drizzle_mosaic"
    per = "mosaic"

    crfs: Mapping[str, Crf]
    verdict: VerdictTable | None
    astrometry: AstrometryTable | None
    window: MosaicGrid
    settings: DrizzleSettings
    product_name: str

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the engine is jwst."""
        return survey.engine == "jwst"


@dataclass(frozen=True)
class ListedDefects(Outputs):
    """The defects of a mosaic."""

    table: DefectTable


@dataclass(frozen=True, kw_only=True)
class ListDefects(Step[ListedDefects]):
    """Name each connected defect of a mosaic by its cause."""

    title = "Defects"
    version = 2
    function = "cosmosaic.mosaic.defects:list_defects"
    per = "mosaic"
    written = 0.3

    mosaic: Mosaic
    verdict: VerdictTable
    window: MosaicGrid
    footprints: Mapping[str, Footprint]
    stem: str
