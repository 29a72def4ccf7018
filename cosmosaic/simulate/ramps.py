"""Raw ramps: the detector's response to the sky, read by read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from stdatamodels.jwst.datamodels import Level1bModel

from cosmosaic.nircam import DETECTOR_PIXELS
from cosmosaic.simulate.geometry import subarray_window
from cosmosaic.simulate.headers import save_reproducibly, set_metadata
from cosmosaic.simulate.instrument import (
    ADC_LIMIT_DN,
    FRAME_TIME_S,
    PIXEL_SIZE_CM,
    READOUT_PATTERNS,
    ROW_OVERHEAD_PIXELS,
    DetectorMaps,
    detector_maps,
    distort_linearity,
    flux_conversion,
    frame_numbers,
    group_mid_times,
    linearise,
    number_of_outputs,
    scan_directions,
)
from cosmosaic.simulate.plan import PlannedExposure
from cosmosaic.simulate.truth import ExposureTruth, draw_pedestal, generator_of
from cosmosaic.simulate.wisps import draw_wisps
from cosmosaic.survey import SimulationSettings

FLICKER_RMS_DN = 1.6
"""Rms of the 1/f noise in one read, from a row's time to a read's."""

COSMIC_RAY_ELECTRONS = 2500.0
"""Median charge of a hit; log-normal, a factor e either way at one sigma."""

SMALLEST_CORE_PIXELS, LARGEST_CORE_PIXELS = 1.5, 8.0
"""Radii of the saturated cores of snowballs, log-uniform: with their halos they have tens to thousands of pixels, most
of them hundreds, as STScI describes them (JWST user documentation, "Snowballs and Shower Artifacts"; Regan 2023,
JWST-STScI-008545), which gives no distribution of the radii."""
CORE_EDGE_ELECTRONS = 95000.0
"""Charge at the edge of a core, about a full well."""
HALO_SCALE = 0.35
"""Radii of the core in which the charge falls by a factor e, outside as inside."""
FAINTEST_HALO_ELECTRONS = 3.0
"""Where halos end, at 4.6 radii of the core: a fraction of the noise."""

_FLICKER_STEP_PIXELS = 8
_SHARED_FLICKER = 0.8
_LONGEST_TRACK_PIXELS = 12
_CHARGE_ABOVE_SATURATION_DN = 1500.0


@dataclass(frozen=True)
class Hits:
    """Charge deposited by cosmic rays or snowballs; all arrays have a value per hit pixel."""

    frame: NDArray[np.int64]
    """First read, counted from 1, that contains it."""
    pixel: NDArray[np.int64]
    """Index into the flattened array."""
    electrons: NDArray[np.float32]

    def charge(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the charge in each pixel of an array, electrons."""
        charge = np.zeros(shape, dtype=np.float32)
        np.add.at(charge.reshape(-1), self.pixel, self.electrons)
        return charge


