"""Calibrated exposures made directly, without ramps: equivalent to the output of Stages 1 and 2, in seconds."""

from pathlib import Path

import numpy as np
from jwst import __version__ as jwst_version
from jwst.assign_wcs.assign_wcs import load_wcs
from jwst.assign_wcs.util import update_fits_wcsinfo
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels import DistortionModel, ImageModel, dqflags

from cosmosaic.simulate.geometry import SR_PER_ARCSEC2, subarray_window
from cosmosaic.simulate.headers import save_reproducibly, set_metadata
from cosmosaic.simulate.instrument import (
    FRAME_TIME_S,
    READOUT_PATTERNS,
    DetectorMaps,
    detector_maps,
    flux_conversion,
    group_mid_times,
)
from cosmosaic.simulate.plan import PlannedExposure
from cosmosaic.simulate.ramps import (
    Hits,
    draw_cosmic_rays,
    draw_flicker,
    first_hit_group,
    full_well_dn,
    least_squares_slope,
    photon_rate,
)
from cosmosaic.simulate.references import (
    CRDS_CONTEXT,
    distortion_model,
    nominal_pixel_area_arcsec2,
    pixel_area_map,
)
from cosmosaic.simulate.truth import ExposureTruth, draw_pedestal, generator_of
from cosmosaic.simulate.wisps import draw_wisps
from cosmosaic.survey import SimulationSettings

MISSED_COSMIC_RAYS = 0.03
"""Fraction of cosmic-ray pixels that remain in a calibrated exposure, as if missed by the jump step."""

_STEPS = (
    *("dq_init", "saturation", "superbias", "refpix", "linearity", "dark_sub", "jump", "ramp_fit"),
    *("assign_wcs", "flat_field", "photom"),
)
_FLAGS = dqflags.pixel


def write_calibrated(
    exposure: PlannedExposure, surface_brightness: NDArray[np.float32], settings: SimulationSettings, path: Path
) -> ExposureTruth:
    """Simulate a calibrated exposure and write it as a ``_cal`` file.

    Parameters
    ----------
    exposure
        The planned exposure.
    surface_brightness
        The sky in MJy/sr, shape ``(ny, nx)`` of the exposure's subarray.
    settings
        Readout, noise and cosmic rays.
    path
        The file; replaced if it exists. Equal arguments give equal bytes.

    Returns
    -------
    ExposureTruth
        The noise and artefacts that were added to the sky.
    """
    model, truth = simulate_calibrated(exposure, surface_brightness, settings)
    save_reproducibly(model, path)
    return truth


def simulate_calibrated(
    exposure: PlannedExposure, surface_brightness: NDArray[np.float32], settings: SimulationSettings
) -> tuple[ImageModel, ExposureTruth]:
    """Make the image of an unweighted fit to the ramps, with its errors and flags.

    Returns
    -------
    model
        MJy/sr, with variances, flags, pixel areas and WCS.
    truth
        The noise and artefacts that were added to the sky.
    """
    window = subarray_window(exposure.aperture)
    maps = detector_maps(exposure.detector, window)
    conversion = flux_conversion(exposure.detector, exposure.band)
    pedestal = draw_pedestal(exposure, settings)
    flicker = least_squares_slope(draw_flicker(exposure, settings), settings) * conversion / maps.flat
    hits = draw_cosmic_rays(exposure, settings, maps)
    first_hit = first_hit_group(hits, settings, maps.gain.shape)

    wisps = draw_wisps(exposure, maps.gain.shape, settings)
    electrons = photon_rate(surface_brightness + wisps, maps, conversion)
    groups = _groups_before_saturation(electrons, maps, settings)
    poisson, read = _slope_variances(electrons, groups, maps, settings)
    generator = generator_of(exposure, "calibrated noise")
    slope = _noisy_slope(generator, electrons, poisson, read, maps) - maps.dark_rate
    missed = _missed_cosmic_rays(generator, hits, first_hit, maps, settings)
    unit = conversion / maps.flat
    dq = _quality(maps, first_hit, missed, groups, settings)
    data = (slope + missed) * unit + pedestal / maps.flat + flicker

    model = _image_model(data, poisson * unit**2, read * unit**2, dq)
    set_metadata(model, exposure, settings)
    _describe_calibration(model, exposure, settings, conversion)
    model.area = pixel_area_map(exposure)
    load_wcs(model, {"distortion": _distortion_reference(exposure), "filteroffset": None})
    update_fits_wcsinfo(model, max_pix_error=0.01, degree=None, max_inv_pix_error=0.01, inv_degree=None, npoints=12)
    return model, ExposureTruth(pedestal, flicker.astype(np.float32), wisps, first_hit)


