"""The functions of the steps that find the corrections of one filter's exposures and apply each to its exposure."""

import logging
from collections.abc import Mapping
from pathlib import Path

from jwst import datamodels
from jwst.tweakreg import TweakRegStep

from cosmosaic.astrometry.solution import (
    CORRECTION_SUFFIX,
    NO_CORRECTION,
    AlignedExposure,
    Alignment,
    AlignRequest,
    Correction,
    alignment_table,
)
from cosmosaic.astrometry.stars import (
    BRIGHTEST,
    CLIP_SIGMA,
    CLIPPINGS,
    ROUNDNESS,
    SEARCH_RADIUS_ARCSEC,
    SHARPNESS,
    align_to_stars,
    find_stars,
    star_catalog,
)
from cosmosaic.astrometry.wcs import correct_exposure, corrected, correction_between
from cosmosaic.exposures.library import open_exposures
from cosmosaic.provenance import save_model
from cosmosaic.steps.result import Made

log = logging.getLogger(__name__)

TOO_FEW = (
    "too few stars in common, so it keeps the WCS of its header; lower align.snr_threshold or align.minimum_objects"
)


def solve_alignment(
    exposures: Mapping[str, Path], catalogue: Path | None, request: AlignRequest, stem: str, folder: Path
) -> Made:
    """Find the corrections of exposures from the stars they share with others, or with a reference catalogue.

    An exposure that shares too few stars keeps the WCS of its header: alignment never costs a mosaic.

    Parameters
    ----------
    exposures
        ``_cal`` files of the exposures to be aligned, and of those with known corrections that they overlap
        with, by name.
    catalogue
        The user's reference catalogue.
    request
        The settings, and the known corrections.
    stem
        Name of the table without extension.
    folder
        Gets the table of all corrections (ECSV), and ``<exposure>_correction.json`` of each exposure.
    """
    reference = str(catalogue) if catalogue else request.settings.reference_catalog or ""
    found = _corrections(exposures, reference, request, folder.parent)
    known = {one.name: one for one in request.kept}
    alignment = Alignment(
        asked=request.asked,
        missing=request.missing,
        exposures=tuple(
            known.get(name) or _solved(name, sha256, found.get(name)) for name, sha256 in request.exposures.items()
        ),
    )
    table = folder / f"{stem}.ecsv"
    alignment_table(alignment).write(table, format="ascii.ecsv")
    unaligned = sum(not one.aligned for one in alignment.exposures)
    corrections = {one.name: _write(one, folder) for one in alignment.exposures}
    return Made(table=table, corrections=corrections, facts={"unaligned": float(unaligned)})


def align_exposure(exposure: Path, correction: Path, folder: Path) -> Made:
    """Correct the WCS of one exposure.

    Parameters
    ----------
    exposure
        A ``_cal`` file.
    correction
        Its ``_correction.json``.
    folder
        Gets the corrected file, under the same name.
    """
    with datamodels.open(exposure) as model:
        correct_exposure(model, Correction.model_validate_json(correction.read_text()))
        return Made(cal=save_model(model, folder / exposure.name))


def _corrections(
    exposures: Mapping[str, Path], reference: str, request: AlignRequest, folder: Path
) -> dict[str, Correction]:
    """Return the corrections of the new exposures, without exposures that share too few stars."""
    new = {name: exposures[name] for name in request.new}
    if not new:
        return {}
    if not request.kept:
        return _by_tweakreg(new, reference, request, folder)
    correctors = find_stars(exposures, request, folder)
    neighbours = [corrected(correctors.pop(one.name), one.correction) for one in request.kept if one.name in correctors]
    found = align_to_stars(correctors, star_catalog(neighbours), request)
    failed = [name for name in new if name not in found]
    if failed and reference:
        return _by_tweakreg(new, reference, request, folder)
    return found


def _by_tweakreg(
    exposures: Mapping[str, Path], reference: str, request: AlignRequest, folder: Path
) -> dict[str, Correction]:
    """Align exposures to each other, and all of them together to the reference catalogue, if there is one."""
    settings = request.settings
    aligned = TweakRegStep.call(
        open_exposures(list(exposures.values()), folder),
        starfinder="iraf",
        snr_threshold=settings.snr_threshold,
        kernel_fwhm=request.fwhm_pixels,
        minobj=settings.minimum_objects,
        brightest=BRIGHTEST,
        sharplo=SHARPNESS[0],
        sharphi=SHARPNESS[1],
        roundlo=ROUNDNESS[0],
        roundhi=ROUNDNESS[1],
        fitgeometry=settings.fit,
        nclip=CLIPPINGS,
        sigma=CLIP_SIGMA,
        searchrad=SEARCH_RADIUS_ARCSEC,
        separation=2 * settings.tolerance_arcsec,
        tolerance=settings.tolerance_arcsec,
        use2dhist=True,
        expand_refcat=True,
        abs_refcat=reference,
        abs_minobj=settings.minimum_objects,
        abs_fitgeometry=settings.fit,
        abs_searchrad=SEARCH_RADIUS_ARCSEC,
        abs_separation=2 * settings.tolerance_arcsec,
        abs_tolerance=settings.tolerance_arcsec,
        in_memory=False,
    )
    found = {}
    with aligned:
        for model, (name, path) in zip(aligned, exposures.items(), strict=True):
            if model.meta.cal_step.tweakreg == "COMPLETE":
                with datamodels.open(path) as before:
                    found[name] = correction_between(before.meta.wcs, model.meta.wcs)
            aligned.shelve(model, modify=False)
    return found


def _solved(name: str, sha256: str, correction: Correction | None) -> AlignedExposure:
    if correction is None:
        log.warning(f"{name}: {TOO_FEW}")
    return AlignedExposure(
        name=name, sha256=sha256, kept=False, correction=correction or NO_CORRECTION, aligned=correction is not None
    )


def _write(exposure: AlignedExposure, folder: Path) -> Path:
    path = folder / f"{exposure.name}{CORRECTION_SUFFIX}"
    path.write_text(exposure.correction.model_dump_json())
    return path
