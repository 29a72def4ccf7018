"""Corrections of calibrated exposures before their sky is measured: 1/f stripes and wisps."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import block_reduce
from astropy.table import QTable
from jwst import datamodels

from cosmosaic.artefacts.flicker import flicker_pattern
from cosmosaic.artefacts.solution import TEMPLATE, WispSolution
from cosmosaic.artefacts.wisps import (
    BLOCK,
    FEWEST_EXPOSURES,
    Flags,
    Floats,
    Pair,
    WispFit,
    block_means,
    block_medians,
    build_template,
    fit_template,
    moves_with_sky,
    read_wisp,
    wisp_image,
    write_wisp,
)
from cosmosaic.dq import is_usable
from cosmosaic.geometry.sphere import unit_vectors
from cosmosaic.nircam import FULL_FRAME
from cosmosaic.provenance import save_model
from cosmosaic.statistics import gaussian_mode
from cosmosaic.steps.result import Made

NO_WISP = WispFit(0.0, np.inf)
MOST_EXPOSURES, TOGETHER = 100, 10
"""Most exposures that make a template, and how many of them are neighbours in time: more would not improve it."""
LEAST_STRENGTH = 0.1
"""Of a wisp, by which it is compared with that of another exposure."""
CORNER_BLOCKS = 64.0
"""Distance of the blocks that tell how an exposure lies on the sky."""


def remove_flicker(model: Any) -> None:
    """Subtract the 1/f stripes of a count-rate or calibrated image, in place."""
    usable = is_usable(model.data, model.err, model.dq)
    model.data -= flicker_pattern(model.data, usable, int(model.meta.exposure.noutputs or 1))
    model.meta.cal_step.clean_flicker_noise = "COMPLETE"


def measure_wisps(
    exposures: Mapping[str, Path], template: Path | None, solution: WispSolution, stem: str, folder: Path
) -> Made:
    """Fit a wisp template to each exposure of one detector and filter.

    Parameters
    ----------
    exposures
        ``_cal`` files by the exposures' names.
    template
        File whose first image has the pixels of the exposures, blocks of 8 by 8 of them, or those of a full frame: the
        user's, or that of an earlier run.
        By default it is built from the exposures, if there are three or more.
    solution
        The exposures, and whether the template is from an earlier run.
    stem
        Name without extension of the table of amplitudes and of the template that was built.
    folder
        Gets the template that was built and the table (ECSV), and ``<exposure>_wisp.npz`` of each exposure in which the
        wisp is significant.

    Raises
    ------
    ValueError
        The template does not fit the exposures; the file is named.
    """
    medians = {name: _blocks_of(path, block_medians) for name, path in exposures.items()}
    shape = _read_template(template, next(iter(exposures.values()))) if template else _built(exposures, medians)
    if template and shape is not None and not solution.kept and np.isfinite(shape).any():
        shape -= np.nanmedian(shape)  # a pedestal would end where the template does
    fits_of = dict.fromkeys(exposures, NO_WISP)
    if shape is not None:
        blocks = _masked_blocks(exposures, medians, shape)
        fits_of = {name: fit_template(block, shape) for name, block in blocks.items()}
    wisps = {} if shape is None else _write_wisps(shape, fits_of, folder)
    own = shape if template is None else None
    rows = [(name, *fit, fit.is_significant, solution.exposures[name]) for name, fit in fits_of.items()]
    table = QTable(rows=rows, names=("exposure", "amplitude", "error", "subtracted", "sha256"))
    table.meta |= {"kept": solution.kept, "missing": list(solution.missing), "template": TEMPLATE}
    table.write(folder / f"{stem}.ecsv", format="ascii.ecsv", overwrite=True)
    return Made(
        table=folder / f"{stem}.ecsv",
        template=None if own is None else _write_template(own, folder / f"{stem}.fits"),
        wisps=wisps,
        facts={"wisps_significant": float(sum(row[3] for row in rows))},
    )


def subtract_wisp(exposure: Path, wisp: Path | None, folder: Path) -> Made:
    """Subtract the wisp of one exposure.

    Parameters
    ----------
    exposure
        A ``_cal`` file.
    wisp
        Its ``_wisp.npz``, if its wisp is significant.
    folder
        Gets the corrected file, under the same name.
    """
    with datamodels.open(exposure) as model:
        if wisp:
            model.data -= wisp_image(read_wisp(wisp), model.data.shape)
        return Made(cal=save_model(model, folder / exposure.name))


def _blocks_of(path: Path, average: Callable[[Floats, Flags], Floats]) -> Floats:
    with datamodels.open(path) as model:
        return average(model.data, is_usable(model.data, model.err, model.dq))


def _masked_blocks(exposures: Mapping[str, Path], medians: Mapping[str, Floats], shape: Floats) -> dict[str, Floats]:
    """Means outside of sources, which can be found once the wisp is known: before, it would pass for one."""
    shown = np.nan_to_num(shape, nan=0.0)
    known = {name: max(fit_template(medians[name], shape).amplitude, 0.0) * shown for name in exposures}
    return {name: _blocks_of(path, partial(block_means, wisp=known[name])) for name, path in exposures.items()}


def _built(exposures: Mapping[str, Path], medians: Mapping[str, Floats]) -> Floats | None:
    """Build a template; None if there is no wisp, or if the exposures are too few."""
    if len(exposures) < FEWEST_EXPOSURES:
        return None
    every = -(-len(exposures) // MOST_EXPOSURES)
    used = {name: path for n, (name, path) in enumerate(exposures.items()) if n // TOGETHER % every == 0}
    light = [medians[name] for name in used]
    template = build_template(light)
    if template.any():
        blocks = _masked_blocks(used, medians, template)
        moving = _moving(used, blocks, template)
        fixed = build_template(light, moving)
        if not np.array_equal(fixed, template):
            blocks = _masked_blocks(used, medians, fixed)
        template = build_template(list(blocks.values()), moving)
    # As it will be read again later, so that exposures corrected with it do not change.
    return template.astype(np.float32).astype(float) if template.any() else None


def _moving(exposures: Mapping[str, Path], blocks: Mapping[str, Floats], template: Floats) -> Flags:
    """Blocks whose light moves with the sky."""
    levelled, strengths = [], []
    for block in blocks.values():
        levelled.append(block - gaussian_mode(block[np.isfinite(block)])[0])
        strengths.append(max(fit_template(block, template).amplitude, LEAST_STRENGTH))
    corners = [_corners(path) for path in exposures.values()]
    return moves_with_sky(
        Pair(levelled[a], levelled[b], strengths[a] / strengths[b], *_place_in(corners[a], corners[b]))
        for a, b in pairwise(range(len(levelled)))
    )


def _corners(path: Path) -> Floats:
    """Directions of a block, one `CORNER_BLOCKS` above it and one to its right, as unit vectors; shape ``(3, 3)``."""
    row, column = CORNER_BLOCKS * np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    with datamodels.open(path) as model:
        sky = model.meta.wcs(*((place + 0.5) * BLOCK - 0.5 for place in (column, row)), with_bounding_box=False)
    return unit_vectors(np.transpose(sky))


def _place_in(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Matrix and shift of a `Pair` from the corners of its exposures, on the plane that touches the first."""
    east = np.cross([0.0, 0.0, 1.0], first[0])
    plane = np.stack([east / np.linalg.norm(east), np.cross(first[0], east) / np.linalg.norm(east)])
    own, other = ((plane @ (corners[1:] - corners[0]).T) / CORNER_BLOCKS for corners in (first, second))
    return np.linalg.solve(other, own), np.linalg.solve(other, plane @ (first[0] - second[0]))


