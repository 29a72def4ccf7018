"""Windowed centroids and their errors, compiled: SExtractor's XWIN and ERRX2WIN.

The centroids are those of photutils' ``SourceCatalog``, which takes milliseconds for each source;
`tests/catalog/test_windows.py` compares them.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

REACH_SIGMA = 4.0
"""Windows of centroids end here."""
ERROR_REACH_SIGMA = 3.0
"""Those of their errors end here."""
ITERATIONS = 16
SETTLED_PIXELS = 1e-4

Floats = NDArray[np.float64]


def windowed_centroids(
    image: NDArray[np.float32],
    blocked: NDArray[np.bool_],
    segments: NDArray[np.int32],
    labels: NDArray[np.integer],
    start: tuple[Floats, Floats],
    sigma: Floats,
) -> tuple[Floats, Floats]:
    """Move windows onto the sources, until the light in each is centred.

    Pixels of other sources are replaced by those opposite about the centre.

    Parameters
    ----------
    image
        Shape ``(ny, nx)``.
    blocked
        Pixels that are left out.
    segments, labels
        Segmentation map and the label of each source.
    start
        First places (x, y) in pixels, shape ``(n,)`` each.
    sigma
        Width of each Gaussian window in pixels.

    Returns
    -------
    x, y
        NaN where the width or the place is not known, or the window leaves the image.
    """
    x, y = start[0].copy(), start[1].copy()
    _centre(image, blocked, segments, np.asarray(labels, np.int64), x, y, sigma)
    return x, y


def centroid_errors(
    image: NDArray[np.float32], variance: NDArray[np.float32], x: Floats, y: Floats, sigma: Floats
) -> tuple[Floats, Floats]:
    """Return the errors (x, y) in pixels of centroids in Gaussian windows; NaN where a window holds no light."""
    errors = np.full((2, len(x)), np.nan)
    _errors(image, variance, x, y, sigma, errors)
    return errors[0], errors[1]


@njit(cache=True, nogil=True, error_model="numpy")
def _centre(image, blocked, segments, labels, x, y, sigma):  # type: ignore[no-untyped-def]
    for source in range(len(labels)):
        place, width, label = (x[source], y[source]), sigma[source], labels[source]
        if not np.isfinite(place[0] + place[1] + width):
            x[source] = y[source] = np.nan
            continue
        for _ in range(ITERATIONS):
            dx, dy = _offset(image, blocked, segments, label, place, width)
            place = (place[0] + 2.0 * dx, place[1] + 2.0 * dy)
            if not np.hypot(dx, dy) > SETTLED_PIXELS:
                break
        x[source], y[source] = place


@njit(cache=True, nogil=True, error_model="numpy")
def _offset(image, blocked, segments, label, place, sigma):  # type: ignore[no-untyped-def]
    """Return the offset (x, y) of the light in a window from the window's centre."""
    radius = REACH_SIGMA * sigma
    half, column, row = int(radius + 1.5), int(place[0] + 0.5), int(place[1] + 0.5)
    bottom, top = max(row - half, 0), min(row + half + 1, image.shape[0])
    left, right = max(column - half, 0), min(column + half + 1, image.shape[1])
    total = along_x = along_y = 0.0
    for at_row in range(bottom, top):
        for at_column in range(left, right):
            dx, dy = at_column - place[0], at_row - place[1]
            square = dx * dx + dy * dy
            if square > radius * radius or blocked[at_row, at_column]:
                continue
            light = _light(
                image, blocked, segments, label, (at_row, at_column), (row, column), (bottom, top, left, right)
            )
            light *= np.exp(-square / (2.0 * sigma * sigma))
            total += light
            along_x += light * dx
            along_y += light * dy
    return along_x / total, along_y / total


@njit(cache=True, nogil=True)
def _light(image, blocked, segments, label, at, middle, box):  # type: ignore[no-untyped-def]
    """Return a pixel's value; on another source that of the pixel opposite, if that is usable and in the box."""
    if segments[at] in (0, label):
        return np.float64(image[at])
    row, column = 2 * middle[0] - at[0], 2 * middle[1] - at[1]
    if row < box[0] or row >= box[1] or column < box[2] or column >= box[3]:
        return 0.0
    if blocked[row, column] or segments[row, column] not in (0, label):
        return 0.0
    return np.float64(image[row, column])


@njit(cache=True, nogil=True, error_model="numpy")
def _errors(image, variance, x, y, sigma, errors):  # type: ignore[no-untyped-def]
    for source in range(len(x)):
        reach = int(np.ceil(ERROR_REACH_SIGMA * sigma[source])) + 1
        row, column = round(y[source]), round(x[source])
        total = across_x = across_y = 0.0
        for at_row in range(max(row - reach, 0), min(row + reach + 1, image.shape[0])):
            for at_column in range(max(column - reach, 0), min(column + reach + 1, image.shape[1])):
                dx, dy = at_column - x[source], at_row - y[source]
                weight = np.exp(-(dx * dx + dy * dy) / (2.0 * sigma[source] ** 2))
                total += weight * image[at_row, at_column]
                noise = weight * weight * variance[at_row, at_column]
                across_x += noise * dx * dx
                across_y += noise * dy * dy
        if total > 0:
            errors[0, source] = 2.0 * np.sqrt(across_x) / total
            errors[1, source] = 2.0 * np.sqrt(across_y) / total
