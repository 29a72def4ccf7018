"""Separation of sources that touch: the method of photutils' ``deblend_sources``, compiled.

photutils goes through the whole of a source for each of its peaks and again for each that it gives up, which took half
of a catalogue's time. Here only the pixels of that peak are visited. `tests/catalog/test_deblending.py` compares the
segments with photutils'.
"""

import heapq
from collections.abc import Iterator

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

LEVELS = 32
"""Thresholds between the faintest and the brightest pixel of a source (SExtractor's DEBLEND_NTHRESH)."""
MOST_PEAKS = 200
"""With more peaks on thresholds that grow by equal factors, thresholds grow by equal steps."""


def deblend(
    image: NDArray[np.float32], parents: NDArray[np.int32], least_pixels: int, contrast: float
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Separate sources that have several peaks.

    Where a source falls apart above a rising threshold its parts are its peaks. Each pixel belongs to the peak from
    which light falls to it (watershed). The faintest peak is given up until each has enough of the light.

    Parameters
    ----------
    image
        Image in which peaks are looked for, shape ``(ny, nx)``.
    parents
        Labels of the sources, 1 to their number, 0 on the sky.
    least_pixels
        Fewest connected pixels of a peak.
    contrast
        Least fraction of the source's light in each part.

    Returns
    -------
    segments
        New labels, without gaps: sources that are whole first, then the parts.
    separated
        Labels of the parts.
    """
    segments, last = parents.copy(), int(parents.max(initial=0))
    whole = np.ones(last + 1, bool)
    for label, box in enumerate(ndimage.find_objects(parents), start=1):
        own = parents[box] == label
        if np.count_nonzero(own) < 2 * least_pixels:
            continue
        values = np.pad(np.where(own, image[box], -np.inf), 1, constant_values=-np.inf)
        parts, count = _parts(values, image[box][own], least_pixels, contrast)
        if count < 2:
            continue
        segments[box][own] = parts[1:-1, 1:-1][own] + last
        last += count
        whole[label] = False
    table = np.zeros(last + 1, np.int32)
    is_left = np.concatenate([whole, np.ones(last + 1 - len(whole), bool)])
    is_left[0] = False
    table[is_left] = np.arange(1, np.count_nonzero(is_left) + 1)
    return table[segments], table[len(whole) :]


def _parts(
    values: NDArray[np.float32], own: NDArray[np.float32], least_pixels: int, contrast: float
) -> tuple[NDArray[np.int32], int]:
    """Separate one source; return its parts, numbered from 1, and their number.

    Parameters
    ----------
    values
        Its stamp with a rim of a pixel, minus infinity outside of it.
    own
        Values of its pixels.
    least_pixels, contrast
        As those of `deblend`.
    """
    low, high, count = own.min(), own.max(), 0
    parts = np.zeros(values.shape, np.int32)
    if low == high:
        return parts, 0
    for thresholds in _thresholds(low, high):
        count = _mark_peaks(values, thresholds, least_pixels, parts)
        if count <= MOST_PEAKS:
            break
    if count < 2:
        return parts, count
    return parts, _flood(values, float(own.sum()), contrast, parts, count)


def _thresholds(low: np.float32, high: np.float32) -> Iterator[NDArray[np.floating]]:
    """Thresholds that grow by equal factors, if they can, and by equal steps."""
    steps = np.linspace(low, high, LEVELS + 2)
    if low > 0:
        yield (low * (high / low) ** ((steps - low) / (high - low)))[1:-1]
    yield steps[1:-1]


@njit(cache=True, nogil=True)
def _mark_peaks(values, thresholds, least, parts):  # type: ignore[no-untyped-def]
    """Put the numbers of the peaks on their pixels, in the order of their first pixels; return how many there are.

    Parts that a threshold leaves of a peak take its place if there are two or more; if there is one, the peak keeps the
    pixels that it had.
    """
    parts[:] = 0
    marks, flat = parts.ravel(), values.ravel()
    seen, passes, count = np.zeros(flat.size, np.int64), 0, 0
    waiting = [(np.flatnonzero(flat > -np.inf), 0)]
    is_whole = True
    while len(waiting) > 0:
        pixels, level = waiting.pop()
        left, has_parts = pixels, False
        while level < len(thresholds) and len(left) >= 2 * least and not has_parts:
            passes += 1
            above = _connected(flat, left, thresholds[level], least, values.shape[1], (seen, passes))
            level += 1
            if len(above) == 0:
                break
            left, has_parts = above[0], len(above) > 1
            if has_parts:
                for part in above:
                    waiting.append((part, level))
        if not has_parts and not is_whole:
            count += 1
            marks[pixels] = count
        is_whole = False
    _number_by_first_pixel(marks, count)
    return count


@njit(cache=True, nogil=True)
def _connected(flat, pixels, threshold, least, width, visits):  # type: ignore[no-untyped-def]
    """Return the groups of at least so many connected pixels above a threshold, among connected pixels."""
    seen, passes = visits
    groups = [pixels[:0] for _ in range(0)]
    stack = np.empty(len(pixels), np.int64)
    for start in pixels:
        if seen[start] == passes or not flat[start] > threshold:
            continue
        seen[start], stack[0], length, done = passes, start, 1, 0
        while done < length:
            at = stack[done]
            done += 1
            for row in (-width, 0, width):
                for near in (at + row - 1, at + row, at + row + 1):
                    if seen[near] != passes and flat[near] > threshold:
                        seen[near], stack[length] = passes, near
                        length += 1
        if length >= least:
            groups.append(stack[:length].copy())
    return groups


@njit(cache=True, nogil=True)
def _number_by_first_pixel(marks, count):  # type: ignore[no-untyped-def]
    """Number labels anew, from 1 on in the order of their first pixels; return how many there are."""
    numbers, found = np.zeros(count + 1, np.int64), 0
    for at in range(marks.size):
        if marks[at] > 0:
            if numbers[marks[at]] == 0:
                found += 1
                numbers[marks[at]] = found
            marks[at] = numbers[marks[at]]
    return found


@njit(cache=True, nogil=True)
def _flood(values, total, contrast, parts, count):  # type: ignore[no-untyped-def]
    """Extend the peaks over the source and give up those with little light; return how many are left."""
    marks, flat = parts.ravel(), values.ravel()
    pixels = np.flatnonzero(flat > -np.inf)
    while True:
        _spread(flat, marks, pixels, values.shape[1])
        light, areas = np.zeros(count + 1), np.zeros(count + 1, np.int64)
        for at in pixels:
            light[marks[at]] += flat[at]
            areas[marks[at]] += 1
        faintest = 0
        for label in range(1, count + 1):
            if areas[label] > 0 and (faintest == 0 or light[label] < light[faintest]):
                faintest = label
        if np.count_nonzero(areas[1:]) == 1 or not light[faintest] / total < contrast:
            break
        for at in pixels:
            if marks[at] == faintest:
                marks[at] = 0
    numbers = np.cumsum(areas[1:] > 0)
    for at in pixels:
        marks[at] = numbers[marks[at] - 1]
    return numbers[-1]


@njit(cache=True, nogil=True)
def _spread(flat, marks, pixels, width):  # type: ignore[no-untyped-def]
    """Give unmarked pixels the mark of the neighbour from which light falls to them, the brightest first."""
    heap = [(0.0, 0, np.int64(0)) for _ in range(0)]
    for at in pixels:
        if marks[at] > 0 and _has_unmarked(flat, marks, at, width):
            heap.append((-np.float64(flat[at]), 0, at))
    heapq.heapify(heap)
    age = 0
    while len(heap) > 0:
        _, _, at = heapq.heappop(heap)
        for row in (-width, 0, width):
            for near in (at + row - 1, at + row, at + row + 1):
                if marks[near] == 0 and flat[near] > -np.inf:
                    marks[near] = marks[at]
                    age += 1
                    heapq.heappush(heap, (-np.float64(flat[near]), age, near))


@njit(cache=True, nogil=True)
def _has_unmarked(flat, marks, at, width):  # type: ignore[no-untyped-def]
    for row in (-width, 0, width):
        for near in (at + row - 1, at + row, at + row + 1):
            if marks[near] == 0 and flat[near] > -np.inf:
                return True
    return False
