"""The simulated sky: a table of stars and galaxies, drawn at random or read from a user's catalogue.

A scene is an `astropy.table.Table` with one row per source and the columns

========================  =======================================================================
``id``                    Number of the source from 1, or the catalogue's own identifier
``ra``, ``dec``           Position in degrees, ICRS
``kind``                  ``star`` or ``galaxy``
``sersic_n``              Sersic index, 0.5 to 6; profiles end at `TRUNCATION_RADII` half-light radii
``half_light_radius``     Half-light radius along the major axis in arcsec, to 10
``axis_ratio``            Minor over major axis, 0.05 to 1
``position_angle``        Position angle of the major axis in degrees, east of north
``pmra``, ``pmdec``       Proper motion in mas a year, the first times cos dec; the positions are those at
                          `SIMULATED_START`
``flux_<FILTER>``         Total flux in nJy, a column for every filter
========================  =======================================================================

The shape of stars is NaN.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.table import Column, Table
from numpy.typing import NDArray

from cosmosaic.nircam import PASSBANDS
from cosmosaic.simulate.geometry import footprint, nominal_view
from cosmosaic.simulate.plan import JULIAN_YEAR, SIMULATED_START, PlannedExposure
from cosmosaic.survey import SimulationSettings

Floats = NDArray[np.floating]

TRUNCATION_RADII = 8.0
"""Sersic profiles are truncated at this many half-light radii and have all their flux within."""

SHAPE_RANGES = {
    "sersic_n": (0.5, 6.0),
    "half_light_radius": (1e-3, 10.0),
    "axis_ratio": (0.05, 1.0),
    "position_angle": (-360.0, 360.0),
}
"""Columns that describe a galaxy's shape, and their bounds."""

MARGIN_ARCSEC = 6.0
"""A drawn scene is complete to this distance from the exposures."""

_FORMATS = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits", ".parquet": "parquet"}
_MOTIONS = ("pmra", "pmdec")
_UNITS = {"ra": u.deg, "dec": u.deg, "half_light_radius": u.arcsec, "position_angle": u.deg}
_UNITS |= dict.fromkeys(_MOTIONS, u.mas / u.yr)

_CELL_DEG = 0.01
_REFERENCE_UM = 2.0
_GALAXY_MAGNITUDES = (18.5, 28.0)
_COUNTS_SLOPE = 0.33
_STAR_MAGNITUDES = (19.0, 26.0)
_STAR_SLOPES = (-0.9, 0.1)
_BALMER_BREAK_UM = 0.4
_LYMAN_ALPHA_UM = 0.1216


def draw_scene(settings: SimulationSettings, exposures: Sequence[PlannedExposure]) -> Table:
    """Draw galaxies and stars over the sky that the exposures cover, with fluxes in all their filters.

    Galaxies follow deep-field number counts, 0.33 dex per magnitude, to AB 28 at 2 micrometres. Their sizes are
    lognormal and shrink towards faint magnitudes; their spectra are power laws with a Balmer break and nothing
    shortward of Lyman alpha, at redshifts that grow towards faint magnitudes. Stars are spread evenly over
    magnitudes 19 to 26. A source does not depend on the exposures, detectors or filters that observe it.

    Parameters
    ----------
    settings
        Seed and surface densities.
    exposures
        Exposures to cover, as `cosmosaic.simulate.plan.plan_exposures` gives them.

    Returns
    -------
    Table
        The scene, complete to `MARGIN_ARCSEC` around the exposures.
    """
    circles = np.unique([_enclosing_circle(exposure) for exposure in exposures], axis=0)
    filters = sorted({exposure.band for exposure in exposures})
    cells = sorted({cell for circle in circles for cell in _cells(circle)})
    pieces = [_draw_cell(settings, band, column, filters) for band, column in cells]
    columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    position = _unit_vectors(columns["ra"], columns["dec"])
    covered = np.any([position @ circle[:3] > np.cos(circle[3]) for circle in circles], axis=0)
    scene = Table({name: values[covered] for name, values in columns.items()})
    scene.add_column(np.arange(1, len(scene) + 1), name="id", index=0)
    return _with_units(scene)


