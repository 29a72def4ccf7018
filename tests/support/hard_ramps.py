"""Ramps and reference files with everything that is hard, calibrated by both engines."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stdatamodels.jwst import datamodels
from stdatamodels.jwst.datamodels.dqflags import pixel

PLANES = ("data", "dq", "err", "var_poisson", "var_rnoise")
SIDE = 48
FULL = 2048
STEPS_OF = {
    "mask": ("dq_init",),
    "saturation": ("saturation",),
    "superbias": ("saturation", "superbias"),
    "ipc": ("ipc",),
    "linearity": ("linearity",),
    "dark": ("dark_current",),
    "gain": ("jump", "ramp_fit", "gain_scale"),
    "readnoise": ("jump", "ramp_fit"),
}


@dataclass(frozen=True)
class HardRamp:
    """What a ramp and its reference files carry."""

    seed: int = 0
    groups: int = 6
    nframes: int = 4
    groupgap: int = 1
    side: int = SIDE
    start: tuple[int, int] = (0, 0)
    """First column and row on the detector."""
    fastaxis: int = -1
    slowaxis: int = 2
    zeroframe: bool = False
    inverse: bool = False
    """Whether the linearity file has coefficients to undo the correction."""
    ipc: int = 0
    """Dimensions of the kernel of coupled pixels; 0 for none."""
    dark: str = "same"
    """Readout of the dark: the ramp's own, single frames, too short, or one that does not fit."""
    mean_dark: str = "none"
    missing: tuple[str, ...] = ()
    """Reference files that there are none of."""
    rejection_sigma: float = 4.0
    saturated: float = 0.3
    """Fraction of pixels that become saturated."""
    zeros: float = 0.02
    """Fraction of counts that are zero."""
    jumps: float = 0.3
    dropped: int = -1
    """Group of which all counts are zero."""
    snowballs: int = 0
    """Number of snowballs; if there are any they are flagged."""


def differences_between_engines(ramp: HardRamp, target: Path, folder: Path) -> list[str]:
    """In a child process: calibrate a ramp by both engines and name what differs."""
    import logging

    from cosmosaic.calibrate.fused.pipeline import FusedDetector1Pipeline

    logging.disable(logging.WARNING)
    target.mkdir(exist_ok=True)
    path = write_ramp(ramp, target)
    ours, theirs = (calibrate(path, ramp, target, pipeline) for pipeline in (FusedDetector1Pipeline, None))
    if ours is None or theirs is None:
        return [] if ours is theirs else [f"ours: {ours}, jwst: {theirs}"]
    found = [name for name in PLANES if not np.array_equal(getattr(ours, name), getattr(theirs, name), equal_nan=True)]
    mine, others = (model.to_flat_dict(include_arrays=False) for model in (ours, theirs))
    keys = {key for key in (*mine, *others) if not key.startswith(("cal_logs", "extra_fits", "meta.date"))}
    return found + [
        f"{key}: {mine.get(key)} {others.get(key)}" for key in sorted(keys) if mine.get(key) != others.get(key)
    ]


def calibrate(path: Path, ramp: HardRamp, folder: Path, pipeline):
    """Run Stage 1 with the reference files of a folder; that of the jwst package by default."""
    from jwst.pipeline import Detector1Pipeline

    from cosmosaic.calibrate.stages import _stage1_parameters
    from cosmosaic.survey import ExposureSettings

    settings = ExposureSettings(jump_rejection_sigma=ramp.rejection_sigma, expand_large_events=ramp.snowballs > 0)
    steps = _stage1_parameters(settings, None)
    for kind, names in STEPS_OF.items():
        file = folder / f"{kind}.fits"
        for name in names:
            steps.setdefault(name, {})[f"override_{kind}"] = str(file) if file.exists() else "N/A"
    return (pipeline or Detector1Pipeline).call(str(path), steps=steps, save_results=False)


def write_ramp(ramp: HardRamp, folder: Path) -> Path:
    """Write a ramp and its reference files."""
    from cosmosaic.simulate.headers import set_metadata
    from cosmosaic.simulate.plan import plan_exposures
    from cosmosaic.survey import SimulationSettings

    generator = np.random.default_rng(ramp.seed)
    write_references(ramp, generator, folder)
    settings = SimulationSettings(detectors=("NRCB1",))
    model = datamodels.Level1bModel(data=counts(ramp, generator)[None])
    set_metadata(model, plan_exposures(settings)[0], settings)
    if ramp.zeroframe:
        first = model.data[:, 0] // 2 + generator.integers(0, 50, model.data[:, 0].shape)
        model.zeroframe = np.where(generator.random(first.shape) < 0.1, 0, first).astype(np.uint16)
    describe(model, ramp)
    exposure = model.meta.exposure
    exposure.frame_time, exposure.group_time = 10.73677, 10.73677 * (ramp.nframes + ramp.groupgap)
    exposure.zero_frame, exposure.noutputs = ramp.zeroframe, 4 if ramp.side == FULL else 1
    exposure.frame_divisor, exposure.nints = ramp.nframes, 1
    path = folder / "jw01727001001_02101_00001_nrcb1_uncal.fits"
    model.save(str(path))
    return path


