"""Simulated fields of known sky: what `benchmarks/sky.py` measures on."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import RectBivariateSpline

from cosmosaic.geometry.sphere import sky_to_plane
from cosmosaic.nircam import DRAWN_SHORT_PIXEL_ARCSEC
from cosmosaic.simulate.calibrated import simulate_calibrated
from cosmosaic.simulate.geometry import (
    exposure_shape,
    pixel_area_sr,
    pixel_to_sky,
    sky_to_pixel,
    subarray_window,
    true_view,
)
from cosmosaic.simulate.headers import save_reproducibly
from cosmosaic.simulate.instrument import detector_maps
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.simulate.render import MJY_PER_NJY, render_flux, sky_level
from cosmosaic.simulate.survey import survey_scene
from cosmosaic.simulate.truth import generator_of
from cosmosaic.survey import FilterPair, Pointing, SimulationSettings

Image = NDArray[np.float32]
Emission = Callable[[NDArray[np.floating], NDArray[np.floating]], NDArray[np.floating]]
"""Surface brightness in MJy/sr at offsets (east, north) in arcsec from the middle of the first detector."""

FILTERS = (FilterPair(short="F150W", long="F277W"),)
WIDE_DITHERS = ((-9.0, -7.0), (7.0, -9.0), (9.0, 7.0), (-7.0, 9.0))
"""Offsets that carry every short-wavelength detector over the gap to its neighbours."""
EMPTY_DISTANCE_ARCSEC = 1.0
ISOPHOTE_RMS = 0.1
PIXEL_RMS_MJY_SR = 0.076
"""Of a pixel in one exposure of these fields."""
FIELD_CENTRE = (150.1163213, 2.200973097)
NODE_PIXELS = 8
"""The emission of a field is computed every so many pixels."""
NEBULA_ARCSEC = (2.0, 300.0)
"""Shortest and longest wavelength of a nebula's structure."""
NEBULA_WAVES = 200
NEBULA_SPREAD = 0.5
"""Rms of the natural logarithm of a nebula's brightness, over all directions."""


DEEP_GALAXIES = {"short": 3000.0, "long": 1500.0}
"""Per square arcminute, so many that light is everywhere."""
DEEP_DETECTORS = {"short": "NRCB1", "long": "NRCBLONG"}
DEEP_DITHERS = ((-4.1, -3.2), (0.4, 0.3), (3.9, 3.1))


@dataclass(frozen=True)
class Field:
    """One simulated field."""

    name: str
    settings: SimulationSettings
    gradient_rms_fraction: float = 0.0
    """Peak-to-peak of a plane over each exposure, in units of the pixel rms."""
    galaxy_magnitude: float | None = None
    """AB magnitude of a galaxy of half-light radius 4 arcsec in the middle of the first detector."""
    emission: Emission | None = None
    """Light that fills the field."""

    def emission_at(self, sky: NDArray[np.floating]) -> NDArray[np.floating]:
        """Surface brightness in MJy/sr in directions (RA, Dec) in degrees, shape ``(N, 2)``."""
        if self.emission is None:
            return np.zeros(len(sky))
        return self.emission(*sky_to_plane(_middle(plan_exposures(self.settings)[0]), sky).T)


@dataclass(frozen=True)
class ExposureTruth:
    """What an exposure holds that is no source."""

    path: Path
    shape: tuple[int, int]
    galaxy: tuple[float, float] | None
    """Pixel (x, y) of the extended galaxy."""

    @property
    def name(self) -> str:
        return self.path.name.removesuffix("_cal.fits")

    @property
    def additive(self) -> Image:
        """Sky, pedestal, 1/f noise, gradient and wisps in MJy/sr, after the flat; shape ``(ny, nx)``."""
        with np.load(_truth_path(self.path)) as stored:
            return stored["additive"]

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Pixels farther than 1 arcsec from every true isophote of 0.1 pixel rms."""
        with np.load(_truth_path(self.path)) as stored:
            return np.unpackbits(stored["empty"], count=self.shape[0] * self.shape[1]).reshape(self.shape).astype(bool)


def _truth_path(path: Path) -> Path:
    return path.with_name(path.name.replace("_cal.fits", "_truth.npz"))


def make_field(field: Field, folder: Path, pool: Executor) -> list[ExposureTruth]:
    """Make the exposures of a field, or take those that lie in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    exposures = plan_exposures(field.settings)
    scene = _scene(field, exposures)
    return list(pool.map(partial(_make_exposure, field, scene, folder), exposures))


