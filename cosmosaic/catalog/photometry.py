"""Positions, shapes, fluxes, errors and flags of the detected sources.

The errors are ``sqrt(sum ERR^2)`` over the aperture. They neglect the correlation of drizzled pixels, and are
nevertheless right, because jwst divides ERR by the ratio of the pixel scales: ERR is the noise of an uncorrelated
pixel, and single pixels scatter less. Measured on noise drizzled onto 30 mas pixels from 31 mas (and, in brackets, from
63 mas), four exposures, pixfrac 1: pixels scatter by 0.65 (0.40) of ERR; empty apertures of 0.1, 0.15, 0.25 and 0.5
arcsec radius by 0.89 (0.88), 0.93 (0.93), 0.95 (0.95) and 1.01 (0.96) of their errors, which are thus at worst slightly
too large.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle, SkyCoord
from astropy.table import QTable
from numpy.typing import NDArray
from photutils.aperture import CircularAperture, PixelAperture
from photutils.segmentation import SegmentationImage, SourceCatalog
from scipy import ndimage

from cosmosaic.catalog.detection import Detection
from cosmosaic.catalog.image import PIXEL_UNIT, MosaicImage
from cosmosaic.catalog.noise import NJY_PER_MJY
from cosmosaic.catalog.rejected import rejected_labels
from cosmosaic.survey import CatalogSettings

KRON_SCALE = 2.5
"""Kron apertures reach this many Kron radii (Kron 1980, ApJS 43, 305; SExtractor's PHOT_AUTOPARAMS)."""
KRON_MINIMUM = 1.4
"""Least Kron radius in units of the source's axes."""
KRON_MINIMUM_ARCSEC = 0.15
"""Kron apertures are not smaller than a circle of this radius."""
SHALLOW_FRACTION = 0.5
"""Below this fraction of the mosaic's median weight a source is flagged as shallow."""

Columns = dict[str, NDArray]


class CatalogFlag(IntFlag):
    """Warnings about a source; bits of the column ``flags``."""

    EDGE = 1
    """The segment touches the mosaic's border or a gap in the coverage."""
    BLENDED = 2
    """The segment was separated from a neighbour's."""
    SHALLOW = 4
    """The weight is below half the mosaic's median: fewer exposures."""
    NO_DATA = 8
    """Pixels inside the segment have no data, as in a saturated core: fluxes are lower limits."""
    TRUNCATED = 16
    """The Kron aperture or the largest circular one reaches pixels without data."""
    NOT_POSITIVE = 32
    """The Kron flux is not positive: no magnitude."""
    KRON_UNDEFINED = 64
    """No Kron radius could be measured: the Kron flux is that of the smallest aperture allowed."""
    REJECTED = 2048
    """Outlier rejection has taken a third of an exposure or more from its core, as where it varied."""


@dataclass(frozen=True)
class ColumnSpec:
    """Unit, type and meaning of a catalogue column."""

    unit: u.UnitBase | None
    dtype: str
    description: str


def column_specs(settings: CatalogSettings) -> dict[str, ColumnSpec]:
    """Describe the catalogue's columns, in order.

    Parameters
    ----------
    settings
        Their apertures determine the aperture columns.
    """
    mag = u.mag
    specs = {
        "label": ColumnSpec(None, "i4", "number of the source; its value in the segmentation image"),
        "name": ColumnSpec(None, "str", "IAU-style designation from the position"),
        "ra": ColumnSpec(u.deg, "f8", "right ascension, ICRS, windowed centroid"),
        "dec": ColumnSpec(u.deg, "f8", "declination, ICRS, windowed centroid"),
        "x": ColumnSpec(u.pix, "f8", "column of the windowed centroid, the first pixel's centre is 0"),
        "y": ColumnSpec(u.pix, "f8", "row of the windowed centroid, the first pixel's centre is 0"),
        "area": ColumnSpec(u.arcsec**2, "f8", "area of the segment"),
        "semimajor": ColumnSpec(u.arcsec, "f8", "rms extent along the major axis, smoothed image"),
        "semiminor": ColumnSpec(u.arcsec, "f8", "rms extent along the minor axis, smoothed image"),
        "ellipticity": ColumnSpec(None, "f8", "1 - semiminor / semimajor"),
        "orientation": ColumnSpec(u.deg, "f8", "position angle of the major axis, east of north, 0 to 180"),
        "half_light_radius": ColumnSpec(u.arcsec, "f8", "radius of the circle with half of the Kron flux"),
        "kron_radius": ColumnSpec(u.arcsec, "f8", "semi-major axis of the Kron aperture"),
        "kron_flux": ColumnSpec(u.nJy, "f8", "flux in the Kron aperture"),
        "kron_flux_err": ColumnSpec(u.nJy, "f8", "error of kron_flux"),
        "kron_mag": ColumnSpec(mag, "f8", "AB magnitude of kron_flux"),
        "kron_mag_err": ColumnSpec(mag, "f8", "error of kron_mag"),
        "snr": ColumnSpec(None, "f8", "kron_flux / kron_flux_err"),
        "iso_flux": ColumnSpec(u.nJy, "f8", "flux in the segment"),
        "iso_flux_err": ColumnSpec(u.nJy, "f8", "error of iso_flux"),
        "iso_mag": ColumnSpec(mag, "f8", "AB magnitude of iso_flux"),
        "iso_mag_err": ColumnSpec(mag, "f8", "error of iso_mag"),
    }
    for radius, suffix in aperture_suffixes(settings).items():
        place = f"in a circle of {radius:g} arcsec radius, not corrected to total"
        specs[f"aper_flux_{suffix}"] = ColumnSpec(u.nJy, "f8", f"flux {place}")
        specs[f"aper_flux_err_{suffix}"] = ColumnSpec(u.nJy, "f8", f"error of aper_flux_{suffix}")
        specs[f"aper_mag_{suffix}"] = ColumnSpec(mag, "f8", f"AB magnitude {place}")
        specs[f"aper_mag_err_{suffix}"] = ColumnSpec(mag, "f8", f"error of aper_mag_{suffix}")
    return specs | {
        "peak": ColumnSpec(PIXEL_UNIT, "f8", "brightest pixel of the segment, background subtracted"),
        "background": ColumnSpec(PIXEL_UNIT, "f8", "background that was subtracted at the source"),
        "weight": ColumnSpec(None, "f8", "drizzle weight (WHT) at the source"),
        "flags": ColumnSpec(None, "i4", "; ".join(f"{flag.value} {flag.name}" for flag in CatalogFlag)),
    }


def aperture_suffixes(settings: CatalogSettings) -> dict[float, str]:
    """Name the aperture of each radius in arcsec: 0.15 becomes ``0p15``."""
    return {
        radius: f"{radius:.4f}".rstrip("0").ljust(4, "0").replace(".", "p") for radius in settings.aperture_radii_arcsec
    }


def measure_sources(image: MosaicImage, detection: Detection, settings: CatalogSettings) -> QTable:
    """Measure the detected sources.

    Neighbours inside an aperture are replaced by the pixels opposite (SExtractor's MASK_TYPE CORRECT). Shapes and the
    centres of the apertures come from the smoothed image, positions from windowed centroids on the unsmoothed one.

    Parameters
    ----------
    image
        The mosaic.
    detection
        Its background and segments.
    settings
        Radii of the apertures.

    Returns
    -------
    table
        A row per source, the columns of `column_specs`; no rows where nothing was detected.
    """
    specs = column_specs(settings)
    if detection.segments is None:
        return _table(specs, {name: np.zeros(0, dtype=spec.dtype) for name, spec in specs.items()})
    sources = SourceCatalog(
        np.where(image.valid, image.sci - detection.background, np.float32(np.nan)),
        detection.segments,
        convolved_data=detection.smoothed,
        error=image.err,
        mask=~image.valid,
        wcs=image.wcs,
        kron_params=(KRON_SCALE, KRON_MINIMUM, image.pixels(KRON_MINIMUM_ARCSEC)),
    )
    columns = _positions(sources, image) | _shapes(sources, image)
    columns |= _fluxes(sources, image, settings) | _surroundings(sources, image, detection)
    columns["snr"] = columns["kron_flux"] / columns["kron_flux_err"]
    columns["truncated"] = _truncated(sources, image, max(settings.aperture_radii_arcsec))
    columns["flags"] = _flags(columns, sources, image, detection)
    return _table(specs, columns)


def _table(specs: Mapping[str, ColumnSpec], columns: Mapping[str, NDArray]) -> QTable:
    table = QTable()
    for name, spec in specs.items():
        values = np.asarray(columns[name]).astype(spec.dtype)
        table[name] = values if spec.unit is None else values << spec.unit
        table[name].info.description = spec.description
    return table


def _positions(sources: SourceCatalog, image: MosaicImage) -> Columns:
    x, y = np.atleast_1d(sources.x_centroid_win), np.atleast_1d(sources.y_centroid_win)
    unmeasured = ~(np.isfinite(x) & np.isfinite(y))
    x = np.where(unmeasured, sources.x_centroid, x)
    y = np.where(unmeasured, sources.y_centroid, y)
    sky = image.wcs.pixel_to_world(x, y).icrs
    return {
        "label": sources.labels,
        "name": np.array([designation(place) for place in sky]),
        "ra": sky.ra.deg,
        "dec": sky.dec.deg,
        "x": x,
        "y": y,
    }


def designation(place: SkyCoord) -> str:
    """Name a position as ``J100027.916+021203.50``: truncated, not rounded, as the IAU asks."""
    ra = Angle(np.floor(place.ra.hour * 3.6e6) / 3.6e6, u.hour)
    dec = Angle(np.trunc(place.dec.deg * 3.6e5) / 3.6e5, u.deg)
    return (
        f"J{ra.to_string(sep='', precision=3, pad=True)}{dec.to_string(sep='', precision=2, pad=True, alwayssign=True)}"
    )


def _shapes(sources: SourceCatalog, image: MosaicImage) -> Columns:
    scale = image.pixel_scale_arcsec
    return {
        "area": sources.segment_area.value * scale**2,
        "semimajor": sources.semimajor_axis.value * scale,
        "semiminor": sources.semiminor_axis.value * scale,
        "ellipticity": sources.ellipticity.value,
        "orientation": position_angle(sources, image),
        "half_light_radius": sources.flux_radius(0.5).value * scale,
        "kron_radius": _kron_semimajor(sources) * scale,
    }


def position_angle(sources: SourceCatalog, image: MosaicImage) -> NDArray[np.float64]:
    """Convert the axes' directions on the pixel grid to position angles, degrees east of north, 0 to 180."""
    x, y = sources.x_centroid, sources.y_centroid
    angle = sources.orientation.to_value(u.rad)
    centre = image.wcs.pixel_to_world(x, y)
    ahead = image.wcs.pixel_to_world(x + np.cos(angle), y + np.sin(angle))
    return centre.position_angle(ahead).deg % 180.0


def _kron_semimajor(sources: SourceCatalog) -> NDArray[np.float64]:
    """Semi-major axes of the Kron apertures in pixels."""
    elliptical = KRON_SCALE * sources.kron_radius.value * sources.semimajor_axis.value
    return np.where(sources.kron_radius.value == 0, sources.kron_params[2], elliptical)


def _fluxes(sources: SourceCatalog, image: MosaicImage, settings: CatalogSettings) -> Columns:
    to_njy = image.pixel_area_sr * NJY_PER_MJY
    smallest = sources.circular_photometry(image.pixels(KRON_MINIMUM_ARCSEC))
    undefined = ~np.isfinite(sources.kron_flux)
    kron = np.where(undefined, smallest, (sources.kron_flux, sources.kron_flux_err))
    columns = _flux_columns("kron_{}", *(to_njy * kron))
    columns |= _flux_columns("iso_{}", to_njy * sources.segment_flux, to_njy * sources.segment_flux_err)
    for radius, suffix in aperture_suffixes(settings).items():
        flux, error = sources.circular_photometry(image.pixels(radius))
        columns |= _flux_columns("aper_{}_" + suffix, to_njy * flux, to_njy * error)
    return columns


def _flux_columns(name: str, flux: NDArray[np.float64], error: NDArray[np.float64]) -> Columns:
    """Flux and error in nJy with AB magnitude and error; no magnitude where the flux is not positive."""
    positive = np.where(flux > 0, flux, np.nan)
    return {
        name.format("flux"): flux,
        name.format("flux_err"): error,
        name.format("mag"): (positive * u.nJy).to_value(u.ABmag),
        name.format("mag_err"): 2.5 / np.log(10.0) * error / positive,
    }


def _surroundings(sources: SourceCatalog, image: MosaicImage, detection: Detection) -> Columns:
    rows, columns = (
        np.clip(np.round(centre).astype(int), 0, length - 1)
        for centre, length in zip((sources.y_centroid, sources.x_centroid), image.valid.shape, strict=True)
    )
    return {
        "peak": sources.max_value,
        "background": detection.background[rows, columns],
        "weight": image.wht[rows, columns],
    }


def _flags(columns: Columns, sources: SourceCatalog, image: MosaicImage, detection: Detection) -> NDArray[np.int32]:
    segments: SegmentationImage = detection.segments
    labels = sources.labels
    typical = np.median(image.wht[image.valid])
    inside_hole = np.isin(labels, segments.data[detection.holes])
    conditions = {
        CatalogFlag.EDGE: np.isin(labels, _edge_labels(segments.data, ~(image.valid | detection.holes))),
        CatalogFlag.BLENDED: np.isin(labels, segments.deblended_labels),
        CatalogFlag.SHALLOW: ~inside_hole & (columns["weight"] < SHALLOW_FRACTION * typical),
        CatalogFlag.NO_DATA: inside_hole,
        CatalogFlag.TRUNCATED: columns["truncated"],
        CatalogFlag.NOT_POSITIVE: ~(columns["kron_flux"] > 0),
        CatalogFlag.REJECTED: np.isin(labels, _rejected(segments.data, image)),
        CatalogFlag.KRON_UNDEFINED: ~np.isfinite(sources.kron_radius.value),
    }
    return sum(flag.value * condition.astype(np.int32) for flag, condition in conditions.items())


def _rejected(segments: NDArray[np.int32], image: MosaicImage) -> NDArray[np.integer]:
    if image.exposures is None:
        return np.zeros(0, np.int32)
    return rejected_labels(segments, image.sci, image.wht, image.exposures)


def _edge_labels(segments: NDArray[np.int32], uncovered: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Labels of the segments beside a gap or on the border."""
    beside = ndimage.binary_dilation(uncovered, structure=np.ones((3, 3)), border_value=1)
    return np.unique(segments[beside])


def _truncated(sources: SourceCatalog, image: MosaicImage, radius_arcsec: float) -> NDArray[np.bool_]:
    """Whether the Kron aperture or the circle of this radius holds pixels without data, or leaves the mosaic."""
    centres = np.transpose((sources.x_centroid, sources.y_centroid))
    truncated = _lacks_data(CircularAperture(centres, image.pixels(radius_arcsec)), image)
    for row, aperture in enumerate(sources.kron_aperture):
        if aperture is not None and not truncated[row]:
            truncated[row] = _lacks_data(aperture, image)
    return truncated


def _lacks_data(aperture: PixelAperture, image: MosaicImage) -> NDArray[np.bool_]:
    covered = np.nan_to_num(aperture.area_overlap(image.sci, mask=~image.valid))
    return np.asarray(covered < aperture.area * (1.0 - 1e-6))
