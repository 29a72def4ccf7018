"""pytest plugin: the compiled functions of Stage 1 in place of those that the jwst package's own tests call.

Where they do not cover what a test asks for, jwst's function answers. ``--kernels FILE`` writes the tests in which they
were called as JSON, by outcome.
"""

import json
from collections import Counter
from collections.abc import Callable, Generator
from functools import partial, wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jwst.linearity import linearity as jwst_linearity
from jwst.refpix import reference_pixels
from jwst.saturation import saturation as jwst_saturation
from stcal.jump import twopoint_difference
from stcal.ramp_fitting import ols_fit
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.calibrate.fused.jumps import NOT_SEARCHED, Noise, Thresholds, flag_jumps
from cosmosaic.calibrate.fused.linearity import linearise, linearise_first_frame, linearise_frames, prepared
from cosmosaic.calibrate.fused.reference_pixels import (
    CLIP_SIGMA,
    HALF_WINDOW,
    Readout,
    correct_full_frames,
    correct_subarray,
)
from cosmosaic.calibrate.fused.saturation import blank_saturation, flag_saturation, frames_of_groups
from cosmosaic.calibrate.fused.slopes import Detector, fit_slopes, readout_times

RESULTS = pytest.StashKey[dict[str, list[str]]]()
answered: Counter[str] = Counter()
"""Calls that were answered since the test began, by ``kernel`` and ``jwst``."""


def replaced(module: Any, name: str, covers: Callable[..., bool], kernel: Callable[..., Any]) -> None:
    """Put a compiled function in the place of one of jwst's for the calls that it covers."""
    original = getattr(module, name)

    @wraps(original)
    def answer(*arguments: Any, **options: Any) -> Any:
        covered = covers(*arguments, **options)
        answered["kernel" if covered else "jwst"] += 1
        return (kernel if covered else original)(*arguments, **options)

    setattr(module, name, answer)


def plain(image: Any, dtype: Any = np.float32) -> Any:
    return np.ascontiguousarray(image, dtype=dtype)


def finds_jumps(data: Any, flags: Any, read_noise: Any, method: Any) -> bool:
    spaced = method.dt_group is None or np.allclose(np.diff(method.dt_group), 0)
    return bool(
        data.shape[0] == 1
        and method.flag_4_neighbors
        and not method.after_jump_flag_n1
        and not method.after_jump_flag_n2
        and method.minimum_groups == 3
        and method.min_diffs_single_pass == 10
        and spaced
    )


def find_jumps(data: Any, flags: Any, read_noise: Any, method: Any) -> Any:
    """`find_crs`, for electrons: a gain of 1."""
    thresholds = Thresholds(
        method.normal_rej_thresh,
        method.three_diff_rej_thresh,
        method.two_diff_rej_thresh,
        method.min_jump_to_flag_neighbors,
        method.max_jump_to_flag_neighbors,
    )
    nframes = int(np.ravel(method.nframes)[0])
    noise = Noise(np.ones_like(read_noise, dtype=np.float32), plain(read_noise), nframes)
    found = plain(flags[0], np.uint8)
    number = flag_jumps(plain(data[0]), found, noise, thresholds)
    flags[0] = found
    groups, _, columns = found.shape
    rows = np.zeros((1, groups, columns), dtype=np.uint8)
    return flags, rows, rows.copy(), number if number == NOT_SEARCHED else int(number)


def flags_saturation(data: Any, flags: Any, dq: Any, threshold: Any, *rest: Any, **options: Any) -> bool:
    pattern = options.get("read_pattern")
    regular = pattern is None or pattern == frames_of_groups(data.shape[1], len(pattern[0]))
    return bool(data.shape[0] == 1 and threshold.ndim == 2 and options.get("n_pix_grow_sat", 1) == 1 and regular)


def flag_saturated(  # noqa: PLR0913
    data: Any,
    flags: Any,
    dq: Any,
    threshold: Any,
    threshold_dq: Any,
    limit: float,
    dqflags: Any,
    n_pix_grow_sat: int = 1,
    zframe: Any = None,
    read_pattern: Any = None,
    bias: Any = None,
) -> Any:
    """`flag_saturated_pixels`."""
    unchecked = ((threshold_dq & pixel["NO_SAT_CHECK"]) != 0) | np.isnan(threshold)
    threshold_dq[np.isnan(threshold)] |= pixel["NO_SAT_CHECK"]
    threshold[unchecked] = limit + 1
    found = plain(flags[0], np.uint8)
    image = np.zeros_like(threshold, dtype=np.float32) if bias is None else plain(bias)
    nframes = len(read_pattern[0]) if read_pattern else 1
    flag_saturation(plain(data[0]), found, plain(threshold), unchecked, image, nframes)
    flags[0] = found
    dq |= threshold_dq
    if zframe is None:
        return flags, dq, None
    first = plain(zframe[0])
    blank_saturation(first, plain(threshold))
    zframe[0] = first
    return flags, dq, zframe