def _scene(field: Field, exposures: tuple[PlannedExposure, ...]) -> Table:
    scene = survey_scene(field.settings, exposures)
    if field.galaxy_magnitude is None:
        return scene
    ra, dec = _middle(exposures[0])
    galaxy = {
        "id": len(scene) + 1,
        "ra": ra,
        "dec": dec,
        "kind": "galaxy",
        "sersic_n": 1.5,
        "half_light_radius": 4.0,
        "axis_ratio": 0.8,
        "position_angle": 40.0,
    }
    flux = {name: 3631e9 * 10 ** (-0.4 * field.galaxy_magnitude) for name in scene.colnames if name.startswith("flux_")}
    return vstack([scene, Table([galaxy | flux])], metadata_conflicts="silent")


def _middle(exposure: PlannedExposure) -> tuple[float, float]:
    ny, nx = exposure_shape(exposure)
    ra, dec = pixel_to_sky(exposure, true_view(exposure), np.array([nx / 2 + 60.0]), np.array([ny / 2 - 30.0]))
    return float(ra[0]), float(dec[0])


def _make_exposure(field: Field, scene: Table, folder: Path, exposure: PlannedExposure) -> ExposureTruth:
    path = folder / f"{exposure.name}_cal.fits"
    if not _truth_path(path).exists():
        _simulate(field, exposure, scene, path)
        print(f"{field.name}: {exposure.name} made", flush=True)
    with np.load(_truth_path(path)) as stored:
        galaxy = tuple(stored["galaxy"]) if field.galaxy_magnitude is not None else None
    return ExposureTruth(path, exposure_shape(exposure), galaxy)


def _simulate(field: Field, exposure: PlannedExposure, scene: Table, path: Path) -> None:
    settings = field.settings
    sources = (render_flux(exposure, scene) * (MJY_PER_NJY / pixel_area_sr(exposure))).astype(np.float32)
    sky = sky_level(exposure.band, settings.sky_mjy_sr)
    emission = _emission(field, exposure, sources.shape)
    model, truth = simulate_calibrated(exposure, sources + emission + np.float32(sky), settings)
    rms = float(np.nanmedian(model.err))
    gradient = rms * _gradient(field, exposure, sources.shape)
    model.data += gradient
    flat = detector_maps(exposure.detector, subarray_window(exposure.aperture)).flat
    additive = sky + truth.pedestal_mjy_sr / flat + truth.flicker_mjy_sr + truth.wisps_mjy_sr + gradient
    distance = ndimage.distance_transform_edt(sources < ISOPHOTE_RMS * rms) * DRAWN_SHORT_PIXEL_ARCSEC
    save_reproducibly(model, path)
    where = (np.nan, np.nan)
    if field.galaxy_magnitude is not None:
        galaxy = scene[len(scene) - 1]
        x, y = sky_to_pixel(exposure, true_view(exposure), np.array([galaxy["ra"]]), np.array([galaxy["dec"]]))
        where = (float(x[0]), float(y[0]))
    np.savez_compressed(
        _truth_path(path),
        additive=additive.astype(np.float32),
        empty=np.packbits(distance > EMPTY_DISTANCE_ARCSEC),
        galaxy=np.array(where),
    )


def _emission(field: Field, exposure: PlannedExposure, shape: tuple[int, int]) -> Image:
    """The field's emission in an exposure, known every few pixels and interpolated."""
    nodes = [np.arange(-2 * NODE_PIXELS, size + 2 * NODE_PIXELS, NODE_PIXELS, dtype=float) for size in shape]
    y, x = np.meshgrid(*nodes, indexing="ij")
    sky = np.stack(pixel_to_sky(exposure, true_view(exposure), x.ravel(), y.ravel()), axis=1)
    spline = RectBivariateSpline(*nodes, field.emission_at(sky).reshape(x.shape))
    return spline(*(np.arange(size) for size in shape)).astype(np.float32)


def nebula(east: NDArray[np.floating], north: NDArray[np.floating]) -> NDArray[np.floating]:
    """Some MJy/sr with structure from arcminutes to arcseconds, its power falling with the cube of the scale."""
    draw = np.random.default_rng(5)
    wavelengths = np.geomspace(NEBULA_ARCSEC[1], NEBULA_ARCSEC[0], NEBULA_WAVES)
    angles, phases = draw.uniform(0, 2 * np.pi, (2, NEBULA_WAVES))
    total, power = np.zeros_like(east), 0.0
    for wavelength, angle, phase in zip(wavelengths, angles, phases, strict=True):
        along = east * np.cos(angle) + north * np.sin(angle)
        # Waves evenly spaced in the logarithm of their length, power per logarithm of length going with length**1.
        total += np.sqrt(wavelength) * np.sin(2 * np.pi * along / wavelength + phase)
        power += 0.5 * wavelength
    return 2.0 * np.exp(NEBULA_SPREAD * total / np.sqrt(power))