def positions_at(scene: Table, time: datetime) -> tuple[Floats, Floats]:
    """RA and Dec in degrees of the sources at a time; sources of a scene without proper motions rest."""
    ra, dec = (np.asarray(scene[name], dtype=float) for name in ("ra", "dec"))
    years = (time - SIMULATED_START) / JULIAN_YEAR
    if years == 0 or "pmra" not in scene.colnames:
        return ra, dec
    east, north = (np.asarray(scene[name], dtype=float) * years / 3.6e6 for name in _MOTIONS)
    return ra + east / np.cos(np.radians(dec)), dec + north


def read_scene(path: Path, filters: Sequence[str]) -> Table:
    """Read a user's catalogue of sources.

    Parameters
    ----------
    path
        File that ends in .csv, .ecsv, .fits or .parquet, with the columns of a scene. ``id`` and proper
        motions may be left out, and so may the shapes where all sources are stars; ``mag_<FILTER>``, AB
        magnitudes, may stand in for ``flux_<FILTER>``. Columns with a unit are converted.
    filters
        Filters of the survey.

    Returns
    -------
    Table
        The scene. Sersic indices are rounded to tenths.

    Raises
    ------
    ValueError
        The file's ending is unknown, a column is missing, or a value is not a number or is out of bounds.
    FileNotFoundError
        The file does not exist.
    """
    catalogue = _read_table(path)
    _require_columns(path, catalogue, filters)
    kind = np.char.lower(np.char.strip(np.asarray(catalogue["kind"], dtype=str)))
    _require(path, "kind", catalogue["kind"], np.isin(kind, ["star", "galaxy"]), "must be star or galaxy")
    scene = Table({"id": catalogue["id"] if "id" in catalogue.colnames else np.arange(1, len(catalogue) + 1)})
    for name, low, high in (("ra", -360.0, 360.0), ("dec", -90.0, 90.0)):
        scene[name] = _numbers(path, catalogue[name], _UNITS[name])
        _require_range(path, name, scene[name], (low, high), np.full(len(kind), True))
    scene["kind"] = kind
    for name, bounds in SHAPE_RANGES.items():
        scene[name] = np.nan
        if np.all(kind == "star"):
            continue
        values = _numbers(path, catalogue[name], _UNITS.get(name, u.dimensionless_unscaled))
        _require_range(path, name, values, bounds, kind == "galaxy")
        scene[name] = np.where(kind == "galaxy", values, np.nan)
    scene["sersic_n"] = np.round(scene["sersic_n"], 1)
    for name in _MOTIONS:
        scene[name] = _numbers(path, catalogue[name], _UNITS[name]) if name in catalogue.colnames else 0.0
        _require_range(path, name, scene[name], (-1e5, 1e5), np.full(len(kind), True))
    for filter_name in filters:
        scene[f"flux_{filter_name}"] = _fluxes(path, catalogue, filter_name)
    return _with_units(scene)


def _read_table(path: Path) -> Table:
    if not path.is_file():
        raise FileNotFoundError(f"there is no catalogue {path}; check simulation.catalog")
    if path.suffix not in _FORMATS:
        raise ValueError(f"{path}: a catalogue ends in {', '.join(_FORMATS)}; convert it, or rename the file")
    if path.suffix == ".parquet":
        return Table.from_pandas(pd.read_parquet(path))
    return Table.read(path, format=_FORMATS[path.suffix])


def _require_columns(path: Path, catalogue: Table, filters: Sequence[str]) -> None:
    present = set(catalogue.colnames)
    required = ["ra", "dec", "kind", *SHAPE_RANGES, *(f"flux_{name}" for name in filters)]
    stars_only = "kind" in present and all(str(kind).strip().lower() == "star" for kind in catalogue["kind"])
    missing = [
        name
        for name in required
        if name not in present
        and name.replace("flux_", "mag_") not in present
        and not (stars_only and name in SHAPE_RANGES)
    ]
    if missing:
        raise ValueError(
            f"{path}: no column {', '.join(missing)}; a catalogue needs {', '.join(required)}"
            " (AB magnitudes as mag_<FILTER> may stand in for fluxes in nJy, and stars need no shape)"
        )


