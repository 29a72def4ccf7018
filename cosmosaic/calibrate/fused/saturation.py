"""Saturation: `flag_saturated_pixels` of ``stcal.saturation.saturation``, with a growth of one pixel."""

import numpy as np

from cosmosaic.calibrate.fused.compiled import (
    AD_FLOOR,
    DO_NOT_USE,
    SATURATED,
    Flags,
    Image,
    Mask,
    Ramp,
    compiled,
)

CONVERTER_LIMIT_DN = 65535.0
"""Largest count of the 16-bit converter; a pixel without a threshold has one above it."""


def flag_saturation(ramp: Ramp, flags: Flags, threshold: Image, unchecked: Mask, bias: Image, nframes: int) -> None:
    """Flag saturated groups, their neighbours, and groups at the converter's floor, in place.

    Parameters
    ----------
    ramp
        DN as read, shape ``(groups, ny, nx)``.
    flags
        Flags of the groups, same shape.
    threshold
        DN, shape ``(ny, nx)``; above the converter's limit where there is none.
    unchecked
        Pixels without a threshold.
    bias
        Superbias in DN, zeros where there is no reference file.
    nframes
        Frames that are averaged into a group.
    """
    marked = np.zeros(threshold.shape, dtype=np.bool_)
    _flag_forwards(ramp, flags, threshold, marked)
    reads = frames_of_groups(len(ramp), nframes)
    for group in range(len(ramp) - 2, -1, -1):
        dilution = float(np.mean(reads[group])) / reads[group][-1]
        if dilution != 1:
            _flag_before(ramp[group], flags[group], flags[group + 1], threshold, unchecked, dilution, marked)
    if len(ramp) > 2:
        _flag_second_group(ramp, flags, threshold, bias, float(np.mean(reads[0])), reads[2][-1], len(reads[1]))


def frames_of_groups(groups: int, nframes: int) -> list[list[int]]:
    """Return the numbers of the frames that jwst takes to make up each group; it ignores the gaps between groups."""
    return [[frame + 1 + group * nframes for frame in range(nframes)] for group in range(groups)]


@compiled
def blank_saturation(zeroframe: Image, threshold: Image) -> None:
    """Set pixels of the first frame to zero where they, or their neighbours, are saturated, in place."""
    ny, nx = zeroframe.shape
    saturated = zeroframe >= threshold
    for y in range(ny):
        for x in range(nx):
            if zeroframe[y, x] <= 0:
                zeroframe[y, x] = 0
    for y in range(ny):
        for x in range(nx):
            if saturated[y, x]:
                for j in range(max(y - 1, 0), min(y + 2, ny)):
                    for i in range(max(x - 1, 0), min(x + 2, nx)):
                        zeroframe[j, i] = 0


@compiled
def _flag_forwards(ramp: Ramp, flags: Flags, threshold: Image, saturated: Mask) -> None:
    groups, ny, nx = ramp.shape
    for group in range(groups):
        for y in range(ny):
            for x in range(nx):
                value = ramp[group, y, x]
                if value >= threshold[y, x]:
                    saturated[y, x] = True
                if value <= 0:
                    flags[group, y, x] |= AD_FLOOR | DO_NOT_USE
        _set_around(saturated, flags[group], SATURATED)
    saturated[:] = False


@compiled
def _set_around(marked: Mask, flags: Flags, flag: np.uint8) -> None:
    ny, nx = marked.shape
    for y in range(ny):
        for x in range(nx):
            if marked[y, x]:
                for j in range(max(y - 1, 0), min(y + 2, ny)):
                    for i in range(max(x - 1, 0), min(x + 2, nx)):
                        flags[j, i] |= flag


@compiled
def _flag_before(
    plane: Image, flags: Flags, after: Flags, threshold: Image, unchecked: Mask, dilution: float, marked: Mask
) -> None:
    """Flag a group of which some frames were saturated: it is as bright as that, and the next one is flagged."""
    ny, nx = plane.shape
    for y in range(ny):
        for x in range(nx):
            marked[y, x] = False
            if after[y, x] & SATURATED and not flags[y, x] & (SATURATED | DO_NOT_USE):
                share = 1.0 if unchecked[y, x] else dilution
                marked[y, x] = np.float64(plane[y, x]) >= np.float64(threshold[y, x]) * share
    _set_around(marked, flags, DO_NOT_USE)


@compiled
def _flag_second_group(
    ramp: Ramp, flags: Flags, threshold: Image, bias: Image, first_frame: float, last_frame: int, nframes: int
) -> None:
    """Flag the second group where it rises suspiciously and the third is saturated, unlike the first foretells."""
    _, ny, nx = ramp.shape
    for y in range(ny):
        for x in range(nx):
            if not flags[2, y, x] & SATURATED or flags[1, y, x] & SATURATED:
                continue
            limit, first = threshold[y, x], ramp[0, y, x]
            expected = np.float64(first - bias[y, x]) / first_frame * last_frame + np.float64(bias[y, x])
            step = ramp[1, y, x] - first
            if expected < np.float64(limit) and step > (limit - first) / np.float32(nframes):
                flags[1, y, x] |= DO_NOT_USE
