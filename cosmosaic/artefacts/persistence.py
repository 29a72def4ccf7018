"""Persistence: what pixels that one exposure filled release in the next exposures of the same detector.

A filled pixel traps charge and releases it over hours. For a saturated pixel of the same kind of detector (WFC3) the
current falls about as the inverse of the time since the exposure, and steeply with less charge (Long et al. 2012, Proc.
SPIE 8442, 84421W). Pixels are flagged where that current would exceed their error; others keep their light:
a star that falls on the same pixels again is far brighter than what it left there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.table import QTable
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.dq import UNUSABLE
from cosmosaic.exposures.headers import values_of
from cosmosaic.exposures.keywords import times_of
from cosmosaic.exposures.library import exposure_name
from cosmosaic.exposures.order import Earlier
from cosmosaic.exposures.planes import copy_changed, read_plane
from cosmosaic.nircam import DETECTOR_PIXELS
from cosmosaic.steps.result import Made

SATURATED_DN = 46000.0
"""Charge above the bias at which a pixel of NIRCam is full, about."""
LEAST_FILL = 0.2
"""Pixels with less of that charge leave at most a few per cent of what a full one does."""
STEEPNESS = 2.0
"""Power of the filled fraction that the current goes with: low, so that too many pixels are flagged and not too few."""
REFERENCE_TIME_S = 1000.0
SHORTEST_GAP_S = 10.0
"""The inverse of the time is not meant for less than the time of a frame."""
FLAGGED_SIGMA = 1.0
"""Persistence that a pixel may have, in its own error."""
NOT_USED = np.uint32(pixel["DO_NOT_USE"] | pixel["PERSISTENCE"])

Image = NDArray[np.float32]


class BrightPixels(NamedTuple):
    """The pixels that one exposure filled; one value each."""

    rows: NDArray[np.int16]
    columns: NDArray[np.int16]
    """0-based, on the whole detector."""
    fill: NDArray[np.float32]
    """Charge as a fraction of that of a full pixel, at most 1."""


class _Readout(NamedTuple):
    """What the headers of a calibrated exposure tell."""

    conversion: float
    """MJy/sr per DN/s."""
    integration_s: float
    row: int
    column: int
    """First pixel on the detector, 0-based."""


def list_bright(exposure: Path, folder: Path) -> Made:
    """List the pixels that an exposure filled.

    Parameters
    ----------
    exposure
        A ``_cal`` file. Saturated pixels are known by their flag; the charge of others is their brightness times the
        time of an integration.
    folder
        Gets ``_bright.npz``.

    Raises
    ------
    ValueError
        The headers lack what is needed; the message names file and keyword.
    """
    with fits.open(exposure, memmap=False) as hdus:
        readout = _readout_of(hdus, exposure.name)
        flags, brightness = read_plane(hdus, "DQ"), read_plane(hdus, "SCI")
    with np.errstate(invalid="ignore"):
        fill = brightness * np.float32(readout.integration_s / readout.conversion / SATURATED_DN)
        fill[((flags & UNUSABLE) != 0) | ~np.isfinite(fill)] = 0
    fill[(flags & np.uint32(pixel["SATURATED"])) != 0] = 1
    rows, columns = np.nonzero(fill >= LEAST_FILL)
    path = folder / f"{exposure_name(exposure.name)}_bright.npz"
    np.savez(
        path,
        rows=(rows + readout.row).astype(np.int16),
        columns=(columns + readout.column).astype(np.int16),
        fill=np.minimum(fill[rows, columns], 1),
    )
    return Made(bright=path)


def flag_persistence(
    exposure: Path,
    bright: Mapping[str, Path],
    earlier: tuple[Earlier, ...],
    duration_s: float,
    persistence_dn_s: float,
    folder: Path,
) -> Made:
    """Flag the pixels of an exposure in which earlier ones are expected to persist.

    Parameters
    ----------
    exposure
        A ``_cal`` file.
    bright
        ``_bright.npz`` by the name of the exposure; the pixels of exposures that could not be calibrated are missing.
    earlier
        Exposures of the same detector before this one.
    duration_s
        Exposure time in seconds.
    persistence_dn_s
        Current of a full pixel 1000 s after the end of the exposure, DN/s.
    folder
        Gets the flagged file, under the same name, and ``_persistence.ecsv``: a row for each earlier exposure.

    Raises
    ------
    ValueError
        The headers lack what is needed; the message names file and keyword.
    """
    with fits.open(exposure, memmap=False) as hdus:
        readout, header = _readout_of(hdus, exposure.name), hdus[0].header.copy()
        flags, error = read_plane(hdus, "DQ"), read_plane(hdus, "ERR")
    limit = error * np.float32(FLAGGED_SIGMA / readout.conversion)
    known = [(one, read_bright(bright[one.name])) for one in earlier if one.name in bright]
    left = [mean_current(pixels.fill**STEEPNESS * persistence_dn_s, one.gap_s, duration_s) for one, pixels in known]
    places = [_places_on(pixels, readout, flags.shape) for _, pixels in known]
    current = np.zeros(flags.shape, dtype=np.float32)
    for (inside, place), of_one in zip(places, left, strict=True):
        current[place] += of_one[inside]
    with np.errstate(invalid="ignore"):
        flagged = (current > limit) & ((flags & UNUSABLE) == 0)
    rows = [
        (one.name, one.gap_s, int(inside.sum()), int(flagged[place].sum()))
        for (one, _), (inside, place) in zip(known, places, strict=True)
    ]
    flags[flagged] |= NOT_USED
    unknown = [one.name for one in earlier if one.name not in bright]
    return Made(
        cal=copy_changed(exposure, folder / exposure.name, {"PRIMARY": header}, {"DQ": lambda part, _: flags[part]}),
        table=_write_table(rows, unknown, folder / f"{exposure_name(exposure.name)}_persistence.ecsv"),
        facts={
            "persistence_pixels": float(flagged.sum()),
            "persistence_exposures": float(len(known)),
            "persistence_unknown": float(len(unknown)),
        },
    )


def mean_current(after_1000_s: Image, gap_s: float, duration_s: float) -> Image:
    """Mean over an exposure of a current that falls as the inverse of the time.

    Parameters
    ----------
    after_1000_s
        The current 1000 s after the earlier exposure.
    gap_s
        From the end of that to the start of this, in seconds.
    duration_s
        Of this exposure, in seconds.
    """
    start = max(gap_s, SHORTEST_GAP_S)
    duration = max(duration_s, SHORTEST_GAP_S)
    return after_1000_s * np.float32(REFERENCE_TIME_S / duration * np.log1p(duration / start))


def read_bright(path: Path) -> BrightPixels:
    """Read what `list_bright` wrote."""
    with np.load(path) as file:
        return BrightPixels(file["rows"], file["columns"], file["fill"])


def _places_on(
    pixels: BrightPixels, readout: _Readout, shape: Sequence[int]
) -> tuple[NDArray[np.bool_], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return which pixels are part of an exposure, and their rows and columns there."""
    rows = pixels.rows.astype(np.int64) - readout.row
    columns = pixels.columns.astype(np.int64) - readout.column
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return inside, (rows[inside], columns[inside])