def _fluxes(path: Path, catalogue: Table, filter_name: str) -> Floats:
    """Fluxes in nJy from a catalogue's fluxes or magnitudes."""
    name = f"flux_{filter_name}"
    if name in catalogue.colnames:
        fluxes = _numbers(path, catalogue[name], u.nJy)
        _require_range(path, name, fluxes, (0.0, np.inf), np.full(len(fluxes), True))
        return fluxes
    name = f"mag_{filter_name}"
    magnitudes = _numbers(path, catalogue[name], u.mag)
    _require_range(path, name, magnitudes, (0.0, 100.0), np.full(len(magnitudes), True))
    return (magnitudes * u.ABmag).to_value(u.nJy)


def _numbers(path: Path, column: Column, unit: u.UnitBase) -> Floats:
    """A column as floats in a unit; masked values become NaN."""
    try:
        values: Floats = np.ma.filled(np.ma.asarray(column, dtype=float), np.nan)
        if column.unit in (None, u.ABmag):
            return values
        return (values * column.unit).to_value(unit)
    except (ValueError, u.UnitConversionError) as error:
        raise ValueError(f"{path}: column {column.name}, {unit or 'a number'} expected: {error}") from error


def _require_range(
    path: Path, name: str, values: Floats, bounds: tuple[float, float], concerned: NDArray[np.bool_]
) -> None:
    low, high = bounds
    good = np.isfinite(values) & (values >= low) & (values <= high)
    _require(path, name, values, good | ~concerned, f"must be a number from {low:g} to {high:g}")


def _require(path: Path, name: str, values: NDArray, good: NDArray[np.bool_], rule: str) -> None:
    if not np.all(good):
        row = int(np.argmin(good))
        raise ValueError(f"{path}: column {name}, row {row + 1}: {values[row]} {rule}; correct or remove the row")


def _with_units(scene: Table) -> Table:
    for name in scene.colnames:
        scene[name].unit = u.nJy if name.startswith("flux_") else _UNITS.get(name)
    return scene


def _enclosing_circle(exposure: PlannedExposure) -> tuple[float, float, float, float]:
    """Unit vector to the middle of an exposure, and a radius in radians that contains it and the margin."""
    corners = _unit_vectors(*footprint(exposure, nominal_view(exposure)))
    centre = corners.mean(axis=0) / np.linalg.norm(corners.mean(axis=0))
    radius = np.linalg.norm(corners - centre, axis=1).max() + np.radians(MARGIN_ARCSEC / 3600)
    x, y, z = (float(value) for value in centre)
    return x, y, z, float(radius)


