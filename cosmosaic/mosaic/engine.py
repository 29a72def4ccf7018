"""The mosaic engine: what is to be done in which units, and the functions that do one unit.

1. `drizzle_frame`, once per exposure: its sums in every tile it reaches.
2. `make_reference`, once per tile: what the exposures are compared with.
3. `flag_frame`, once per exposure: its flags (``_crf``) and what they change in its sums.
4. `combine_tile`, once per tile: the mosaic's planes.
5. `assemble`, once per window: the FITS file.

Each is a function of files, plain settings and an output folder, and needs a fixed amount of memory: an exposure, a
tile, or a strip of the mosaic. An exposure is drizzled once; tiles only cut it, so that the result does not depend on
them. Every file is decided by the exposures that reach it, so that a new exposure costs what it touches.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from stcal.resample.utils import compute_mean_pixel_area

from cosmosaic.mosaic.assembly import (
    MOSAIC_PLANES,
    ROWS_AT_ONCE,
    FrameSummary,
    combine,
    read_strip,
    scale_ratio,
    write_mosaic,
)
from cosmosaic.mosaic.drizzle import (
    SumsFile,
    cropped,
    drizzle_exposure,
    frame_box,
    output_reach,
    patches,
    weight_samples,
    write_patch,
    write_sums,
)
from cosmosaic.mosaic.exposure import Exposure, drizzle_weight, read_exposure, write_flagged
from cosmosaic.mosaic.kernel import PLANES, SCIENCE, WEIGHT
from cosmosaic.mosaic.noise import note_noise_factor
from cosmosaic.mosaic.outliers import OUTLIER, blot, flag_outliers, reference_image, weight_threshold
from cosmosaic.mosaic.pixelmap import pixel_map
from cosmosaic.mosaic.tiles import DEFAULT_TILE_PIXELS, Box, box_of, lattice
from cosmosaic.records import MosaicGrid
from cosmosaic.steps import Made
from cosmosaic.survey import DrizzleSettings, OutlierSettings, SkySettings

BASE_MB = 480.0
"""A worker with its libraries loaded and its kernels compiled."""
TILE_SIDES = (DEFAULT_TILE_PIXELS, DEFAULT_TILE_PIXELS // 2, DEFAULT_TILE_PIXELS // 4)
"""Sides to choose from; smaller ones cost more passes over an exposure."""


class FootprintError(ValueError):
    """An exposure's WCS puts it elsewhere than its S_REGION says."""


class Resources(NamedTuple):
    """How the work is cut up to fit the memory."""

    tile_pixels: int
    processes: int


def fit_memory(memory_gb: float, processes: int, shape: tuple[int, int], input_over_output_scale: float) -> Resources:
    """Choose the tiles' side and the number of workers that fit the memory.

    Parameters
    ----------
    memory_gb
        For all workers together.
    processes
        Workers wanted.
    shape
        Rows and columns of an exposure.
    input_over_output_scale
        Side of a detector pixel in mosaic pixels.

    Raises
    ------
    ValueError
        Not even one worker with the smallest tiles fits.
    """
    for workers in range(processes, 0, -1):
        for tile_pixels in TILE_SIDES:
            if workers * peak_mb(shape, tile_pixels, input_over_output_scale) <= 1000.0 * memory_gb:
                return Resources(tile_pixels, workers)
    least = peak_mb(shape, TILE_SIDES[-1], input_over_output_scale) / 1000.0
    raise ValueError(
        f"resources.memory_gb = {memory_gb:g} is too little: exposures of {shape[0]} x {shape[1]} pixels need "
        f"{least:.1f}; raise it, or make mosaics of larger pixels"
    )


