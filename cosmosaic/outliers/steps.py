"""Cosmic rays found by comparing exposures, as steps: in tiles, or with the jwst package."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from cosmosaic.cells.files import Cells
from cosmosaic.drizzle.steps import DrizzledExposure, Summary, Sums
from cosmosaic.exposures.band import Band, Exposures
from cosmosaic.exposures.files import Cal
from cosmosaic.geometry.windows import Plan
from cosmosaic.records import Lattice, MosaicGrid
from cosmosaic.sky.steps import BandSky, ExposureSkyFile
from cosmosaic.steps.declaration import Job, Outputs, Step
from cosmosaic.steps.files import File, Many
from cosmosaic.survey import DrizzleSettings, OutlierSettings, SkyTreatment, Survey


class ReferenceImage(File, suffix="_reference.packed"):
    """The reference for one exposure in one tile."""


class Crf(File, suffix="_crf.fits", kind="crf", folder="exposures"):
    """An exposure in the state in which it is combined, MJy/sr."""


class Patch(File, suffix="_patch.npy"):
    """Changes that outliers make to the sums of one exposure in one tile."""


@dataclass(frozen=True)
class References(Outputs):
    """The references for the exposures of a tile."""

    references: Many[ReferenceImage]
    """By the exposure's name."""


@dataclass(frozen=True, kw_only=True)
class MakeReference(Step[References]):
    """Make the reference images with which the exposures of a tile are compared."""

    title = "Reference"
    version = 4
    function = "cosmosaic.outliers.units:make_reference"
    per = "tile"

    sums: Mapping[str, Sums]
    summaries: Mapping[str, Summary]
    """Of all detectors of the exposure groups involved."""
    tile: MosaicGrid
    fraction: float
    """Fraction of the mean weight below which a pixel is excluded from the median."""

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether exposures are compared in tiles."""
        return survey.engine == "tiles" and survey.outliers.enabled


@dataclass(frozen=True)
class FlaggedExposure(Outputs):
    """An exposure in the state in which it is combined."""

    crf: Crf
    cleared: Cells
    """For the verdict."""
    patches: Many[Patch]
    """By the tile's name, of tiles in which an outlier was flagged."""


@dataclass(frozen=True, kw_only=True)
class FlagExposure(Step[FlaggedExposure]):
    """Flag the outliers of one exposure against the references of its tiles, and bin the result for the verdict."""

    title = "Outliers"
    version = 9
    function = "cosmosaic.outliers.units:flag_exposure"
    per = "exposure"
    columns: ClassVar = {"implausible_pixels": "implausible_pixels", "outliers": "outlier_pixels"}

    exposure: Cal
    sky: ExposureSkyFile | None
    summary: Summary
    compared: tuple[ReferenceImage, ...]
    tiles: tuple[MosaicGrid, ...]
    treatment: SkyTreatment
    thresholds: OutlierSettings
    drizzle: DrizzleSettings
    cells: Lattice

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether exposures are compared in tiles."""
        return survey.engine == "tiles" and survey.outliers.enabled


@dataclass(frozen=True, kw_only=True)
class KeepExposure(Step[FlaggedExposure]):
    """Subtract the sky of an exposure that is not searched for outliers, and bin the result for the verdict."""

    title = "Keep"
    version = 7
    function = "cosmosaic.outliers.units:keep_exposure"
    per = "exposure"
    columns: ClassVar = {"implausible_pixels": "implausible_pixels"}

    exposure: Cal
    sky: ExposureSkyFile | None
    treatment: SkyTreatment
    cells: Lattice

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether exposures are not compared."""
        return survey.engine == "tiles" and not survey.outliers.enabled


@dataclass(frozen=True)
class FlaggedTogether(Outputs):
    """The exposures of one filter in the state in which they are combined."""

    crfs: Many[Crf]
    cleared: Many[Cells]


@dataclass(frozen=True, kw_only=True)
class FlagWithJwst(Step[FlaggedTogether]):
    """Subtract the sky, flag outliers by comparing exposures, and bin the result for the verdict."""

    title = "Outliers (jwst)"
    version = 8
    function = "cosmosaic.outliers.with_jwst:flag_outliers"
    per = "filter"

    exposures: Mapping[str, Cal]
    skies: Mapping[str, ExposureSkyFile]
    treatment: SkyTreatment
    thresholds: OutlierSettings
    drizzle: DrizzleSettings
    cells: Lattice

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the engine is jwst."""
        return survey.engine == "jwst"


@dataclass(frozen=True)
class FlaggedBand:
    """The exposures of one filter in the state in which they are combined, by name."""

    crfs: Mapping[str, Crf]
    cleared: Mapping[str, Cells]
    patches: Mapping[str, Many[Patch]]


def flag_outliers(
    band: Band,
    exposures: Exposures,
    sky: BandSky,
    drizzled: Mapping[str, DrizzledExposure],
    plan: Plan,
    cells: Lattice,
    job: Job,
) -> FlaggedBand:
    """Submit the comparison of a filter's exposures, tile by tile."""
    survey = job.survey
    if not survey.outliers.enabled:
        kept = {
            name: job.submit(
                KeepExposure(exposure=exposures[name], sky=sky.of(name), treatment=survey.sky.treatment, cells=cells),
                name,
            )
            for name in band.members
        }
        return _gathered(kept, {})
    references = {
        tile.tile: job.submit(
            MakeReference(
                sums={name: drizzled[name].sums for name in plan.exposures_of_tile[tile.tile]},
                summaries={name: drizzled[name].summary for name in plan.companions(tile)},
                tile=tile,
                fraction=survey.outliers.weight_threshold,
            ),
            f"{band.name} {tile.tile}",
        ).references
        for tile in plan.tiles
    }
    flagged = {
        name: job.submit(
            FlagExposure(
                exposure=exposures[name],
                sky=sky.of(name),
                summary=drizzled[name].summary,
                compared=tuple(references[tile.tile][name] for tile in plan.tiles_of_exposure[name]),
                tiles=plan.tiles_of_exposure[name],
                treatment=survey.sky.treatment,
                thresholds=survey.outliers,
                drizzle=survey.drizzle,
                cells=cells,
            ),
            name,
        )
        for name in band.members
    }
    return _gathered(flagged, {name: each.patches for name, each in flagged.items()})


def flag_with_jwst(band: Band, exposures: Exposures, sky: BandSky, cells: Lattice, job: Job) -> FlaggedBand:
    """Submit the jwst package's outlier detection on a filter's exposures."""
    skies = {name: file for name in band.members if (file := sky.of(name))}
    step = FlagWithJwst(
        exposures=exposures,
        skies=skies,
        treatment=job.survey.sky.treatment,
        thresholds=job.survey.outliers,
        drizzle=job.survey.drizzle,
        cells=cells,
    )
    made = job.submit(step, band.name)
    return FlaggedBand(
        {name: made.crfs[name] for name in band.members}, {name: made.cleared[name] for name in band.members}, {}
    )


def _gathered(flagged: Mapping[str, FlaggedExposure], patches: Mapping[str, Many[Patch]]) -> FlaggedBand:
    return FlaggedBand(
        {name: each.crf for name, each in flagged.items()},
        {name: each.cleared for name, each in flagged.items()},
        patches,
    )
