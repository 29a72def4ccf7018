"""Reference pixels: ``NIRDataset`` of ``jwst.refpix.reference_pixels`` with its default parameters."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.calibrate.fused.compiled import Image, PixelFlags, compiled
from cosmosaic.nircam import DETECTOR_PIXELS

BORDER = 4
"""Width of the frame of reference pixels."""
AMPLIFIERS = 4
CLIP_SIGMA = 3.0
HALF_WINDOW = 5
"""Of the running median along the sides: 11 rows."""


class Readout(NamedTuple):
    """Position of an exposure's pixels on the detector, and their order of readout."""

    xstart: int
    """Column of the first pixel on the detector, 0-based."""
    ystart: int
    fastaxis: int
    """1, or -1 where columns are read from the right."""
    slowaxis: int
    """2, or -2 where rows are read from the top."""


def correct_full_frames(frames: list[Image], dq: PixelFlags, readout: Readout) -> None:
    """Subtract the drifts that the reference pixels show from full frames, in place.

    Parameters
    ----------
    frames
        The groups of an integration and then, where there is one, its first frame; DN, shape ``(ny, nx)`` each.
    dq
        Flags of the pixels, same shape.
    readout
        Directions of the readout.
    """
    turn = (slice(None, None, int(np.sign(readout.slowaxis))), slice(None, None, int(np.sign(readout.fastaxis))))
    usable = (dq[turn] & pixel["DO_NOT_USE"]) == 0
    for number, frame in enumerate(frames):
        # jwst holds the first group in single precision; the correction of the sides leaves double for all others.
        dtype = np.float32 if number == 0 else np.float64
        turned = frame[turn]
        columns = _of_columns(turned, usable, dtype)
        rows = _of_rows(turned, usable, columns, dtype)
        _subtract(frame, columns[turn[1]], rows[turn[0]], number == 0)


def correct_subarray(frames: list[Image], dq: PixelFlags, readout: Readout) -> None:
    """Subtract the mean of the reference pixels of odd and even columns from a subarray, in place.

    A subarray without reference pixels is not changed.
    """
    turn = (slice(None, None, int(np.sign(readout.slowaxis))), slice(None, None, int(np.sign(readout.fastaxis))))
    column = readout.xstart + np.arange(dq.shape[1])
    parity = (column if readout.fastaxis > 0 else DETECTOR_PIXELS - 1 - column) % 2
    reference = is_reference(dq)
    for frame in frames:
        for odd in (0, 1):
            chosen = (reference & (parity == odd))[turn]
            if reference.any():
                value = np.float64(_clipped_mean(frame[turn][chosen]))
                frame[:, parity == odd] = frame[:, parity == odd] - value


def is_reference(dq: PixelFlags) -> NDArray[np.bool_]:
    """Find which pixels are usable reference pixels."""
    return ((dq & pixel["REFERENCE_PIXEL"]) != 0) & ((dq & pixel["DO_NOT_USE"]) == 0)


def _of_columns(frame: Image, usable: NDArray[np.bool_], dtype: type) -> NDArray[np.float64]:
    """Value subtracted from each column: for each amplifier, one for the odd columns and one for the even."""
    columns = np.zeros(frame.shape[1])
    width = frame.shape[1] // AMPLIFIERS
    for start in range(0, frame.shape[1], width):
        values = [_of_parity(frame, usable, slice(start + odd, start + width, 2), dtype) for odd in (0, 1)]
        if None not in values:
            columns[start : start + width : 2], columns[start + 1 : start + width : 2] = values
    return columns


def _of_parity(frame: Image, usable: NDArray[np.bool_], columns: slice, dtype: type) -> np.floating | None:
    means = list(_of_edges(frame, usable, columns, dtype))
    if len(means) < 2:
        return means[0] if means else None
    return 0.5 * (means[0] + means[1])


def _of_edges(frame: Image, usable: NDArray[np.bool_], columns: slice, dtype: type) -> Iterator[np.floating]:
    for rows in (slice(-BORDER, None), slice(0, BORDER)):
        values: NDArray[np.floating] = frame[rows, columns][usable[rows, columns]].astype(dtype)
        if values.size:
            yield _clipped_mean(values)


def _clipped_mean(values: NDArray[np.floating]) -> np.floating:
    if np.std(values, dtype=np.float64) == 0.0:
        return values.mean(dtype=np.float64)
    return stats.sigmaclip(values, CLIP_SIGMA, CLIP_SIGMA)[0].mean()


def _of_rows(frame: Image, usable: NDArray[np.bool_], columns: NDArray[np.float64], dtype: type) -> NDArray[np.float64]:
    """Value subtracted from each row: the mean of the running medians of both sides, zero if there are none."""
    sides = []
    for side in (slice(0, BORDER), slice(-BORDER, None)):
        values: NDArray[np.floating] = (frame[:, side] - columns[side]).astype(dtype)
        sides.append(_running_median(np.ascontiguousarray(values), np.ascontiguousarray(usable[:, side])))
    left, right = sides
    both = 0.5 * (left + right)
    return np.where(np.isnan(left), np.where(np.isnan(right), 0.0, right), np.where(np.isnan(right), left, both))


@compiled
def _running_median(values: NDArray[np.floating], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median of the usable values in the rows around each row, reflected at the ends; NaN where there are none."""
    ny, nx = values.shape
    result = np.empty(ny, dtype=np.float64)
    window = np.empty((2 * HALF_WINDOW + 1) * nx, dtype=values.dtype)
    for y in range(ny):
        number = 0
        for j in range(y - HALF_WINDOW, y + HALF_WINDOW + 1):
            row = -j if j < 0 else 2 * (ny - 1) - j if j >= ny else j
            for x in range(nx):
                if usable[row, x]:
                    window[number] = values[row, x]
                    number += 1
        if number == 0:
            result[y] = np.nan
            continue
        ordered = np.sort(window[:number])
        middle = number // 2
        if number % 2:
            result[y] = ordered[middle]
        else:
            # In the precision of the values, as numpy's median.
            total = ordered[middle - 1 : middle + 1].sum()
            result[y] = total / 2
    return result


@compiled
def _subtract(frame: Image, columns: NDArray[np.float64], rows: NDArray[np.float64], single: bool) -> None:
    ny, nx = frame.shape
    for y in range(ny):
        for x in range(nx):
            value = np.float64(frame[y, x]) - columns[x]
            if single:
                value = np.float64(np.float32(value))
            frame[y, x] = np.float32(value - rows[y])
