"""Are the stars of a mosaic as sharp as those of its exposures? As steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cosmosaic.astrometry.solution import OF_ONE_FILTER
from cosmosaic.astrometry.steps import (
    Aligned,
    AstrometryMaps,
    AstrometryPlots,
    AstrometryTable,
    FluxScaleTable,
    OfNetwork,
    SolvedNetwork,
    StarTable,
)
from cosmosaic.geometry.windows import WHOLE
from cosmosaic.mosaic.steps import Mosaic
from cosmosaic.outliers.steps import Crf
from cosmosaic.records import STATES, MosaicGrid
from cosmosaic.steps.declaration import Job, Outputs, Step, names_of, surviving
from cosmosaic.steps.files import File
from cosmosaic.survey import DrizzleSettings


class StarShapes(File, suffix="_shapes.npz"):
    """Shapes of the stars of one exposure."""


class SharpnessTable(File, suffix="_sharpness.ecsv", kind="sharpness"):
    """Width and ellipticity of each star in a mosaic and in its exposures."""


class AstrometryPage(File, suffix="_astrometry.html", kind="astrometry page"):
    """The verdict on the astrometry of all filters."""


@dataclass(frozen=True)
class MeasuredShapes(Outputs):
    """The stars of one exposure."""

    shapes: StarShapes


@dataclass(frozen=True, kw_only=True)
class MeasureShapes(OfNetwork, Step[MeasuredShapes]):
    """Measure the stars of one exposure on the mosaic's pixels."""

    title = "Shapes"
    version = 1
    function = "cosmosaic.sharpness.compare:measure_shapes"
    per = "exposure"

    exposure: Crf
    stars: StarTable
    window: MosaicGrid
    settings: DrizzleSettings


@dataclass(frozen=True)
class ComparedSharpness(Outputs):
    """The stars of a mosaic against those of its exposures."""

    table: SharpnessTable


@dataclass(frozen=True, kw_only=True)
class CompareSharpness(OfNetwork, Step[ComparedSharpness]):
    """Compare the stars of a mosaic with the same stars in its exposures."""

    title = "Sharpness"
    version = 4
    function = "cosmosaic.sharpness.compare:compare_sharpness"
    per = "filter"
    columns: ClassVar = {
        "fwhm_ratio": "star_fwhm_ratio",
        "ellipticity": "star_ellipticity",
        "sharpness_stars": "sharpness_stars",
    } | {f"{kind}_mas": f"astrometry_{kind}_mas" for kind in OF_ONE_FILTER}

    mosaic: Mosaic
    shapes: Mapping[str, StarShapes] = surviving()
    verdict: AstrometryTable
    band: str
    window: MosaicGrid
    tiles: tuple[MosaicGrid, ...]
    """Parts of the sky whose stars are judged apart."""
    stem: str


def compare_sharpness(
    aligned: Aligned, solved: SolvedNetwork, crfs: Mapping[str, Crf], mosaic: Mosaic, window: MosaicGrid, job: Job
) -> ComparedSharpness:
    """Submit the comparison of a filter's mosaic with its exposures, whose stars are known."""
    stars = dict(zip(aligned.exposures, aligned.stars, strict=True))
    of_tile = "" if window.tile == WHOLE else f" {window.tile}"
    stem = f"{aligned.band.association.product_name}{of_tile.replace(' ', '_')}"
    shapes = {
        name: job.submit(
            MeasureShapes(exposure=crf, stars=stars[name].stars, window=window, settings=job.survey.drizzle),
            f"{name}{of_tile}",
        ).shapes
        for name, crf in crfs.items()
    }
    band = aligned.band.name
    step = CompareSharpness(
        mosaic=mosaic,
        shapes=shapes,
        verdict=solved.verdict,
        band=band,
        window=window,
        tiles=aligned.tiles if window.tile == WHOLE else (window,),
        stem=stem,
    )
    return job.submit(step, f"{band}{of_tile}")


@dataclass(frozen=True)
class WrittenAstrometryPage(Outputs):
    """The page."""

    page: AstrometryPage


@dataclass(frozen=True, kw_only=True)
class WriteAstrometryPage(OfNetwork, Step[WrittenAstrometryPage]):
    """Write the verdict on the astrometry of all filters as one HTML file."""

    title = "Astrometry page"
    version = 3
    function = "cosmosaic.sharpness.page:write_page"
    per = "survey"

    verdict: AstrometryTable
    fluxes: FluxScaleTable
    maps: AstrometryMaps
    plots: AstrometryPlots
    sharpness: Mapping[str, SharpnessTable] = surviving()
    """By filter, or by filter and tile where the tiles alone are made."""
    survey: str
    links: Mapping[str, str]
    """File name of each product by its label."""

    @classmethod
    def row(cls, facts: Mapping[str, float]) -> dict[str, Any]:
        """Return the state in words."""
        return {"astrometry_verdict": STATES[int(facts["state"])]}


def write_astrometry_page(
    solved: SolvedNetwork, compared: Mapping[str, ComparedSharpness], job: Job
) -> WrittenAstrometryPage:
    """Submit the page on the astrometry of all filters.

    Parameters
    ----------
    solved
        The solution.
    compared
        The stars of each filter's mosaic against those of its exposures.
    job
        The run.
    """
    step = WriteAstrometryPage(
        verdict=solved.verdict,
        fluxes=solved.fluxes,
        maps=solved.maps,
        plots=solved.plots,
        sharpness={band: each.table for band, each in compared.items()},
        survey=job.survey.name,
        links=names_of(job.survey.name, solved) | {"sky.html": f"{job.survey.name}_sky.html"},
    )
    return job.submit(step, ", ".join(compared))
