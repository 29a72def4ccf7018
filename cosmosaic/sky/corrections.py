"""What is taken out of calibrated exposures before their sky is measured: 1/f stripes and wisps."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import QTable
from jwst import datamodels

from cosmosaic.exposures import save_model
from cosmosaic.records import Made
from cosmosaic.sky.cells import bin_exposures, usable_pixels
from cosmosaic.sky.flicker import flicker_pattern
from cosmosaic.sky.methods import bright_cells, find_sources, values_of
from cosmosaic.sky.stripes import destripe, stripe_image
from cosmosaic.sky.wisps import (
    FEWEST_EXPOSURES,
    WISP_DETECTORS,
    Floats,
    WispFit,
    block_means,
    build_template,
    fit_template,
    wisp_image,
)

TEMPLATE_SUFFIX = "_wisp.fits"
NO_WISP = WispFit(0.0, np.inf)


def remove_flicker(paths: list[Path], folder: Path) -> Made:
    """Subtract the 1/f stripes of one count-rate or calibrated image.

    Parameters
    ----------
    paths
        One ``_rate`` or ``_cal`` file.
    folder
        Where the corrected file goes, under the same name.
    """
    (path,) = paths
    with datamodels.open(path) as model:
        usable = usable_pixels(model)
        pattern = flicker_pattern(model.data, usable, int(model.meta.exposure.noutputs or 1))
        model.data -= pattern
        saved = save_model(model, folder / path.name)
    return Made([saved], {"flicker_rms": float(pattern[usable].std())})


def remove_wisps(paths: list[Path], stem: str, folder: Path) -> Made:
    """Fit wisp templates to the exposures of one filter and subtract them.

    Parameters
    ----------
    paths
        ``_cal`` files of one filter, and the user's templates: ``<detector>_<filter>_wisp.fits``, whose first image
        is a full frame or has the exposures' shape. A detector without template, and with three exposures or more,
        gets one from the exposures themselves.
    stem
        Name of the table of amplitudes without extension.
    folder
        Where the corrected ``_cal`` files, the templates that were built, and the table go.
    """
    templates, exposures = _told_apart(paths)
    by_detector = defaultdict(list)
    for path in exposures:
        with datamodels.open(path) as model:
            by_detector[model.meta.instrument.detector].append(path)
    saved, rows = [], []
    for detector, members in sorted(by_detector.items()):
        blocks = {path: _blocks_of(path) for path in members} if detector in WISP_DETECTORS else {}
        template = _template(templates.get(detector), list(blocks.values()))
        if template is not None and detector not in templates:
            saved.append(_write_template(template, folder / f"{stem}_{detector.lower()}{TEMPLATE_SUFFIX}"))
        for path in members:
            fit = NO_WISP if template is None else fit_template(blocks[path], template)
            saved.append(_without_wisp(path, template, fit, folder))
            rows.append((path.name.split("_cal")[0], fit.amplitude, fit.error, fit.is_significant))
    table = QTable(rows=rows, names=("exposure", "amplitude", "error", "subtracted"))
    table.write(folder / f"{stem}.ecsv", format="ascii.ecsv", overwrite=True)
    return Made([*saved, folder / f"{stem}.ecsv"], {"wisps_subtracted": float(sum(row[3] for row in rows))})


def remove_stripes(paths: list[Path], folder: Path) -> Made:
    """Subtract the slow stripes of the exposures of one filter, which only the others can tell from the sky.

    Parameters
    ----------
    paths
        ``_cal`` files of one filter. A new exposure changes the stripes of those that it overlaps.
    folder
        Where the corrected files go, under the same names; sky levels stay what they were.
    """
    survey = bin_exposures(paths)
    _, levels = find_sources(survey)
    _, stripes = destripe(survey, values_of(levels), ~bright_cells(survey, levels))
    saved, rms = [], []
    for path, exposure in zip(paths, survey.exposures, strict=True):
        with datamodels.open(path) as model:
            usable = usable_pixels(model)
            pattern = stripe_image(stripes[exposure.name], usable)
            model.data -= pattern
            rms.append(float(pattern[usable].std()))
            saved.append(save_model(model, folder / path.name))
    return Made(saved, {"stripes_rms": float(np.mean(rms))})


def _told_apart(paths: Iterable[Path]) -> tuple[dict[str, Path], list[Path]]:
    templates, exposures = {}, []
    for path in paths:
        if path.name.endswith(TEMPLATE_SUFFIX):
            templates[path.name.split("_")[0].upper()] = path
        else:
            exposures.append(path)
    return templates, exposures


def _blocks_of(path: Path) -> Floats:
    with datamodels.open(path) as model:
        return block_means(model.data, usable_pixels(model))


def _template(given: Path | None, blocks: Sequence[Floats]) -> Floats | None:
    if given is not None and blocks:
        return _read_template(given, blocks[0].shape)
    if len(blocks) < FEWEST_EXPOSURES:
        return None
    template = build_template(blocks)
    return template if template.any() else None


def _read_template(path: Path, shape: tuple[int, ...]) -> Floats:
    with fits.open(path) as hdus:
        image = next(np.asarray(hdu.data, dtype=float) for hdu in hdus if hdu.is_image and hdu.data is not None)
    if image.shape == shape:
        return image
    factor = image.shape[0] // shape[0]
    if factor < 1 or image.shape != (shape[0] * factor, shape[1] * factor):
        raise ValueError(
            f"{path}: template of shape {image.shape} does not fit exposures of {shape} blocks of 8 pixels"
        )
    return image.reshape(shape[0], factor, shape[1], factor).mean(axis=(1, 3))


def _write_template(template: Floats, path: Path) -> Path:
    hdu = fits.ImageHDU(template.astype(np.float32), name="WISP")
    hdu.header["BUNIT"] = "MJy/sr"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    return path


def _without_wisp(path: Path, template: Floats | None, fit: WispFit, folder: Path) -> Path:
    with datamodels.open(path) as model:
        _subtract(model, template, fit)
        return save_model(model, folder / path.name)


def _subtract(model: Any, template: Floats | None, fit: WispFit) -> None:
    if template is None or not fit.is_significant:
        return
    model.data -= wisp_image(template, fit.amplitude, model.data.shape)
