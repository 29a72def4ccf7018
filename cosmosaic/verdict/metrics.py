"""Metrics of the flatness of a sky, with errors and states."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from astropy.stats import mad_std
from numpy.typing import NDArray
from scipy import ndimage

from cosmosaic.cells.survey import CellExposure, sums_on_detector
from cosmosaic.geometry.windows import CELL_PIXELS
from cosmosaic.records import State
from cosmosaic.sky.zero import NO_EMPTY_SKY
from cosmosaic.statistics import scatter_about_zero

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

SIGNIFICANT_SIGMA = 4.0
"""A metric must exceed a limit by this many of its errors, so that none of dozens of metrics does so by chance."""
PASS_SIGMA = 2.0
"""A metric passes only if it lies below its limit of failure by this many of its errors."""
DECISIVE = ("step", "zero")
"""Metrics that must be measured for a sky to pass."""
LIGHT_PART = 0.35
"""Fraction of its rms by which light in empty sky raises a level, if no more is known."""
APERTURE_CELLS = (1, 2, 4, 8)
PATTERN_CELLS = 8
"""Side in cells of the blocks in which light fixed to the detector is searched: 2 arcsec."""
ROW_PIXELS = 16
HALO_CELLS = (4.0, 8.0, 16.0)
"""Edges in cells of the rings around bright sources."""
PRODUCTS_TOGETHER = 64
"""Exposures of a detector that are multiplied with all others at a time."""
LARGEST_SOURCES = 20
LARGE_CELLS = 60
"""Sources of at least this many cells are large: 4 square arcseconds in the short-wavelength channel."""


class Limit(NamedTuple):
    """Values above which a metric warns and fails; per cent of the pixel rms."""

    warn: float
    fail: float


LIMITS = {
    "step": Limit(1.0, 3.0),
    "zero": Limit(1.0, 5.0),
    "rows": Limit(8.0, 15.0),
    "columns": Limit(8.0, 15.0),
    "detector": Limit(3.0, 8.0),
    "halo": Limit(6.0, 10.0),
    "growth": Limit(3.0, 6.0),
}


MEANINGS = {
    "step": "offset of the exposure farthest from the others, measured on blocks of sky that no solution uses",
    "zero": "offset of all levels together from the empty sky",
    "rows": "rms of the means of rows, 16 pixels wide, of the worst exposure against the others: 1/f noise",
    "columns": "the same for columns",
    "detector": "rms of light fixed to the detector, whatever the sky: wisps, or a bad flat",
    "halo": "depression of the sky around one of the largest sources: over-subtraction",
    "growth": "scatter of empty apertures of 8 by 8 cells beyond sqrt(N) times that of single cells: residual stripes,"
    " gradients and steps, and the light of faint sources",
    "rms step": "rms step of all overlaps, noise subtracted; in units of its errors, 1 is noise alone",
    "rms level": "rms distance of the levels from those of the held-out blocks, noise subtracted",
    "scatter": "rms of the means of empty square apertures; the side is in cells of 8 by 8 pixels",
    "growth / sqrt N": "scatter of the largest apertures over that expected from the smallest by sqrt(N): 1 is white"
    " noise",
    "pure noise": "the same exposures, or 400 neighbours of them, with only the noise of their pixels, measured and"
    " judged in the same way",
}
"""Meaning of each metric."""


class Metric(NamedTuple):
    """One measure of flatness, in per cent of the pixel rms."""

    name: str
    value: float
    """NaN if not measurable."""
    error: float
    """NaN if not measurable."""
    where: str
    """The worst exposure, detector or source."""
    state: State
    message: str


class Apertures(NamedTuple):
    """Empty square apertures of one size on the stack."""

    cells: int
    """Side of the apertures."""
    number: int
    bias: float
    """Mean surface brightness in per cent of the pixel rms."""
    scatter: float
    """Rms of the apertures' means in per cent of the pixel rms."""


