"""Is the sky flat? The verdict on one filter, and the page of all filters, as steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cosmosaic.cells.files import Cells, needed_for, needed_jointly
from cosmosaic.cells.steps import BinnedBand, cells_around
from cosmosaic.exposures.band import Band
from cosmosaic.geometry.sphere import Footprint, footprint_centre, separations_deg
from cosmosaic.geometry.windows import neighbouring, touched_tiles
from cosmosaic.outliers.steps import FlaggedBand
from cosmosaic.records import STATES, Lattice, MosaicGrid
from cosmosaic.sky.steps import BandSky, SkyTable
from cosmosaic.steps.declaration import Job, Outputs, Step, consulted, surviving
from cosmosaic.steps.files import File

NULL_EXPOSURES = 400
"""Most exposures of the null test."""


class VerdictTable(File, suffix="_verdict.ecsv", kind="verdict"):
    """Verdict on the sky of a filter."""


class TileVerdicts(File, suffix="_tiles.ecsv", kind="verdict by tile"):
    """Verdict on the sky of each tile."""


class SkyMask(File, suffix="_skymask.fits", kind="skymask"):
    """Cells with sources."""


class SkyPictures(File, suffix="_skies.png", kind="skies"):
    """The sky before and after, at one stretch."""


class SkyPlots(File, suffix="_skyplots.png", kind="skies"):
    """Plots of the verdict."""


class SkyPage(File, suffix="_sky.html", kind="sky page"):
    """The verdicts of all filters."""


class JudgementFile(File, suffix="_judgement.npz"):
    """Joint measurements of all exposures of a filter."""


class PartOfTiles(File, suffix="_part.ecsv"):
    """Verdict on the sky of some tiles."""


@dataclass(frozen=True)
class JudgedExposures(Outputs):
    """Joint measurements of all exposures of a filter."""

    judgement: JudgementFile


@dataclass(frozen=True, kw_only=True)
class JudgeExposures(Step[JudgedExposures]):
    """Judge the sky of all exposures together: before it was subtracted, after, or of their noise alone."""

    title = "Verdict on exposures"
    version = 4
    function = "cosmosaic.verdict.judgement:judge_exposures"
    per = "filter"

    cells: Mapping[str, Cells]
    grid: Lattice
    """The lattice of the cells."""
    when: str
    window_cells: int = consulted()
    """Number of cells of the window that holds all exposures."""

    @property
    def needed_gb(self) -> float:
        """Memory for the window, and for what is kept of each exposure."""
        return needed_jointly(len(self.cells), self.window_cells)


@dataclass(frozen=True)
class JudgedTiles(Outputs):
    """Verdict on the sky of some tiles."""

    table: PartOfTiles


@dataclass(frozen=True, kw_only=True)
class JudgeTiles(Step[JudgedTiles]):
    """Judge the sky of neighbouring tiles, before and after, by the exposures that reach them."""

    title = "Verdict on tiles"
    version = 4
    function = "cosmosaic.verdict.judgement:judge_tiles"
    per = "tile"

    before: Mapping[str, Cells]
    after: Mapping[str, Cells]
    judgements: Mapping[str, JudgementFile]
    """Before and after."""
    tiles: tuple[MosaicGrid, ...]

    @property
    def needed_gb(self) -> float:
        """Memory for the cells of the exposures, before and after."""
        return needed_for((*self.before.values(), *self.after.values()))


@dataclass(frozen=True)
class JudgedSky(Outputs):
    """The verdict on one filter."""

    verdict: VerdictTable
    tiles: TileVerdicts
    mask: SkyMask
    skies: SkyPictures
    plots: SkyPlots


@dataclass(frozen=True, kw_only=True)
class GatherVerdict(Step[JudgedSky]):
    """Combine the verdicts on the sky, before and after, for the whole filter and each tile."""

    title = "Verdict"
    version = 1
    function = "cosmosaic.verdict.judgement:gather_verdict"
    per = "filter"
    columns: ClassVar = {
        f"{name}_pct": f"sky_{name}_pct"
        for name in ("step", "steps", "levels", "zero", "rows", "columns", "detector", "halo", "growth")
    }

    judgements: Mapping[str, JudgementFile]
    """Before, after, and of noise."""
    parts: tuple[PartOfTiles, ...]
    levels: SkyTable | None
    stem: str

    @classmethod
    def row(cls, facts: Mapping[str, float]) -> dict[str, Any]:
        """Return the columns, and the states in words."""
        states = {f"sky_{name}_state": STATES[int(facts[f"{name}_state"])] for name in ("step", "zero")}
        return {"sky_verdict": STATES[int(facts["state"])], **states, **super().row(facts)}


def judge_sky(
    band: Band, binned: BinnedBand, flagged: FlaggedBand, sky: BandSky, tiles: tuple[MosaicGrid, ...], job: Job
) -> JudgedSky:
    """Submit the verdict on the exposures as they go into the mosaic, as a whole and tile by tile."""
    sample = null_sample({name: band.footprints[name] for name in flagged.cleared})
    around = cells_around(binned.grid, [band.footprints[name] for name in sample])
    judged = {
        when: job.submit(
            JudgeExposures(cells=cells, grid=binned.grid, when=when, window_cells=window), f"{band.name} {when}"
        ).judgement
        for when, cells, window in (
            ("before", binned.cells, binned.window_cells),
            ("after", flagged.cleared, binned.window_cells),
            ("noise", {name: flagged.cleared[name] for name in sample}, around),
        )
    }
    both = {when: judged[when] for when in ("before", "after")}
    reaching: dict[str, list[str]] = {tile.tile: [] for tile in tiles}
    for name, touched in touched_tiles(tiles, band.footprints).items():
        for tile in touched:
            reaching[tile.tile].append(name)
    parts = []
    for some in neighbouring(tiles):
        names = sorted({name for tile in some for name in reaching[tile.tile]})
        before, after = ({name: cells[name] for name in names} for cells in (binned.cells, flagged.cleared))
        step = JudgeTiles(before=before, after=after, judgements=both, tiles=some)
        parts += [job.submit(step, f"{band.name} {some[0].tile}").table] if names else []
    gather = GatherVerdict(judgements=judged, parts=tuple(parts), levels=sky.table, stem=band.association.product_name)
    return job.submit(gather, band.name)


def null_sample(footprints: Mapping[str, Footprint]) -> list[str]:
    """Choose the exposures that the null test is made with: the first by name, and those nearest to it.

    More would tell nothing more about the method, and exposures that are added far away change nothing.
    """
    names = sorted(footprints)
    centres = np.array([footprint_centre(footprints[name]) for name in names])
    nearest = np.argsort(separations_deg(centres[0], centres), kind="stable")[:NULL_EXPOSURES]
    return [names[number] for number in sorted(nearest.tolist())]


@dataclass(frozen=True)
class WrittenPage(Outputs):
    """The page."""

    page: SkyPage


@dataclass(frozen=True, kw_only=True)
class WritePage(Step[WrittenPage]):
    """Write the verdicts of all filters as one HTML file."""

    title = "Sky page"
    version = 6
    function = "cosmosaic.verdict.page:write_page"
    per = "survey"

    verdicts: Mapping[str, VerdictTable] = surviving()
    """By filter."""
    tiles: Mapping[str, TileVerdicts] = surviving()
    skies: Mapping[str, SkyPictures] = surviving()
    plots: Mapping[str, SkyPlots] = surviving()
    survey: str
    links: Mapping[str, Mapping[str, str]]
    """File name of each product of a filter by its label."""


def write_page(judged: Mapping[str, JudgedSky], links: Mapping[str, Mapping[str, str]], job: Job) -> WrittenPage:
    """Submit the page of the filters whose sky was judged; links are file names of products, by filter and label."""
    step = WritePage(
        verdicts={band: each.verdict for band, each in judged.items()},
        tiles={band: each.tiles for band, each in judged.items()},
        skies={band: each.skies for band, each in judged.items()},
        plots={band: each.plots for band, each in judged.items()},
        survey=job.survey.name,
        links=links,
    )
    return job.submit(step, ", ".join(judged))