def describe(model, ramp: HardRamp, **exposure) -> None:
    """Say how a file's detector was read."""
    window, readout = model.meta.subarray, model.meta.exposure
    window.xstart, window.ystart = ramp.start[0] + 1, ramp.start[1] + 1
    window.xsize = window.ysize = ramp.side
    window.fastaxis, window.slowaxis = ramp.fastaxis, ramp.slowaxis
    window.name = "FULL" if ramp.side == FULL else "SUB64P"
    own = {"ngroups": ramp.groups, "nframes": ramp.nframes, "groupgap": ramp.groupgap} | exposure
    for name, value in own.items():
        setattr(readout, name, value)


def counts(ramp: HardRamp, generator: np.random.Generator) -> np.ndarray:
    """Ramps of all slopes, saturated from any group on, with zeros, jumps and noise."""
    shape = (ramp.side, ramp.side)
    slope = generator.choice([0.0, 3.0, 100.0, 2000.0], shape) * generator.random(shape)
    bright = generator.random(shape) < ramp.saturated
    slope[bright] = 60000 / generator.uniform(0.5, ramp.groups + 1, bright.sum())
    ramps = 10000 + slope * np.arange(1, ramp.groups + 1)[:, None, None] + generator.normal(0, 8, (ramp.groups, *shape))
    for _ in range(3):
        hit = generator.random(shape) < ramp.jumps / 3
        since = generator.integers(0, ramp.groups, shape)
        size = np.exp(generator.uniform(1, 10, shape))
        ramps += np.where(hit & (np.arange(ramp.groups)[:, None, None] >= since), size, 0)
    row, column = np.indices(shape)
    for _ in range(ramp.snowballs):
        (y, x), radius = generator.uniform(0, ramp.side, 2), generator.uniform(0.5, 6)
        charge = 50000 * np.exp(3 * (1 - np.hypot(row - y, column - x) / radius))
        ramps += np.where(np.arange(ramp.groups)[:, None, None] >= generator.integers(0, ramp.groups), charge, 0)
    ramps[generator.random(ramps.shape) < ramp.zeros] = 0
    if 0 <= ramp.dropped < ramp.groups:
        ramps[ramp.dropped] = 0
    return np.clip(np.rint(ramps), 0, 65535).astype(np.uint16)


