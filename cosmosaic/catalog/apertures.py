"""Sums over many apertures, compiled: circles and ellipses, with neighbours and gaps replaced.

photutils makes a mask object for each source; for 100,000 sources in four filters that takes most of a catalogue's
time. `tests/catalog/test_apertures.py` compares the sums with photutils'.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

SUBPIXELS, FEWEST_SUBPIXELS = 10, 3
"""Points along each axis of a pixel on the rim, for small and for large apertures."""
HALF_DIAGONAL = 0.7072
"""Of a pixel, rounded up."""
SUBPIXELS_RADIUS = 40.0
"""Product of points and radius in pixels, from which more points do not matter: the rim is a small part of a large
aperture. Sums over circles of 2 pixels radius are right to half a per cent, of 8 and more to 0.1 %."""


class Ellipses(NamedTuple):
    """Apertures in 0-based pixels, shape ``(n,)`` each."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    semimajor: NDArray[np.float64]
    semiminor: NDArray[np.float64]
    theta: NDArray[np.float64]
    """Angle of the major axis from +x in radians."""


class Sums(NamedTuple):
    """Sums over apertures, shape ``(n,)`` each."""

    flux: NDArray[np.float64]
    variance: NDArray[np.float64]
    area: NDArray[np.float64]
    """Area in pixels."""
    missing: NDArray[np.float64]
    """Fraction of the area without data of its own."""
    neighbours: NDArray[np.float64]
    """Fraction of the area on other sources."""


def circles(x: ArrayLike, y: ArrayLike, radius: ArrayLike) -> Ellipses:
    """Make circular apertures; the radius in pixels may differ from source to source."""
    columns, rows, radii = np.broadcast_arrays(*(np.asarray(value, np.float64) for value in (x, y, radius)))
    return Ellipses(columns.copy(), rows.copy(), radii.copy(), radii.copy(), np.zeros(columns.shape))


def sum_apertures(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    valid: NDArray[np.bool_],
    apertures: Ellipses,
    segments: NDArray[np.int32] | None = None,
    labels: NDArray[np.integer] | None = None,
) -> Sums:
    """Sum an image and its variance over apertures.

    Pixels on other sources and pixels without data are replaced by the pixel opposite about the centre, as
    SExtractor's MASK_TYPE CORRECT does; where that is unusable too they count as zero.

    Parameters
    ----------
    data, variance
        Shape ``(ny, nx)``.
    valid
        True where there are data.
    apertures
        The apertures; those that are not finite have a sum of NaN.
    segments, labels
        Segmentation map and the label of each aperture's source; by default nothing is a neighbour.
    """
    count = len(apertures.x)
    sums = np.full((count, 5), np.nan)
    own = np.zeros(count, np.int64) if labels is None else np.asarray(labels, np.int64)
    map_ = np.zeros((1, 1), np.int32) if segments is None else segments
    _sum(data, variance, valid, map_, own, apertures, sums)
    return Sums(*sums.T)


@njit(cache=True, nogil=True, error_model="numpy")
def _sum(data, variance, valid, segments, labels, apertures, sums):  # type: ignore[no-untyped-def]
    for source in range(len(labels)):
        x, y, theta = apertures.x[source], apertures.y[source], apertures.theta[source]
        major, minor = apertures.semimajor[source], apertures.semiminor[source]
        if np.isfinite(x + y + major + minor + theta) and minor > 0:
            _sum_one(data, variance, valid, segments, labels[source], (x, y, major, minor, theta), sums[source])


@njit(cache=True, nogil=True, error_model="numpy")
def _sum_one(data, variance, valid, segments, label, aperture, sums):  # type: ignore[no-untyped-def]
    x, y, major, minor, theta = aperture
    cos, sin = np.cos(theta), np.sin(theta)
    points = _points_in_pixels(minor)
    middle_x, middle_y = round(x), round(y)
    flux = noise = area = missing = neighbours = 0.0
    reach_y = np.hypot(major * sin, minor * cos) + 1.0
    margin = HALF_DIAGONAL / minor
    # Along a row the square of the distance in units of the axes is a parabola.
    curvature = (cos / major) ** 2 + (sin / minor) ** 2
    for row in range(int(np.floor(y - reach_y)), int(np.ceil(y + reach_y)) + 1):
        dy = row - y
        slope = dy * cos * sin * (1.0 / major**2 - 1.0 / minor**2)
        least = dy * dy * ((sin / major) ** 2 + (cos / minor) ** 2)
        left, right = _columns_within(x, curvature, slope, least - (1.0 + margin) ** 2)
        first, last = (
            _columns_within(x, curvature, slope, least - (1.0 - margin) ** 2) if margin < 1.0 else (right + 1, right)
        )
        for column in range(left, right + 1):
            is_inside = first <= column <= last
            share = 1.0 if is_inside else _overlap(column - x, dy, cos, sin, major, minor, points)
            if share == 0.0:
                continue
            area += share
            state = _state(valid, segments, label, row, column)
            at_row, at_column = row, column
            if state != 0:
                missing += share * (state == 1)
                neighbours += share * (state == 2)
                at_row, at_column = 2 * middle_y - row, 2 * middle_x - column
                if _state(valid, segments, label, at_row, at_column) != 0:
                    continue
            flux += share * data[at_row, at_column]
            noise += share * variance[at_row, at_column]
    sums[0], sums[1], sums[2], sums[3], sums[4] = flux, noise, area, missing / area, neighbours / area


@njit(cache=True, nogil=True, error_model="numpy")
def _columns_within(x, curvature, slope, least):  # type: ignore[no-untyped-def]
    """Return the first and last column, dx from x, with ``curvature dx^2 + 2 slope dx + least < 0``."""
    square = slope * slope - curvature * least
    if not square > 0.0:
        return 0, -1
    root = np.sqrt(square)
    return int(np.ceil(x - (slope + root) / curvature)), int(np.floor(x + (root - slope) / curvature))