def peak_mb(shape: tuple[int, int], tile_pixels: int, input_over_output_scale: float) -> float:
    """Predict the memory of one worker in MB at its peak; the number of exposures has no part in it.

    Parameters
    ----------
    shape
        Rows and columns of an exposure.
    tile_pixels
        Side of a tile.
    input_over_output_scale
        Side of a detector pixel in mosaic pixels.
    """
    frame = shape[0] * shape[1]
    # Turned by 45 degrees a frame's box is twice its area.
    box = 2 * frame * input_over_output_scale**2
    sums = min(tile_pixels**2, box) * PLANES * 4
    drizzling = frame * (7 * 4 + 2 * 8 + 8) + sums
    flagging = frame * (9 * 4 + 2 * 8) + max(box * 5, sums)
    combining = tile_pixels**2 * len(MOSAIC_PLANES) * 4 + ROWS_AT_ONCE * tile_pixels * 100
    return BASE_MB + max(drizzling, flagging, combining) / 1e6


def drizzle_frame(
    paths: list[Path], level: float, tiles: tuple[MosaicGrid, ...], settings: DrizzleSettings, folder: Path
) -> Made:
    """Drizzle one exposure into the tiles it reaches.

    Parameters
    ----------
    paths
        The ``_cal`` file.
    level
        Its sky in MJy/sr.
    tiles
        All tiles that its footprint touches.
    settings
        Kernel, pixel fraction and weights.
    folder
        Gets ``<exposure>_<tile>_sums.npy`` for each tile, and ``<exposure>_summary.json``.

    Raises
    ------
    FootprintError
        The exposure reaches beyond the tiles.
    """
    (path,) = paths
    exposure = read_exposure(path, level)
    mapped = pixel_map(exposure.wcs, lattice(tiles[0]), exposure.shape)
    weight = drizzle_weight(exposure, settings.weight_type)
    box = frame_box(mapped, output_reach(mapped, settings))
    _check_reach(exposure, box, tiles)
    made, samples = [], []
    for tile in tiles:
        sums = cropped(drizzle_exposure(exposure, weight, mapped, box_of(tile).intersection(box), settings))
        samples.append(weight_samples([sums]))
        made.append(write_sums(sums, folder / f"{exposure.name}_{tile.tile}_sums.npy"))
    summary = folder / f"{exposure.name}_summary.json"
    summary.write_text(_summary(exposure, np.concatenate(samples)).model_dump_json())
    return Made([*made, summary])


def make_reference(paths: list[Path], tile: MosaicGrid, settings: OutlierSettings, folder: Path) -> Made:
    """Make what the exposures of a tile are compared with: their median where there are three or more.

    Parameters
    ----------
    paths
        ``_sums.npy`` files of the tile, and ``_summary.json`` files of all detectors of the exposures involved,
        wherever they lie: the weight threshold is that of the whole exposure.
    tile
        The tile.
    settings
        Weight threshold.
    folder
        Gets ``<tile>_reference.npy``: image and depth.
    """
    summaries = read_summaries(paths)
    groups = {summary.name: summary.group for summary in summaries}
    samples: dict[str, list[np.ndarray]] = {}
    for summary in summaries:
        samples.setdefault(summary.group, []).append(np.array(summary.weights, dtype=np.float32))
    thresholds = {group: weight_threshold(values, settings.weight_threshold) for group, values in samples.items()}
    members: dict[str, list[SumsFile]] = {}
    for path in sorted(path for path in paths if path.name.endswith("_sums.npy")):
        members.setdefault(groups[path.name.rsplit("_", 2)[0]], []).append(SumsFile(path))
    box = box_of(tile)
    image = np.full((box.height, box.width), np.nan, dtype=np.float32)
    depth = np.zeros((box.height, box.width), dtype=np.uint8)
    for bottom in range(0, box.height, ROWS_AT_ONCE):
        strip = Box(box.x, box.y + bottom, box.width, min(ROWS_AT_ONCE, box.height - bottom))
        layers = [_group_strip(files, strip, thresholds[group]) for group, files in sorted(members.items())]
        cube = [layer for layer in layers if layer is not None]
        if cube:
            rows = slice(bottom, bottom + strip.height)
            image[rows], depth[rows] = reference_image(np.stack(cube))
    target = folder / f"{tile.tile}_reference.npy"
    with target.open("wb") as file:
        np.save(file, np.array(box, dtype=np.int64))
        np.save(file, image)
        np.save(file, depth)
    return Made([target])