def write_references(ramp: HardRamp, generator: np.random.Generator, folder: Path) -> None:
    """Write the reference files that there are, with flags and NaN."""
    shape = (ramp.side, ramp.side)

    def spoiled(values: np.ndarray, fraction: float = 0.02) -> np.ndarray:
        values = np.array(values, dtype=np.float32)
        values[..., generator.random(shape) < fraction] = np.nan
        return values

    def flags(*names: str) -> np.ndarray:
        found = np.zeros(shape, dtype=np.uint32)
        for name in names:
            found |= np.where(generator.random(shape) < 0.02, pixel[name], 0).astype(np.uint32)
        return found

    mask = flags("DO_NOT_USE", "DEAD", "HOT")
    column, row = np.meshgrid(ramp.start[0] + np.arange(ramp.side), ramp.start[1] + np.arange(ramp.side))
    mask[np.minimum(np.minimum(column, FULL - 1 - column), np.minimum(row, FULL - 1 - row)) < 4] |= np.uint32(
        pixel["REFERENCE_PIXEL"]
    )
    terms = np.array([0, 1, 1e-7, 3e-12])[:, None, None]
    polynomial = terms * (1 + 0.1 * generator.standard_normal((4, *shape)))
    polynomial[1, generator.random(shape) < 0.01] = 0
    gain = spoiled(2 + 0.1 * generator.standard_normal(shape), 0.01)
    gain[generator.random(shape) < 0.01] *= -1
    noise = spoiled(10 + generator.standard_normal(shape), 0.01)
    noise[generator.random(shape) < 0.01] = 0
    models = {
        "mask": datamodels.MaskModel(dq=mask),
        "saturation": datamodels.SaturationModel(
            data=spoiled(generator.uniform(50000, 66000, shape)), dq=flags("NO_SAT_CHECK", "DO_NOT_USE")
        ),
        "superbias": datamodels.SuperBiasModel(
            data=spoiled(10000 + 50 * generator.standard_normal(shape)), dq=flags("UNRELIABLE_BIAS")
        ),
        "linearity": datamodels.LinearityModel(
            coeffs=spoiled(polynomial).astype(np.float32), dq=flags("NO_LIN_CORR", "NONLINEAR")
        ),
        "gain": datamodels.GainModel(data=gain),
        "readnoise": datamodels.ReadnoiseModel(data=noise),
        "dark": dark_of(ramp, generator, spoiled, flags("UNRELIABLE_DARK", "DO_NOT_USE")),
    }
    if ramp.inverse:
        undone = np.array([0, 1, -1e-7, 2e-12])[:, None, None] * (1 + 0.1 * generator.standard_normal((4, *shape)))
        models["linearity"].inv_coeffs = spoiled(undone)
    if ramp.ipc:
        # jwst cuts a kernel per pixel out of the full frame; here it is as small as it may be.
        per_pixel = ramp.ipc == 4 and ramp.start == (0, 0)
        kernel = generator.normal(0, 0.005, (3, 3, *(shape if per_pixel else ())))
        kernel[1, 1] += 1
        models["ipc"] = datamodels.IPCModel(data=kernel.astype(np.float32))
    for kind in STEPS_OF:
        (folder / f"{kind}.fits").unlink(missing_ok=True)
        if kind in models and kind not in ramp.missing:
            write_reference(models[kind], ramp, folder / f"{kind}.fits")


def write_reference(model, ramp: HardRamp, path: Path) -> None:
    """Write one reference file."""
    meta, readout = model.meta, {}
    if path.stem == "dark":
        readout = {name: getattr(meta.exposure, name) for name in ("ngroups", "nframes", "groupgap")}
    if path.stem != "ipc":
        describe(model, ramp, **readout)
    meta.instrument.name, meta.instrument.detector, meta.telescope = "NIRCAM", "NRCB1", "JWST"
    meta.reftype, meta.author, meta.description, meta.pedigree = path.stem, "test", "hard", "DUMMY"
    meta.useafter = "2020-01-01T00:00:00"
    model.save(str(path))


def dark_of(ramp: HardRamp, generator, spoiled, dq: np.ndarray):
    """A dark by how it was read."""
    nframes, groupgap = (1, 0) if ramp.dark in ("frames", "short frames") else (ramp.nframes, ramp.groupgap)
    groups = ramp.groups * (ramp.nframes + ramp.groupgap) if ramp.dark == "frames" else ramp.groups
    if ramp.dark.startswith("short"):
        groups = max(2, ramp.groups // 2)
    if ramp.dark == "unfit":
        nframes += 1
    data = np.cumsum(generator.normal(0.1, 0.05, (groups, ramp.side, ramp.side)), axis=0)
    model = datamodels.DarkModel(data=spoiled(data), dq=dq)
    model.meta.exposure.ngroups, model.meta.exposure.nframes, model.meta.exposure.groupgap = groups, nframes, groupgap
    if ramp.mean_dark == "scalar":
        model.meta.exposure.average_dark_current = 0.0113
    if ramp.mean_dark == "image":
        model.average_dark_current = generator.uniform(0, 0.05, dq.shape).astype(np.float32)
    return model


def calibrate_constant(counts_dn: int, engine: str, settings, target: Path, folder: Path) -> str:
    """In a child process: Stage 1 of a ramp of which all counts are the same; return the error's text."""
    from cosmosaic.calibrate.stages import UnusableExposureError, calibrate_ramp
    from cosmosaic.simulate.geometry import subarray_window
    from cosmosaic.simulate.headers import set_metadata
    from cosmosaic.simulate.plan import plan_exposures
    from cosmosaic.survey import ExposureSettings

    (frame, *_) = plan_exposures(settings)
    window = subarray_window(frame.aperture)
    model = datamodels.Level1bModel(data=np.full((1, settings.groups, window.ny, window.nx), counts_dn, np.uint16))
    set_metadata(model, frame, settings)
    path = target / f"{frame.name}_uncal.fits"
    model.save(str(path))
    try:
        calibrate_ramp(path, None, ExposureSettings(engine=engine), frame.detector, target)
    except UnusableExposureError as error:
        return str(error)
    return ""