def write_ramp(
    exposure: PlannedExposure, surface_brightness: NDArray[np.float32], settings: SimulationSettings, path: Path
) -> ExposureTruth:
    """Simulate a raw exposure and write it as an ``_uncal`` file.

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
    ramp, truth = simulate_ramp(exposure, surface_brightness, settings)
    model = Level1bModel(data=ramp[None])
    set_metadata(model, exposure, settings)
    model.meta.bunit_data = "DN"
    save_reproducibly(model, path)
    return truth


def simulate_ramp(
    exposure: PlannedExposure, surface_brightness: NDArray[np.float32], settings: SimulationSettings
) -> tuple[NDArray[np.uint16], ExposureTruth]:
    """Read out a detector group by group.

    Light, dark current, cosmic rays and snowballs collect as electrons with Poisson noise; the pedestal is a ramp of
    the electronics, without noise and not flat-fielded; the converter clips each read before the reads of a group are
    averaged on board.

    Returns
    -------
    ramp
        DN, shape ``(groups, ny, nx)``.
    truth
        The noise and artefacts that were added to the sky.
    """
    window = subarray_window(exposure.aperture)
    if surface_brightness.shape != (window.ny, window.nx):
        raise ValueError(
            f"{exposure.name}: sky has shape {surface_brightness.shape}, {exposure.aperture} {window.ny, window.nx}"
        )
    maps = detector_maps(exposure.detector, window)
    conversion = flux_conversion(exposure.detector, exposure.band)
    pedestal = draw_pedestal(exposure, settings)
    rays, snowballs = draw_cosmic_rays(exposure, settings, maps), draw_snowballs(exposure, settings, maps)
    flicker = draw_flicker(exposure, settings)
    wisps = draw_wisps(exposure, surface_brightness.shape, settings)
    rate = photon_rate(surface_brightness + wisps, maps, conversion)

    ramp = np.empty((settings.groups, *rate.shape), dtype=np.uint16)
    hits = together(rays, snowballs)
    for group, signal in enumerate(_groups(exposure, settings, maps, rate, hits, pedestal / conversion)):
        ramp[group] = np.clip(np.rint(signal + flicker[group]), 0, ADC_LIMIT_DN)
    slope = least_squares_slope(flicker, settings) * conversion / maps.flat
    return ramp, ExposureTruth(
        pedestal_mjy_sr=pedestal,
        flicker_mjy_sr=slope.astype(np.float32),
        wisps_mjy_sr=wisps,
        cosmic_rays=first_hit_group(rays, settings, rate.shape),
        snowballs_e=snowballs.charge(rate.shape) if settings.snowballs_per_s else None,
    )


def photon_rate(surface_brightness: NDArray[np.float32], maps: DetectorMaps, conversion: float) -> NDArray[np.float32]:
    """Electrons per second from sky and dark current in each pixel; none in dead and reference pixels.

    Parameters
    ----------
    surface_brightness
        MJy/sr, shape ``(ny, nx)``.
    maps
        The detector.
    conversion
        MJy/sr per DN/s after the flat.
    """
    light = np.maximum(surface_brightness, 0) * maps.flat / conversion
    light[maps.is_blind] = 0
    return ((light + maps.dark_rate) * maps.gain).astype(np.float32)


def full_well_dn(maps: DetectorMaps) -> NDArray[np.float32]:
    """Signal in DN, after correction for non-linearity, at which a pixel counts as saturated."""
    return linearise(maps.saturation - maps.superbias, maps)


def draw_snowballs(exposure: PlannedExposure, settings: SimulationSettings, maps: DetectorMaps) -> Hits:
    """Draw the snowballs of an exposure: round events with a saturated core and a halo.

    They fall at random in place and time. Parameters as for `draw_cosmic_rays`.
    """
    generator = generator_of(exposure, "snowballs")
    ny, nx = maps.gain.shape
    reads = int(frame_numbers(settings)[-1, -1])
    duration = reads * FRAME_TIME_S[settings.subarray]
    number = int(generator.poisson(settings.snowballs_per_s * duration * ny * nx / DETECTOR_PIXELS**2))
    snowballs = [_draw_snowball(generator, reads, maps) for _ in range(number)]
    return together(*snowballs)


def _draw_snowball(generator: np.random.Generator, reads: int, maps: DetectorMaps) -> Hits:
    ny, nx = maps.gain.shape
    core = np.exp(generator.uniform(np.log(SMALLEST_CORE_PIXELS), np.log(LARGEST_CORE_PIXELS)))
    x, y = generator.uniform(0, nx), generator.uniform(0, ny)
    read = int(generator.integers(1, reads + 1))
    radius = np.hypot(np.arange(ny)[:, None] - y, np.arange(nx) - x)
    charge = CORE_EDGE_ELECTRONS * np.exp((core - radius) / (HALO_SCALE * core))
    (pixel,) = np.nonzero(((charge > FAINTEST_HALO_ELECTRONS) & ~maps.is_blind).reshape(-1))
    return Hits(np.full(pixel.size, read), pixel, charge.reshape(-1)[pixel].astype(np.float32))


def together(*hits: Hits) -> Hits:
    """Join the charges of several events."""
    none = Hits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    parts = (none, *hits)
    return Hits(
        np.concatenate([part.frame for part in parts]),
        np.concatenate([part.pixel for part in parts]),
        np.concatenate([part.electrons for part in parts]),
    )


def draw_cosmic_rays(exposure: PlannedExposure, settings: SimulationSettings, maps: DetectorMaps) -> Hits:
    """Draw the tracks of the cosmic rays that hit the detector during an exposure.

    Hits fall at random in place, time and direction; their charge is log-normal and spread evenly along a straight
    track whose length in pixels is geometric, as for particles that come from all sides.

    Parameters
    ----------
    exposure
        Its seed is used.
    settings
        Rate and readout.
    maps
        The detector.
    """
    generator = generator_of(exposure, "cosmic rays")
    ny, nx = maps.gain.shape
    reads = int(frame_numbers(settings)[-1, -1])
    duration = reads * FRAME_TIME_S[settings.subarray]
    expected = settings.cosmic_rays_per_s_cm2 * duration * ny * nx * PIXEL_SIZE_CM**2
    number = int(generator.poisson(expected))
    length = np.minimum(generator.geometric(0.4, number), _LONGEST_TRACK_PIXELS)
    angle = generator.uniform(0, 2 * np.pi, number)
    x, y = generator.uniform(0, nx, number), generator.uniform(0, ny, number)
    charge = COSMIC_RAY_ELECTRONS * np.exp(generator.standard_normal(number))
    read = generator.integers(1, reads + 1, number)

    hit = np.repeat(np.arange(number), length)
    step = np.arange(hit.size) - np.repeat(np.cumsum(length) - length, length)
    column = np.floor(x[hit] + step * np.cos(angle[hit])).astype(np.int64)
    row = np.floor(y[hit] + step * np.sin(angle[hit])).astype(np.int64)
    inside = (column >= 0) & (column < nx) & (row >= 0) & (row < ny)
    hit, column, row = hit[inside], column[inside], row[inside]
    sensitive = ~maps.is_blind[row, column]
    hit, pixel = hit[sensitive], (row * nx + column)[sensitive]
    return Hits(read[hit], pixel, (charge / length)[hit].astype(np.float32))


def first_hit_group(hits: Hits, settings: SimulationSettings, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """First group, counted from 1, with a cosmic ray in each pixel; 0 without one. Shape ``(ny, nx)``."""
    groups = 1 + np.searchsorted(frame_numbers(settings)[:, -1], hits.frame)
    first = np.full(shape, settings.groups + 1, dtype=np.uint8)
    np.minimum.at(first.reshape(-1), hits.pixel, groups.astype(np.uint8))
    first[first > settings.groups] = 0
    return first


def draw_flicker(exposure: PlannedExposure, settings: SimulationSettings) -> NDArray[np.float32]:
    """Draw the 1/f noise of the readout electronics, averaged over the reads of each group.

    Its power falls as one over frequency along the true order of readout, including gaps and line overheads. Drifts
    slower than a read are left out: the mean of each read is zero. The amplifiers of a full frame are read in parallel,
    neighbours in opposite directions, and share most of the noise.

    Parameters
    ----------
    exposure
        Its seed, detector and subarray are used.
    settings
        Readout; without ``flicker_noise`` there is none.

    Returns
    -------
    NDArray
        DN, shape ``(groups, ny, nx)``.
    """
    window = subarray_window(exposure.aperture)
    if not settings.flicker_noise:
        return np.zeros((settings.groups, window.ny, window.nx), dtype=np.float32)
    generator = generator_of(exposure, "flicker noise")
    outputs = number_of_outputs(settings.subarray)
    columns = window.nx // outputs
    shared = _flicker_in_time(generator, window.ny, columns, settings)
    strips = []
    for output in range(outputs):
        strip = shared
        if outputs > 1:
            own = _flicker_in_time(generator, window.ny, columns, settings)
            strip = np.sqrt(_SHARED_FLICKER) * shared + np.sqrt(1 - _SHARED_FLICKER) * own
        strips.append(strip if output % 2 == 0 else strip[:, :, ::-1])
    read_order = np.repeat(np.concatenate(strips, axis=2), _FLICKER_STEP_PIXELS, axis=2)
    fast, slow = scan_directions(exposure.detector)
    return read_order[:, :: int(np.sign(slow)), :: int(np.sign(fast))].astype(np.float32)


def least_squares_slope(groups: NDArray[np.float32], settings: SimulationSettings) -> NDArray[np.float32]:
    """Slope per second of values per group, shape ``(groups, ny, nx)``, by an unweighted fit."""
    times = group_mid_times(settings)
    weights = (times - times.mean()) / np.sum((times - times.mean()) ** 2)
    return np.tensordot(weights.astype(np.float32), groups, axes=1)


def _flicker_in_time(
    generator: np.random.Generator, rows: int, columns: int, settings: SimulationSettings
) -> NDArray[np.float32]:
    """1/f noise of one amplifier, shape ``(groups, rows, columns / step)``, rows and columns in order of readout."""
    numbers = frame_numbers(settings)
    reads, steps = int(numbers[-1, -1]), columns // _FLICKER_STEP_PIXELS
    row_steps = steps + round(ROW_OVERHEAD_PIXELS / _FLICKER_STEP_PIXELS)
    length = reads * rows * row_steps
    padded = fft.next_fast_len(length, real=True)
    frequency = np.arange(padded // 2 + 1) / padded
    audible = frequency > 1 / (rows * row_steps)
    amplitude = np.zeros(frequency.size, dtype=np.float32)
    amplitude[audible] = 1 / np.sqrt(frequency[audible])
    amplitude *= FLICKER_RMS_DN * padded / np.sqrt(2 * np.sum(amplitude.astype(float) ** 2))
    phases = generator.standard_normal((2, frequency.size), dtype=np.float32) / np.float32(np.sqrt(2))
    series = fft.irfft(amplitude * (phases[0] + 1j * phases[1]), padded)[:length]
    noise = series.reshape(reads, rows, row_steps)[numbers - 1, :, :steps]
    noise -= noise.mean(axis=(2, 3), keepdims=True)
    return noise.mean(axis=1)


def _groups(
    exposure: PlannedExposure,
    settings: SimulationSettings,
    maps: DetectorMaps,
    rate: NDArray[np.float32],
    hits: Hits,
    pedestal_rate: float,
) -> Iterator[NDArray[np.float32]]:
    """Yield each group's mean read in DN, without 1/f noise."""
    generator = generator_of(exposure, "photons and reads")
    frame_time = FRAME_TIME_S[settings.subarray]
    nframes = READOUT_PATTERNS[settings.readout_pattern].nframes
    offset = np.where(maps.is_reference, np.float32(0), np.float32(pedestal_rate))
    full_well = full_well_dn(maps) + np.float32(_CHARGE_ABOVE_SATURATION_DN)
    electrons = np.zeros_like(rate)
    last = 0
    for numbers in frame_numbers(settings):
        total = np.zeros_like(rate)
        for number in map(int, numbers):
            electrons += generator.poisson(rate * np.float32((number - last) * frame_time))
            arrived = (hits.frame > last) & (hits.frame <= number)
            np.add.at(electrons.reshape(-1), hits.pixel[arrived], hits.electrons[arrived])
            signal = np.minimum(electrons / maps.gain + offset * np.float32(number * frame_time), full_well)
            total += np.minimum(distort_linearity(signal, maps) + maps.superbias, ADC_LIMIT_DN)
            last = number
        noise = generator.standard_normal(rate.shape, dtype=np.float32) * maps.read_noise
        yield total / np.float32(nframes) + noise / np.float32(np.sqrt(nframes))
