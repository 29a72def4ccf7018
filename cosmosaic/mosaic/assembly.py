"""From sums to mosaics: exposures are added in a fixed order, and the mosaic is written strip by strip."""

import io
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from astropy.io import fits
from numba import njit
from numpy.typing import NDArray
from stcal.alignment import combine_sregions
from stdatamodels.jwst.datamodels import ImageModel
from stdatamodels.jwst.datamodels import open as open_model

from cosmosaic.drizzle.marks import MarksFile
from cosmosaic.drizzle.packed import PackedPlane, Placed, open_planes, strips, write_planes
from cosmosaic.drizzle.summary import ExposureSummary
from cosmosaic.drizzle.sums import SumsFile, read_patch, read_strip
from cosmosaic.exposures.footprints import region_corners
from cosmosaic.exposures.keywords import iso_date
from cosmosaic.geometry.wcs import grid_wcs
from cosmosaic.geometry.windows import Box, box_of, covering
from cosmosaic.mosaic.quality import NOT_OBSERVED, no_quality
from cosmosaic.provenance import complete_wcs, order_asdf_history, save_model
from cosmosaic.records import MosaicGrid
from cosmosaic.survey import DrizzleSettings

MOSAIC_PLANES = ("SCI", "ERR", "WHT", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT", "NEXP", "EXPTIME", "DQ")
"""Extensions of a mosaic; NEXP counts the exposures that contribute to a pixel, EXPTIME adds their times in seconds."""
LIGHT_PLANES = 6
"""How many of them are means of the exposures' planes, and their weight."""
FILL = {"WHT": 0.0, "NEXP": 0.0, "EXPTIME": 0.0, "DQ": float(NOT_OBSERVED)}
"""Values where nothing was observed; NaN for the others."""
FITS_BLOCK = 2880
READ_NOISE_WEIGHT, SCIENCE_WEIGHT = 0.0, -1.0
"""In place of a time: variances are weighted by the inverse of that of read noise, as in jwst, or as science is."""

Floats = NDArray[np.floating[Any]]
FloatImage = NDArray[np.float32]


class TileInput(NamedTuple):
    """The files of one exposure in a tile."""

    sums: Path
    """``<exposure>_sums.packed``."""
    patch: Path | None
    """``<exposure>_<tile>_patch.npy``: what replaces sums around outliers."""


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _add_square(sigma: float, share: float, k: int, total: Floats) -> None:
    if not math.isnan(sigma):
        total[2 + k] += sigma * sigma
        total[5 + k] += share


@njit(cache=True, nogil=True, error_model="numpy")
def _add(sums: Floats, time_weight: float, propagated: bool, totals: Floats) -> None:
    """Add one detector's sums.

    The totals are weight, science, three of variance and three of its weight. Of sigmas the squared means are added,
    weighted by time, by `READ_NOISE_WEIGHT` or by `SCIENCE_WEIGHT`.
    """
    rows, columns, planes = sums.shape
    for row in range(rows):
        for column in range(columns):
            weight, total = sums[row, column, 0], totals[row, column]
            if weight == 0.0:
                continue
            total[0] += weight
            total[1] += sums[row, column, 1]
            if planes == 2:
                continue
            # One by one: a loop over three takes twice as long.
            p, r, f = sums[row, column, 2], sums[row, column, 3], sums[row, column, 4]
            if propagated:
                total[2] += p
                total[3] += r
                total[4] += f
                continue
            read_noise = r / weight
            share = time_weight
            if time_weight == READ_NOISE_WEIGHT:
                share = 1.0 / (read_noise * read_noise)
            elif time_weight == SCIENCE_WEIGHT:
                share = weight
            if 0.0 < share < np.inf:
                _add_square(p / weight * share, share, 0, total)
                _add_square(read_noise * share, share, 1, total)
                _add_square(f / weight * share, share, 2, total)


def combine(
    files: Mapping[str, TileInput],
    summaries: Sequence[ExposureSummary],
    tile: MosaicGrid,
    settings: DrizzleSettings,
    pixel_scale_ratio: float,
) -> tuple[Box, Floats]:
    """Add the exposures of a tile, in the order of their names.

    Agrees with ``Resample.finalize_resample_variance`` of `stcal`: variances are averaged with the squares of
    inverse read-noise variances (``ivm``) or times (``exptime``) as weights and divided by the squared ratio of
    output to input pixel scale; ERR is the root of their sum. With ``ivm-sky`` the weights are those of the science.

    Parameters
    ----------
    files
        By exposure.
    summaries
        Summaries of at least these exposures.
    tile
        Tile to fill.
    settings
        Weights and kind of errors.
    pixel_scale_ratio
        Output over input pixel scale, the same for the whole survey.

    Returns
    -------
    box
        The part of the tile that they reach.
    planes
        `MOSAIC_PLANES` of it, shape ``(9, height, width)``, in the byte order of FITS.
    """
    times = {summary.name: _variance_weight(summary, settings) for summary in summaries}
    seconds = {summary.name: summary.exposure_time for summary in summaries}
    groups = {summary.name: summary.group for summary in summaries}
    exposures = {group: number for number, group in enumerate(sorted(set(groups.values())), start=1)}
    sources = {name: SumsFile(one.sums, tile.tile) for name, one in sorted(files.items())}
    marks = {name: MarksFile(one.sums, tile.tile) for name, one in files.items()}
    boxes = [source.box for source in sources.values()] + [one.box for one in marks.values()]
    box = covering(boxes).intersection(box_of(tile))
    patches = {name: read_patch(one.patch).within(sources[name].box) for name, one in files.items() if one.patch}
    planes = np.empty((len(MOSAIC_PLANES), box.height, box.width), dtype=">f4")
    propagated = settings.errors == "propagated"
    for strip in strips(box):
        totals, quality = np.zeros((strip.height, strip.width, 8)), no_quality(strip)
        for name, source in sources.items():
            part = read_strip(source, strip, patches.get(name))
            if part is not None:
                _add(part.planes, times[name], propagated, totals[part.box.within(strip)])
            marked = marks[name].read(strip, patches.get(name))
            quality.add(marked, part, strip, exposures[groups[name]], seconds[name])
        finished = np.empty((LIGHT_PLANES, strip.height, strip.width), dtype=np.float32)
        _finish(totals, pixel_scale_ratio, propagated, finished)
        planes[:, strip.within(box)[0]] = (*finished, quality.count, quality.seconds, quality.flags())
    return box, planes


def _variance_weight(summary: ExposureSummary, settings: DrizzleSettings) -> float:
    if settings.weight_type == "exptime":
        return summary.time_weight
    return SCIENCE_WEIGHT if settings.weight_type == "ivm-sky" else READ_NOISE_WEIGHT


def write_tile(box: Box, planes: Floats, path: Path) -> Path:
    """Write `MOSAIC_PLANES` of a tile, packed, in the byte order of FITS."""
    return write_planes([Placed(box, plane) for plane in planes], path)


def write_mosaic(
    tiles: Sequence[Path],
    window: MosaicGrid,
    template: Path,
    summaries: Sequence[ExposureSummary],
    settings: DrizzleSettings,
    path: Path,
) -> Path:
    """Write a window as a FITS mosaic, strip by strip, so that memory does not grow with its size.

    Parameters
    ----------
    tiles
        ``<tile>_mosaic.packed`` files; other parts of the window stay empty.
    window
        Window to write.
    template
        The first exposure's ``_cal`` file, whose metadata the mosaic inherits.
    summaries
        Summaries of all exposures.
    settings
        Settings that the mosaic was made with.
    path
        ``_i2d.fits`` file: the extensions that jwst's resample writes (all but the context), NEXP, EXPTIME and DQ.
    """
    headers, tree = _template_headers(window, template, summaries, settings, path)
    sources = [open_planes(tile) for tile in sorted(tiles)]
    with path.open("wb") as file:
        _write_header(file, headers["PRIMARY"])
        for plane, name in enumerate(MOSAIC_PLANES):
            _write_header(file, headers[name])
            _write_plane(file, [source[plane] for source in sources], box_of(window), name)
        file.write(_header_table(summaries))
        file.write(tree)
    return path


@njit(cache=True, nogil=True, error_model="numpy")
def _finish(totals: Floats, pixel_scale_ratio: float, propagated: bool, planes: FloatImage) -> None:
    """Turn totals into the first `LIGHT_PLANES`."""
    for row in range(totals.shape[0]):
        for column in range(totals.shape[1]):
            total, plane = totals[row, column], planes[:, row, column]
            if total[0] == 0.0:
                plane[:] = np.nan
                plane[2] = 0.0
                continue
            plane[0] = total[1] / total[0]
            plane[2] = total[0]
            variance, known = 0.0, False
            for k in range(3):
                weight = total[0] if propagated else total[5 + k] * pixel_scale_ratio
                plane[3 + k] = total[2 + k] / weight / weight
                if not math.isnan(plane[3 + k]):
                    variance += plane[3 + k]
                    known = True
            plane[1] = math.sqrt(variance) if known else np.nan


def _write_header(file: BinaryIO, header: fits.Header) -> None:
    file.write(header.tostring(padding=True).encode("ascii"))


def _write_plane(file: BinaryIO, sources: Sequence[PackedPlane], box: Box, name: str) -> None:
    for strip in strips(box):
        rows = np.full((strip.height, strip.width), FILL.get(name, np.nan), dtype=">f4")
        for source in sources:
            common = source.box.intersection(strip)
            if common.pixels:
                rows[common.within(strip)] = source.read(common)
        file.write(_as_signed(rows).data if name == "DQ" else rows.data)
    file.write(b"\0" * (-(box.pixels * 4) % FITS_BLOCK))


def _as_signed(flags: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
    """Return unsigned integers as FITS stores them (BZERO)."""
    return (flags.astype(np.int64) - 2**31).astype(">i4")


def _header_table(summaries: Sequence[ExposureSummary]) -> bytes:
    """Return the headers of all exposures as in jwst's mosaics: extension HDRTAB, a row each."""
    rows = [summary.keywords for summary in sorted(summaries, key=lambda one: one.name)]
    columns = [_column(name, [row.get(name) for row in rows]) for name in sorted(set().union(*rows))]
    buffer = io.BytesIO()
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="HDRTAB")])
    hdus.writeto(buffer)
    return buffer.getvalue()[FITS_BLOCK:]


