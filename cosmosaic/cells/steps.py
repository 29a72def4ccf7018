"""Exposures on the lattice of cells that the sky is measured on, as steps."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from cosmosaic.cells.files import Cells, SourceMaskImage
from cosmosaic.cells.source_masks import SETTING, SourceMaskError, reached_exposures
from cosmosaic.exposures.band import Band, Exposures
from cosmosaic.exposures.files import Cal
from cosmosaic.geometry.grid import sky_to_pixel
from cosmosaic.geometry.sphere import Footprint
from cosmosaic.geometry.windows import cell_lattice
from cosmosaic.nircam import detector_pixel_arcsec
from cosmosaic.records import Exposure, Lattice, MosaicGrid
from cosmosaic.steps.declaration import Job, Outputs, Step
from cosmosaic.storage import store
from cosmosaic.survey import Survey


@dataclass(frozen=True)
class BinnedExposure(Outputs):
    """The cells of one exposure."""

    cells: Cells


@dataclass(frozen=True, kw_only=True)
class BinExposure(Step[BinnedExposure]):
    """Bin one exposure onto the survey's lattice of cells."""

    title = "Cells"
    version = 4
    function = "cosmosaic.cells.units:bin_one_exposure"
    per = "exposure"

    exposure: Cal
    grid: Lattice


@dataclass(frozen=True, kw_only=True)
class BinMaskedExposure(Step[BinnedExposure]):
    """Bin one exposure outside of the user's mask of sources onto the survey's lattice of cells."""

    title = "Masked cells"
    version = 4
    function = "cosmosaic.cells.units:bin_masked_exposure"
    per = "exposure"

    exposure: Cal
    mask: SourceMaskImage
    grid: Lattice

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether there are masks of sources."""
        return bool(survey.sky.source_masks)


@dataclass(frozen=True)
class SourceMask:
    """A mask of sources for one filter."""

    image: SourceMaskImage
    exposures: tuple[str, ...]
    """Names of the exposures that it reaches."""


def source_masks(exposures: Iterable[Exposure], job: Job) -> dict[str, SourceMask]:
    """Find the exposures that the user's masks of sources reach, by filter.

    Raises
    ------
    cosmosaic.cells.source_masks.SourceMaskError
        A mask is not fit for use, or this run would write over it.
    FileNotFoundError
        There is no such mask.
    """
    exposures, masks = list(exposures), {}
    for band, uri in job.survey.sky.source_masks.items():
        footprints = {exposure.name: exposure.footprint for exposure in exposures if exposure.band == band}
        if footprints:
            masks[band] = _source_mask(store.absolute_uri(uri), footprints, job)
    return masks


def _source_mask(uri: str, footprints: Mapping[str, Footprint], job: Job) -> SourceMask:
    if uri.startswith(store.join(job.products, f"{job.survey.name}_")):
        raise SourceMaskError(
            f"{uri}: a product of this survey, which its runs replace, so that each would see another mask; copy it to "
            f"a place of its own and name that in {SETTING}"
        )
    stored = store.checksum(uri, job.checksums)
    with store.open_object(uri, stored.size) as stream:
        return SourceMask(SourceMaskImage(stored), reached_exposures(stream, uri, footprints))


@dataclass(frozen=True)
class BinnedBand:
    """The exposures of one filter on their common lattice."""

    grid: Lattice
    cells: Mapping[str, Cells]
    masked: Mapping[str, Cells]
    """Of the exposures that a mask of sources reaches, outside of it."""
    window_cells: int
    """Number of cells of the window that holds all exposures."""


def lattice_of(band: Band, grid: MosaicGrid) -> Lattice:
    """Return the lattice of cells of a filter."""
    return cell_lattice(grid, detector_pixel_arcsec(band.name))


def cells_around(grid: Lattice, footprints: Iterable[Footprint]) -> int:
    """Return the number of cells of the window of a lattice that holds some footprints."""
    corners = np.concatenate([sky_to_pixel(grid, footprint) for footprint in footprints])
    columns, rows = np.ceil(np.ptp(corners, axis=0)).astype(int) + 1
    return int(rows * columns)


def bin_exposures(band: Band, exposures: Exposures, grid: MosaicGrid, mask: SourceMask | None, job: Job) -> BinnedBand:
    """Submit the binning of a filter's exposures, with all their light and outside of the mask, if there is one."""
    lattice = lattice_of(band, grid)
    cells = {name: job.submit(BinExposure(exposure=exposures[name], grid=lattice), name).cells for name in band.members}
    reached = [name for name in band.members if mask and name in mask.exposures]
    masked = {
        name: job.submit(BinMaskedExposure(exposure=exposures[name], mask=mask.image, grid=lattice), name).cells
        for name in reached
        if mask
    }
    return BinnedBand(lattice, cells, masked, cells_around(lattice, band.footprints.values()))
