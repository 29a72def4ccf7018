"""A simulated ramp holds what the sky, the detector and the cosmic rays put there, and nothing else."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels import dqflags

from cosmosaic.simulate.geometry import exposure_shape, subarray_window
from cosmosaic.simulate.instrument import (
    FRAME_TIME_S,
    DetectorMaps,
    detector_maps,
    distort_linearity,
    flux_conversion,
    frame_numbers,
    group_mid_times,
    linearise,
)
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.simulate.ramps import (
    draw_cosmic_rays,
    draw_flicker,
    draw_snowballs,
    first_hit_group,
    least_squares_slope,
    simulate_ramp,
    write_ramp,
)
from cosmosaic.simulate.truth import draw_pedestal, write_exposure_truth
from cosmosaic.survey import SimulationSettings

QUIET = SimulationSettings(
    subarray="SUB160", detectors=("NRCB1",), flicker_noise=False, cosmic_rays_per_s_cm2=0, pedestal_rms=0
)
SKY_MJY_SR = 20.0


@pytest.fixture(scope="module")
def frame() -> PlannedExposure:
    return plan_exposures(QUIET)[0]


@pytest.fixture(scope="module")
def maps(frame: PlannedExposure) -> DetectorMaps:
    return detector_maps(frame.detector, subarray_window(frame.aperture))


def uniform_sky(frame: PlannedExposure, level: float = SKY_MJY_SR) -> NDArray[np.float32]:
    return np.full(exposure_shape(frame), level, dtype=np.float32)


def rate_of(ramp: NDArray[np.uint16], maps: DetectorMaps, settings: SimulationSettings) -> NDArray[np.float32]:
    """DN/s of a ramp by the textbook: bias, linearity, dark current, straight line."""
    return least_squares_slope(linearise(ramp - maps.superbias, maps), settings) - maps.dark_rate


def with_changes(**changes: object) -> SimulationSettings:
    return SimulationSettings.model_validate(QUIET.model_dump() | changes)


@pytest.mark.parametrize("pattern", ["RAPID", "BRIGHT1", "SHALLOW4", "MEDIUM8"])
def test_the_sky_comes_back_from_a_ramp_of_any_readout_pattern(
    frame: PlannedExposure, maps: DetectorMaps, pattern: str
) -> None:
    settings = with_changes(readout_pattern=pattern)
    ramp, _ = simulate_ramp(frame, uniform_sky(frame, 300.0), settings)
    sky = rate_of(ramp, maps, settings)[maps.dq == 0] * flux_conversion("NRCB1", frame.filter)
    sky /= maps.flat[maps.dq == 0]
    assert np.mean(sky) == pytest.approx(300.0, abs=4 * np.std(sky) / np.sqrt(sky.size))


def test_averaging_reads_on_board_lowers_read_noise_and_correlates_photon_noise(
    frame: PlannedExposure, maps: DetectorMaps
) -> None:
    settings = with_changes(readout_pattern="SHALLOW4")
    ramp, _ = simulate_ramp(frame, uniform_sky(frame), settings)
    step = np.diff(linearise(ramp - maps.superbias, maps), axis=0)[1:, maps.dq == 0]
    electrons = SKY_MJY_SR / flux_conversion("NRCB1", frame.filter) * np.median(maps.flat) * np.median(maps.gain)
    # Of the five read times between groups, the averages of four count 1/16 ... 4/16 ... 1/16 of each variance.
    weights = np.convolve(np.full(4, 0.25), np.ones(5))
    photons = np.sum(weights**2) * electrons * FRAME_TIME_S["SUB160"] / np.median(maps.gain) ** 2
    expected = photons + 2 * np.median(maps.read_noise) ** 2 / 4 + 2 / 12
    assert np.var(step) == pytest.approx(expected, rel=0.03)


def test_linearity_correction_undoes_the_detector_up_to_the_converter_limit(maps: DetectorMaps) -> None:
    signal = np.linspace(-200, 60000, maps.gain.size, dtype=np.float32).reshape(maps.gain.shape)
    measured = distort_linearity(signal, maps)
    assert np.max(signal - measured) > 2000
    np.testing.assert_allclose(linearise(measured, maps), signal, atol=0.05)


def test_a_pedestal_is_a_ramp_without_flat_field_in_pixels_that_see_light_alone(
    frame: PlannedExposure, maps: DetectorMaps
) -> None:
    settings = with_changes(pedestal_rms=10.0, readout_pattern="MEDIUM8", groups=20)
    ramp, truth = simulate_ramp(frame, uniform_sky(frame), settings)
    without, _ = simulate_ramp(frame, uniform_sky(frame), settings.model_copy(update={"pedestal_rms": 0.0}))
    extra = least_squares_slope(ramp.astype(np.float32) - without, settings) * flux_conversion("NRCB1", frame.filter)
    assert truth.pedestal_mjy_sr == draw_pedestal(frame, settings)
    assert np.mean(extra[maps.dq == 0]) == pytest.approx(truth.pedestal_mjy_sr, rel=0.02)
    assert np.all(extra[maps.is_reference] == 0)


def test_bright_stars_saturate_below_the_converter_limit_and_stay_there(
    frame: PlannedExposure, maps: DetectorMaps
) -> None:
    sky = uniform_sky(frame)
    sky[80, 80] = 1e7
    ramp, _ = simulate_ramp(frame, sky, QUIET)
    assert maps.dq[80, 80] == 0
    assert np.all(ramp[1:, 80, 80] > maps.saturation[80, 80])
    assert np.ptp(ramp[1:, 80, 80].astype(int)) < 30


def test_dead_and_reference_pixels_see_no_light(frame: PlannedExposure, maps: DetectorMaps) -> None:
    ramp, _ = simulate_ramp(frame, uniform_sky(frame, 3e3), QUIET)
    slope = rate_of(ramp, maps, QUIET)
    assert np.median(slope[maps.dq == 0]) > 500
    assert np.max(np.abs(slope[maps.is_reference])) < 20


def test_cosmic_rays_arrive_at_the_stated_rate_and_the_truth_names_their_group(
    frame: PlannedExposure, maps: DetectorMaps
) -> None:
    settings = with_changes(cosmic_rays_per_s_cm2=100, readout_pattern="MEDIUM8", groups=20)
    hits = draw_cosmic_rays(frame, settings, maps)
    first = first_hit_group(hits, settings, maps.gain.shape)
    ramp, _ = simulate_ramp(frame, uniform_sky(frame), settings)
    steps = np.diff(ramp.astype(float), axis=0)
    quiet = np.median(steps, axis=(1, 2))[:, None, None]
    # A hit may fall late among the reads of a group: it shows in the step to that group or the next.
    jumps = np.maximum(steps, np.concatenate([steps[1:], steps[-1:]])) - quiet
    charge = np.zeros(maps.gain.shape)
    np.add.at(charge.reshape(-1), hits.pixel, hits.electrons)
    strong = (charge > 1500) & (first > 1) & (first < 20) & (maps.dq == 0)
    rows, columns = np.nonzero(strong)
    assert rows.size > 50
    assert np.mean(jumps[first[strong].astype(int) - 2, rows, columns] > 200) > 0.97
    reads = frame_numbers(settings)[-1, -1]
    expected = 100 * (160 * 18e-4) ** 2 * reads * FRAME_TIME_S["SUB160"]
    tracks = len({*zip(hits.frame.tolist(), np.round(hits.electrons, 3).tolist(), strict=True)})
    assert tracks == pytest.approx(expected, abs=5 * np.sqrt(expected) + 0.06 * expected)


def test_snowballs_add_saturated_cores_and_halos_to_the_ramps_and_their_charge_to_the_truth(
    frame: PlannedExposure, maps: DetectorMaps, tmp_path: Path
) -> None:
    settings = with_changes(snowballs_per_s=100)
    ramp, truth = simulate_ramp(frame, uniform_sky(frame), settings)
    write_exposure_truth(truth, tmp_path / "truth.fits")
    with fits.open(tmp_path / "truth.fits") as hdus:
        np.testing.assert_array_equal(hdus["SNOWBALLS"].data, truth.snowballs_e)
        assert hdus["SNOWBALLS"].header["BUNIT"] == "electron"
    without, truth_without = simulate_ramp(frame, uniform_sky(frame), QUIET)
    charge, good = truth.snowballs_e, maps.dq == 0
    assert truth_without.snowballs_e is None
    np.testing.assert_array_equal(ramp[:, charge == 0], without[:, charge == 0])
    # An event in the middle of the last group's reads shows in part of them.
    hits = draw_snowballs(frame, settings, maps)
    good.reshape(-1)[hits.pixel[hits.frame > frame_numbers(settings)[-1, 0]]] = False
    core = good & (charge > 2e5)
    assert core.sum() > 20
    assert np.all(ramp[-1, core] > maps.saturation[core])
    halo = good & (charge > 100) & (charge < 1000)
    assert halo.sum() > 100
    added = (linearise(ramp[-1] - maps.superbias, maps) - linearise(without[-1] - maps.superbias, maps)) * maps.gain
    np.testing.assert_allclose(added[halo], charge[halo], atol=5)
    assert np.sum(good & (charge > 0) & (charge < 100)) > 100


def test_snowballs_arrive_at_the_stated_rate(frame: PlannedExposure, maps: DetectorMaps) -> None:
    settings = with_changes(snowballs_per_s=100, readout_pattern="MEDIUM8", groups=20)
    reads = int(frame_numbers(settings)[-1, -1])
    expected = 100 * (160 / 2048) ** 2 * reads * FRAME_TIME_S["SUB160"]
    with_any = reads * (1 - np.exp(-expected / reads))
    found = np.unique(draw_snowballs(frame, settings, maps).frame).size
    assert found == pytest.approx(with_any, abs=3 * np.sqrt(with_any))


def test_snowballs_are_refused_without_ramps() -> None:
    with pytest.raises(ValueError, match=r"snowballs_per_s needs simulation\.level uncal"):
        with_changes(snowballs_per_s=1, level="cal")


def test_flicker_noise_makes_stripes_along_the_rows_that_average_to_nothing(frame: PlannedExposure) -> None:
    noise = draw_flicker(frame, with_changes(flicker_noise=True, readout_pattern="RAPID"))
    rows, columns = noise.mean(axis=2), noise.mean(axis=1)
    assert np.std(rows) > 3 * np.std(columns)
    assert 0.5 < np.std(rows) < 3.0
    np.testing.assert_allclose(noise.mean(axis=(1, 2)), 0, atol=1e-4)


def test_flicker_power_falls_as_one_over_frequency(frame: PlannedExposure) -> None:
    rows = draw_flicker(frame, with_changes(flicker_noise=True, readout_pattern="RAPID", groups=20)).mean(axis=2)
    power = np.mean(np.abs(np.fft.rfft(rows, axis=1)) ** 2, axis=0)
    frequency = np.arange(power.size)
    slope = np.polyfit(np.log(frequency[2:30]), np.log(power[2:30]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.3)


def test_neighbouring_amplifiers_of_a_full_frame_share_stripes() -> None:
    settings = SimulationSettings(subarray="FULL", detectors=("NRCB1",), groups=3, readout_pattern="RAPID")
    noise = draw_flicker(plan_exposures(settings)[0], settings)[0]
    strips = [noise[:, start : start + 512].mean(axis=1) for start in range(0, 2048, 512)]
    assert np.corrcoef(strips)[0, 1] == pytest.approx(0.8, abs=0.15)


def test_equal_settings_give_equal_bytes_and_another_seed_others(frame: PlannedExposure, tmp_path: Path) -> None:
    settings = with_changes(flicker_noise=True, cosmic_rays_per_s_cm2=5)
    digests = []
    for number, each in enumerate((frame, frame, frame.model_copy(update={"seed": 1}))):
        folder = tmp_path / str(number)
        folder.mkdir()
        truth = write_ramp(each, uniform_sky(frame), settings, folder / "x_uncal.fits")
        write_exposure_truth(truth, folder / "x_truth.fits")
        digests.append([sha256((folder / name).read_bytes()).digest() for name in ("x_uncal.fits", "x_truth.fits")])
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[2][0]


def test_headers_say_what_a_pipeline_needs_and_nothing_of_clock_or_host(frame: PlannedExposure, tmp_path: Path) -> None:
    path = tmp_path / f"{frame.name}_uncal.fits"
    write_ramp(frame, uniform_sky(frame), QUIET, path)
    with fits.open(path) as hdus:
        primary, sci = hdus[0].header, hdus["SCI"].header
        assert hdus["SCI"].data.shape == (1, QUIET.groups, 160, 160)
        assert hdus["SCI"].data.dtype.kind == "u"
    expected = {"INSTRUME": "NIRCAM", "DETECTOR": "NRCB1", "SUBARRAY": "SUB160", "EXP_TYPE": "NRC_IMAGE", "NGROUPS": 6}
    assert {name: primary[name] for name in expected} == expected
    assert primary["FILENAME"] == path.name
    assert primary["DATE"].startswith("1970")
    assert primary["DATE-BEG"] == frame.start
    assert primary["TGROUP"] == pytest.approx(5 * FRAME_TIME_S["SUB160"])
    assert (sci["RA_REF"], sci["BUNIT"]) == (pytest.approx(frame.ra, abs=0.1), "DN")
    assert str(tmp_path).encode() not in path.read_bytes()


def test_a_sky_of_the_wrong_shape_is_refused(frame: PlannedExposure) -> None:
    with pytest.raises(ValueError, match="NRCB1_SUB160"):
        simulate_ramp(frame, np.zeros((3, 3), dtype=np.float32), QUIET)


def test_groups_are_timed_by_the_mean_of_their_reads() -> None:
    times = group_mid_times(with_changes(readout_pattern="SHALLOW4"))
    assert times[0] == pytest.approx(2.5 * FRAME_TIME_S["SUB160"])
    assert np.diff(times) == pytest.approx(5 * FRAME_TIME_S["SUB160"])


def test_detectors_have_bad_pixels_and_reference_pixels_that_the_pipeline_may_use(maps: DetectorMaps) -> None:
    flags = dqflags.pixel
    reference = maps.is_reference
    assert reference[:4].all()
    assert reference[:, :4].all()
    assert not np.any(maps.dq[reference] & flags["DO_NOT_USE"])
    bad = (maps.dq & flags["DO_NOT_USE"]) > 0
    assert 5e-4 < bad.mean() < 0.05
