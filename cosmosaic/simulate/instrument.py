"""The simulated detectors: every property that calibration references describe, as functions of the detector's name.

The same maps make the ramps and the reference files, so the pipeline removes exactly what was added. Numbers are
typical of NIRCam; the patterns are drawn once per detector from its name.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from cosmosaic.nircam import DETECTOR_PIXELS, LONG_GAIN, SHORT_GAIN, is_long_wavelength_detector
from cosmosaic.survey import SimulationSettings

REFERENCE_PIXEL_BORDER = 4
PIXEL_SIZE_CM = 18e-4
ADC_LIMIT_DN = 65535

FRAME_TIME_S = {"FULL": 10.73677, "SUB640": 4.18584, "SUB320": 1.06904, "SUB160": 0.27864}
"""Time between reads of the array; the subarrays are read through one output, the full frame through four."""

ROW_OVERHEAD_PIXELS = 12
"""Pixel clocks between two rows."""


_PHOTMJSR = {
    "F070W": 5.60,
    "F090W": 3.80,
    "F115W": 3.05,
    "F140M": 4.60,
    "F150W": 2.17,
    "F150W2": 0.95,
    "F162M": 4.10,
    "F164N": 40.0,
    "F182M": 2.75,
    "F187N": 32.0,
    "F200W": 1.79,
    "F210M": 2.90,
    "F212N": 28.0,
    "F250M": 1.15,
    "F277W": 0.445,
    "F300M": 0.80,
    "F322W2": 0.21,
    "F323N": 9.2,
    "F335M": 0.78,
    "F356W": 0.405,
    "F360M": 0.76,
    "F405N": 8.3,
    "F410M": 0.745,
    "F430M": 1.60,
    "F444W": 0.385,
    "F460M": 2.20,
    "F466N": 9.0,
    "F470N": 9.0,
    "F480M": 1.35,
}
"""MJy/sr per DN/s, typical of NIRCam's modules."""


@cache
def _flags() -> dict[str, int]:
    """The bits of the data quality by name; imported here, since the flow's process plans surveys without jwst."""
    from stdatamodels.jwst.datamodels.dqflags import pixel

    return pixel


@dataclass(frozen=True)
class ReadoutPattern:
    """Numbers of the detector's frames in a group and of frames skipped between groups."""

    nframes: int
    groupgap: int


READOUT_PATTERNS = {
    "RAPID": ReadoutPattern(1, 0),
    "BRIGHT1": ReadoutPattern(1, 1),
    "SHALLOW4": ReadoutPattern(4, 1),
    "MEDIUM8": ReadoutPattern(8, 2),
}


@dataclass(frozen=True)
class Window:
    """The part of a detector that is read out, in the science frame.

    ``xstart`` and ``ystart`` are 1-based, as SUBSTRT1 and SUBSTRT2 are.
    """

    xstart: int
    ystart: int
    nx: int
    ny: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the full frame."""
        y, x = self.ystart - 1, self.xstart - 1
        return slice(y, y + self.ny), slice(x, x + self.nx)


FULL_WINDOW = Window(1, 1, DETECTOR_PIXELS, DETECTOR_PIXELS)


@dataclass(frozen=True)
class DetectorMaps:
    """Properties of a detector's pixels that are read out; all arrays have shape ``(ny, nx)``."""

    gain: NDArray[np.float32]
    """Electrons per DN."""
    flat: NDArray[np.float32]
    """Relative response."""
    superbias: NDArray[np.float32]
    """DN."""
    dark_rate: NDArray[np.float32]
    """DN/s."""
    read_noise: NDArray[np.float32]
    """Rms of one read in DN; reference files have the rms of the difference of two, sqrt(2) times as much."""
    quadratic: NDArray[np.float32]
    cubic: NDArray[np.float32]
    """Non-linearity: true = measured + quadratic * measured**2 + cubic * measured**3, in DN above the superbias."""
    saturation: NDArray[np.float32]
    """DN, superbias included."""
    dq: NDArray[np.uint32]
    """JWST data-quality flags."""

    @property
    def is_reference(self) -> NDArray[np.bool_]:
        """Pixels that receive no light."""
        return (self.dq & _flags()["REFERENCE_PIXEL"]) > 0

    @property
    def is_blind(self) -> NDArray[np.bool_]:
        """Dead and reference pixels."""
        return (self.dq & (_flags()["REFERENCE_PIXEL"] | _flags()["DEAD"])) > 0

    @property
    def flat_dq(self) -> NDArray[np.uint32]:
        """Flags of the flat: pixels without light are excluded from calibrated images."""
        return np.where(self.is_blind, np.uint32(_flags()["NO_FLAT_FIELD"] | _flags()["DO_NOT_USE"]), np.uint32(0))


