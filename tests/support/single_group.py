"""Ramps of the sky with the noise of the reset, calibrated in a child process."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from cosmosaic.survey import ExposureSettings, SimulationSettings


def noise_and_error(groups: int, reset_noise: float, settings: SimulationSettings, folder: Path) -> tuple[float, float]:
    """Scatter of the sky in the calibrated exposure of a ramp, and the median of ERR, both in MJy/sr.

    ``reset_noise``, in DN, is the same in all groups of a pixel.
    """
    from astropy.stats import mad_std

    from cosmosaic.calibrate.stages import calibrate_ramp
    from cosmosaic.dq import is_usable
    from cosmosaic.simulate.plan import plan_exposures
    from cosmosaic.simulate.survey import simulate_exposure, survey_scene

    (planned, *_) = plan_exposures(settings)
    raw, _ = simulate_exposure(planned, survey_scene(settings, [planned]), settings, folder)
    with fits.open(raw) as hdus:
        ramp = hdus["SCI"].data[:, :groups].astype(float)
        ramp += np.random.default_rng(1).normal(0, reset_noise, ramp.shape[-2:])
        hdus["SCI"].data = np.rint(ramp).clip(0, 65535).astype(np.uint16)
        hdus[0].header["NGROUPS"] = groups
        hdus.writeto(raw, overwrite=True)
    calibrate_ramp(raw, None, ExposureSettings(), planned.detector, folder)
    with fits.open(next(folder.glob("*_cal.fits"))) as hdus:
        sci, err, dq = (hdus[name].data for name in ("SCI", "ERR", "DQ"))
        good = is_usable(sci, err, dq)
        return float(mad_std(sci[good])), float(np.median(err[good]))
