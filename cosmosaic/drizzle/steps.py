"""Each exposure drizzled into the tiles it reaches, as a step."""

from collections.abc import Mapping
from dataclasses import dataclass

from cosmosaic.exposures.band import Band, Exposures
from cosmosaic.exposures.files import Cal
from cosmosaic.geometry.windows import Plan
from cosmosaic.records import MosaicGrid
from cosmosaic.sky.steps import BandSky, ExposureSkyFile
from cosmosaic.steps.declaration import Job, Outputs, Step
from cosmosaic.steps.files import File
from cosmosaic.survey import DrizzleSettings, Survey, WeightType


class Sums(File, suffix="_sums.packed"):
    """Weighted sums of one exposure in each of its tiles, and flags of its pixels."""


class Summary(File, suffix="_summary.npz"):
    """Facts about an exposure that its mosaic needs in addition to the sums, and the places of its pixels."""


@dataclass(frozen=True)
class InspectedExposure(Outputs):
    """An exposure that can be combined."""


@dataclass(frozen=True, kw_only=True)
class InspectExposure(Step[InspectedExposure]):
    """Read the planes of an exposure, so that unusable exposures are left out before others depend on them."""

    title = "Inspect"
    version = 3
    function = "cosmosaic.drizzle.units:inspect_exposure"
    per = "exposure"

    exposure: Cal
    weight_type: WeightType


@dataclass(frozen=True)
class DrizzledExposure(Outputs):
    """One exposure on the survey's lattice."""

    sums: Sums
    summary: Summary


@dataclass(frozen=True, kw_only=True)
class DrizzleExposure(Step[DrizzledExposure]):
    """Drizzle one exposure into the tiles it reaches, without its sky."""

    title = "Drizzle"
    version = 9
    function = "cosmosaic.drizzle.units:drizzle_exposure"
    per = "exposure"

    exposure: Cal
    sky: ExposureSkyFile | None
    trim_pixels: int
    tiles: tuple[MosaicGrid, ...]
    """All tiles that its footprint touches."""
    settings: DrizzleSettings

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the engine is the one in tiles."""
        return survey.engine == "tiles"


def drizzle(band: Band, exposures: Exposures, sky: BandSky, plan: Plan, job: Job) -> Mapping[str, DrizzledExposure]:
    """Submit the drizzling of a filter's exposures."""
    return {
        name: job.submit(
            DrizzleExposure(
                exposure=exposures[name],
                sky=sky.of(name),
                trim_pixels=job.survey.sky.trim_pixels,
                tiles=plan.tiles_of_exposure[name],
                settings=job.survey.drizzle,
            ),
            name,
        )
        for name in band.members
    }