def scan_directions(detector: str) -> tuple[int, int]:
    """FASTAXIS and SLOWAXIS: along which science axis, and in which sense, the detector is read out."""
    return (-1, 2) if detector in ("NRCA1", "NRCA3", "NRCALONG", "NRCB2", "NRCB4") else (1, -2)


def number_of_outputs(subarray: str) -> int:
    """Amplifiers that read the array in parallel."""
    return 4 if subarray == "FULL" else 1


def flux_conversion(detector: str, filter_name: str) -> float:
    """PHOTMJSR: MJy/sr per DN/s after the flat.

    Raises
    ------
    ValueError
        The filter is unknown to the simulator.
    """
    if filter_name not in _PHOTMJSR:
        raise ValueError(f"no flux conversion for filter {filter_name}; the simulator knows {', '.join(_PHOTMJSR)}")
    return _PHOTMJSR[filter_name] * (1 + 0.02 * float(_generator(detector, "throughput").uniform(-1, 1)))


def frame_numbers(settings: SimulationSettings) -> NDArray[np.int64]:
    """Frames since the reset that make each group, counted from 1, shape ``(groups, nframes)``."""
    pattern = READOUT_PATTERNS[settings.readout_pattern]
    first = np.arange(settings.groups) * (pattern.nframes + pattern.groupgap)
    return first[:, None] + np.arange(1, pattern.nframes + 1)


def group_mid_times(settings: SimulationSettings) -> NDArray[np.float64]:
    """Mean time since the reset, in seconds, of each group's frames."""
    return frame_numbers(settings).mean(axis=1) * FRAME_TIME_S[settings.subarray]


def linearise(measured: NDArray[np.float32], maps: DetectorMaps) -> NDArray[np.float32]:
    """True signal in DN of measured signals above the superbias, by the linearity reference."""
    return measured * (1 + measured * (maps.quadratic + measured * maps.cubic))


def distort_linearity(signal: NDArray[np.float32], maps: DetectorMaps) -> NDArray[np.float32]:
    """Measured signal in DN above the superbias of true ones; the inverse of `linearise`, by Newton's method.

    Parameters
    ----------
    signal
        DN, shape ``(..., ny, nx)``, within the range in which `linearise` rises (all of the ADC's).
    maps
        The detector.

    Returns
    -------
    NDArray
        DN, same shape, within 0.01 DN.
    """
    measured = signal * (1 - maps.quadratic * signal / (1 + 2 * maps.quadratic * np.abs(signal)))
    for _ in range(2):
        slope = 1 + measured * (2 * maps.quadratic + 3 * measured * maps.cubic)
        measured -= (linearise(measured, maps) - signal) / slope
    return measured


