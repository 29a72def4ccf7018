"""Velocity aberration about a point common to all detectors of an exposure group.

jwst applies the differential aberration about each detector's own reference point: separations within a detector are
right, but the separations of detectors stay aberrated, by ``(1 - VA_SCALE)`` times their distance. That is
up to 25 mas between NIRCam's modules, changes over the year, and is known from the header
(https://github.com/spacetelescope/jwst/issues/9400).
"""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from gwcs import WCS
from jwst import datamodels
from jwst.assign_wcs.pointing import dva_corr_model

from cosmosaic.astrometry.wcs import update_headers
from cosmosaic.geometry.siaf import nircam_apertures
from cosmosaic.provenance import save_model
from cosmosaic.steps.result import Made

BEFORE, AFTER = "v2v3", "v2v3vacorr"
"""The frames of jwst's WCS between which velocity aberration is corrected."""
WHOLE_INSTRUMENT = "NRCALL_FULL"
SAME_POINT_ARCSEC = 1.0
"""Two points closer than this are one: (1 - VA_SCALE) times it is 0.1 mas."""
LARGEST_ABERRATION = 1.1e-4
"""JWST moves at 30 km/s, a ten-thousandth of the speed of light."""
KEYWORDS = ("CMVAV2", "CMVAV3")
"""Keywords of an exposure with the point, arcsec, about which its aberration is corrected."""

log = logging.getLogger(__name__)


def share_aberration(exposure: Path, folder: Path) -> Made:
    """Correct the velocity aberration of one exposure about the point that its detectors share.

    S_REGION and the FITS keywords of the WCS follow; the point is written into the header.

    Parameters
    ----------
    exposure
        A ``_cal`` file.
    folder
        Gets the exposure under the same name.
    """
    made = folder / exposure.name
    with datamodels.open(exposure) as model:
        point = None if _is_marked(exposure) else correct_aberration(model)
        if point is None:
            shutil.copyfile(exposure, made)
            return Made(cal=made)
        update_headers(model)
        save_model(model, made)
    with fits.open(made, mode="update") as hdus:
        for keyword, value in zip(KEYWORDS, point, strict=True):
            hdus["SCI"].header[keyword] = (value, "[arcsec] aberration is corrected about this")
    return Made(cal=made)


def _is_marked(exposure: Path) -> bool:
    """Whether the header says that the exposure was corrected before."""
    with fits.open(exposure) as hdus:
        return KEYWORDS[0] in hdus["SCI"].header


def correct_aberration(model: Any) -> tuple[float, float] | None:
    """Let the WCS of an exposure correct velocity aberration about the point that its detectors share.

    A WCS whose aberration is about another point than the detector's own was corrected upstream, and stays. So does one
    whose aberration is unknown, which is reported.

    Parameters
    ----------
    model
        A jwst image model with a WCS, which is changed in place; its headers are not.

    Returns
    -------
    tuple or None
        (V2, V3) of the point in arcsec; None if the WCS is not changed.
    """
    wcs = model.meta.wcs
    header = model.meta.velocity_aberration.scale_factor
    found = scale_and_point(wcs)
    if found is None:
        if header is None or header != 1:
            known = "its header has no VA_SCALE" if header is None else "its WCS does not correct velocity aberration"
            log.warning(
                f"{model.meta.filename}: {known}, so its detectors may be offset by up to 13 mas; calibrate it with a"
                " current version of jwst, or set align.aberration = false"
            )
        return None
    scale, point = found
    if abs(1 - scale) > LARGEST_ABERRATION:
        log.warning(
            f"{model.meta.filename}: VA_SCALE {scale} is not a velocity of JWST, so its aberration is not corrected;"
            " check VA_SCALE in the header"
        )
        return None
    own = np.array([model.meta.wcsinfo.v2_ref, model.meta.wcsinfo.v3_ref], dtype=float)
    if np.hypot(*(point - own)) > SAME_POINT_ARCSEC:
        return None
    common = common_point(model.meta.aperture.pps_name)
    after = wcs.pipeline[wcs.available_frames.index(BEFORE) + 1].frame
    wcs.set_transform(BEFORE, after, dva_corr_model(scale, *common))
    return common


def common_point(pointed: str | None) -> tuple[float, float]:
    """(V2, V3) in arcsec that all detectors of an exposure group share: the reference point of the pointed aperture.

    Parameters
    ----------
    pointed
        PPS_APER of the header. Where it is missing or no aperture of NIRCam, the middle of both modules counts.
    """
    apertures = nircam_apertures()
    known = pointed if pointed in apertures.apertures else WHOLE_INSTRUMENT
    aperture = apertures[known]
    return float(aperture.V2Ref), float(aperture.V3Ref)


def scale_and_point(wcs: WCS) -> tuple[float, np.ndarray] | None:
    """Scale of the aberration in a WCS and the point that it leaves where it is; None without aberration."""
    frames = wcs.available_frames
    if BEFORE not in frames or AFTER not in frames:
        return None
    transform = wcs.get_transform(BEFORE, AFTER)
    origin, corner = (np.array(transform(value, value), dtype=float) for value in (0.0, 1000.0))
    scale = float(np.mean(corner - origin) / 1000.0)
    if scale == 1:
        return None
    return scale, origin / (1 - scale)