def _column(name: str, values: list[bool | int | float | str | None]) -> fits.Column:
    """Make a column of a keyword's values in all exposures; an empty text, NaN or False where it is missing."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {bool}:
        return fits.Column(name, "L", array=np.array([bool(value) for value in values]))
    if kinds == {int} and None not in values:
        return fits.Column(name, "K", array=np.array(values, dtype=np.int64))
    if kinds <= {int, float}:
        return fits.Column(name, "D", array=np.array([np.nan if value is None else value for value in values], float))
    texts = ["" if value is None else str(value) for value in values]
    return fits.Column(name, f"{max(1, *map(len, texts))}A", array=np.array(texts))


def _template_headers(
    window: MosaicGrid, template: Path, summaries: Sequence[ExposureSummary], settings: DrizzleSettings, path: Path
) -> tuple[dict[str, fits.Header], bytes]:
    """Let jwst write the metadata with planes of one pixel, and give the headers their true shape."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        small = Path(folder) / path.name
        model = _described(window, template, summaries, settings)
        save_model(model, small)
        with fits.open(small) as hdus:
            headers = {hdu.name: hdu.header.copy() for hdu in hdus}
            start = hdus["ASDF"].fileinfo()["hdrLoc"]
        # Before the header has its true size: adding a card to a large file later would move all of its data.
        complete_wcs(headers["SCI"])
        headers["SCI"]["WHTTYPE"] = (settings.weight_type, "weights: drizzle.weight_type")
        tree = order_asdf_history(small.read_bytes()[start:])
    for name, unit in (("NEXP", None), ("EXPTIME", "s")):
        headers[name] = headers["WHT"].copy()
        headers[name]["EXTNAME"] = name
        if unit:
            headers[name]["BUNIT"] = unit
    rows, columns = window.shape
    for name in MOSAIC_PLANES:
        headers[name]["NAXIS1"], headers[name]["NAXIS2"] = columns, rows
        headers[name]["BITPIX"] = 32 if name == "DQ" else -32
    return headers, tree