@lru_cache(maxsize=3)
def detector_maps(detector: str, window: Window) -> DetectorMaps:
    """Properties of a detector's pixels, drawn for the full frame and cut to the subarray.

    Parameters
    ----------
    detector
        Name, e.g. ``NRCB1``.
    window
        The part of the detector that is read out.

    Returns
    -------
    DetectorMaps
        Read-only arrays.
    """
    cut = window.slices
    long = is_long_wavelength_detector(detector)
    dq = _bad_pixels(detector)
    reference = (dq & _flags()["REFERENCE_PIXEL"]) > 0
    hot = (dq & _flags()["HOT"]) > 0

    flat = 1 + _pattern(detector, "flat", smooth=0.03, pixels=0.005, step=2**-9)
    flat[reference] = 1
    dark = np.full(flat.shape, 0.018 if long else 0.001, dtype=np.float32)
    dark[hot] = _quantise(_generator(detector, "hot").uniform(2, 40, int(hot.sum())).astype(np.float32), 2**-4)
    dark[reference] = 0
    nominal_gain = LONG_GAIN if long else SHORT_GAIN
    arrays = {
        "gain": nominal_gain * (1 + _pattern(detector, "gain", smooth=0.03, pixels=0.0, step=2**-8)),
        "flat": flat,
        "superbias": 12000 * (1 + _pattern(detector, "superbias", smooth=0.02, pixels=0.004, step=2**-11)),
        "dark_rate": dark,
        "read_noise": (5.0 if long else 4.6) * (1 + _pattern(detector, "read noise", smooth=0.05, pixels=0.0)),
        "quadratic": 1.1e-6 * (1 + _pattern(detector, "quadratic", smooth=0.1, pixels=0.0)),
        "cubic": np.full(flat.shape, 4e-12, dtype=np.float32),
        "saturation": 58000 * (1 + _pattern(detector, "saturation", smooth=0.02, pixels=0.0)),
    }
    maps = {name: np.ascontiguousarray(array[cut], dtype=np.float32) for name, array in arrays.items()}
    flags = np.ascontiguousarray(dq[cut])
    for array in (flags, *maps.values()):
        array.setflags(write=False)
    return DetectorMaps(**maps, dq=flags)


def _generator(detector: str, purpose: str) -> np.random.Generator:
    return np.random.default_rng(crc32(f"{detector} {purpose}".encode()))


def _quantise(values: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    # Reference files with few distinct values compress well.
    return np.round(values / np.float32(step)) * np.float32(step)


def _pattern(detector: str, name: str, *, smooth: float, pixels: float, step: float = 2**-8) -> NDArray[np.float32]:
    """Relative deviations of amplitude `smooth` on large scales and rms `pixels` from pixel to pixel."""
    generator = _generator(detector, name)
    x = np.linspace(-1, 1, DETECTOR_PIXELS, dtype=np.float32)
    y = x[:, None]
    weights = generator.uniform(-1, 1, 5).astype(np.float32)
    shape = weights[0] * x + weights[1] * y + weights[2] * x * y + weights[3] * x**2 + weights[4] * y**2
    values = shape * np.float32(smooth / np.abs(weights).sum())
    if pixels > 0:
        values = values + np.float32(pixels) * np.clip(generator.standard_normal(values.shape, dtype=np.float32), -4, 4)
    return _quantise(values, step)


def _bad_pixels(detector: str) -> NDArray[np.uint32]:
    """Data-quality flags of the full frame: dead and hot pixels, a few bad rows, the reference pixels."""
    generator = _generator(detector, "bad pixels")
    dq = np.zeros((DETECTOR_PIXELS, DETECTOR_PIXELS), dtype=np.uint32)
    for flag, fraction in (("DEAD", 8e-4), ("HOT", 6e-4)):
        pixels = generator.choice(dq.size, int(fraction * dq.size), replace=False)
        dq.flat[pixels] |= _flags()[flag] | _flags()["DO_NOT_USE"]
    for row, start, length in zip(
        generator.integers(8, DETECTOR_PIXELS - 8, 6),
        generator.integers(8, DETECTOR_PIXELS - 8, 6),
        generator.integers(40, 400, 6),
        strict=True,
    ):
        dq[row, start : start + length] |= _flags()["DEAD"] | _flags()["DO_NOT_USE"]
    border = np.ones(dq.shape, dtype=bool)
    border[REFERENCE_PIXEL_BORDER:-REFERENCE_PIXEL_BORDER, REFERENCE_PIXEL_BORDER:-REFERENCE_PIXEL_BORDER] = False
    # refpix silently does nothing where reference pixels are flagged DO_NOT_USE.
    dq[border] = _flags()["REFERENCE_PIXEL"] | _flags()["NON_SCIENCE"]
    return dq
