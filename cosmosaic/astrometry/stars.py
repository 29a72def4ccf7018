"""Stars for alignment: found as in tweakreg, and combined into a reference catalogue."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.table import Table
from jwst.tweakreg.tweakreg_catalog import make_tweakreg_catalog
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from stcal.tweakreg.tweakreg import construct_wcs_corrector
from tweakwcs.correctors import JWSTWCSCorrector
from tweakwcs.imalign import NotEnoughCatalogs, align_wcs
from tweakwcs.matchutils import XYXYMatch

from cosmosaic.astrometry.solution import AlignRequest, Correction
from cosmosaic.astrometry.wcs import correction_between
from cosmosaic.exposures.library import open_exposures
from cosmosaic.geometry.sphere import FloatArray, plane_to_sky, sky_to_plane

BRIGHTEST = 200
"""Largest number of stars per exposure."""
SHARPNESS = (0.0, 5.0)
"""Undersampled JWST stars are sharper than the step's defaults admit."""
ROUNDNESS = (0.0, 0.5)
SEPARATION_PIXELS = 2
"""The least distance of two stars in jwst's step."""
SEARCH_RADIUS_ARCSEC = 1.0
"""Largest shift between exposures."""
CLIPPINGS, CLIP_SIGMA = 3, 3.0
SAME_STAR_ARCSEC = 0.1
"""Detections in aligned exposures closer than this are one star."""


def find_stars(exposures: Mapping[str, Path], request: AlignRequest, folder: Path) -> dict[str, JWSTWCSCorrector]:
    """Find the stars of exposures, and make correctors of their WCS with them, as in tweakreg.

    Parameters
    ----------
    exposures
        ``_cal`` files by the exposures' names.
    request
        Settings of the detection.
    folder
        For a file that names the exposures.
    """
    found = {}
    library = open_exposures(list(exposures.values()), folder)
    with library:
        for name, model in zip(exposures, library, strict=True):
            stars, _ = make_tweakreg_catalog(
                model,
                request.settings.snr_threshold,
                request.fwhm_pixels,
                starfinder_kwargs={
                    "n_brightest": BRIGHTEST,
                    "sharpness_range": SHARPNESS,
                    "roundness_range": ROUNDNESS,
                    "min_separation": SEPARATION_PIXELS,
                },
            )
            found[name] = construct_wcs_corrector(
                wcs=model.meta.wcs,
                refang=model.meta.wcsinfo.instance,
                catalog=Table({"x": stars["xcentroid"], "y": stars["ycentroid"]}, meta={"name": name}),
                group_id=model.meta.group_id,
            )
            library.shelve(model, modify=False)
    return found


def star_catalog(correctors: list[JWSTWCSCorrector]) -> Table:
    """Combine the stars of aligned exposures: a star's position is the mean of its detections.

    Returns
    -------
    astropy.table.Table
        Columns ``RA`` and ``DEC`` in degrees.
    """
    found = [corrector.det_to_world(*_pixels(corrector)) for corrector in correctors]
    sky = np.concatenate([np.empty((0, 2)), *(np.transpose(each) for each in found)])
    ra, dec = _means_of_groups(sky).T
    return Table({"RA": ra, "DEC": dec})


def align_to_stars(
    correctors: Mapping[str, JWSTWCSCorrector], stars: Table, request: AlignRequest
) -> dict[str, Correction]:
    """Align exposures to a catalogue, one after the other as in tweakreg: each extends it for the next.

    The detectors of one exposure group move together. If one cannot be aligned, others may have been aligned to it.

    Parameters
    ----------
    correctors
        The exposures with their stars, by their names; their WCS are corrected in place.
    stars
        Columns ``RA`` and ``DEC`` in degrees.
    request
        Settings of the matching and the fit.

    Returns
    -------
    dict[str, Correction]
        Corrections of the exposures that could be aligned.
    """
    settings = request.settings
    if len(stars) < settings.minimum_objects:
        return {}
    # The first match has false pairs, but brings the exposures close enough for a narrower one.
    for tolerance in (settings.tolerance_arcsec, min(settings.tolerance_arcsec, SAME_STAR_ARCSEC)):
        try:
            align_wcs(
                list(correctors.values()),
                refcat=stars.copy(),
                enforce_user_order=False,
                expand_refcat=True,
                minobj=settings.minimum_objects,
                match=XYXYMatch(searchrad=SEARCH_RADIUS_ARCSEC, separation=2 * tolerance, tolerance=tolerance),
                fitgeom=settings.fit,
                nclip=CLIPPINGS,
                sigma=(CLIP_SIGMA, "rmse"),
            )
        except NotEnoughCatalogs:
            return {}
    return {
        name: correction_between(corrector.original_wcs, corrector.wcs)
        for name, corrector in correctors.items()
        if corrector.meta["fit_info"]["status"] == "SUCCESS"
    }


def _pixels(corrector: JWSTWCSCorrector) -> tuple[FloatArray, FloatArray]:
    catalog = corrector.meta["catalog"]
    return np.asarray(catalog["x"]), np.asarray(catalog["y"])


def _means_of_groups(sky: FloatArray) -> FloatArray:
    """Mean directions (RA, Dec) in degrees of coincident detections."""
    if not len(sky):
        return sky
    plane = sky_to_plane(tuple(sky[0]), sky)
    pairs = KDTree(plane).query_pairs(SAME_STAR_ARCSEC, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(sky), len(sky)))
    stars, labels = connected_components(links, directed=False)
    counts = np.bincount(labels, minlength=stars)
    means = np.stack([np.bincount(labels, weights=axis) / counts for axis in plane.T], axis=1)
    return plane_to_sky(tuple(sky[0]), means)
