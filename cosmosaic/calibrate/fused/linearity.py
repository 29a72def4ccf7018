"""Linearity: `linearity_correction` of ``stcal.linearity.linearity``."""

import numpy as np
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.calibrate.fused.compiled import SATURATED, Flags, Image, Mask, PixelFlags, Ramp, compiled

Coefficients = NDArray[np.float32]
"""Of a polynomial per pixel, shape ``(terms, ny, nx)``, the constant first."""


def prepared(coefficients: Coefficients, dq: PixelFlags) -> tuple[Coefficients, Mask]:
    """Return coefficients, with the identity for pixels without valid ones, and the pixels where that is new.

    Parameters
    ----------
    coefficients
        As in the reference file.
    dq
        Its flags.
    """
    coefficients = np.array(coefficients, dtype=np.float32)
    _leave_unchanged(coefficients, np.not_equal(dq & pixel["NO_LIN_CORR"], 0))
    unknown = np.asarray(np.isnan(coefficients).any(axis=0))
    _leave_unchanged(coefficients, unknown)
    flat = np.asarray(coefficients[1] == 0)
    _leave_unchanged(coefficients, flat)
    return coefficients, unknown | flat


def _leave_unchanged(coefficients: Coefficients, where: Mask) -> None:
    coefficients[:, where] = 0.0
    coefficients[1, where] = 1.0


@compiled
def linearise(ramp: Ramp, flags: Flags, coefficients: Coefficients) -> None:
    """Apply each pixel's polynomial to its groups that are not saturated, in place."""
    groups, ny, _ = ramp.shape
    for y in range(ny):
        for group in range(groups):
            _linearise_row(ramp[group, y], flags[group, y], coefficients[:, y], ramp[group, y])


@compiled
def linearise_first_frame(zeroframe: Image, coefficients: Coefficients) -> None:
    """Apply each pixel's polynomial to a first frame, in place; zeros stand for bad pixels and stay."""
    ny, nx = zeroframe.shape
    terms = len(coefficients)
    for y in range(ny):
        for x in range(nx):
            value = zeroframe[y, x]
            if value != 0:
                result = coefficients[terms - 1, y, x] * value
                for term in range(terms - 2, 0, -1):
                    result = (result + coefficients[term, y, x]) * value
                zeroframe[y, x] = result + coefficients[0, y, x]


@compiled
def _linearise_row(values: Image, flags: Flags, coefficients: Coefficients, result: Image) -> None:
    terms, nx = coefficients.shape
    for x in range(nx):
        value = values[x]
        total = coefficients[terms - 1, x] * value
        for term in range(terms - 2, 0, -1):
            total = (total + coefficients[term, x]) * value
        result[x] = value if flags[x] & SATURATED else total + coefficients[0, x]


@compiled
def linearise_frames(
    ramp: Ramp, flags: Flags, coefficients: Coefficients, inverse: Coefficients, frames: NDArray[np.float64]
) -> None:
    """Correct the frames of which groups were averaged, as a straight ramp through them predicts, in place.

    Parameters
    ----------
    ramp
        DN, shape ``(groups, ny, nx)``; at least two groups.
    flags
        Flags of the groups.
    coefficients, inverse
        The polynomials that correct counts, and those that undo it.
    frames
        Numbers of each group's frames, shape ``(groups, frames)``.
    """
    groups, ny, nx = ramp.shape
    nframes = frames.shape[1]
    middle = np.empty(groups)
    for group in range(groups):
        middle[group] = frames[group].sum() / nframes
    first, last = np.empty(nx, dtype=np.float32), np.empty(nx, dtype=np.float32)
    rate = np.empty(nx)
    reads = np.empty((nframes, nx))
    chosen = np.empty(nx, dtype=np.int64)
    values, chosen_flags = np.empty(nx, dtype=np.float32), np.empty(nx, dtype=np.uint8)
    for y in range(ny):
        forth, back = coefficients[:, y], inverse[:, y]
        _linearise_row(ramp[0, y], flags[0, y], forth, first)
        _choose_last(ramp[:, y], flags[:, y], chosen, values, chosen_flags)
        _linearise_row(values, chosen_flags, forth, last)
        for x in range(nx):
            rate[x] = np.float64(last[x] - first[x]) / (middle[chosen[x]] - middle[0])
        for group in range(groups):
            for read in range(nframes):
                since = frames[group, read] - middle[0]
                for x in range(nx):
                    reads[read, x] = first[x] + rate[x] * since
            _correct_reads(reads, ramp[group, y], flags[group, y], forth, back)


@compiled
def _correct_reads(
    reads: NDArray[np.float64], values: Image, flags: Flags, forth: Coefficients, back: Coefficients
) -> None:
    """Correct the values of a group whose reads are predicted in linear counts; the reads are changed too."""
    nframes, nx = reads.shape
    for read in range(nframes):
        _apply(reads[read], back)
    mean = _mean_of(reads)
    for read in range(nframes):
        for x in range(nx):
            reads[read, x] += values[x] - mean[x]
        _apply(reads[read], forth)
    mean = _mean_of(reads)
    for x in range(nx):
        if not flags[x] & SATURATED:
            values[x] = np.float32(mean[x])


@compiled
def _choose_last(ramp: Image, flags: Flags, chosen: NDArray[np.int64], values: Image, chosen_flags: Flags) -> None:
    """Choose each pixel's last group but one that is not saturated; the very last may be so in part."""
    groups, nx = ramp.shape
    for x in range(nx):
        number = -1
        for group in range(groups):
            if not flags[group, x] & SATURATED:
                number += 1
        chosen[x] = max(number, 2) - 1
        values[x], chosen_flags[x] = ramp[chosen[x], x], flags[chosen[x], x]


@compiled
def _apply(values: NDArray[np.float64], coefficients: Coefficients) -> None:
    terms, nx = coefficients.shape
    for x in range(nx):
        total = coefficients[terms - 1, x] * values[x]
        for term in range(terms - 2, 0, -1):
            total = (total + coefficients[term, x]) * values[x]
        values[x] = total + coefficients[0, x]


@compiled
def _mean_of(reads: NDArray[np.float64]) -> NDArray[np.float64]:
    total = reads[0].copy()
    for read in range(1, len(reads)):
        total += reads[read]
    return total / len(reads)