def _described(
    window: MosaicGrid, template: Path, summaries: Sequence[ExposureSummary], settings: DrizzleSettings
) -> ImageModel:
    """Set the metadata that ``ResampleImage.update_output_model`` of jwst sets."""
    from jwst.resample.resample import ResampleImage  # takes long, and tiles are combined without it

    model = ImageModel()
    with open_model(str(template)) as exposure:
        model.update(exposure)
    pixel = np.zeros((1, 1), dtype=np.float32)
    for name in ("data", "err", "wht", "var_poisson", "var_rnoise", "var_flat"):
        setattr(model, name, pixel.copy())
    model.dq = pixel.astype(np.uint32)
    wcs = grid_wcs(window)
    model.meta.wcs = wcs
    area = (window.pixel_scale_mas / 1000.0) ** 2
    model.meta.photometry.pixelarea_arcsecsq = area
    model.meta.photometry.pixelarea_steradians = area * np.radians(1 / 3600) ** 2
    _describe_resample(model, window, summaries, settings)
    _describe_times(model, summaries)
    model.meta.background.level = None
    model.meta.background.subtracted = None
    ResampleImage.update_fits_wcsinfo(model)
    model.meta.wcsinfo.s_region = _footprint(window, summaries)
    model.meta.cal_step.resample = "COMPLETE"
    return model