def _read_template(path: Path, exposure: Path) -> Floats:
    """Read a template in blocks; NaN where it is unknown.

    The file has the exposure's pixels, its blocks, or the pixels of a full frame, of which it uses its own part; those
    of full frames may be binned by 2 or 4.
    """
    with fits.open(path) as hdus:
        image = next(np.asarray(hdu.data, dtype=float) for hdu in hdus if hdu.is_image and hdu.data is not None)
    if not np.isfinite(image).any():
        raise ValueError(f"{path}: no pixel of the template is known")
    with datamodels.open(exposure) as model:
        shape, starts = model.data.shape, (model.meta.subarray.ystart, model.meta.subarray.xstart)
    blocks = tuple(size // BLOCK for size in shape)
    if image.shape == FULL_FRAME and shape != FULL_FRAME:
        if None in starts:
            raise ValueError(f"{exposure}: SUBSTRT1 and SUBSTRT2 are missing, which tell its part of {path}")
        image = image[tuple(slice(start - 1, start - 1 + size) for start, size in zip(starts, shape, strict=True))]
    binned = [1, BLOCK, *((2, 4) if shape == FULL_FRAME else ())]
    if image.shape not in [tuple(size // factor for size in shape) for factor in binned]:
        raise ValueError(
            f"{path}: the template of shape {image.shape} fits neither exposures of {shape} pixels nor {blocks} blocks"
            f" of {BLOCK} of them, nor is it a full frame; {exposure.name} is one of the exposures"
        )
    factor = image.shape[0] // blocks[0]
    cut = image[: blocks[0] * factor, : blocks[1] * factor]
    known = block_reduce(np.isfinite(cut), factor)
    total = block_reduce(np.where(np.isfinite(cut), cut, 0.0), factor)
    return np.where(known > 0, total / np.maximum(known, 1), np.nan)


def _write_wisps(template: Floats, fits_of: Mapping[str, WispFit], folder: Path) -> dict[str, Path]:
    # Wisps and not their strengths: an exposure's correction depends on nothing else, not even the template's header.
    known = np.nan_to_num(template, nan=0.0)
    return {
        name: write_wisp(fit.amplitude * known, folder / f"{name}_wisp.npz")
        for name, fit in fits_of.items()
        if fit.is_significant
    }


def _write_template(template: Floats, path: Path) -> Path:
    hdu = fits.ImageHDU(template.astype(np.float32), name="WISP")
    hdu.header["BUNIT"] = "MJy/sr"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    return path