def large_galaxy(east: NDArray[np.floating], north: NDArray[np.floating]) -> NDArray[np.floating]:
    """An exponential disc of scale length 14 arcsec with a bulge and two arms: it fills one detector."""
    x, y = 0.8 * east + 0.6 * north, (0.8 * north - 0.6 * east) / 0.7
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    arms = 1 + 0.4 * np.sin(2 * angle - 6 * np.log1p(radius / 5.0)) * (1 - np.exp(-radius / 5.0))
    return 4.0 * np.exp(-radius / 14.0) * arms + 8.0 * np.exp(-radius / 2.0)


def _gradient(field: Field, exposure: PlannedExposure, shape: tuple[int, int]) -> Image:
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, size, dtype=np.float32) for size in shape), indexing="ij")
    angle = generator_of(exposure, "gradient").uniform(0, 2 * np.pi)
    return np.float32(field.gradient_rms_fraction) * (np.cos(angle) * x + np.sin(angle) * y).astype(np.float32)


def _settings(seed: int, **changes: object) -> SimulationSettings:
    base = SimulationSettings(
        seed=seed,
        level="cal",
        pointings=(Pointing(ra=FIELD_CENTRE[0], dec=FIELD_CENTRE[1]),),
        dithers_arcsec=WIDE_DITHERS,
        filter_pairs=FILTERS,
        detectors=("NRCB1", "NRCB2", "NRCB3", "NRCB4"),
        subarray="FULL",
        pedestal_rms=0.006,
        flicker_noise=False,
    )
    return SimulationSettings.model_validate(base.model_dump() | changes)


def sparse_field(seed: int = 1) -> Field:
    """Few sources, pedestals alone."""
    return Field("sparse", _settings(seed, galaxies_per_arcmin2=60.0, stars_per_arcmin2=4.0))


def tilted_field(seed: int = 3) -> Field:
    """As the sparse field, with a plane over each exposure of 5 % of the pixel rms from edge to edge."""
    return replace(sparse_field(seed), name="tilted", gradient_rms_fraction=0.05)


def crowded_field(seed: int = 2) -> Field:
    """Many sources, an extended galaxy, 1/f noise and wisps."""
    settings = _settings(
        seed,
        galaxies_per_arcmin2=600.0,
        stars_per_arcmin2=120.0,
        flicker_noise=True,
        wisp_mjy_sr=0.4 * PIXEL_RMS_MJY_SR,
    )
    return Field("crowded", settings, galaxy_magnitude=19.0)


def bright_wisps_field() -> Field:
    """The crowded field with wisps five times as bright: twice a pixel's rms."""
    field = crowded_field()
    return replace(
        field, name="bright-wisps", settings=field.settings.model_copy(update={"wisp_mjy_sr": 2.0 * PIXEL_RMS_MJY_SR})
    )


def nebula_field(seed: int = 5) -> Field:
    """A nebula everywhere: three dithers of four detectors without empty sky."""
    settings = _settings(
        seed, galaxies_per_arcmin2=60.0, stars_per_arcmin2=30.0, dithers_arcsec=WIDE_DITHERS[:3], pedestal_rms=0.006
    )
    return Field("nebula", settings, emission=nebula)


def galaxy_field(seed: int = 6) -> Field:
    """A galaxy that fills a detector and thins out over the others."""
    settings = _settings(seed, galaxies_per_arcmin2=60.0, stars_per_arcmin2=4.0)
    return Field("galaxy", settings, emission=large_galaxy)


def deep_field(channel: str, seed: int = 7) -> Field:
    """A field so crowded that less than 1 % of its cells are empty: three dithers of one detector."""
    settings = _settings(
        seed,
        galaxies_per_arcmin2=DEEP_GALAXIES[channel],
        stars_per_arcmin2=20.0,
        dithers_arcsec=DEEP_DITHERS,
        detectors=(DEEP_DETECTORS[channel],),
        filter_pairs=(FilterPair(short="F150W", long="F444W"),),
        groups=10,
    )
    return Field(f"deep-{channel}", settings)


def random_field(seed: int) -> Field:
    """A small survey of random density, pedestals, 1/f noise, wisps and gradients."""
    draw = np.random.default_rng([seed, 77])
    settings = _settings(
        seed,
        subarray="SUB640",
        galaxies_per_arcmin2=float(draw.uniform(40, 500)),
        stars_per_arcmin2=float(draw.uniform(2, 100)),
        pedestal_rms=float(draw.uniform(0.002, 0.01)),
        flicker_noise=bool(draw.uniform() < 0.5),
        dithers_arcsec=((-5.0, -4.0), (4.0, -5.0), (5.0, 4.0), (-4.0, 5.0)),
        wisp_mjy_sr=float(draw.choice([0.0, 0.3])) * PIXEL_RMS_MJY_SR,
    )
    return Field(f"random-{seed}", settings, float(draw.choice([0.0, 0.05])))