def _groups_before_saturation(
    electrons: NDArray[np.float32], maps: DetectorMaps, settings: SimulationSettings
) -> NDArray[np.int64]:
    """Number of groups of each ramp below saturation."""
    last_read = (
        group_mid_times(settings)
        + (READOUT_PATTERNS[settings.readout_pattern].nframes - 1) / 2 * (FRAME_TIME_S[settings.subarray])
    )
    with np.errstate(divide="ignore"):
        time = full_well_dn(maps) * maps.gain / electrons
    return np.searchsorted(last_read, time, side="right")


def _slope_variances(
    electrons: NDArray[np.float32], groups: NDArray[np.int64], maps: DetectorMaps, settings: SimulationSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Variances of the slope from photons and from reads, (DN/s)**2, as in the ramp fit."""
    pattern = READOUT_PATTERNS[settings.readout_pattern]
    group_time = FRAME_TIME_S[settings.subarray] * (pattern.nframes + pattern.groupgap)
    n = np.maximum(groups, 2)
    poisson = electrons / maps.gain**2 / (group_time * (n - 1))
    read = 12 * maps.read_noise**2 / pattern.nframes / (group_time**2 * (n**3 - n))
    return poisson.astype(np.float32), read.astype(np.float32)


def _noisy_slope(
    generator: np.random.Generator,
    electrons: NDArray[np.float32],
    poisson: NDArray[np.float32],
    read: NDArray[np.float32],
    maps: DetectorMaps,
) -> NDArray[np.float32]:
    """Slope in DN/s: a Poisson number of electrons over the time that gives its variance, and read noise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        time = np.where(electrons > 0, electrons / (maps.gain**2 * poisson), 1)
    collected = generator.poisson(electrons * time)
    reads = generator.standard_normal(electrons.shape, dtype=np.float32) * np.sqrt(read)
    return (collected / time / maps.gain + reads).astype(np.float32)


def _missed_cosmic_rays(
    generator: np.random.Generator,
    hits: Hits,
    first_hit: NDArray[np.uint8],
    maps: DetectorMaps,
    settings: SimulationSettings,
) -> NDArray[np.float32]:
    """Slope in DN/s that undetected cosmic rays add: a step in the ramp, seen by an unweighted fit."""
    charge = np.zeros(maps.gain.shape, dtype=np.float32)
    missed = generator.uniform(size=hits.pixel.size) < MISSED_COSMIC_RAYS
    np.add.at(charge.reshape(-1), hits.pixel[missed], hits.electrons[missed])
    steps = (np.arange(settings.groups)[:, None] + 1 >= np.arange(1, settings.groups + 1)).astype(np.float32)
    response = np.append(0, least_squares_slope(steps[:, None, :], settings)[0]).astype(np.float32)
    return charge / maps.gain * response[first_hit]


def _quality(
    maps: DetectorMaps,
    first_hit: NDArray[np.uint8],
    missed: NDArray[np.float32],
    groups: NDArray[np.int64],
    settings: SimulationSettings,
) -> NDArray[np.uint32]:
    """Flags of the image; a jump in the first group leaves no trace in a ramp."""
    dq = maps.dq | maps.flat_dq
    dq[(first_hit > 1) & (missed == 0)] |= _FLAGS["JUMP_DET"]
    dq[groups < settings.groups] |= _FLAGS["SATURATED"]
    dq[groups < 2] |= _FLAGS["DO_NOT_USE"]
    return dq


def _image_model(
    data: NDArray[np.float32], poisson: NDArray[np.float32], read: NDArray[np.float32], dq: NDArray[np.uint32]
) -> ImageModel:
    bad = (dq & _FLAGS["DO_NOT_USE"]) > 0
    planes = {"data": data, "var_poisson": poisson, "var_rnoise": read, "var_flat": np.zeros_like(data)}
    planes["err"] = np.sqrt(poisson + read)
    for plane in planes.values():
        plane[bad] = np.nan
    return ImageModel(dq=dq, **{name: plane.astype(np.float32) for name, plane in planes.items()})


def _describe_calibration(
    model: ImageModel, exposure: PlannedExposure, settings: SimulationSettings, conversion: float
) -> None:
    area = nominal_pixel_area_arcsec2(exposure.detector)
    model.meta.bunit_data = model.meta.bunit_err = "MJy/sr"
    model.meta.photometry.conversion_megajanskys = conversion
    model.meta.photometry.conversion_microjanskys = conversion * 1e12 * SR_PER_ARCSEC2
    model.meta.photometry.pixelarea_steradians = area * SR_PER_ARCSEC2
    model.meta.photometry.pixelarea_arcsecsq = area
    model.meta.calibration_software_version = jwst_version
    model.meta.ref_file.crds.context_used = CRDS_CONTEXT
    for step in _STEPS:
        setattr(model.meta.cal_step, step, "COMPLETE")
    model.meta.cal_step.clean_flicker_noise = "SKIPPED" if settings.flicker_noise else "COMPLETE"


def _distortion_reference(exposure: PlannedExposure) -> DistortionModel:
    return DistortionModel(model=distortion_model(exposure.detector))
