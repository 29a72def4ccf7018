"""Stars of a mosaic against those of its exposures, as the functions of the steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.stats import mad_std
from astropy.table import QTable, Table
from numpy.typing import NDArray
from scipy import stats

from cosmosaic.astrometry.solution import OF_ONE_FILTER
from cosmosaic.astrometry.verdict import judge_sharpness
from cosmosaic.geometry.grid import pixel_to_sky
from cosmosaic.geometry.windows import lattice, tiles_around
from cosmosaic.records import MosaicGrid
from cosmosaic.sharpness.shapes import Shapes, exposure_shapes, mosaic_shapes, stars_of_exposures
from cosmosaic.steps.result import Made
from cosmosaic.survey import DrizzleSettings

Floats = NDArray[np.floating]

ONE_TAIL = 0.975
"""Where errors of few stars are as certain as 1.96 sigma of many."""
FEWEST = 5
"""With fewer stars nothing is measured."""
FWHM_OF_SIGMA = float(np.sqrt(8 * np.log(2)))
MEDIAN_ERROR = float(np.sqrt(np.pi / 2))
"""Error of a median in units of that of a mean."""


def measure_shapes(exposure: Path, stars: Path, window: MosaicGrid, settings: DrizzleSettings, folder: Path) -> Made:
    """Measure the stars of one exposure on the mosaic's pixels.

    Parameters
    ----------
    exposure
        ``_crf`` file.
    stars
        Its ``_stars.ecsv``.
    window
        A window of the mosaic's lattice.
    settings
        Kernel and pixel fraction of the mosaic.
    folder
        Gets ``<exposure>_shapes.npz``.
    """
    shapes = exposure_shapes(exposure, QTable.read(stars, format="ascii.ecsv"), window, settings)
    path = folder / f"{stars.name.removesuffix('_stars.ecsv')}_shapes.npz"
    np.savez(path, **shapes._asdict())
    return Made(shapes=path)


def compare_sharpness(  # noqa: PLR0913
    mosaic: Path,
    shapes: Mapping[str, Path],
    verdict: Path,
    band: str,
    window: MosaicGrid,
    tiles: tuple[MosaicGrid, ...],
    stem: str,
    folder: Path,
) -> Made:
    """Compare the stars of a mosaic with the same stars in its exposures.

    Parameters
    ----------
    mosaic
        ``_i2d`` file.
    shapes
        ``_shapes.npz`` by exposure.
    verdict
        ``_astrometry.ecsv`` of the survey, whose figures for the filter become facts.
    band
        The filter.
    window
        The window of the mosaic.
    tiles
        Parts of the sky whose stars are judged apart, windows of one lattice.
    stem
        Name of the table without its ending.
    folder
        Gets ``<stem>_sharpness.ecsv``, a row per star; its meta has the ratio of widths, the difference of
        ellipticities and their errors, NaN with fewer than `FEWEST` stars, and the same of each tile (``tiles``).
    """
    parts = [_read(path) for path in shapes.values()]
    single = Shapes(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    exposures = np.repeat(np.arange(len(parts)), [len(one.sigma) for one in parts])
    numbers = stars_of_exposures(single.places, exposures, window.pixel_scale_mas)
    own = numbers >= 0
    table = _joined(Shapes(*(part[own] for part in single)), numbers[own], mosaic, window)
    measured = summary(table)
    table.meta |= measured | {"tiles": summaries_of_tiles(table, tiles, window)}
    path = folder / f"{stem}_sharpness.ecsv"
    table.write(path, format="ascii.ecsv")
    measured |= _of_filter(Table.read(verdict, format="ascii.ecsv"), band)
    facts = {name: value if np.isfinite(value) else None for name, value in measured.items()}
    return Made(table=path, facts=facts)


def summary(table: Table) -> dict[str, float]:
    """Return the ratio of widths, the length of the mean difference in ellipticity, their errors, the stars."""
    number = len(table)
    if number < FEWEST:
        values = (np.nan,) * 4
    else:
        ratio = np.asarray(table["fwhm"] / table["fwhm_exposures"], dtype=float)
        turn = np.stack([np.asarray(table[f"e{axis}"] - table[f"e{axis}_exposures"]) for axis in (1, 2)])
        # With few stars their scatter is uncertain too (Student's t).
        few = stats.t.ppf(ONE_TAIL, number - 1) / stats.norm.ppf(ONE_TAIL)
        widths = MEDIAN_ERROR / np.sqrt(number) * few
        values = (
            float(np.median(ratio)),
            float(mad_std(ratio)) * widths,
            float(np.hypot(*np.median(turn, axis=1))),
            float(np.mean(mad_std(turn, axis=1))) * widths,
        )
    names = ("fwhm_ratio", "fwhm_ratio_error", "ellipticity", "ellipticity_error")
    return {name: round(float(value), 5) for name, value in zip(names, values, strict=True)} | {
        "sharpness_stars": number
    }


def summaries_of_tiles(table: Table, tiles: Sequence[MosaicGrid], window: MosaicGrid) -> list[dict[str, float | str]]:
    """Return the summary of the stars in each tile, with its name and what it says of width and ellipticity.

    Parameters
    ----------
    table
        The stars, on the lattice of ``window``.
    tiles
        Windows of one lattice, of which the pixels may be others.
    window
        The window of the mosaic.
    """
    sky = pixel_to_sky(lattice(window), np.stack([np.asarray(table["x"]), np.asarray(table["y"])], axis=1))
    star, number = tiles_around(tiles, sky)
    return [summary_of_tile(tile.tile, table[star[number == one]]) for one, tile in enumerate(tiles)]


def summary_of_tile(name: str, table: Table) -> dict[str, float | str]:
    """Return the summary of the stars in a tile, with its name and the states of width and ellipticity."""
    measured = summary(table)
    states = {f"{metric.name}_state": metric.state for metric in judge_sharpness(name, measured)}
    return {"tile": name} | measured | states


def _of_filter(verdict: Table, band: str) -> dict[str, float]:
    """Noise-corrected rms of each kind of error by the stars of one filter; NaN where they cannot tell."""
    own = verdict[(verdict["when"] == "after") & (verdict["scope"] == "filter") & (verdict["filter"] == band)]
    known = {str(row["name"]): float(row["rms"]) for row in own}
    return {f"{kind}_mas": known.get(kind, np.nan) for kind in OF_ONE_FILTER}


def _read(path: Path) -> Shapes:
    """Read the stars of an exposure that have a shape."""
    with np.load(path) as file:
        shapes = Shapes(*(file[name] for name in Shapes._fields))
    has_shape = np.isfinite(shapes.sigma)
    return Shapes(*(part[has_shape] for part in shapes))


def _joined(single: Shapes, numbers: NDArray[np.integer], mosaic: Path, window: MosaicGrid) -> QTable:
    """One row per star that the mosaic has, too, from the stars of exposures and their numbers."""
    count = np.bincount(numbers)
    # Averaging exposures averages their moments.
    values = (*single.places.T, single.sigma**2, *single.ellipticity.T)
    x, y, square, *turns = (np.bincount(numbers, value) / count for value in values)
    found = mosaic_shapes(mosaic, np.stack([x, y], axis=1), window)
    arcsec = FWHM_OF_SIGMA * window.pixel_scale_mas / 1000 * u.arcsec
    table = QTable(
        {
            "x": np.round(x, 2),
            "y": np.round(y, 2),
            "exposures": count,
            "fwhm": np.round(found.sigma * arcsec, 5),
            "fwhm_exposures": np.round(np.sqrt(square) * arcsec, 5),
            "e1": np.round(found.ellipticity[:, 0], 4),
            "e2": np.round(found.ellipticity[:, 1], 4),
            "e1_exposures": np.round(turns[0], 4),
            "e2_exposures": np.round(turns[1], 4),
        }
    )
    return table[np.isfinite(found.sigma)]
