"""What the synthetic survey knows of itself, beside what was measured on it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.simulate.geometry import subarray_window
from cosmosaic.simulate.instrument import detector_maps
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.simulate.render import sky_level, surface_brightness
from cosmosaic.simulate.truth import draw_pedestal
from cosmosaic.survey import ExposureSettings, SimulationSettings

SOURCE_FREE = 0.01
"""Pixels with less than this fraction of the sky from sources are source-free: a bias of less than 1 %."""


@dataclass(frozen=True)
class TrueExposure:
    """What one exposure looks at."""

    plan: PlannedExposure
    settings: SimulationSettings
    scene: Table

    @property
    def maps(self):
        """The pixels of the detector."""
        return detector_maps(self.plan.detector, subarray_window(self.plan.aperture))

    @property
    def sky(self) -> float:
        """Sky in MJy/sr."""
        return sky_level(self.plan.filter, self.settings.sky_mjy_sr)

    @cached_property
    def sources(self) -> np.ndarray:
        """Surface brightness of the sources in MJy/sr."""
        return surface_brightness(self.plan, self.scene)

    @property
    def level(self) -> np.ndarray:
        """Sky and pedestal in MJy/sr; the pedestal is not flat-fielded."""
        return self.sky + draw_pedestal(self.plan, self.settings) / self.maps.flat


@dataclass(frozen=True)
class EmptySky:
    """Source-free, usable pixels of a calibrated exposure in MJy/sr."""

    excess: np.ndarray
    """Data minus truth."""
    error: np.ndarray
    """ERR."""
    poisson: np.ndarray
    """VAR_POISSON."""
    sky: float

    @property
    def level_error(self) -> float:
        """Median of the excess as a fraction of the sky."""
        return float(np.median(self.excess) / self.sky)

    @property
    def pulls(self) -> np.ndarray:
        """Excess in units of its error."""
        return self.excess / self.error


def empty_sky(cal: Path, true: TrueExposure) -> EmptySky:
    """Compare a calibrated exposure with the truth where there is no source."""
    with fits.open(cal) as hdus:
        sci, err, poisson = (hdus[name].data for name in ("SCI", "ERR", "VAR_POISSON"))
        usable = np.isfinite(sci) & ((hdus["DQ"].data & pixel["DO_NOT_USE"]) == 0)
    clear = usable & (true.sources < SOURCE_FREE * true.sky)
    assert clear.sum() > 10_000
    excess = sci - true.sources - true.level
    return EmptySky(excess[clear], err[clear], poisson[clear], true.sky)


def matched_stars(demo, band: str, radius: u.Quantity = 0.15 * u.arcsec, alone: float = 0.02) -> QTable:
    """Stars of the truth beside their catalogue rows; columns ``true_flux``, ``d_east``, ``d_north`` are added.

    Stars whose neighbours within 1 arcsec have more than ``alone`` of their flux are left out.
    """
    sources, catalog = demo.sources, demo.catalog
    place = SkyCoord(sources["ra"], sources["dec"])
    found = SkyCoord(catalog["ra"], catalog["dec"])
    index, separation, _ = place.match_to_catalog_sky(found)
    flux = sources[f"flux_{band}"]
    around = np.array([flux[place.separation(each) < 1 * u.arcsec].sum().value for each in place]) * flux.unit - flux
    chosen = (sources["kind"] == "star") & (separation < radius) & (around < alone * flux)
    stars = catalog[index[chosen]]
    stars["true_flux"] = flux[chosen]
    stars["d_east"] = ((stars["ra"] - sources["ra"][chosen]) * np.cos(sources["dec"][chosen])).to(u.mas)
    stars["d_north"] = (stars["dec"] - sources["dec"][chosen]).to(u.mas)
    return stars


def true_exposure(name: str, settings: SimulationSettings, scene: Table) -> TrueExposure:
    """The exposure of a survey whose name ends so."""
    (plan,) = (frame for frame in plan_exposures(settings) if frame.name.endswith(name))
    return TrueExposure(plan, settings, scene)


def simulate_and_calibrate(name, settings, scene, exposures, target, folder):
    """In a child process: an exposure of a survey at level ``rate`` and ``cal``, in ``target``."""
    from cosmosaic.calibrate.stages import calibrate_ramp
    from cosmosaic.simulate.survey import simulate_exposure

    true = true_exposure(name, settings, scene)
    ramp, _ = simulate_exposure(true.plan, scene, settings, target)
    made = calibrate_ramp(ramp, None, _with_rate(exposures), true.plan.detector, target).files
    return ramp, made["rate"], made["cal"]


def calibrate_with_gain(ramp, gain_map, exposures, detector, target, folder):
    """In a child process: the rate that a ramp has with a user's gain map."""
    from cosmosaic.calibrate.stages import calibrate_ramp

    target.mkdir()
    return calibrate_ramp(ramp, gain_map, _with_rate(exposures), detector, target).files["rate"]


def _with_rate(exposures: ExposureSettings) -> ExposureSettings:
    return exposures.model_copy(update={"publish_rates": True})


def drizzle(exposures, grid, target, folder):
    """In a child process: exposures on a grid, with the default settings; the sky stays in."""
    from cosmosaic.mosaic.with_jwst import drizzle_mosaic
    from cosmosaic.survey import DrizzleSettings

    target.mkdir()
    crfs = {path.name.rpartition("_")[0]: path for path in exposures}
    return drizzle_mosaic(crfs, None, None, grid, DrizzleSettings(weight_type="ivm"), "mosaic", target).files["mosaic"]