def makes_linear(data: Any, *rest: Any, **options: Any) -> bool:
    special = options.get("additional_correction") is not None or options.get("satval") is not None
    pattern = options.get("read_pattern")
    regular = pattern is None or pattern == frames_of_groups(data.shape[1], len(pattern[0]))
    return bool(data.shape[0] == 1 and not special and regular)


def make_linear(  # noqa: PLR0913
    data: Any,
    flags: Any,
    dq: Any,
    coefficients: Any,
    coefficients_dq: Any,
    dqflags: Any,
    zframe: Any = None,
    ilin_coeffs: Any = None,
    read_pattern: Any = None,
) -> Any:
    """`linearity_correction`."""
    used, unknown = prepared(coefficients, coefficients_dq)
    dq = dq | coefficients_dq
    dq[unknown] |= pixel["NO_LIN_CORR"]
    ramp, found = plain(data[0]), plain(flags[0], np.uint8)
    if ilin_coeffs is None:
        linearise(ramp, found, used)
    else:
        inverse, unknown = prepared(ilin_coeffs, coefficients_dq)
        dq[unknown] |= pixel["NO_LIN_CORR"]
        linearise_frames(ramp, found, used, inverse, np.array(read_pattern, dtype=float))
    data[0] = ramp
    if zframe is None:
        return data, dq, None
    first = plain(zframe[0])
    linearise_first_frame(first, used)
    return data, dq, first[np.newaxis]


def fits_slopes(ramp: Any, save_opt: bool, read_noise: Any, gain: Any, weighting: str) -> bool:
    timed = None not in (ramp.frame_time, ramp.group_time, ramp.nframes)
    return bool(ramp.data.shape[0] == 1 and not ramp.drop_frames1 and timed)


def fit(ramp: Any, save_opt: bool, read_noise: Any, gain: Any, weighting: str) -> Any:
    """`ols_ramp_fit_single`: results of the exposure and of its only integration; jwst's own of the segments."""
    segments = ols_fit.ols_ramp_fit_single.__wrapped__(ramp, True, read_noise, gain, weighting)[2] if save_opt else None
    dark = np.zeros_like(gain) if ramp.average_dark_current is None else ramp.average_dark_current
    detector = Detector(plain(gain), plain(read_noise), plain(dark))
    first = None if ramp.zeroframe is None else plain(ramp.zeroframe[0])
    times = readout_times(ramp.frame_time, ramp.group_time, ramp.nframes)
    flags, dq = plain(ramp.groupdq[0], np.uint8), plain(ramp.pixeldq, np.uint32)
    rate = fit_slopes(plain(ramp.data[0]), flags, dq, first, detector, times)
    planes = ("slope", "dq", "var_poisson", "var_rnoise", "err")
    image = dict(zip(planes, (rate.sci, rate.dq, rate.var_poisson, rate.var_rnoise, rate.err), strict=True))
    return image, {name: plane[np.newaxis] for name, plane in image.items()}, segments


def corrects(dataset: Any) -> bool:
    usual = dataset.odd_even_columns and dataset.siglimit == CLIP_SIGMA and dataset.refpix_algorithm == "median"
    return bool(usual and dataset.input_model.meta.instrument.name == "NIRCAM")


def corrects_full_frames(dataset: Any) -> bool:
    sides = dataset.use_side_ref_pixels and dataset.side_smoothing_length == 2 * HALF_WINDOW + 1
    return bool(corrects(dataset) and sides and dataset.side_gain == 1.0 and not dataset.is_subarray)


def readout_of(dataset: Any) -> Readout:
    return Readout(dataset.colstart, dataset.rowstart, dataset.fastaxis, dataset.slowaxis)


def correct(kernel: Callable[..., None], dataset: Any) -> None:
    """Correct all groups, which jwst hands over with its first frames in their place too."""
    model = dataset.input_model
    for integration in range(len(model.data)):
        frames = [plain(frame) for frame in model.data[integration]]
        kernel(frames, model.pixeldq, readout_of(dataset))
        model.data[integration] = frames


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kernels", type=Path, help="file for the names of the tests with compiled functions")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = {"passed": [], "failed": []}
    replaced(twopoint_difference, "find_crs", finds_jumps, find_jumps)
    replaced(jwst_saturation, "flag_saturated_pixels", flags_saturation, flag_saturated)
    replaced(jwst_linearity, "linearity_correction", makes_linear, make_linear)
    replaced(ols_fit, "ols_ramp_fit_single", fits_slopes, fit)
    dataset = reference_pixels.NIRDataset
    replaced(dataset, "do_fullframe_corrections", corrects_full_frames, partial(correct, correct_full_frames))
    replaced(dataset, "do_subarray_corrections", corrects, partial(correct, correct_subarray))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if report.when == "call" and answered["kernel"]:
        item.config.stash[RESULTS][report.outcome].append(item.nodeid)
    answered.clear()
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.getoption("--kernels").write_text(json.dumps(session.config.stash[RESULTS]))
