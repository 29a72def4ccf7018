"""A user's astrometric catalogue, at the epoch of the exposures."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io.registry import IORegistryError
from astropy.table import Table
from astropy.time import Time
from numpy.typing import NDArray

from cosmosaic.geometry.sphere import unit_vectors

Floats = NDArray[np.floating]

UNKNOWN_ERROR_MAS = 10.0
"""Error per axis of a star without one."""
UNKNOWN_TEXTS = ("", "null", "none", "--")
NAMES = {
    "ra": ("ra", "raj2000", "ra_icrs"),
    "dec": ("dec", "dej2000", "de_icrs", "decj2000"),
    "ra_error": ("ra_error", "e_ra_icrs", "ra_err", "e_ra"),
    "dec_error": ("dec_error", "e_de_icrs", "dec_err", "e_dec"),
    "pmra": ("pmra",),
    "pmdec": ("pmdec", "pmde"),
    "pmra_error": ("pmra_error", "e_pmra"),
    "pmdec_error": ("pmdec_error", "e_pmde"),
    "epoch": ("ref_epoch", "epoch"),
}
"""Names of columns, Gaia's first; case does not matter."""
UNITS = {"ra": u.deg, "dec": u.deg, "ra_error": u.mas, "dec_error": u.mas, "epoch": u.yr}
UNITS |= dict.fromkeys(("pmra", "pmdec", "pmra_error", "pmdec_error"), u.mas / u.yr)


class Reference(NamedTuple):
    """Stars of a catalogue at one epoch."""

    vectors: Floats
    """Unit vectors, shape (M, 3)."""
    errors: Floats
    """Rms error per axis, mas: of the position, and of the motion since the catalogue's epoch."""


def read_reference(path: Path, epoch: float | None) -> Reference:
    """Read an astrometric catalogue and move its stars to the epoch of the exposures.

    Parameters
    ----------
    path
        A table that astropy reads, with columns RA and Dec in degrees, ICRS; where present their errors (mas), proper
        motions (mas a year, RA times cos Dec), and epoch (Julian year), named as Gaia does. Columns with units are
        converted. Stars without proper motion rest; errors below zero are none. Rows with the same position are one.
    epoch
        Julian year; None leaves the stars at the catalogue's epoch.

    Raises
    ------
    ValueError
        The file is no table, a column is missing or holds no numbers in its unit, or declinations are beyond a pole.
    """
    table = _table(path)
    columns = {what: _column(path, table, what) for what in NAMES}
    if columns["ra"] is None or columns["dec"] is None:
        raise ValueError(
            f"{path.name}: align.reference_catalog needs columns RA and DEC in degrees; it has {table.colnames}"
        )
    ra, dec = columns["ra"], columns["dec"]
    own_epoch = _filled(columns["epoch"], len(table), np.nan)
    years = np.zeros(len(table)) if epoch is None else epoch - np.where(np.isnan(own_epoch), epoch, own_epoch)
    pm_ra, pm_dec = (_filled(columns[name], len(table), 0.0) for name in ("pmra", "pmdec"))
    known = np.isfinite(ra) & np.isfinite(dec)
    if np.any(np.abs(dec[known]) > 90):
        raise ValueError(
            f"{path.name}: declinations reach {np.nanmax(np.abs(dec)):g} degrees; check the column and its unit"
        )
    # A star twice in a catalogue tells no more than once.
    first = np.unique(np.stack([ra, dec], axis=1)[known], axis=0, return_index=True)[1]
    known[np.delete(np.flatnonzero(known), first)] = False
    sky = SkyCoord(
        ra[known] * u.deg,
        dec[known] * u.deg,
        pm_ra_cosdec=pm_ra[known] * u.mas / u.yr,
        pm_dec=pm_dec[known] * u.mas / u.yr,
        obstime=Time(2000.0 - years[known], format="jyear"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there are no distances
        moved = sky.apply_space_motion(new_obstime=Time(2000.0, format="jyear")) if known.any() else sky
    variances = [
        _errors(columns[f"{axis}_error"], len(table), UNKNOWN_ERROR_MAS) ** 2
        + (years * _errors(columns[f"pm{axis}_error"], len(table), 0.0)) ** 2
        for axis in ("ra", "dec")
    ]
    return Reference(
        unit_vectors(np.stack([moved.ra.deg, moved.dec.deg], axis=1)), np.sqrt(np.mean(variances, axis=0))[known]
    )


def _table(path: Path) -> Table:
    try:
        return Table.read(path, format="ascii.ecsv" if path.suffix == ".ecsv" else None)
    except (OSError, ValueError, IORegistryError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path.name}: align.reference_catalog cannot be read ({reason}); give a table in ECSV, FITS, VOTable or"
            " CSV, with the ending of its format"
        ) from error


def _column(path: Path, table: Table, what: str) -> Floats | None:
    """A column as numbers in the unit of `UNITS`, NaN where it is masked; None if there is none."""
    present = {name.lower(): name for name in table.colnames}
    name = next((present[one] for one in NAMES[what] if one in present), None)
    if name is None:
        return None
    try:
        column = np.ma.asarray(table[name])
        if column.dtype.kind in "US":
            # As the Gaia archive writes it.
            texts = column.filled("").astype(str)
            column = np.ma.asarray(np.where(np.isin(np.char.lower(texts), UNKNOWN_TEXTS), "nan", texts))
        values: Floats = np.ma.filled(column.astype(float), np.nan)
        if values.ndim > 1:
            raise ValueError(f"it has {values.shape[1]} values in a row")
        unit = table[name].unit
        return values if unit is None else (values * unit).to_value(UNITS[what])
    except (ValueError, u.UnitConversionError) as error:
        raise ValueError(f"{path.name}: column {name} must have numbers in {UNITS[what]}: {error}") from error


def _filled(values: Floats | None, count: int, default: float) -> Floats:
    if values is None:
        return np.full(count, default)
    return np.where(np.isfinite(values), values, default)


def _errors(values: Floats | None, count: int, default: float) -> Floats:
    errors = _filled(values, count, default)
    return np.where(errors < 0, default, errors)
