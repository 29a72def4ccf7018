"""The stars of one exposure: found once, for all that needs stars."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.stats import SigmaClip, mad_std
from astropy.table import QTable
from gwcs import WCS
from jwst import datamodels
from numpy.typing import NDArray
from photutils.background import Background2D, MedianBackground
from photutils.detection import DAOStarFinder
from photutils.psf import CircularGaussianPRF, PSFPhotometry
from scipy import ndimage
from scipy.spatial import KDTree
from stdatamodels.jwst.datamodels import dqflags

from cosmosaic.exposures.library import exposure_name
from cosmosaic.geometry.sphere import unit_vectors
from cosmosaic.nircam import band_name, star_fwhm_pixels
from cosmosaic.steps.result import Made

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

SUFFIX = "_stars.ecsv"
MOST_STARS = 1000
"""The brightest of an exposure; the fit of each takes milliseconds."""
BOX_PIXELS = 64
EDGE_PIXELS = 5
NARROWEST, WIDEST = 0.75, 1.3
"""Widths of stars in units of their median: cosmic rays are narrower, galaxies and blends wider."""
LARGEST_MISFIT = 0.4
"""Sum of the absolute residuals of a fit over the flux."""
SATURATION_REACH = 3.0
"""Saturated pixels spoil detections within this many widths of a star."""
NEIGHBOUR_WIDTHS, NEIGHBOUR_FLUX = 3.0, 0.05
"""A neighbour closer than this many widths, with more than this part of a star's flux, makes it a blend."""
FEWEST_FOR_WIDTH = 5
FIT_PIXELS = 5


def find_exposure_stars(exposure: Path, snr: float, folder: Path) -> Made:
    """Find the stars of one exposure and write them as a table.

    Parameters
    ----------
    exposure
        A ``_cal`` file.
    snr
        Detection threshold in sigma.
    folder
        Gets ``<exposure>_stars.ecsv``.
    """
    with datamodels.open(exposure) as model:
        stars = exposure_stars(model, snr)
    path = folder / f"{exposure_name(exposure.name)}{SUFFIX}"
    stars.write(path, format="ascii.ecsv")
    return Made(stars=path, facts={"stars": float(len(stars))})


def exposure_stars(model: Any, snr: float) -> QTable:
    """Find the isolated, unsaturated stars of an exposure and fit a Gaussian to each.

    The Gaussian is integrated over pixels, as undersampled stars need, and its width is free: detections wider or
    narrower than most are not stars. Saturated stars, blends, and stars at edges are left out.

    Parameters
    ----------
    model
        A jwst image model, MJy/sr, with a WCS.
    snr
        Detection threshold in sigma.

    Returns
    -------
    QTable
        ``x``, ``y`` (0-based pixels) with ``x_err``, ``y_err``; ``ra``, ``dec``; ``flux``, ``flux_err`` of the
        Gaussian in nJy; ``mag`` (AB); ``fwhm`` in pixels, brightest first. The meta describes the exposure as
        `header_facts` does.
    """
    band = band_name(f"{model.meta.instrument.filter}-{model.meta.instrument.pupil or 'CLEAR'}")
    fwhm = star_fwhm_pixels(band)
    error = np.asarray(model.err, dtype=float)
    bad = _bad_pixels(model)
    data = _without_background(np.where(bad, np.nan, np.asarray(model.data, dtype=float)), bad)
    table = _empty()
    places = _places(data, bad, error, fwhm, snr)
    if len(places):
        saturated = (np.asarray(model.dq) & dqflags.pixel["SATURATED"]) > 0
        fits = _fits(data, bad, error, fwhm, places)
        fits = fits[_is_star(fits, saturated, fwhm, data.shape)]
        table = _table(fits, model)
    table.meta |= header_facts(model, band)
    return table


