"""The depth of a mosaic: the noise of empty apertures at each place, and its sky."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.stats import mad_std
from numpy.typing import NDArray

from cosmosaic.catalog.detection import prepare
from cosmosaic.catalog.image import STRIP_ROWS, MosaicSet, open_mosaics
from cosmosaic.catalog.noise import (
    DEPTH_DIAMETER_ARCSEC,
    INDEPENDENT,
    RADII_PIXELS,
    ApertureNoise,
    EmptyApertures,
    distance_from,
    empty_apertures,
    joined,
    noise_of,
)
from cosmosaic.catalog.sections import Section, sections_of
from cosmosaic.catalog.segments import DiskPlane
from cosmosaic.mosaic.noise import LARGEST_SAMPLE_PIXELS
from cosmosaic.provenance import complete_wcs
from cosmosaic.records import Record
from cosmosaic.steps.result import Made

DEPTH_SIGMA = 5.0


class MosaicStatistics(Record):
    """Sky, noise and depth of one mosaic; if it is large, of some of its pixels, spread evenly."""

    sky_median: float
    """Median of the source-free pixels in MJy/sr."""
    sky_rms: float
    """Robust scatter of the source-free pixels in MJy/sr."""
    noise_factor: float | None
    """Robust scatter of source-free pixels over ERR; below 1 because drizzled pixels are correlated."""
    aperture_error_ratio: float | None
    """Scatter of empty apertures of 0.3 arcsec diameter over their propagated error; 1 where errors are right."""
    depth_5sigma_ab: float | None
    """Median over the sky of the AB magnitude of five times the scatter of empty apertures of 0.3 arcsec diameter, not
    corrected to total flux."""
    coverage_arcmin2: float
    """Area with data in square arcminutes."""


@dataclass(frozen=True)
class _Look:
    """What a section of a mosaic tells."""

    apertures: list[EmptyApertures]
    """Of each size."""
    sky: NDArray[np.float32]
    """Some source-free pixels, MJy/sr."""
    pulls: NDArray[np.float32]
    """The same without background over their errors."""
    light: NDArray[np.float32]
    """Some pixels with data, sources included, MJy/sr."""
    covered: int
    """Pixels with data."""


def measure_depth(mosaic: Path, background_box_arcsec: float, band: str, stem: str, folder: Path) -> Made:
    """Write the map of depths of a mosaic (``_i2d``), and return its sky, noise and median depth.

    A mosaic is measured section by section, so that memory does not grow with it.

    Parameters
    ----------
    mosaic
        ``_i2d`` file.
    background_box_arcsec
        Side of the boxes in which the background is measured.
    band, stem
        Filter, and name of the product without ``_depth.fits``.
    folder
        Gets the product.

    Raises
    ------
    ValueError
        It is no mosaic, or it is empty.
    """
    mosaics = open_mosaics({band: mosaic})
    errors = DiskPlane(mosaics.shape, np.float32, folder)
    sections = list(sections_of(mosaics.shape, round(background_box_arcsec / mosaics.scale_arcsec)))
    looks = [
        _look(mosaics, band, section, share, background_box_arcsec, errors)
        for section, share in zip(sections, covered_shares(mosaic, sections), strict=True)
    ]
    if not any(look.covered for look in looks):
        raise ValueError(f"{mosaic}: no pixel has finite SCI, positive ERR and positive WHT; the mosaic is empty")
    noise = noise_of([joined([look.apertures[size] for look in looks]) for size in range(len(RADII_PIXELS))])
    header = mosaics.wcs.to_header()
    complete_wcs(header)
    header["BUNIT"] = "mag(AB)"
    header["BAND"] = (band, "filter")
    header["NSIGMA"] = (int(DEPTH_SIGMA), "in the scatter of empty apertures")
    header["APERTURE"] = (DEPTH_DIAMETER_ARCSEC, "[arcsec] diameter of the apertures")
    header["NOISEPOW"] = (round(noise.power, 4), "scatter of apertures: area^NOISEPOW")
    path, to_njy = folder / f"{stem}_depth.fits", mosaics.read_band(band, (slice(0, 1), slice(0, 1))).to_njy
    median = _write_map(path, header, errors, noise, mosaics.scale_arcsec, to_njy)
    return Made(depth=path, facts=_statistics(looks, noise, median, mosaics.scale_arcsec).model_dump())


def covered_shares(mosaic: Path, sections: Sequence[Section]) -> NDArray[np.float64]:
    """Return the fraction of a mosaic's covered area that each section's own part has; 0 if nothing is covered."""
    with fits.open(mosaic) as hdus:
        weight = hdus["WHT"].section
        covered = np.array([np.count_nonzero(weight[one.own[0]][:, one.own[1]] > 0) for one in sections])
    return covered / max(covered.sum(), 1)


def depths(
    sky_error: NDArray[np.float32], noise: ApertureNoise, scale_arcsec: float, to_njy: float
) -> NDArray[np.float32]:
    """Return the AB magnitude of five times the scatter of empty apertures; NaN without data.

    The apertures have `DEPTH_DIAMETER_ARCSEC`; their fluxes are not corrected to total.

    Parameters
    ----------
    sky_error
        Error of a pixel without that of sources, MJy/sr; 0 where there are no data.
    noise
        Of apertures.
    scale_arcsec, to_njy
        Of a pixel, and the flux of one of 1 MJy/sr.
    """
    area = _area(scale_arcsec)
    scatter = sky_error * np.sqrt(area) * noise.factors(area, sky_error) * to_njy
    positive = np.where(scatter > 0, scatter, np.nan)
    return (DEPTH_SIGMA * positive * u.nJy).to_value(u.ABmag).astype(np.float32)


def _area(scale_arcsec: float) -> float:
    return float(np.pi * (DEPTH_DIAMETER_ARCSEC / 2.0 / scale_arcsec) ** 2)


def _look(mosaics: MosaicSet, band: str, section: Section, share: float, box_arcsec: float, errors: DiskPlane) -> _Look:
    """Measure a section of a mosaic, with a share of the empty apertures, and keep the sky's error."""
    prepared = prepare(mosaics.read_band(band, section.padded), box_arcsec)
    image = prepared.image
    own = section.own_in_padded
    errors[section.own] = prepared.sky_error[own]
    places = distance_from(prepared.source_mask | ~image.valid, own, share)
    apertures = [empty_apertures(prepared.residual, prepared.sky_error, places, radius) for radius in RADII_PIXELS]
    step = -(-mosaics.shape[0] * mosaics.shape[1] // LARGEST_SAMPLE_PIXELS)
    valid = image.valid[own]
    clear = valid & ~prepared.source_mask[own]
    sky, residual, err = (plane[own][clear][::step] for plane in (image.sci, prepared.residual, image.err))
    return _Look(apertures, sky, residual / err, image.sci[own][valid][::step], int(valid.sum()))


def _write_map(
    path: Path, header: fits.Header, errors: DiskPlane, noise: ApertureNoise, scale_arcsec: float, to_njy: float
) -> float:
    """Write the map of depths strip by strip; return their median, NaN if there are none."""
    step, sample = -(-errors.shape[0] * errors.shape[1] // LARGEST_SAMPLE_PIXELS), []
    fits.PrimaryHDU().writeto(path, overwrite=True)
    header = fits.ImageHDU(np.zeros((1, 1), np.float32), header=header, name="DEPTH").header
    header["NAXIS2"], header["NAXIS1"] = errors.shape
    # astropy looks for the last part of a Path alone.
    with fits.StreamingHDU(str(path), header) as stream:
        for row in range(0, errors.shape[0], STRIP_ROWS):
            found = depths(errors[row : row + STRIP_ROWS], noise, scale_arcsec, to_njy)
            stream.write(found)
            sample.append(found[np.isfinite(found)][::step])
    known = np.concatenate(sample)
    return float(np.median(known)) if known.size else np.nan


def _statistics(looks: list[_Look], noise: ApertureNoise, median: float, scale_arcsec: float) -> MosaicStatistics:
    sky, pulls, light = (np.concatenate([getattr(look, name) for look in looks]) for name in ("sky", "pulls", "light"))
    is_measured = noise is not INDEPENDENT
    shown = sky if sky.size else light
    return MosaicStatistics(
        sky_median=float(np.median(shown)),
        sky_rms=float(mad_std(shown)),
        noise_factor=float(mad_std(pulls)) if pulls.size else None,
        aperture_error_ratio=float(noise.factors(_area(scale_arcsec), noise.typical)) if is_measured else None,
        depth_5sigma_ab=median if is_measured else None,
        coverage_arcmin2=sum(look.covered for look in looks) * scale_arcsec**2 / 3600.0,
    )
