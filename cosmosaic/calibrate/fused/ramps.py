"""One integration from counts to count rates, in the order of jwst's ``Detector1Pipeline`` for near-infrared images."""

from dataclasses import dataclass, field

import numpy as np

from cosmosaic.calibrate.fused.compiled import DO_NOT_USE, SATURATED, Flags, Image, PixelFlags, Ramp
from cosmosaic.calibrate.fused.ipc import correct_ipc
from cosmosaic.calibrate.fused.jumps import FEWEST_GROUPS, Noise, Thresholds, flag_jumps
from cosmosaic.calibrate.fused.linearity import linearise, linearise_first_frame, linearise_frames
from cosmosaic.calibrate.fused.reference_pixels import Readout, correct_full_frames, correct_subarray
from cosmosaic.calibrate.fused.references import DetectorReferences
from cosmosaic.calibrate.fused.saturation import blank_saturation, flag_saturation, frames_of_groups
from cosmosaic.calibrate.fused.slopes import Detector, Rate, fit_slopes, read_noise_of_group, readout_times
from cosmosaic.calibrate.fused.snowballs import LargeEvents, flag_snowballs
from cosmosaic.nircam import FULL_FRAME


@dataclass(frozen=True)
class Sampling:
    """Readout of the detector."""

    nframes: int
    """Frames that are averaged into a group."""
    frame_time_s: float
    group_time_s: float
    readout: Readout


@dataclass
class Integration:
    """A ramp while it is calibrated; its arrays are changed in place."""

    ramp: Ramp
    zeroframe: Image | None
    flags: Flags
    """Of the groups; all zero at first, as those of the pixels are."""
    dq: PixelFlags = field(init=False)
    jumps: int = 0
    """Number of cosmic rays."""
    snowballs: int = 0

    def __post_init__(self) -> None:
        self.dq = np.zeros(self.ramp.shape[1:], dtype=np.uint32)

    @property
    def is_saturated(self) -> bool:
        """Whether all pixels are saturated from the first group on."""
        return bool((self.flags[0] & SATURATED).all())

    @property
    def usable_groups(self) -> int:
        """Groups in which not every pixel is flagged DO_NOT_USE."""
        return sum(not (plane & DO_NOT_USE).all() for plane in self.flags)


def fit_integration(
    integration: Integration,
    references: DetectorReferences,
    sampling: Sampling,
    thresholds: Thresholds,
    large_events: LargeEvents | None = None,
) -> Rate:
    """Calibrate one integration; jumps are searched where it has three groups or more.

    Parameters
    ----------
    integration
        Counts as they were read; changed.
    references
        Of its detector.
    sampling
        Its readout.
    thresholds
        Of a cosmic ray.
    large_events
        How snowballs are flagged; by default they are not.
    """
    _flag_bad_pixels(integration, references, sampling.nframes)
    _subtract_offsets(integration, references, sampling.readout)
    _make_linear(integration, references, sampling.nframes)
    _subtract_dark(integration, references)
    gain, dq = references.gain, integration.dq
    if len(integration.ramp) >= FEWEST_GROUPS:
        noise = Noise(gain, references.read_noise, sampling.nframes)
        integration.jumps = flag_jumps(integration.ramp, integration.flags, noise, thresholds)
        if large_events:
            integration.snowballs = flag_snowballs(integration.flags, large_events)
    read_noise = read_noise_of_group(references.read_noise, gain, sampling.nframes)
    mean_dark = references.dark.mean if references.dark else None
    detector = Detector(gain, read_noise, np.zeros_like(gain) if mean_dark is None else mean_dark)
    times = readout_times(sampling.frame_time_s, sampling.group_time_s, sampling.nframes)
    return fit_slopes(integration.ramp, integration.flags, dq, integration.zeroframe, detector, times)


def _flag_bad_pixels(integration: Integration, references: DetectorReferences, nframes: int) -> None:
    if references.mask is not None:
        integration.dq |= references.mask
        integration.flags |= (references.mask & np.uint32(DO_NOT_USE)).astype(np.uint8)
    saturation = references.saturation
    if saturation is None:
        return
    bias = np.zeros_like(saturation.threshold) if references.bias is None else references.bias.image
    flag_saturation(integration.ramp, integration.flags, saturation.threshold, saturation.unchecked, bias, nframes)
    integration.dq |= saturation.dq
    if integration.zeroframe is not None:
        blank_saturation(integration.zeroframe, saturation.threshold)


def _subtract_offsets(integration: Integration, references: DetectorReferences, readout: Readout) -> None:
    if references.ipc is not None:
        correct_ipc(integration.ramp, references.ipc.kernel, references.ipc.borders)
    frames = list(integration.ramp)
    if integration.zeroframe is not None:
        frames.append(integration.zeroframe)
    # Zeros of the first frame stand for bad pixels.
    bad = None if integration.zeroframe is None else integration.zeroframe == 0
    if references.bias is not None:
        integration.dq |= references.bias.dq
        image = np.where(np.isnan(references.bias.image), np.float32(0), references.bias.image)
        for frame in frames:
            frame -= image
    if integration.zeroframe is not None:
        integration.zeroframe[bad] = 0
        bad = integration.zeroframe == 0
    if integration.dq.shape == FULL_FRAME:
        correct_full_frames(frames, integration.dq, readout)
    else:
        correct_subarray(frames, integration.dq, readout)
    if integration.zeroframe is not None:
        integration.zeroframe[bad] = 0


def _make_linear(integration: Integration, references: DetectorReferences, nframes: int) -> None:
    linearity = references.linearity
    if linearity is None:
        return
    integration.dq |= linearity.dq
    if linearity.inverse is None:
        linearise(integration.ramp, integration.flags, linearity.coefficients)
    else:
        frames = np.array(frames_of_groups(len(integration.ramp), nframes), dtype=float)
        linearise_frames(integration.ramp, integration.flags, linearity.coefficients, linearity.inverse, frames)
    if integration.zeroframe is not None:
        linearise_first_frame(integration.zeroframe, linearity.coefficients)


def _subtract_dark(integration: Integration, references: DetectorReferences) -> None:
    dark = references.dark
    if dark is None or dark.groups is None:
        return
    integration.dq |= dark.dq
    for plane, image in zip(integration.ramp, dark.groups, strict=True):
        np.subtract(plane, image, out=plane, casting="same_kind")