def header_facts(model: Any, band: str) -> dict[str, Any]:
    """Return the identity of a star table's exposure, and its pointing by the header."""
    meta = model.meta
    observation = meta.observation
    sequence = f"{observation.visit_group}{observation.sequence_id}{observation.activity_id}"
    pointing = ("v2_ref", "v3_ref", "ra_ref", "dec_ref", "roll_ref")
    return {
        "exposure": exposure_name(meta.filename),
        "detector": meta.instrument.detector,
        "band": band,
        "visit": f"{observation.program_number}{observation.observation_number}{observation.visit_number}",
        "pointing": f"{sequence}_{observation.exposure_number}",
        "epoch": _epoch(meta.exposure.mid_time or meta.exposure.start_time),
        "va_scale": float(meta.velocity_aberration.scale_factor or 1.0),
        **{name: float(getattr(meta.wcsinfo, name)) for name in pointing},
    }


def _epoch(mjd: float | None) -> float:
    """Julian year of a time; NaN where the header has none."""
    return float(2000.0 + (mjd - 51544.5) / 365.25) if mjd else float("nan")


def _pixel_areas_sr(wcs: WCS, x: Floats, y: Floats) -> Floats:
    """Area on the sky of the pixels about places.

    Pixels hold surface brightness. Areas differ by some per cent across and between detectors, and so would fluxes by
    one area for all (PIXAR_SR).
    """
    right, left, above, below = (
        unit_vectors(np.transpose(wcs(x + dx, y + dy, with_bounding_box=False)))
        for dx, dy in ((0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5))
    )
    return np.asarray(np.linalg.norm(np.cross(right - left, above - below), axis=1))


def _bad_pixels(model: Any) -> Flags:
    unusable = (np.asarray(model.dq) & dqflags.pixel["DO_NOT_USE"]) > 0
    return np.asarray(unusable | ~np.isfinite(model.data) | ~np.isfinite(model.err))