def _unit_vectors(ra: Floats, dec: Floats) -> Floats:
    """Directions with shape (N, 3)."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _cells(circle: Floats) -> list[tuple[int, int]]:
    """Cells of sky (declination band, column) that a circle may touch."""
    ra, dec = np.degrees(np.arctan2(circle[1], circle[0])) % 360, np.degrees(np.arcsin(circle[2]))
    radius = np.degrees(circle[3])
    cells = []
    for band in range(_band(max(dec - radius, -90)), _band(min(dec + radius, 90)) + 1):
        columns = _columns(band)
        half_width = min(radius / max(np.cos(np.radians(abs(dec) + radius)), 1e-9), 180.0)
        first, last = (int(np.floor((ra + sign * half_width) / 360 * columns)) for sign in (-1, 1))
        cells += [(band, column % columns) for column in range(first, min(last, first + columns - 1) + 1)]
    return cells


def _band(dec: float) -> int:
    return min(int((dec + 90) / _CELL_DEG), round(180 / _CELL_DEG) - 1)


def _columns(band: int) -> int:
    """Number of cells around a declination band, nearly square."""
    return max(1, round(360 / _CELL_DEG * np.cos(np.radians((band + 0.5) * _CELL_DEG - 90))))


def _draw_cell(settings: SimulationSettings, band: int, column: int, filters: Sequence[str]) -> dict[str, NDArray]:
    """All columns of a scene but the id, for the sources of one cell."""
    generator = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(band, column)))
    sine_low, sine_high = np.sin(np.radians((np.array([band, band + 1])) * _CELL_DEG - 90))
    width = 360 / _columns(band)
    arcmin2 = np.radians(width) * (sine_high - sine_low) * np.degrees(60) ** 2
    kinds = []
    for kind, density, draw in (
        ("galaxy", settings.galaxies_per_arcmin2, _draw_galaxies),
        ("star", settings.stars_per_arcmin2, _draw_stars),
    ):
        count = int(generator.poisson(density * arcmin2))
        columns = {
            "ra": (column + generator.random(count)) * width,
            "dec": np.degrees(np.arcsin(sine_low + generator.random(count) * (sine_high - sine_low))),
            "kind": np.full(count, kind),
        }
        kinds.append(columns | draw(generator, count, filters))
    motions = settings.proper_motion_mas_yr * generator.standard_normal((2, len(kinds[1]["ra"])))
    resting = np.zeros((2, len(kinds[0]["ra"])))
    for columns, both in zip(kinds, (resting, motions), strict=True):
        columns |= dict(zip(_MOTIONS, both, strict=True))
    return {name: np.concatenate([columns[name] for columns in kinds]) for name in kinds[0]}


def _draw_galaxies(generator: np.random.Generator, count: int, filters: Sequence[str]) -> dict[str, NDArray]:
    """Shapes and fluxes of galaxies."""
    brightest, faintest = (10 ** (_COUNTS_SLOPE * magnitude) for magnitude in _GALAXY_MAGNITUDES)
    magnitude = np.log10(brightest + generator.random(count) * (faintest - brightest)) / _COUNTS_SLOPE
    radius = 10 ** (-0.26 - 0.085 * (magnitude - 20) + 0.2 * generator.standard_normal(count))
    index = np.exp(0.3 + 0.5 * generator.standard_normal(count))
    shapes = {
        "sersic_n": np.clip(np.round(2 * index) / 2, 0.5, 4.0),
        "half_light_radius": np.clip(radius, 0.02, 2.5),
        "axis_ratio": 0.2 + 0.8 * generator.beta(2.0, 1.5, count),
        "position_angle": 180 * generator.random(count),
    }
    redshift = generator.gamma(2.2, 0.2 + 0.08 * np.clip(magnitude - 18, 0, None))
    slope = 1.2 - 0.12 * (magnitude - 20) + 0.4 * generator.standard_normal(count)
    balmer_break = np.clip(0.25 + 0.15 * generator.standard_normal(count), 0, None)
    reference = (magnitude * u.ABmag).to_value(u.nJy)
    fluxes = {}
    for name in filters:
        spectrum = (PASSBANDS[name].pivot_um / _REFERENCE_UM) ** slope
        below_break = 10 ** (-balmer_break * (1 - _fraction_longward(name, _BALMER_BREAK_UM * (1 + redshift))))
        fluxes[f"flux_{name}"] = (
            reference * spectrum * below_break * _fraction_longward(name, _LYMAN_ALPHA_UM * (1 + redshift))
        )
    return shapes | fluxes


def _draw_stars(generator: np.random.Generator, count: int, filters: Sequence[str]) -> dict[str, NDArray]:
    """Fluxes of stars, power laws in wavelength; their shapes are NaN."""
    reference = (generator.uniform(*_STAR_MAGNITUDES, count) * u.ABmag).to_value(u.nJy)
    slope = generator.uniform(*_STAR_SLOPES, count)
    fluxes = {f"flux_{name}": reference * (PASSBANDS[name].pivot_um / _REFERENCE_UM) ** slope for name in filters}
    return {name: np.full(count, np.nan) for name in SHAPE_RANGES} | fluxes


def _fraction_longward(filter_name: str, wavelength_um: Floats) -> Floats:
    """Fraction of a passband at longer wavelengths."""
    band = PASSBANDS[filter_name]
    return np.clip(0.5 + (band.pivot_um - wavelength_um) / band.width_um, 0, 1)
