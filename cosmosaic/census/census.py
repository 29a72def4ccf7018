"""The census of the catalogue of one window."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.census.files import (
    DEPTH_EDGES,
    DEPTH_STEP,
    MAGNITUDE_EDGES,
    SAMPLE_ROWS,
    BandCensus,
    Census,
    CensusFacts,
    OddRow,
    Sample,
    write_census,
)
from cosmosaic.census.odd import Rows, odd_rows, rows_of
from cosmosaic.census.stamps import draw_stamps, side_arcsec
from cosmosaic.nircam import wavelength_um
from cosmosaic.steps.result import Made

Columns = dict[str, NDArray]
Floats = NDArray[np.floating]

DETECTED_SNR = 5.0
"""S/N of the total flux from which a row counts as detected in a filter."""
OF_SOURCES = (
    "id", "name", "ra", "dec", "x", "y", "half_light_radius", "concentration", "star_probability", "peak_snr", "flags"
)  # fmt: skip
OF_BANDS = ("flux", "flux_err", "mag")
STRIP_PIXELS = 1_000_000
"""Pixels of a map of depths in memory at a time, of each filter."""


def take_census(
    catalog: Path,
    mosaics: Mapping[str, Path],
    depths: Mapping[str, Path],
    psfs: Mapping[str, Path],
    wavelengths_um: Mapping[str, float],
    window: str,
    folder: Path,
) -> Made:
    """Write the census of the catalogue of one window: ``<window>_census.npz``.

    Parameters
    ----------
    catalog
        ``_cat.parquet``.
    mosaics, depths, psfs
        ``_i2d``, ``_depth`` and ``_psf`` by filter. Filters without one of them are in the census, with less.
    wavelengths_um
        Of other telescopes' filters.
    window
        Name of the window.
    folder
        Gets the file.

    Raises
    ------
    ValueError
        The catalogue has not the columns of one.
    """
    columns, bands = read_columns(catalog, wavelengths_um)
    rows, maps = rows_of(columns, bands), measure_depths(depths, bands)
    facts = CensusFacts(
        window=window,
        sources=len(rows.flags),
        arcmin2=maps.arcmin2,
        bands=tuple(
            _band(number, wavelengths_um.get(band) or wavelength_um(band), rows, maps.areas.get(band), psfs.get(band))
            for number, band in enumerate(bands)
        ),
        flags={flag.name or "": int(np.count_nonzero(rows.flags & flag)) for flag in CatalogFlag},
        odd=(),
    )
    odd, shown = _odd(rows, columns, window)
    sides = {row.stamp: row.side_arcsec for row in odd}
    places = np.stack([columns["x"][shown], columns["y"][shown]], axis=1).astype(np.float64)
    stamps = draw_stamps(mosaics, bands, places, [sides[stamp] for stamp in range(len(shown))])
    census = Census(
        facts=facts.model_copy(update={"odd": odd}),
        counts=_counts(rows),
        depths=np.stack([maps.by_depth[band] for band in bands]) if bands else np.zeros((0, len(DEPTH_EDGES) - 1)),
        sample=_sample(rows, columns, window),
        stamps=stamps,
    )
    return Made(census=write_census(census, folder / f"{window}_census.npz"), facts={})


def read_columns(catalog: Path, wavelengths_um: Mapping[str, float]) -> tuple[Columns, tuple[str, ...]]:
    """Read the columns of a catalogue that the census counts, with NaN for null, and its filters by wavelength.

    Raises
    ------
    ValueError
        A column is missing.
    """
    names = pq.read_schema(catalog).names
    prefixes = [name.removesuffix("_flux_err_propagated") for name in names if name.endswith("_flux_err_propagated")]
    known = {band: wavelengths_um.get(band) or wavelength_um(band) for band in map(str.upper, prefixes)}
    bands = tuple(sorted(known, key=lambda band: (known[band], band)))
    wanted = [*OF_SOURCES, *(f"{band.lower()}_{column}" for band in bands for column in OF_BANDS)]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(f"{catalog.name}: no column {', '.join(missing)}; give a catalogue (_cat.parquet)")
    table = pq.read_table(catalog, columns=wanted)
    return {name: table[name].to_numpy() for name in wanted}, bands


class Depths(NamedTuple):
    """The depths of one window."""

    by_depth: dict[str, Floats]
    """Square arcminutes by depth, in the bins of `DEPTH_EDGES`; 0 without a map."""
    areas: dict[str, float]
    """Square arcminutes with a depth, of the filters that have a map."""
    arcmin2: float | None
    """With a depth in any filter; None if there is no map."""


def measure_depths(paths: Mapping[str, Path], bands: Sequence[str]) -> Depths:
    """Sum the area of each depth over maps of depths (``_depth``) by filter, strip by strip.

    Raises
    ------
    ValueError
        The maps do not show the same window.
    """
    given = [band for band in bands if band in paths]
    number = {band: np.zeros(len(DEPTH_EDGES) - 1, np.int64) for band in bands}
    pixel = {band: _pixel_arcmin2(paths[band]) for band in given}
    covered: int = 0
    for strip in _strips({band: paths[band] for band in given}):
        seen = np.zeros((1, 1), bool)
        for band, depth in strip.items():
            known = depth[np.isfinite(depth)]
            places = np.floor((known - DEPTH_EDGES[0]) / DEPTH_STEP).astype(np.int64)
            number[band] += np.bincount(np.clip(places, 0, len(number[band]) - 1), minlength=len(number[band]))
            seen = _either(seen, np.isfinite(depth))
        covered += int(np.count_nonzero(seen))
    by_depth = {band: number[band] * pixel.get(band, 0.0) for band in bands}
    areas = {band: float(by_depth[band].sum()) for band in given}
    return Depths(by_depth, areas, covered * min(pixel.values()) if given else None)


def _pixel_arcmin2(path: Path) -> float:
    return float(np.prod(proj_plane_pixel_scales(WCS(fits.getheader(path, "DEPTH"))))) * 3600.0


def _strips(paths: Mapping[str, Path]) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the same part of each map from bottom to top."""
    opened = {band: fits.open(path) for band, path in paths.items()}
    try:
        maps = {band: hdus["DEPTH"] for band, hdus in opened.items()}
        if not maps:
            return
        shapes = {band: plane.shape for band, plane in maps.items()}
        ny, nx = max(shapes.values())
        factors = {band: ny // max(shape[0], 1) for band, shape in shapes.items()}
        for band, factor in factors.items():
            if (shapes[band][0] * factor, shapes[band][1] * factor) != (ny, nx):
                raise ValueError(
                    f"{paths[band].name}: its {shapes[band]} pixels do not nest in {(ny, nx)}; give the maps of one "
                    f"window"
                )
        coarsest = int(np.lcm.reduce(list(factors.values())))
        rows = max(STRIP_PIXELS // nx // coarsest, 1) * coarsest
        for start in range(0, ny, rows):
            stop = min(start + rows, ny)
            yield {
                band: np.asarray(plane.section[start // factors[band] : stop // factors[band], :])
                for band, plane in maps.items()
            }
    finally:
        for hdus in opened.values():
            hdus.close()


def _either(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where one of two masks is set, in the smaller pixels."""
    shape = np.maximum(one.shape, other.shape)
    parts = [
        np.repeat(np.repeat(mask, shape[0] // mask.shape[0], 0), shape[1] // mask.shape[1], 1) for mask in (one, other)
    ]
    return parts[0] | parts[1]


def _band(number: int, wavelength: float, rows: Rows, arcmin2: float | None, psf: Path | None) -> BandCensus:
    header = fits.getheader(psf) if psf else {}
    with np.errstate(invalid="ignore"):
        detected = int(np.count_nonzero(rows.snr[:, number] >= DETECTED_SNR))
    return BandCensus(
        name=rows.bands[number],
        wavelength_um=wavelength,
        arcmin2=arcmin2,
        covered=int(np.count_nonzero(np.isfinite(rows.flux[:, number]))),
        detected=detected,
        with_magnitude=int(np.count_nonzero(np.isfinite(rows.magnitude[:, number]))),
        psf_fwhm_arcsec=header.get("FWHM"),
        psf_origin=header.get("PSFFROM"),
    )


def _counts(rows: Rows) -> NDArray[np.int64]:
    """Rows by filter and magnitude: all, and those that are detected."""
    counts = np.zeros((len(rows.bands), 2, len(MAGNITUDE_EDGES) - 1), np.int64)
    snr = rows.snr
    for number in range(len(rows.bands)):
        magnitude = rows.magnitude[:, number]
        for place, chosen in enumerate((np.isfinite(magnitude), snr[:, number] >= DETECTED_SNR)):
            inside = np.clip(magnitude[chosen], MAGNITUDE_EDGES[0], np.nextafter(MAGNITUDE_EDGES[-1], 0))
            counts[number, place] = np.histogram(inside, MAGNITUDE_EDGES)[0]
    return counts


def _sample(rows: Rows, columns: Columns, window: str) -> Sample:
    rank = np.random.default_rng(crc32(window.encode())).random(len(rows.flags))
    star = np.asarray(columns["star_probability"], np.float64)
    every = Sample(rank, rows.magnitude, rows.snr, rows.radius, rows.concentration, star).lowest(SAMPLE_ROWS)
    return every._replace(
        **{name: column.astype(np.float32) for name, column in every._asdict().items() if name != "rank"}
    )


def _odd(rows: Rows, columns: Columns, window: str) -> tuple[tuple[OddRow, ...], list[int]]:
    """The rows that stand out, and their numbers in the order of their stamps."""
    found = odd_rows(rows)
    shown = sorted({one.row for one in found})
    return tuple(
        OddRow(
            rule=one.rule,
            score=one.score,
            reason=one.reason,
            window=window,
            id=str(columns["id"][one.row]),
            name=str(columns["name"][one.row]),
            ra=float(columns["ra"][one.row]),
            dec=float(columns["dec"][one.row]),
            flags=int(rows.flags[one.row]),
            magnitudes={
                band: float(value) if np.isfinite(value) else None
                for band, value in zip(rows.bands, rows.magnitude[one.row], strict=True)
            },
            side_arcsec=side_arcsec(float(rows.radius[one.row])),
            stamp=shown.index(one.row),
        )
        for one in found
    ), shown