def _without_background(data: Floats, bad: Flags) -> Floats:
    if bad.all():
        return np.zeros_like(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NaN, which are masked
        background = Background2D(
            data,
            min(BOX_PIXELS, *data.shape),
            mask=bad,
            filter_size=3,
            exclude_percentile=90.0,
            sigma_clip=SigmaClip(3.0, maxiters=5),
            bkg_estimator=MedianBackground(),
        )
    return np.where(bad, 0.0, data - background.background)


def _places(data: Floats, bad: Flags, error: Floats, fwhm: float, snr: float) -> Floats:
    """Pixels (x, y) of the brightest peaks that look like stars, shape ``(N, 2)``."""
    if bad.all():
        return np.zeros((0, 2))
    noise = max(float(np.median(error[~bad])), float(mad_std(data[~bad])))
    finder = DAOStarFinder(snr * noise, fwhm, n_brightest=MOST_STARS, exclude_border=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where nothing is found
        found = finder(data, mask=bad)
    if found is None:
        return np.zeros((0, 2))
    names = ("x_centroid", "y_centroid") if "x_centroid" in found.colnames else ("xcentroid", "ycentroid")
    return np.stack([np.asarray(found[name], dtype=float) for name in names], axis=1)


def _fits(data: Floats, bad: Flags, error: Floats, fwhm: float, places: Floats) -> QTable:
    """Fit a Gaussian to each place."""
    start = QTable({"x_0": places[:, 0], "y_0": places[:, 1]})
    model = CircularGaussianPRF(fwhm=fwhm)
    model.fwhm.fixed = False
    model.fwhm.bounds = (0.3 * fwhm, 4.0 * fwhm)
    photometry = PSFPhotometry(model, FIT_PIXELS, aperture_radius=fwhm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fits that do not converge are flagged, and left out
        fits = photometry(data, mask=bad, error=np.where(bad, 1.0, error), init_params=start)
    is_fit = np.isfinite(fits["x_err"]) & np.isfinite(fits["y_err"]) & (fits["flux_fit"] > 0) & (fits["x_err"] > 0)
    fits = QTable(fits[is_fit])
    fits.sort("flux_fit", reverse=True)
    return fits


def _is_star(fits: QTable, saturated: Flags, fwhm: float, shape: tuple[int, int]) -> Flags:
    """Find which fits are of single, unsaturated stars."""
    x, y, width = (np.asarray(fits[name], dtype=float) for name in ("x_fit", "y_fit", "fwhm_fit"))
    ny, nx = shape
    good = (x > EDGE_PIXELS) & (x < nx - 1 - EDGE_PIXELS) & (y > EDGE_PIXELS) & (y < ny - 1 - EDGE_PIXELS)
    good &= np.asarray(fits["qfit"]) < LARGEST_MISFIT
    good &= np.hypot(x - fits["x_init"], y - fits["y_init"]) < fwhm
    if saturated.any():
        distance = ndimage.distance_transform_edt(~saturated)
        inside = np.clip(np.rint([y, x]).astype(int), 0, [[ny - 1], [nx - 1]])
        good &= distance[tuple(inside)] > SATURATION_REACH * fwhm
    good &= ~_is_blend(np.stack([x, y], axis=1), np.asarray(fits["flux_fit"]), NEIGHBOUR_WIDTHS * fwhm)
    if good.sum() >= FEWEST_FOR_WIDTH:
        typical = _stellar_width(width[good], np.asarray(fits["flux_fit"])[good])
        good &= (width > NARROWEST * typical) & (width < WIDEST * typical)
    return good


def _stellar_width(width: Floats, flux: Floats) -> float:
    """Width of stars: the middle of the shortest interval that holds half of the widths of the brighter half."""
    bright = np.sort(width[flux >= np.median(flux)])
    half = max(len(bright) // 2, 1)
    spans = bright[half:] - bright[: len(bright) - half]
    first = int(np.argmin(spans))
    return float(np.median(bright[first : first + half + 1]))


def _is_blend(places: Floats, flux: Floats, radius: float) -> Flags:
    """Find which places have a neighbour that is not faint against them."""
    pairs = KDTree(places).query_pairs(radius, output_type="ndarray")
    blended = np.zeros(len(places), dtype=bool)
    for one, other in (pairs.T, pairs.T[::-1]):
        blended[one[flux[other] > NEIGHBOUR_FLUX * flux[one]]] = True
    return blended


def _table(fits: QTable, model: Any) -> QTable:
    x, y = (np.asarray(fits[name], dtype=float) for name in ("x_fit", "y_fit"))
    ra, dec = model.meta.wcs(x, y)
    nano = 1e15 * _pixel_areas_sr(model.meta.wcs, x, y)
    flux, flux_err = (np.asarray(fits[name], dtype=float) * nano * u.nJy for name in ("flux_fit", "flux_err"))
    table = _empty()[:0]
    columns = {
        "x": np.round(x, 5) * u.pix,
        "y": np.round(y, 5) * u.pix,
        "x_err": np.round(np.asarray(fits["x_err"], dtype=float), 5) * u.pix,
        "y_err": np.round(np.asarray(fits["y_err"], dtype=float), 5) * u.pix,
        "ra": np.round(ra, 10) * u.deg,
        "dec": np.round(dec, 10) * u.deg,
        "flux": np.round(flux, 3),
        "flux_err": np.round(flux_err, 3),
        "mag": np.round(flux.to_value(u.ABmag), 4) * u.mag,
        "fwhm": np.round(np.asarray(fits["fwhm_fit"], dtype=float), 4) * u.pix,
    }
    return QTable({name: columns[name] for name in table.colnames})


def _empty() -> QTable:
    units = {"x": u.pix, "y": u.pix, "x_err": u.pix, "y_err": u.pix, "ra": u.deg, "dec": u.deg}
    units |= {"flux": u.nJy, "flux_err": u.nJy, "mag": u.mag, "fwhm": u.pix}
    return QTable({name: np.zeros(0) * unit for name, unit in units.items()})
