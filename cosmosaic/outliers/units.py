"""The units of work that find outliers: a reference for each tile, flags for each exposure.

Every file depends only on the exposures that reach it, so that a new exposure affects only the tiles it touches.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.cells.binning import ExposurePixels, bin_pixels
from cosmosaic.cells.units import write_cells
from cosmosaic.dq import implausible, is_usable
from cosmosaic.drizzle.exposure import ExposurePlanes, light_of, write_flagged
from cosmosaic.drizzle.kernel import SCIENCE, WEIGHT
from cosmosaic.drizzle.packed import strips
from cosmosaic.drizzle.summary import read_samples, read_summaries
from cosmosaic.drizzle.sums import SumsFile, patches, read_strip, write_patch
from cosmosaic.drizzle.units import REFERENCE_MARGIN, placed, read_flat_exposure
from cosmosaic.exposures.patterns import read_exposure_sky
from cosmosaic.geometry.windows import Box, box_of, covering
from cosmosaic.outliers.flags import (
    OUTLIER,
    LitBox,
    TileReference,
    blot,
    flag_outliers,
    lowest_weight,
    read_reference,
    reference_image,
    write_reference,
)
from cosmosaic.records import Lattice, MosaicGrid
from cosmosaic.steps.result import Made
from cosmosaic.survey import DrizzleSettings, OutlierSettings, SkyTreatment


def make_reference(
    sums: Mapping[str, Path], summaries: Mapping[str, Path], tile: MosaicGrid, fraction: float, folder: Path
) -> Made:
    """Make the references that the exposures of a tile are compared with: their median where there are three or more.

    Parameters
    ----------
    sums
        ``_sums.packed`` files of the exposures by their names.
    summaries
        ``_summary.npz`` files of all detectors of the exposure groups, also outside the tile: the weight threshold
        is that of the whole exposure group.
    tile
        The tile.
    fraction
        Fraction of the mean weight below which a pixel is excluded from the median.
    folder
        Gets ``<exposure>_<tile>_reference.packed`` for each exposure: the image and its depth under that exposure,
        so that an exposure is searched again only if something under it changed.
    """
    known = read_summaries(summaries.values())
    groups = {summary.name: summary.group for summary in known}
    sources = {name: SumsFile(path, tile.tile) for name, path in sorted(sums.items())}
    members: dict[str, list[SumsFile]] = {}
    for name, source in sources.items():
        members.setdefault(groups[name], []).append(source)
    thresholds = {
        group: lowest_weight([np.array(one.weights, np.float32) for one in known if one.group == group], fraction)
        for group in members
    }
    reached = covering(source.box for source in sources.values())
    # A pixel more on each side: a reference must not end earlier because other exposures do.
    box = box_of(tile).padded(REFERENCE_MARGIN).intersection(reached.padded(1))
    lights = {source: LitBox(source.box) for source in sources.values()}
    reference = TileReference(box, *_median(members, thresholds, box, lights))
    return Made(
        references={
            name: write_reference(reference.under(lights[source]), folder / f"{name}_{tile.tile}_reference.packed")
            for name, source in sources.items()
        }
    )


def flag_exposure(  # noqa: PLR0913
    exposure: Path,
    sky: Path | None,
    summary: Path,
    compared: Sequence[Path],
    tiles: tuple[MosaicGrid, ...],
    treatment: SkyTreatment,
    thresholds: OutlierSettings,
    drizzle: DrizzleSettings,
    cells: Lattice,
    folder: Path,
) -> Made:
    """Flag the outliers of one exposure, and drizzle again where flagged pixels had contributed.

    Parameters
    ----------
    exposure
        The ``_cal`` file.
    sky
        Its ``_sky.json``, where its sky was measured.
    summary
        Its ``_summary.npz``, for the places of its pixels.
    compared
        Its ``_reference.packed`` files.
    tiles
        All tiles that its footprint touches.
    treatment, thresholds, drizzle
        Whether the sky is subtracted in the ``_crf`` file, and width of the border that is left out; thresholds; how
        it was drizzled.
    cells
        The lattice of cells.
    folder
        Gets ``<exposure>_crf.fits``, for each tile with outliers ``<exposure>_<tile>_patch.npy``, and for the verdict
        ``<exposure>_cleared.npz``.
    """
    read, level = read_flat_exposure(exposure, sky, treatment.trim_pixels), read_exposure_sky(sky).level
    mapped, reach = placed(read_samples(summary), read.shape, drizzle)
    blotted, depths = blot(_merged(compared, reach), mapped)
    flagged = flag_outliers(read.sci, read.err, blotted, depths, thresholds.snr, thresholds.scale)
    del blotted, depths
    light, name = light_of(read, drizzle.weight_type), read.name
    read.dq[flagged] |= OUTLIER
    crf = write_flagged(exposure, read, level, treatment, folder / f"{name}_crf.fits", "COMPLETE")
    facts = {"implausible_pixels": float(read.implausible), "outliers": float(np.count_nonzero(flagged))}
    cleared = bin_cleared(read, cells, folder)
    # Errors and flags are no longer needed: free their memory.
    del read
    boxes = [box_of(tile).intersection(reach) for tile in tiles]
    patched = {
        tile.tile: write_patch(patch, folder / f"{name}_{tile.tile}_patch.npy")
        for tile, patch in zip(tiles, patches(light, flagged, mapped, boxes, drizzle), strict=True)
        if patch.indices.size
    }
    return Made(crf=crf, cleared=cleared, patches=patched, facts=facts)


def keep_exposure(exposure: Path, sky: Path | None, treatment: SkyTreatment, cells: Lattice, folder: Path) -> Made:
    """Write the ``_crf`` file of an exposure that is not searched for outliers; parameters as for `flag_exposure`."""
    read = read_flat_exposure(exposure, sky, treatment.trim_pixels)
    level = read_exposure_sky(sky).level
    crf = write_flagged(exposure, read, level, treatment, folder / f"{read.name}_crf.fits", "SKIPPED")
    facts = {"implausible_pixels": float(read.implausible)}
    return Made(crf=crf, cleared=bin_cleared(read, cells, folder), patches={}, facts=facts)


def bin_cleared(exposure: ExposurePlanes, grid: Lattice, folder: Path) -> Path:
    """Bin one exposure, in the state in which it is combined and without its sky, to the lattice of cells.

    Parameters
    ----------
    exposure
        With its final flags; what they exclude becomes NaN.
    grid
        The lattice.
    folder
        Gets ``<exposure>_cleared.npz``.
    """
    excluded = (exposure.dq & pixel["DO_NOT_USE"]) > 0
    read_noise = exposure.variances[1].copy()
    for plane in (exposure.sci, exposure.err, read_noise):
        np.copyto(plane, np.float32(np.nan), where=excluded)
    good = is_usable(exposure.sci, exposure.err, exposure.dq)
    good &= ~implausible(exposure.sci, exposure.err, [read_noise], exposure.largest)
    del excluded, read_noise
    pixels = ExposurePixels(exposure.name, exposure.detector, exposure.group, exposure.sci, exposure.err, exposure.wcs)
    return write_cells(bin_pixels(pixels, good, grid), folder / f"{exposure.name}_cleared.npz")


def _median(
    members: Mapping[str, Sequence[SumsFile]],
    thresholds: Mapping[str, float],
    box: Box,
    lights: Mapping[SumsFile, LitBox],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the reference in a rectangle, and the number of exposures in it, computed strip by strip.

    The pixels that the light of each exposure reaches are recorded on the way: the sums are large, and read once.
    """
    image = np.full((box.height, box.width), np.nan, dtype=np.float32)
    depth = np.zeros((box.height, box.width), dtype=np.uint8)
    for strip in strips(box):
        layers = [_group_strip(files, strip, thresholds[group], lights) for group, files in sorted(members.items())]
        cube = [layer for layer in layers if layer is not None]
        if cube:
            rows = strip.within(box)[0]
            image[rows], depth[rows] = reference_image(np.stack(cube))
    return image, depth


def _group_strip(
    files: Sequence[SumsFile], strip: Box, threshold: float, lights: Mapping[SumsFile, LitBox]
) -> np.ndarray | None:
    """Science of one exposure, all its detectors together, in a strip; NaN where its weight is low."""
    weight: np.ndarray | None = None
    for file in files:
        part = read_strip(file, strip)
        if part is None:
            continue
        lights[file].add(part.planes)
        if weight is None:
            weight, science = np.zeros((2, strip.height, strip.width), dtype=np.float32)
        window = part.box.within(strip)
        weight[window] += part.planes[..., WEIGHT]
        science[window] += part.planes[..., SCIENCE]
    if weight is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((weight >= threshold) & (weight > 0), science / weight, np.float32(np.nan))


def _merged(references: Sequence[Path], box: Box) -> TileReference:
    """Join the parts of a reference, which overlap by their margins."""
    image = np.full((box.height, box.width), np.nan, dtype=np.float32)
    depth = np.zeros((box.height, box.width), dtype=np.uint8)
    for path in references:
        part = read_reference(path)
        known = part.depth > 0
        window = part.box.within(box)
        np.copyto(image[window], part.image, where=known)
        np.copyto(depth[window], part.depth, where=known)
    return TileReference(box, image, depth)