def flag_frame(
    paths: list[Path],
    level: float,
    tiles: tuple[MosaicGrid, ...],
    sky: SkySettings,
    outliers: OutlierSettings,
    drizzle: DrizzleSettings,
    folder: Path,
) -> Made:
    """Flag the outliers of one exposure, and drizzle afresh where flagged pixels had gone.

    Parameters
    ----------
    paths
        The ``_cal`` file, and the ``_reference.npy`` files of its tiles.
    level
        Its sky in MJy/sr.
    tiles
        All tiles that its footprint touches.
    sky, outliers, drizzle
        Whether the sky leaves the ``_crf`` file; thresholds; as it was drizzled.
    folder
        Gets ``<exposure>_crf.fits`` and, for each tile, ``<exposure>_<tile>_patch.npy``.
    """
    path = next(path for path in paths if path.suffix == ".fits")
    references = [path for path in paths if path.name.endswith("_reference.npy")]
    exposure = read_exposure(path, level)
    mapped = pixel_map(exposure.wcs, lattice(tiles[0]), exposure.shape)
    weight = drizzle_weight(exposure, drizzle.weight_type)
    box = frame_box(mapped, output_reach(mapped, drizzle))
    image, depth = _reference_around(references, box)
    blotted, depths = blot(image, depth, box, mapped)
    del image, depth
    flagged = flag_outliers(exposure.sci, exposure.err, blotted, depths, outliers.snr, outliers.scale)
    del blotted, depths
    exposure.dq[flagged] |= OUTLIER
    made = [write_flagged(path, exposure, level, sky, folder / f"{exposure.name}_crf.fits", "COMPLETE")]
    boxes = [box_of(tile).intersection(box) for tile in tiles]
    for tile, patch in zip(tiles, patches(exposure, weight, flagged, mapped, boxes, drizzle), strict=True):
        made.append(write_patch(patch, folder / f"{exposure.name}_{tile.tile}_patch.npy"))
    return Made(made, {"outliers": float(np.count_nonzero(flagged))})


def keep_frame(paths: list[Path], level: float, sky: SkySettings, folder: Path) -> Made:
    """Write the ``_crf`` file of an exposure that is not searched for outliers.

    Parameters
    ----------
    paths
        The ``_cal`` file.
    level
        Its sky in MJy/sr.
    sky
        Whether the sky leaves the file.
    folder
        Gets ``<exposure>_crf.fits``.
    """
    (path,) = paths
    exposure = read_exposure(path, level)
    return Made([write_flagged(path, exposure, level, sky, folder / f"{exposure.name}_crf.fits", "SKIPPED")])


def combine_tile(
    paths: list[Path], tile: MosaicGrid, settings: DrizzleSettings, input_scale_arcsec: float | None, folder: Path
) -> Made:
    """Add the exposures of a tile.

    Parameters
    ----------
    paths
        ``_sums.npy`` files of the tile, ``_patch.npy`` files where outliers were flagged, and ``_summary.json``
        files of the exposures.
    tile
        The tile.
    settings
        Weights.
    input_scale_arcsec
        Pixel scale of the detectors, which ERR and variances are scaled by, the same for the whole survey; left
        out, that of the first exposure by name.
    folder
        Gets ``<tile>_mosaic.npy``.
    """
    summaries = read_summaries(paths)
    sums = [path for path in paths if path.name.endswith("_sums.npy")]
    patches = [path for path in paths if path.name.endswith("_patch.npy")]
    output_scale = tile.pixel_scale_mas / 1000.0
    ratio = output_scale / input_scale_arcsec if input_scale_arcsec else scale_ratio(tile, summaries)
    planes = combine(sums, patches, summaries, tile, settings.weight_type, ratio)
    return Made([write_sums(planes, folder / f"{tile.tile}_mosaic.npy")])


