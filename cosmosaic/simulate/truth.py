"""The truth with which the results of a simulated survey are compared."""

import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from numpy.typing import NDArray

from cosmosaic.nircam import drawn_pixel_arcsec
from cosmosaic.simulate.geometry import header_error_mas
from cosmosaic.simulate.plan import JULIAN_YEAR, SIMULATED_START, PlannedExposure
from cosmosaic.simulate.psf import effective_psf, encircled_energy
from cosmosaic.simulate.references import nominal_pixel_area_arcsec2
from cosmosaic.simulate.render import sky_level
from cosmosaic.simulate.scene import positions_at
from cosmosaic.survey import SimulationSettings

REFERENCE_FAINTEST_NJY = 10 ** ((31.4 - 21.0) / 2.5)
"""The reference catalogue has stars brighter than this, AB magnitude 21, in some filter of the survey."""
REFERENCE_PM_ERROR_MAS_YR = 0.3

PSF_RADII_ARCSEC = np.round(np.concatenate([np.arange(0.02, 0.5, 0.02), np.geomspace(0.5, 2.0, 8)]), 3)
"""Radii for which the truth has the encircled energy."""


@dataclass(frozen=True)
class ExposureTruth:
    """Noise and artefacts added to the sky in one exposure; images have the exposure's shape ``(ny, nx)``."""

    pedestal_mjy_sr: float
    """Additive level; in the calibrated image it is divided by the flat."""
    flicker_mjy_sr: NDArray[np.float32]
    """1/f noise as the result of an unweighted fit to the ramp."""
    wisps_mjy_sr: NDArray[np.float32]
    """Scattered light."""
    cosmic_rays: NDArray[np.uint8]
    """Group, counted from 1, of the first hit; 0 where no cosmic ray fell."""
    persistence_mjy_sr: NDArray[np.float32] | None = None
    """Light that earlier exposures left, if they do."""
    snowballs_e: NDArray[np.float32] | None = None
    """Charge of snowballs in electrons, if there are any."""


def generator_of(exposure: PlannedExposure, purpose: str) -> np.random.Generator:
    """Random numbers of an exposure for one purpose, independent of other purposes."""
    return np.random.default_rng([exposure.seed, crc32(purpose.encode())])


def draw_pedestal(exposure: PlannedExposure, settings: SimulationSettings) -> float:
    """Draw the additive level of a detector in an exposure, MJy/sr."""
    return float(settings.pedestal_rms * generator_of(exposure, "pedestal").standard_normal())


def write_exposure_truth(truth: ExposureTruth, path: Path) -> None:
    """Write the truth of an exposure as gzipped FITS.

    FLICKER, WISPS and PERSISTENCE are in MJy/sr, SNOWBALLS in electrons; COSMICRAYS has the group of the first hit.
    """
    planes = {
        "FLICKER": (truth.flicker_mjy_sr, "MJy/sr"),
        "WISPS": (truth.wisps_mjy_sr, "MJy/sr"),
        "PERSISTENCE": (truth.persistence_mjy_sr, "MJy/sr"),
        "SNOWBALLS": (truth.snowballs_e, "electron"),
    }
    images = [
        fits.ImageHDU(image, fits.Header({"BUNIT": unit}), name=name)
        for name, (image, unit) in planes.items()
        if image is not None
    ]
    cosmic_rays = fits.ImageHDU(truth.cosmic_rays, name="COSMICRAYS")
    primary = fits.PrimaryHDU()
    primary.header["PEDESTAL"] = (truth.pedestal_mjy_sr, "[MJy/sr] additive level")
    buffer = io.BytesIO()
    fits.HDUList([primary, *images, cosmic_rays]).writeto(buffer)
    path.write_bytes(gzip.compress(buffer.getvalue(), 4, mtime=0))


def write_survey_truth(
    scene: Table, exposures: Sequence[PlannedExposure], settings: SimulationSettings, folder: Path
) -> None:
    """Write the true sources and the true properties of the exposures, as tables in ECSV, and the true PSFs.

    ``sources.ecsv`` is the scene, ``exposures.ecsv`` has each exposure's sky level, pedestal and astrometric errors,
    ``psf.ecsv`` the fraction of a star's light within circles, for each filter's native pixels, and
    ``reference.ecsv`` is an astrometric catalogue of the bright stars, with errors and at an epoch of its own.
    ``<filter>_psf.fits`` is the PSF as it falls on the detectors, of the kind that ``catalog.detector_psfs`` takes.

    Parameters
    ----------
    scene
        Sources.
    exposures
        All exposures of the survey.
    settings
        The survey.
    folder
        Made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"sources": scene, "exposures": exposures_table(exposures, settings), "psf": psf_table(exposures)}
    tables["reference"] = reference_catalogue(scene, settings)
    for name, table in tables.items():
        table.write(folder / f"{name}.ecsv", format="ascii.ecsv", overwrite=True)
    for band, detector in detectors_by_band(exposures).items():
        write_psf(band, detector, folder / f"{band.lower()}_psf.fits")


def write_psf(band: str, detector: str, path: Path) -> None:
    """Write the PSF that sources are drawn with: finely sampled, the detector's pixel included, axes -V2 and +V3."""
    psf = effective_psf(band, drawn_pixel_arcsec(detector))
    header = fits.Header({"FILTER": band})
    header["PIXELSCL"] = (psf.scale_arcsec, "[arcsec] side of a pixel")
    fits.PrimaryHDU(psf.image.astype(np.float32), header).writeto(path, overwrite=True)