def empty_apertures(brightness: Floats, sources: Flags, size: int) -> Apertures:
    """Mean and scatter of square apertures that touch no source and lie side by side.

    Parameters
    ----------
    brightness
        Stack on the lattice, NaN where nothing was observed.
    sources
        Cells that hold sources, same shape.
    size
        Side of the apertures in cells.
    """
    free = np.isfinite(brightness) & ~sources
    ny, nx = (length // size for length in brightness.shape)
    cut = (slice(0, ny * size), slice(0, nx * size))
    number = free[cut].reshape(ny, size, nx, size).sum(axis=(1, 3))
    total = np.where(free, brightness, 0.0)[cut].reshape(ny, size, nx, size).sum(axis=(1, 3))
    # A quarter of an aperture may be missing: in crowded fields no large one is wholly free.
    values = (total / np.maximum(number, 1))[number >= 0.75 * size**2]
    if values.size < 2:
        return Apertures(size, int(values.size), np.nan, np.nan)
    return Apertures(size, int(values.size), float(np.mean(values)), float(np.std(values)))


def rms_without_noise(values: Floats, errors: Floats) -> tuple[float, float]:
    """Rms of noisy values without their noise, and its error."""
    mean_square = float(np.mean(values**2) - np.mean(errors**2))
    spread = float(np.sqrt(np.mean(2 * errors**4 + 4 * errors**2 * np.maximum(values**2 - errors**2, 0)) / values.size))
    return _root(mean_square, spread)


def _root(mean_square: float, spread: float) -> tuple[float, float]:
    """Root of a mean square that noise may have made negative, and its error."""
    rms = float(np.sqrt(max(mean_square, 0.0)))
    return rms, spread / (2 * max(rms, np.sqrt(spread) / 2, 1e-12))


def _state(name: str, value: float, error: float) -> State:
    limit, surely = LIMITS[name], value - SIGNIFICANT_SIGMA * error
    if value > limit.fail and surely > limit.warn:
        return "fail"
    if value > limit.warn and surely > 0:
        return "warn"
    return "pass" if value + PASS_SIGMA * error < limit.fail else "not measurable"


def judged_metric(name: str, value: float, error: float, where: str, message: str) -> Metric:
    """Judge a measured value."""
    if not np.isfinite(value + error):
        return unknown_metric(name, "not measurable", "too little was observed")
    state = _state(name, value, error)
    if state == "not measurable":
        message = f"{value:.1f} +- {error:.1f} % of the pixel rms is too uncertain ({name} not measurable)"
    return Metric(name, value, error, where, state, message)


def leniency(name: str, value: float, error: float, state: str) -> str:
    """Explain why a value beyond a limit does not have the state of that limit; empty if it has, or is within.

    Parameters
    ----------
    name
        The metric.
    value, error
        In per cent of the pixel rms.
    state
        State of the metric.
    """
    limit = LIMITS[name]
    measured = f"{name}: {value:.1f} +- {error:.1f}"
    if state == "warn" and value > limit.fail:
        least = f"{SIGNIFICANT_SIGMA:g} errors above {limit.warn:g}"
        return f"{measured} lies above {limit.fail:g} but not by {least}, so that it may be chance: no fail"
    if state == "pass" and value > limit.warn:
        return f"{measured} lies above {limit.warn:g} but not {SIGNIFICANT_SIGMA:g} errors above 0: no warning"
    return ""


def unknown_metric(name: str, state: State, reason: str) -> Metric:
    return Metric(name, np.nan, np.nan, "", state, f"{reason} ({name} {state})")


def worst_level(offsets: Mapping[str, float], errors: Mapping[str, float]) -> Metric:
    # Relative to the typical exposure: a zero that is off for all is another metric's.
    centre = float(np.median(list(offsets.values())))

    def of(name: str) -> Metric:
        value, error = offsets[name] - centre, errors[name]
        side = "too much" if value > 0 else "too little"
        message = f"{abs(value):.1f} +- {error:.1f} % of the pixel rms {side} was taken out of {name}"
        return judged_metric("step", abs(value), error, name, message)

    worst = of(max(offsets, key=lambda name: abs(offsets[name] - centre) / np.hypot(errors[name], 0.2)))
    least_known = of(max(offsets, key=lambda name: abs(offsets[name] - centre) + PASS_SIGMA * errors[name]))
    return worst if worst.state != "pass" else least_known if least_known.state != "pass" else worst


class Residual(NamedTuple):
    """The patterns of an exposure that differ from those of all others, in per cent of the pixel rms."""

    name: str
    detector: str
    rows: tuple[float, float]
    """Rms of stripes along rows, and its error; NaN if unknown."""
    columns: tuple[float, float]
    light: Floats
    """Means over blocks of the detector, rows first, NaN where unknown."""


def residual_of(exposure: CellExposure, residual: Floats, detector_rows: int) -> Residual:
    """Measure the patterns in the difference of an exposure from all others.

    Parameters
    ----------
    exposure
        Tells where on the detector its cells lie.
    residual
        The difference in per cent of the pixel rms, NaN where it is unknown, shape of the exposure.
    detector_rows
        Rows of the detector's exposures, which share their blocks.
    """
    rows, columns = (_stripe_rms(exposure, residual, axis) for axis in (1, 0))
    size = max(1, detector_rows // (PATTERN_CELLS * CELL_PIXELS))
    return Residual(exposure.name, exposure.detector, rows, columns, _detector_map(exposure, residual, size))


def worst_stripes(name: Literal["rows", "columns"], residuals: Iterable[Residual]) -> Metric:
    found = {each.name: each.rows if name == "rows" else each.columns for each in residuals}
    worst, value, error = _worst_of(found)
    message = f"{worst} has stripes along its {name} of {value:.1f} % of the pixel rms (1/f noise)"
    return judged_metric(name, value, error, worst, message)


def _worst_of(found: Mapping[str, tuple[float, float]]) -> tuple[str, float, float]:
    """The largest of some values with its name and error; NaN where none is known."""
    known = {name: value for name, (value, error) in found.items() if np.isfinite(value + error)}
    if not known:
        return "", np.nan, np.nan
    worst = max(known, key=lambda name: known[name])
    return worst, *found[worst]


def _stripe_rms(exposure: CellExposure, residual: Floats, axis: int) -> tuple[float, float]:
    """Rms of the means of rows (axis 1) or columns (axis 0), 16 pixels wide, without their noise."""
    used = np.isfinite(residual)
    if not used.any():
        return np.nan, np.nan
    # Rows and columns of a detector have the same number of pixels.
    position = (exposure.detector_position[axis][used] + 0.5) * exposure.detector_rows / ROW_PIXELS
    index = np.clip(position, 0, None).astype(int)
    number = np.bincount(index)
    mean = np.bincount(index, residual[used]) / np.maximum(number, 1)
    noise = scatter_about_zero(residual[used])
    enough = number > 0.2 * number.max()
    return rms_without_noise((mean - np.mean(mean[enough]))[enough], noise / np.sqrt(number[enough]))


def own_light(residuals: Iterable[Residual]) -> Metric:
    by_detector = defaultdict(list)
    for each in residuals:
        by_detector[each.detector].append(each.light)
    found = {detector: _fixed_light(maps) for detector, maps in by_detector.items()}
    worst, value, error = _worst_of(found)
    message = (
        f"{worst} has light of its own of rms {value:.1f} % of the pixel rms at fixed places (wisps, or a bad flat)"
    )
    return judged_metric("detector", value, error, worst, message)


def _fixed_light(maps: Sequence[Floats]) -> tuple[float, float]:
    """Rms over a detector of the light that all its exposures have at the same places.

    Only products of different exposures are averaged, to which neither noise nor 1/f stripes contribute.
    """
    known = np.isfinite(maps).reshape(len(maps), -1)
    light = np.where(known, np.reshape(maps, known.shape), 0.0)
    pairs, value, squares = 0, 0.0, 0.0
    for first in range(0, len(maps), PRODUCTS_TOGETHER):
        products = _mean_products(light[first:], known[first:].astype(float))
        if not products.size:
            continue
        # Mean and squares about it of two sets together (Chan, Golub & LeVeque 1983, Am. Stat. 37, 242).
        mean, number = float(np.mean(products)), products.size
        squares += float(np.sum((products - mean) ** 2)) + (mean - value) ** 2 * pairs * number / (pairs + number)
        value += (mean - value) * number / (pairs + number)
        pairs += number
    if not pairs:
        return np.nan, np.nan
    # Through the stack, of which these exposures are a part, each sees the others' light with the opposite sign.
    scatter = float(np.sqrt(squares) / pairs) if pairs > 1 else abs(value)
    return _root(value, scatter)


def _mean_products(light: Floats, known: Floats) -> Floats:
    """Mean products over their common blocks of each of the first exposures and each one after it.

    All at a time as products of matrices: pairs are many.
    """
    first = slice(PRODUCTS_TOGETHER)
    total, number = light[first] @ light.T, known[first] @ known.T
    counted = np.triu(number > 0, k=1)
    return total[counted] / number[counted]


def _detector_map(exposure: CellExposure, residual: Floats, size: int) -> Floats:
    used = np.isfinite(residual)
    total, number = sums_on_detector(exposure, residual, used, size)
    return np.where(number >= 0.25 * PATTERN_CELLS**2, total / np.maximum(number, 1), np.nan)


def halo(brightness: Floats, sources: Flags, sky: Flags, largest: Apertures) -> Metric:
    """The deepest hole around one of the largest sources; brightness in per cent of the pixel rms."""
    labels, number = ndimage.label(sources)
    sizes = ndimage.sum_labels(np.ones_like(brightness), labels, np.arange(1, number + 1))
    large = [label + 1 for label in np.argsort(sizes)[::-1][:LARGEST_SOURCES] if sizes[label] >= LARGE_CELLS]
    free = np.isfinite(brightness) & sky
    if not free.any():
        return unknown_metric("halo", "not measurable", NO_EMPTY_SKY)
    if not large:
        return unknown_metric("halo", "not applicable", "there is no large source")
    centre = float(np.median(brightness[free]))
    noise = float(mad_std(brightness[free]))
    # Faint sources make the sky rougher on large scales than its pixels' noise.
    noise = float(np.nanmax([noise, largest.scatter * largest.cells]))
    worst, where, error = np.nan, "", np.nan
    for label in large:
        for depth, depth_error in _rings(brightness - centre, labels == label, free, noise):
            if not where or depth - SIGNIFICANT_SIGMA * depth_error > worst - SIGNIFICANT_SIGMA * error:
                worst, error = depth, depth_error
                row, column = ndimage.center_of_mass(labels == label)
                where = f"cell ({column:.0f}, {row:.0f})"
    message = f"the sky around the bright source at {where} is {worst:.1f} +- {error:.1f} % of the pixel rms too low"
    return judged_metric("halo", np.maximum(worst, 0.0), error, where, message)


def growth(smallest: Apertures, largest: Apertures) -> Metric:
    """Scatter of large empty apertures that is not the noise of small ones."""
    if not np.isfinite(smallest.scatter * largest.scatter):
        reason = f"no two apertures of {largest.cells} by {largest.cells} cells are empty sky"
        return unknown_metric("growth", "not measurable", reason)
    white = smallest.scatter * smallest.cells / largest.cells
    value, error = _root(largest.scatter**2 - white**2, largest.scatter**2 * np.sqrt(2.0 / largest.number))
    message = (
        f"empty apertures of {largest.cells} by {largest.cells} cells scatter by {largest.scatter:.1f} % of the pixel"
        f" rms, {largest.scatter / max(white, 1e-9):.1f} times that expected from single cells by sqrt(N)"
    )
    return judged_metric("growth", value, error, "", message)


def _rings(brightness: Floats, source: Flags, free: Flags, noise: float) -> list[tuple[float, float]]:
    """Depth below the sky, and its error, of rings around one source."""
    rows, columns = (np.flatnonzero(source.any(axis=axis)) for axis in (1, 0))
    margin = int(HALO_CELLS[-1]) + 1
    window = tuple(
        slice(max(0, index[0] - margin), min(size, index[-1] + margin + 1))
        for index, size in zip((rows, columns), source.shape, strict=True)
    )
    distance = ndimage.distance_transform_edt(~source[window])
    rings = []
    for inner, outer in pairwise(HALO_CELLS):
        ring = free[window] & (distance > inner) & (distance <= outer)
        if np.count_nonzero(ring) >= 20:
            rings.append((-float(np.mean(brightness[window][ring])), noise / np.sqrt(np.count_nonzero(ring))))
    return rings