def assemble(paths: list[Path], window: MosaicGrid, settings: DrizzleSettings, product_name: str, folder: Path) -> Made:
    """Write a window of the mosaic as FITS.

    Parameters
    ----------
    paths
        ``_mosaic.npy`` files of its tiles, ``_summary.json`` files of all its exposures, and the ``_cal`` file of the
        first, whose metadata the mosaic inherits.
    window
        What to write.
    settings
        What it was made with.
    product_name
        Name of the mosaic without ``_i2d.fits``.
    folder
        Where the mosaic (MJy/sr, NaN where nothing was observed) goes.
    """
    template = next(path for path in paths if path.suffix == ".fits")
    tiles = [path for path in paths if path.name.endswith("_mosaic.npy")]
    target = folder / f"{product_name}_i2d.fits"
    write_mosaic(tiles, window, template, read_summaries(paths), settings, target)
    note_noise_factor(target)
    return Made([target])


def read_summaries(paths: Sequence[Path]) -> list[FrameSummary]:
    """Read the exposures' summaries among some files, sorted by name."""
    files = sorted(path for path in paths if path.name.endswith("_summary.json"))
    return [FrameSummary.model_validate_json(path.read_text()) for path in files]


def _summary(exposure: Exposure, weights: np.ndarray) -> FrameSummary:
    header = exposure.header
    area = compute_mean_pixel_area(exposure.wcs, shape=exposure.shape)
    return FrameSummary(
        name=exposure.name,
        group=exposure.group,
        exposure_time=header["EFFEXPTM"],
        measurement_time=header.get("TMEASURE"),
        duration=header["DURATION"],
        start_time=header["EXPSTART"],
        end_time=header["EXPEND"],
        s_region=exposure.sci_header["S_REGION"],
        pixel_scale_arcsec=3600.0 * float(np.degrees(np.sqrt(area))),
        weights=tuple(weights.tolist()),
    )


def _check_reach(exposure: Exposure, box: Box, tiles: Sequence[MosaicGrid]) -> None:
    """Tell by the middle of an exposure whether its WCS and its footprint agree."""
    middle = Box(box.x + box.width // 2, box.y + box.height // 2, 1, 1)
    if not any(box_of(tile).intersection(middle).pixels for tile in tiles):
        raise FootprintError(
            f"{exposure.name}: its WCS puts it where its S_REGION {exposure.sci_header['S_REGION']!r} does not reach; "
            f"run assign_wcs again, or update S_REGION with the WCS"
        )


def _group_strip(files: Sequence[SumsFile], strip: Box, threshold: float) -> np.ndarray | None:
    """Science of one exposure, all its detectors together, in a strip; NaN where its weight is low."""
    weight: np.ndarray | None = None
    for file in files:
        part = read_strip(file, strip, (WEIGHT, SCIENCE))
        if part is None:
            continue
        if weight is None:
            weight, science = np.zeros((2, strip.height, strip.width), dtype=np.float32)
        left, bottom = part.box.x - strip.x, part.box.y - strip.y
        window = np.s_[bottom : bottom + part.box.height, left : left + part.box.width]
        weight[window] += part.planes[0]
        science[window] += part.planes[1]
    if weight is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((weight >= threshold) & (weight > 0), science / weight, np.float32(np.nan))


def _reference_around(references: Sequence[Path], box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Read the reference image and its depth in a rectangle from the tiles it spans."""
    image = np.full((box.height, box.width), np.nan, dtype=np.float32)
    depth = np.zeros((box.height, box.width), dtype=np.uint8)
    for path in references:
        with path.open("rb") as file:
            tile = Box(*np.load(file).tolist())
            common = tile.intersection(box)
            source = np.s_[common.y - tile.y :, common.x - tile.x :]
            target = np.s_[common.y - box.y :, common.x - box.x :]
            for plane in (image, depth):
                values = np.load(file)[source][: common.height, : common.width]
                plane[target][: common.height, : common.width] = values
    return image, depth
