"""Simulated fields of known sky: what `benchmarks/sky.py` measures on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray
from scipy import ndimage

from cosmosaic.simulate.calibrated import simulate_calibrated
from cosmosaic.simulate.geometry import (
    frame_shape,
    pixel_area_sr,
    pixel_to_sky,
    sky_to_pixel,
    subarray_window,
    true_attitude,
)
from cosmosaic.simulate.headers import save_reproducibly
from cosmosaic.simulate.instrument import detector_maps
from cosmosaic.simulate.plan import PlannedFrame, plan_frames
from cosmosaic.simulate.render import MJY_PER_NJY, render_flux, sky_level
from cosmosaic.simulate.survey import survey_scene
from cosmosaic.simulate.truth import generator_of
from cosmosaic.survey import FilterPair, Pointing, SimulationSettings

Image = NDArray[np.float32]

WISP_DETECTORS = ("NRCA3", "NRCA4", "NRCB3", "NRCB4")
FILTERS = (FilterPair(short="F150W", long="F277W"),)
WIDE_DITHERS = ((-9.0, -7.0), (7.0, -9.0), (9.0, 7.0), (-7.0, 9.0))
"""Offsets that carry every short-wavelength detector over the gap to its neighbours."""
EMPTY_DISTANCE_ARCSEC = 1.0
ISOPHOTE_RMS = 0.1
PIXEL_ARCSEC = 0.031
FIELD_CENTRE = (150.1163213, 2.200973097)


@dataclass(frozen=True)
class Field:
    """One simulated field."""

    name: str
    settings: SimulationSettings
    gradient_rms_fraction: float = 0.0
    """Peak-to-peak of a plane over each frame, in units of the pixel rms."""
    wisp_rms_fraction: float = 0.0
    """Peak of the wisps in units of the pixel rms."""
    galaxy_magnitude: float | None = None
    """AB magnitude of a galaxy of half-light radius 4 arcsec in the middle of the first detector."""


@dataclass(frozen=True)
class FrameTruth:
    """What a frame holds that is no source."""

    path: Path
    detector: str
    additive: Image
    """Sky, pedestal, 1/f noise, gradient and wisps in MJy/sr, after the flat; shape ``(ny, nx)``."""
    empty: NDArray[np.bool_]
    """Pixels farther than 1 arcsec from every true isophote of 0.1 pixel rms."""
    pixel_rms: float
    """Median noise of the pixels in MJy/sr."""
    galaxy: tuple[float, float] | None
    """Pixel (x, y) of the extended galaxy."""

    @property
    def name(self) -> str:
        return self.path.name.removesuffix("_cal.fits")


def make_field(field: Field, folder: Path) -> list[FrameTruth]:
    """Make the frames of a field, or take those that lie in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = plan_frames(field.settings)
    scene = _scene(field, frames)
    return [_make_frame(field, frame, scene, folder) for frame in frames]


def _scene(field: Field, frames: tuple[PlannedFrame, ...]) -> Table:
    scene = survey_scene(field.settings, frames)
    if field.galaxy_magnitude is None:
        return scene
    ra, dec = _middle(frames[0])
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


def _middle(frame: PlannedFrame) -> tuple[float, float]:
    ny, nx = frame_shape(frame)
    ra, dec = pixel_to_sky(frame, true_attitude(frame), np.array([nx / 2 + 60.0]), np.array([ny / 2 - 30.0]))
    return float(ra[0]), float(dec[0])


def _make_frame(field: Field, frame: PlannedFrame, scene: Table, folder: Path) -> FrameTruth:
    path, truth_path = folder / f"{frame.name}_cal.fits", folder / f"{frame.name}_truth.npz"
    if not truth_path.exists():
        _simulate(field, frame, scene, path, truth_path)
    with np.load(truth_path) as stored:
        galaxy = tuple(stored["galaxy"]) if field.galaxy_magnitude is not None else None
        shape = stored["additive"].shape
        empty = np.unpackbits(stored["empty"], count=shape[0] * shape[1]).reshape(shape).astype(bool)
        return FrameTruth(path, frame.detector, stored["additive"], empty, float(stored["rms"]), galaxy)


def _simulate(field: Field, frame: PlannedFrame, scene: Table, path: Path, truth_path: Path) -> None:
    settings = field.settings
    sources = (render_flux(frame, scene) * (MJY_PER_NJY / pixel_area_sr(frame))).astype(np.float32)
    sky = sky_level(frame.filter, settings.sky_mjy_sr)
    model, truth = simulate_calibrated(frame, sources + np.float32(sky), settings)
    rms = float(np.nanmedian(model.err))
    extra = rms * (_gradient(field, frame, sources.shape) + _wisps(field, frame, sources.shape))
    model.data += extra
    flat = detector_maps(frame.detector, subarray_window(frame.aperture)).flat
    additive = (sky + truth.pedestal_mjy_sr / flat + truth.flicker_mjy_sr + extra).astype(np.float32)
    distance = ndimage.distance_transform_edt(sources < ISOPHOTE_RMS * rms) * PIXEL_ARCSEC
    save_reproducibly(model, path)
    where = (np.nan, np.nan)
    if field.galaxy_magnitude is not None:
        galaxy = scene[len(scene) - 1]
        x, y = sky_to_pixel(frame, true_attitude(frame), np.array([galaxy["ra"]]), np.array([galaxy["dec"]]))
        where = (float(x[0]), float(y[0]))
    np.savez_compressed(
        truth_path,
        additive=additive,
        empty=np.packbits(distance > EMPTY_DISTANCE_ARCSEC),
        rms=rms,
        galaxy=np.array(where),
    )


def _gradient(field: Field, frame: PlannedFrame, shape: tuple[int, int]) -> Image:
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, size, dtype=np.float32) for size in shape), indexing="ij")
    angle = generator_of(frame, "gradient").uniform(0, 2 * np.pi)
    return np.float32(field.gradient_rms_fraction) * (np.cos(angle) * x + np.sin(angle) * y).astype(np.float32)


def _wisps(field: Field, frame: PlannedFrame, shape: tuple[int, int]) -> Image:
    """Two bright curved bands, fixed on the detector, whose strength differs from exposure to exposure."""
    if frame.detector not in WISP_DETECTORS or field.wisp_rms_fraction == 0:
        return np.zeros(shape, dtype=np.float32)
    y, x = np.meshgrid(*(np.linspace(0, 1, size, dtype=np.float32) for size in shape), indexing="ij")
    phase = 0.7 if frame.detector.endswith("4") else 0.0
    pattern = np.zeros(shape)
    for strength, offset, width in ((1.0, 0.32, 0.05), (0.6, 0.55, 0.03)):
        ridge = offset + 0.08 * np.sin(5 * x + phase) + 0.15 * (x - 0.5) ** 2
        pattern += strength * np.exp(-0.5 * ((y - ridge) / width) ** 2) * np.exp(-0.5 * ((x - 0.5) / 0.25) ** 2)
    amplitude = field.wisp_rms_fraction * (1 + 0.2 * generator_of(frame, "wisps").standard_normal())
    return (amplitude * pattern).astype(np.float32)


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


def crowded_field(seed: int = 2) -> Field:
    """Many sources, an extended galaxy, 1/f noise and wisps."""
    settings = _settings(seed, galaxies_per_arcmin2=600.0, stars_per_arcmin2=120.0, flicker_noise=True)
    return Field("crowded", settings, wisp_rms_fraction=0.4, galaxy_magnitude=19.0)


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
    )
    wisps = float(draw.choice([0.0, 0.3]))
    return Field(f"random-{seed}", settings, float(draw.choice([0.0, 0.05])), wisps)
