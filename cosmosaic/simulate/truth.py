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
from numpy.typing import NDArray

from cosmosaic.simulate.plan import PlannedFrame
from cosmosaic.simulate.psf import encircled_energy
from cosmosaic.simulate.references import nominal_pixel_area_arcsec2
from cosmosaic.simulate.render import sky_level
from cosmosaic.survey import SimulationSettings

PSF_RADII_ARCSEC = np.round(np.concatenate([np.arange(0.02, 0.5, 0.02), np.geomspace(0.5, 2.0, 8)]), 3)
"""Radii for which the truth has the encircled energy."""


@dataclass(frozen=True)
class FrameTruth:
    """Noise and artefacts added to the sky in one frame; images have the frame's shape ``(ny, nx)``."""

    pedestal_mjy_sr: float
    """Additive level; in the calibrated image it is divided by the flat."""
    flicker_mjy_sr: NDArray[np.float32]
    """1/f noise as the result of an unweighted fit to the ramp."""
    wisps_mjy_sr: NDArray[np.float32]
    """Scattered light."""
    cosmic_rays: NDArray[np.uint8]
    """Group, counted from 1, of the first hit; 0 where no cosmic ray fell."""


def generator_of(frame: PlannedFrame, purpose: str) -> np.random.Generator:
    """Random numbers of a frame for one purpose, independent of other purposes."""
    return np.random.default_rng([frame.seed, crc32(purpose.encode())])


def draw_pedestal(frame: PlannedFrame, settings: SimulationSettings) -> float:
    """Draw the additive level of a detector in an exposure, MJy/sr."""
    return float(settings.pedestal_rms * generator_of(frame, "pedestal").standard_normal())


def write_frame_truth(truth: FrameTruth, path: Path) -> None:
    """Write a frame's truth: FLICKER and WISPS in MJy/sr and COSMICRAYS, gzip bytes as `astropy.io.fits` reads them."""
    images = [
        fits.ImageHDU(image, fits.Header({"BUNIT": "MJy/sr"}), name=name)
        for name, image in (("FLICKER", truth.flicker_mjy_sr), ("WISPS", truth.wisps_mjy_sr))
    ]
    cosmic_rays = fits.ImageHDU(truth.cosmic_rays, name="COSMICRAYS")
    primary = fits.PrimaryHDU()
    primary.header["PEDESTAL"] = (truth.pedestal_mjy_sr, "[MJy/sr] additive level")
    buffer = io.BytesIO()
    fits.HDUList([primary, *images, cosmic_rays]).writeto(buffer)
    path.write_bytes(gzip.compress(buffer.getvalue(), 4, mtime=0))


def write_survey_truth(
    scene: Table, frames: Sequence[PlannedFrame], settings: SimulationSettings, folder: Path
) -> None:
    """Write the true sources and the true properties of the frames, as tables in ECSV.

    ``sources.ecsv`` is the scene, ``frames.ecsv`` has each frame's sky level, pedestal and pointing error, and
    ``psf.ecsv`` the fraction of a star's light within circles, for each filter's native pixels.

    Parameters
    ----------
    scene
        Sources.
    frames
        All frames of the survey.
    settings
        The survey.
    folder
        Made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"sources": scene, "frames": frames_table(frames, settings), "psf": psf_table(frames)}
    for name, table in tables.items():
        table.write(folder / f"{name}.ecsv", format="ascii.ecsv", overwrite=True)


def frames_table(frames: Sequence[PlannedFrame], settings: SimulationSettings) -> Table:
    """Table of the sky level, pedestal and pointing error, a row per frame."""
    rows = [
        (
            frame.name,
            frame.detector,
            frame.band,
            sky_level(frame.band, settings.sky_mjy_sr),
            draw_pedestal(frame, settings),
            frame.ra_error_mas,
            frame.dec_error_mas,
        )
        for frame in frames
    ]
    names = ("name", "detector", "filter", "sky", "pedestal", "ra_error", "dec_error")
    units = {"sky": "MJy/sr", "pedestal": "MJy/sr", "ra_error": "mas", "dec_error": "mas"}
    return Table(rows=rows, names=names, units=units)


def psf_table(frames: Sequence[PlannedFrame]) -> Table:
    """Encircled energy of each filter, on its detectors' native pixels."""
    rows = []
    for filter_name, detector in sorted({frame.band: frame.detector for frame in frames}.items()):
        pixel_scale = float(np.sqrt(nominal_pixel_area_arcsec2(detector)))
        energies = encircled_energy(filter_name, PSF_RADII_ARCSEC, pixel_scale)
        rows += [(filter_name, pixel_scale, *pair) for pair in zip(PSF_RADII_ARCSEC, energies, strict=True)]
    names = ("filter", "pixel_scale", "radius", "encircled_energy")
    return Table(rows=rows, names=names, units={"pixel_scale": "arcsec", "radius": "arcsec"})