def _describe_resample(
    model: ImageModel, window: MosaicGrid, summaries: Sequence[ExposureSummary], settings: DrizzleSettings
) -> None:
    model.meta.resample.pointings = len({summary.group for summary in summaries})
    model.meta.resample.pixel_scale_ratio = scale_ratio(window, summaries)
    model.meta.resample.pixfrac = settings.pixfrac
    model.meta.resample.kernel = settings.kernel
    model.meta.resample.fillval = "NAN"
    # The package knows these two, and warns of others whenever it opens the file; WHTTYPE has our name.
    model.meta.resample.weight_type = "exptime" if settings.weight_type == "exptime" else "ivm"


def _describe_times(model: ImageModel, summaries: Sequence[ExposureSummary]) -> None:
    groups = {summary.group: summary for summary in sorted(summaries, key=lambda one: one.name, reverse=True)}
    exposure = model.meta.exposure
    exposure.exposure_time = exposure.effective_exposure_time = sum(one.exposure_time for one in groups.values())
    exposure.duration = exposure.elapsed_exposure_time = sum(one.duration for one in groups.values())
    _describe_dates(model, [one for one in groups.values() if one.start_time is not None])
    measured = [one.measurement_time for one in groups.values()]
    exposure.measurement_time = None if None in measured else sum(time for time in measured if time is not None)


def _describe_dates(model: ImageModel, summaries: Sequence[ExposureSummary]) -> None:
    """Set the start of the first and the end of the last exposure, in all keywords for them."""
    if not summaries:
        return
    begins = [one.start_time for one in summaries if one.start_time is not None]
    ends = [one.end_time for one in summaries if one.end_time is not None]
    start, end = min(begins), max(ends)
    middle = (start + end) / 2
    exposure, observation = model.meta.exposure, model.meta.observation
    exposure.start_time = exposure.start_time_mjd = start
    exposure.mid_time = exposure.mid_time_mjd = middle
    exposure.end_time = exposure.end_time_mjd = end
    # Barycentric times are defined for single exposures only.
    exposure.start_time_tdb = exposure.mid_time_tdb = exposure.end_time_tdb = None
    observation.date_beg, observation.date_end = iso_date(start), iso_date(end)
    observation.date, observation.time = iso_date(start).split("T")


def scale_ratio(window: MosaicGrid, summaries: Sequence[ExposureSummary]) -> float:
    """Return output over input pixel scale, the latter of the first exposure by name, as in jwst."""
    first = min(summaries, key=lambda one: one.name)
    return window.pixel_scale_mas / 1000.0 / first.pixel_scale_arcsec


def _footprint(window: MosaicGrid, summaries: Sequence[ExposureSummary]) -> str:
    wcs = grid_wcs(window)
    corners = wcs.footprint()
    regions = [np.array(region_corners(one.s_region)) for one in summaries]
    try:
        return str(combine_sregions(regions, wcs.get_transform("detector", "world"), intersect_footprint=corners))
    except (ValueError, AttributeError):
        # Disjoint fields have no single polygon; the outline of the window contains them.
        return "POLYGON ICRS  " + " ".join(f"{value:.9f}" for value in np.ravel(corners))
