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

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from stcal.resample.utils import compute_mean_pixel_area

from cosmosaic.drizzle.exposure import Exposure, keywords, light_of, read_exposure, write_flagged
from cosmosaic.drizzle.kernel import SCIENCE, WEIGHT
from cosmosaic.drizzle.sums import (
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
from cosmosaic.exposures.footprints import region_text
from cosmosaic.exposures.patterns import patterns_among
from cosmosaic.exposures.planes import ROWS_AT_ONCE
from cosmosaic.geometry.pixelmap import PixelMap, sampled_map, whole_map
from cosmosaic.geometry.windows import Box, box_of, covering, lattice
from cosmosaic.mosaic.assembly import (
    FrameSummary,
    combine,
    read_strip,
    scale_ratio,
    write_mosaic,
    write_tile,
)
from cosmosaic.mosaic.noise import note_noise_factor
from cosmosaic.outliers.flags import (
    OUTLIER,
    LitBox,
    Reference,
    blot,
    flag_outliers,
    read_reference,
    reference_image,
    weight_threshold,
    write_reference,
)
from cosmosaic.records import Made, MosaicGrid
from cosmosaic.survey import DrizzleSettings, OutlierSettings, SkySettings
from cosmosaic.verdict.keywords import note_verdict

REFERENCE_MARGIN = 1
"""Windows reach this many pixels beyond their tile: an exposure is compared with the four pixels around each of its
own, and finds them all in the tile that holds it."""

LARGEST_OVERHANG = 4
"""An exposure's box of pixels is at most this many times larger than the tiles that its footprint touches."""


class FootprintError(ValueError):
    """An exposure's WCS puts it elsewhere than its S_REGION says."""


def drizzle_frame(
    paths: list[Path],
    level: float,
    trim_pixels: int,
    tiles: tuple[MosaicGrid, ...],
    settings: DrizzleSettings,
    folder: Path,
) -> Made:
    """Drizzle one exposure into the tiles it reaches.

    Parameters
    ----------
    paths
        The ``_cal`` file and, where it has any, its ``_patterns.json``.
    level
        Its sky in MJy/sr.
    trim_pixels
        Width of the border of the detector that is left out.
    tiles
        All tiles that its footprint touches.
    settings
        Kernel, pixel fraction, weights and kind of errors.
    folder
        Gets ``<exposure>_<tile>_sums.npy`` for each tile, ``<exposure>_map.npy`` with the place of its pixels, and
        ``<exposure>_summary.json``.

    Raises
    ------
    FootprintError
        The exposure reaches beyond the tiles.
    """
    exposure = _flat_exposure(paths, level, trim_pixels)
    samples = sampled_map(exposure.wcs, lattice(tiles[0]), exposure.shape)
    mapped, reach = _placed(samples, exposure.shape, settings)
    _check_reach(exposure, reach, tiles)
    light = light_of(exposure, settings.weight_type)
    made, weights = [], []
    for tile in tiles:
        window = box_of(tile).padded(REFERENCE_MARGIN).intersection(reach)
        sums = cropped(drizzle_exposure(light, mapped, window, settings))
        weights.append(weight_samples(sums, box_of(tile)))
        made.append(write_sums(sums, folder / f"{exposure.name}_{tile.tile}_sums.npy"))
    places = folder / f"{exposure.name}_map.npy"
    np.save(places, samples)
    summary = folder / f"{exposure.name}_summary.json"
    summary.write_text(_summary(exposure, np.concatenate(weights)).model_dump_json())
    return Made([*made, places, summary])


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
        Gets ``<exposure>_<tile>_reference.npy`` for each exposure: the image and its depth where that exposure lies,
        so that an exposure is searched again only if something under it changed.
    """
    summaries = read_summaries(paths)
    groups = {summary.name: summary.group for summary in summaries}
    sources = {
        path.name.removesuffix(f"_{tile.tile}_sums.npy"): SumsFile(path)
        for path in sorted(paths)
        if path.name.endswith("_sums.npy")
    }
    members: dict[str, list[SumsFile]] = {}
    for name, source in sources.items():
        members.setdefault(groups[name], []).append(source)
    thresholds = {
        group: weight_threshold(
            [np.array(one.weights, np.float32) for one in summaries if one.group == group], settings.weight_threshold
        )
        for group in members
    }
    reached = covering(source.box for source in sources.values())
    # A pixel more on each side: what an exposure is compared with ends no earlier where others do.
    box = box_of(tile).padded(REFERENCE_MARGIN).intersection(reached.padded(1))
    lights = {source: LitBox(source.box) for source in sources.values()}
    reference = Reference(box, *_median(members, thresholds, box, lights))
    return Made(
        [
            write_reference(reference.under(lights[source]), folder / f"{name}_{tile.tile}_reference.npy")
            for name, source in sources.items()
        ]
    )


def _median(
    members: Mapping[str, Sequence[SumsFile]],
    thresholds: Mapping[str, float],
    box: Box,
    lights: Mapping[SumsFile, LitBox],
) -> tuple[np.ndarray, np.ndarray]:
    """Return what exposures are compared with in a rectangle, and how many it is made of, strip by strip.

    Where the light of each falls is noted on the way: the sums are large, and read once.
    """
    image = np.full((box.height, box.width), np.nan, dtype=np.float32)
    depth = np.zeros((box.height, box.width), dtype=np.uint8)
    for bottom in range(0, box.height, ROWS_AT_ONCE):
        strip = Box(box.x, box.y + bottom, box.width, min(ROWS_AT_ONCE, box.height - bottom))
        layers = [_group_strip(files, strip, thresholds[group], lights) for group, files in sorted(members.items())]
        cube = [layer for layer in layers if layer is not None]
        if cube:
            rows = slice(bottom, bottom + strip.height)
            image[rows], depth[rows] = reference_image(np.stack(cube))
    return image, depth


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
        The ``_cal`` file, and the exposure's ``_patterns.json``, where it has any, ``_map.npy`` and ``_reference.npy``
        files.
    level
        Its sky in MJy/sr.
    tiles
        All tiles that its footprint touches.
    sky, outliers, drizzle
        Whether the sky leaves the ``_crf`` file, and width of the border that is left out; thresholds; as it was
        drizzled.
    folder
        Gets ``<exposure>_crf.fits`` and, for each tile, ``<exposure>_<tile>_patch.npy``.
    """
    path = next(path for path in paths if path.suffix == ".fits")
    places = next(path for path in paths if path.name.endswith("_map.npy"))
    references = [path for path in paths if path.name.endswith("_reference.npy")]
    exposure = _flat_exposure(paths, level, sky.trim_pixels)
    mapped, reach = _placed(np.load(places), exposure.shape, drizzle)
    blotted, depths = blot(_merged(references, reach), mapped)
    flagged = flag_outliers(exposure.sci, exposure.err, blotted, depths, outliers.snr, outliers.scale)
    del blotted, depths
    light, name = light_of(exposure, drizzle.weight_type), exposure.name
    exposure.dq[flagged] |= OUTLIER
    made = [write_flagged(path, exposure, level, sky, folder / f"{name}_crf.fits", "COMPLETE")]
    facts = {"implausible_pixels": float(exposure.implausible)}
    # Errors and flags are no more needed, and memory is.
    del exposure
    boxes = [box_of(tile).intersection(reach) for tile in tiles]
    for tile, patch in zip(tiles, patches(light, flagged, mapped, boxes, drizzle), strict=True):
        made.append(write_patch(patch, folder / f"{name}_{tile.tile}_patch.npy"))
    return Made(made, facts | {"outliers": float(np.count_nonzero(flagged))})


def keep_frame(paths: list[Path], level: float, sky: SkySettings, folder: Path) -> Made:
    """Write the ``_crf`` file of an exposure that is not searched for outliers.

    Parameters
    ----------
    paths
        The ``_cal`` file and, where it has any, its ``_patterns.json``.
    level
        Its sky in MJy/sr.
    sky
        Whether the sky leaves the file, and width of the border that is left out.
    folder
        Gets ``<exposure>_crf.fits``.
    """
    path = next(path for path in paths if path.suffix == ".fits")
    exposure = _flat_exposure(paths, level, sky.trim_pixels)
    made = write_flagged(path, exposure, level, sky, folder / f"{exposure.name}_crf.fits", "SKIPPED")
    return Made([made], {"implausible_pixels": float(exposure.implausible)})


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
        Weights and kind of errors.
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
    box, planes = combine(sums, patches, summaries, tile, settings, ratio)
    return Made([write_tile(box, planes, folder / f"{tile.tile}_mosaic.npy")])


def assemble(paths: list[Path], window: MosaicGrid, settings: DrizzleSettings, product_name: str, folder: Path) -> Made:
    """Write a window of the mosaic as FITS.

    Parameters
    ----------
    paths
        ``_mosaic.npy`` files of its tiles, ``_summary.json`` files of all its exposures, the ``_cal`` file of the
        first, whose metadata the mosaic inherits, and the ``_verdict.ecsv`` on its sky, where it was judged.
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
    for verdict in (path for path in paths if path.name.endswith("_verdict.ecsv")):
        note_verdict(target, verdict)
    return Made([target])


def read_summaries(paths: Sequence[Path]) -> list[FrameSummary]:
    """Read the exposures' summaries among some files, sorted by name."""
    files = sorted(path for path in paths if path.name.endswith("_summary.json"))
    return [FrameSummary.model_validate_json(path.read_text()) for path in files]


def _flat_exposure(paths: Sequence[Path], level: float, trim_pixels: int) -> Exposure:
    """Read an exposure without its sky, its patterns and its edges."""
    path = next(path for path in paths if path.suffix == ".fits")
    return read_exposure(path, level, patterns_among(paths), trim_pixels)


def _placed(samples: np.ndarray, shape: tuple[int, int], settings: DrizzleSettings) -> tuple[PixelMap, Box]:
    """Return where an exposure's pixels lie, and the lattice pixels that its light may reach."""
    mapped = whole_map(samples, shape)
    return mapped, frame_box(mapped, output_reach(mapped, settings))


def _summary(exposure: Exposure, weights: np.ndarray) -> FrameSummary:
    area = compute_mean_pixel_area(exposure.wcs, shape=exposure.shape)
    return FrameSummary(
        name=exposure.name,
        group=exposure.group,
        exposure_time=exposure.times.exposure,
        measurement_time=exposure.times.measurement,
        duration=exposure.times.duration,
        start_time=exposure.times.start,
        end_time=exposure.times.end,
        s_region=region_text(exposure.footprint),
        pixel_scale_arcsec=3600.0 * float(np.degrees(np.sqrt(area))),
        weights=tuple(weights.tolist()),
        keywords=keywords(exposure.header) | keywords(exposure.sci_header),
    )


def _check_reach(exposure: Exposure, box: Box, tiles: Sequence[MosaicGrid]) -> None:
    """Tell by an exposure's middle and size whether its WCS and its footprint agree, before memory is asked for."""
    middle = Box(box.x + box.width // 2, box.y + box.height // 2, 1, 1)
    covered = sum(box_of(tile).pixels for tile in tiles)
    # A frame fills its tiles but for their rims; one that is far larger has an implausible WCS.
    absurd = box.pixels > LARGEST_OVERHANG * covered
    if absurd or not any(box_of(tile).intersection(middle).pixels for tile in tiles):
        raise FootprintError(
            f"{exposure.name}: its WCS puts it elsewhere than its headers say (S_REGION, or RA_REF and DEC_REF); run "
            f"assign_wcs again, or correct the headers"
        )


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


def _merged(references: Sequence[Path], box: Box) -> Reference:
    """Put the parts of a reference, which overlap by their margins, together."""
    image = np.full((box.height, box.width), np.nan, dtype=np.float32)
    depth = np.zeros((box.height, box.width), dtype=np.uint8)
    for path in references:
        part = read_reference(path)
        known = part.depth > 0
        window = part.box.within(box)
        image[window][known] = part.image[known]
        depth[window][known] = part.depth[known]
    return Reference(box, image, depth)