def detectors_by_band(exposures: Sequence[PlannedExposure]) -> dict[str, str]:
    """Return one of the detectors of each filter."""
    return dict(sorted({exposure.band: exposure.detector for exposure in exposures}.items()))


def exposures_table(exposures: Sequence[PlannedExposure], settings: SimulationSettings) -> Table:
    """Table of the sky level, pedestal and astrometric errors, a row per exposure.

    ``header_east`` and ``header_north`` are the offset of the middle of the exposure from all errors together, with
    velocity aberration: true minus nominal position.
    """
    rows = [
        (
            exposure.name,
            exposure.detector,
            exposure.band,
            sky_level(exposure.band, settings.sky_mjy_sr),
            draw_pedestal(exposure, settings),
            exposure.ra_error_mas,
            exposure.dec_error_mas,
            exposure.roll_error_arcsec,
            *exposure.placement_mas,
            exposure.placement_rotation_arcsec,
            *exposure.filter_offset_mas,
            *header_error_mas(exposure),
        )
        for exposure in exposures
    ]
    columns = {
        "name": None,
        "detector": None,
        "filter": None,
        "sky": "MJy/sr",
        "pedestal": "MJy/sr",
        "ra_error": "mas",
        "dec_error": "mas",
        "roll_error": "arcsec",
        "placement_v2": "mas",
        "placement_v3": "mas",
        "placement_rotation": "arcsec",
        "filter_v2": "mas",
        "filter_v3": "mas",
        "header_east": "mas",
        "header_north": "mas",
    }
    return Table(rows=rows, names=tuple(columns), units=columns)


def reference_catalogue(scene: Table, settings: SimulationSettings) -> Table:
    """An astrometric catalogue like Gaia's: the bright stars at its epoch, with random errors.

    Columns have Gaia's names and units: degrees, mas and mas a year, the motion in RA times cos dec.
    """
    fluxes = [np.asarray(scene[name]) for name in scene.colnames if name.startswith("flux_")]
    bright = (np.asarray(scene["kind"]) == "star") & (np.max(fluxes, axis=0) > REFERENCE_FAINTEST_NJY)
    stars = scene[bright]
    generator = np.random.default_rng([settings.seed, crc32(b"reference catalogue")])
    east, north, pm_east, pm_north = generator.standard_normal((4, len(stars)))
    epoch = SIMULATED_START + (settings.reference_epoch - Time(SIMULATED_START).jyear) * JULIAN_YEAR
    ra, dec = positions_at(stars, epoch)
    error, pm_error = settings.reference_error_mas, REFERENCE_PM_ERROR_MAS_YR
    return Table(
        {
            "ra": ra + error * east / 3.6e6 / np.cos(np.radians(dec)),
            "dec": dec + error * north / 3.6e6,
            "ra_error": np.full(len(stars), error),
            "dec_error": np.full(len(stars), error),
            "pmra": stars["pmra"] + pm_error * pm_east,
            "pmdec": stars["pmdec"] + pm_error * pm_north,
            "pmra_error": np.full(len(stars), pm_error),
            "pmdec_error": np.full(len(stars), pm_error),
            "ref_epoch": np.full(len(stars), settings.reference_epoch),
        },
        units=["deg", "deg", "mas", "mas", *["mas/yr"] * 4, "yr"],
    )


def psf_table(exposures: Sequence[PlannedExposure]) -> Table:
    """Encircled energy of each filter, on its detectors' native pixels."""
    rows = []
    for filter_name, detector in detectors_by_band(exposures).items():
        pixel_scale = float(np.sqrt(nominal_pixel_area_arcsec2(detector)))
        energies = encircled_energy(filter_name, PSF_RADII_ARCSEC, pixel_scale)
        rows += [(filter_name, pixel_scale, *pair) for pair in zip(PSF_RADII_ARCSEC, energies, strict=True)]
    names = ("filter", "pixel_scale", "radius", "encircled_energy")
    return Table(rows=rows, names=names, units={"pixel_scale": "arcsec", "radius": "arcsec"})