@njit(cache=True, nogil=True, error_model="numpy")
def _state(valid, segments, label, row, column):  # type: ignore[no-untyped-def]
    """Return 0 for a usable pixel, 1 for one without data, 2 for one of another source."""
    if row < 0 or column < 0 or row >= valid.shape[0] or column >= valid.shape[1] or not valid[row, column]:
        return 1
    if segments.shape != valid.shape:
        return 0
    found = segments[row, column]
    return 2 if (found != 0) & (found != label) else 0


@njit(cache=True, nogil=True, error_model="numpy")
def _overlap(dx, dy, cos, sin, major, minor, points):  # type: ignore[no-untyped-def]
    """Return the fraction of a pixel inside an ellipse, by this number of points along each of its axes."""
    inside, step = 0, 1.0 / points
    # Along a row of points the square of the distance is a parabola: those below 1 are between its roots.
    along_step, across_step = step * cos / major, -step * sin / minor
    curvature = along_step * along_step + across_step * across_step
    per_curvature, at_x = 1.0 / curvature, dx + 0.5 * step - 0.5
    for step_y in range(points):
        at_y = dy + (step_y + 0.5) * step - 0.5
        along, across = (at_x * cos + at_y * sin) / major, (at_y * cos - at_x * sin) / minor
        slope = along * along_step + across * across_step
        square = slope * slope - curvature * (along * along + across * across - 1.0)
        if square > 0.0:
            root = np.sqrt(square)
            first = max(np.ceil(-(slope + root) * per_curvature), 0.0)
            last = min(np.floor((root - slope) * per_curvature), points - 1.0)
            inside += int(last - first) + 1 if last >= first else 0
    return inside / points**2


def sum_clear_circles(
    one: NDArray[np.float32], other: NDArray[np.float32], places: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum two images over circles all of whose pixels are usable: the sums of `sum_apertures`, in half of its time.

    Parameters
    ----------
    one, other
        Shape ``(ny, nx)``.
    places
        Centres (x, y) in pixels, shape ``(n, 2)``, no nearer to the first and last pixels' centres than the radius.
    radius
        In pixels.
    """
    sums = np.zeros((2, len(places)))
    _sum_clear(one, other, places, radius, sums)
    return sums[0], sums[1]


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _sum_clear(one, other, places, radius, sums):  # type: ignore[no-untyped-def]
    points, widest = _points_in_pixels(radius), int(2.0 * radius) + 3
    shares, changes = np.empty(widest), np.empty(widest + 1, np.int64)
    for place in range(len(places)):
        x, y = places[place, 0], places[place, 1]
        left = int(np.ceil(x - radius - 0.5))
        for row in range(int(np.ceil(y - radius - 0.5)), int(np.floor(y + radius + 0.5)) + 1):
            begin, end = _points_held(x, row - y, radius, points, left, changes)
            held = 0
            for column in range(begin, end):
                held += changes[column]
                shares[column] = held
            # Pixels beyond these may be NaN.
            line, second = one[row, left + begin : left + end], other[row, left + begin : left + end]
            total = total_second = 0.0
            for column in range(end - begin):
                total += shares[begin + column] * line[column]
                total_second += shares[begin + column] * second[column]
            sums[0, place] += total / points**2
            sums[1, place] += total_second / points**2


@njit(cache=True, nogil=True)
def _points_held(x, dy, radius, points, left, changes):  # type: ignore[no-untyped-def]
    """Write how many more points of a row's pixels, from a left one on, a circle holds than of the pixel before.

    Returns the first of these pixels of which it holds any, and the end, counted from the left one.
    """
    changes[:] = 0
    begin, end, middle = len(changes), 0, (x - left + 0.5) * points - 0.5
    for step in range(points):
        across = dy + (step + 0.5) / points - 0.5
        square = radius * radius - across * across
        half = np.sqrt(max(square, 0.0)) * points
        first, last = int(np.ceil(middle - half)), int(np.floor(middle + half))
        if square > 0.0 and first <= last:
            begin, end = min(begin, first // points), max(end, last // points + 1)
            for at, sign in ((first, 1), (last + 1, -1)):
                changes[at // points] += sign * (points - at % points)
                changes[at // points + 1] += sign * (at % points)
    return begin, end


@njit(cache=True, nogil=True)
def _points_in_pixels(radius):  # type: ignore[no-untyped-def]
    """Return the number of points along each axis of a pixel on the rim."""
    return int(min(max(np.ceil(SUBPIXELS_RADIUS / radius), FEWEST_SUBPIXELS), SUBPIXELS))


class Peaks(NamedTuple):
    """The brightest pixel of each segment, shape ``(n,)`` each."""

    value: NDArray[np.float64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]


def find_peaks(image: NDArray[np.float32], segments: NDArray[np.int32], labels: NDArray[np.integer]) -> Peaks:
    """Find the brightest pixel of each of the labelled segments, in one pass over the image."""
    values = np.full(int(labels.max(initial=0)) + 1, -np.inf)
    places = np.zeros((len(values), 2), np.int64)
    _peaks(image, segments, values, places)
    return Peaks(values[labels], places[labels, 0], places[labels, 1])


@njit(cache=True, nogil=True)
def _peaks(image, segments, values, places):  # type: ignore[no-untyped-def]
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            label = segments[row, column]
            if label > 0 and image[row, column] > values[label]:
                values[label] = image[row, column]
                # One by one: numba takes seconds to compile the assignment of a pair.
                places[label, 0] = row
                places[label, 1] = column
