"""Linear corrections of a JWST WCS, as tweakreg makes them."""

import logging
from typing import Any

import numpy as np
from gwcs import WCS
from jwst.assign_wcs.util import update_fits_wcsinfo, update_s_region_imaging
from numpy.typing import NDArray
from tweakwcs.correctors import JWSTWCSCorrector

from cosmosaic.astrometry.solution import NO_CORRECTION, Correction, correction
from cosmosaic.geometry.sphere import ARCSEC_PER_RADIAN

CORRECTED_FRAME = "v2v3corr"
"""The frame behind the correction in the WCS of a corrected exposure."""

log = logging.getLogger(__name__)


def correction_between(before: WCS, after: WCS) -> Correction:
    """Return the change of a WCS; the identity if both have the same correction."""
    (old_matrix, old_shift), (matrix, shift) = _linear_map(before), _linear_map(after)
    matrix = matrix @ np.linalg.inv(old_matrix)
    return correction(matrix, (shift - matrix @ old_shift) * ARCSEC_PER_RADIAN)


def corrected(corrector: JWSTWCSCorrector, found: Correction) -> JWSTWCSCorrector:
    """Apply a correction to the WCS of a corrector, and return the corrector."""
    if found != NO_CORRECTION:
        corrector.set_correction(matrix=found.matrix, shift=found.shift)
    return corrector


def correct_exposure(model: Any, found: Correction) -> None:
    """Correct the WCS of an exposure in place, with its S_REGION and SIP approximation, as jwst's tweakreg does."""
    model.meta.cal_step.tweakreg = "COMPLETE"
    if found == NO_CORRECTION:
        return
    model.meta.wcs = corrected(JWSTWCSCorrector(model.meta.wcs, model.meta.wcsinfo.instance), found).wcs
    update_headers(model)


def update_headers(model: Any) -> None:
    """Write S_REGION and the SIP approximation of an exposure's WCS anew."""
    update_s_region_imaging(model)
    try:
        update_fits_wcsinfo(model)
    except (ValueError, RuntimeError) as error:
        log.warning(f"{model.meta.filename}: the SIP keywords are those before the correction: {error}")


def _linear_map(wcs: WCS) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix, and shift in radians, of the correction in a WCS."""
    frames = wcs.available_frames
    if CORRECTED_FRAME not in frames:
        return np.eye(2), np.zeros(2)
    affine = wcs.pipeline[frames.index(CORRECTED_FRAME) - 1].transform["tp_affine"]
    return affine.matrix.value, affine.translation.value