def _write_table(rows: list[tuple[str, float, int, int]], unknown: list[str], path: Path) -> Path:
    names = ("earlier", "gap_s", "bright", "flagged")
    table = QTable(rows=rows or None, names=names, dtype=(str, float, int, int))
    table.meta["unknown"] = unknown
    table.write(path, format="ascii.ecsv")
    return path


def _readout_of(hdus: Any, name: str) -> _Readout:
    values = values_of(hdus[0].header, hdus["SCI"].header)
    first = 1.0 if hdus["SCI"].shape == (DETECTOR_PIXELS, DETECTOR_PIXELS) else None
    needed: dict[str, float | None] = {"PHOTMJSR": None, "SUBSTRT1": first, "SUBSTRT2": first, "NINTS": 1.0}
    found = {keyword: _positive(values.get(keyword, default)) for keyword, default in needed.items()}
    for keyword, value in found.items():
        if np.isnan(value):
            raise ValueError(
                f"{name}: persistence cannot be followed: {keyword} is {values.get(keyword)!r}; set it, or leave"
                " exposures.persistence off"
            )
    seconds = times_of(values).exposure / found["NINTS"]
    return _Readout(found["PHOTMJSR"], seconds, int(found["SUBSTRT2"]) - 1, int(found["SUBSTRT1"]) - 1)


def _positive(value: object) -> float:
    """Return a positive number; NaN for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < np.inf else np.nan  # type: ignore[arg-type, operator]
