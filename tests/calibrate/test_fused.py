"""The compiled functions of Stage 1 give what the installed jwst package gives, in every plane, to the bit."""

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from support.hard_ramps import FULL, SIDE, HardRamp, calibrate_constant, differences_between_engines

from cosmosaic.calibrate.references import SIMULATED_CONTEXT
from cosmosaic.processes import workers
from cosmosaic.simulate.references import write_crds_cache
from cosmosaic.survey import SimulationSettings

SMALL = SimulationSettings(detectors=("NRCB1",), subarray="SUB160", groups=3)
RAMPS = st.builds(
    HardRamp,
    seed=st.integers(0, 2**32 - 1),
    groups=st.integers(1, 20),
    nframes=st.sampled_from([1, 2, 4, 8]),
    groupgap=st.integers(0, 3),
    start=st.sampled_from([(0, 0), (700, 900), (FULL - SIDE, FULL - SIDE), (0, 1000), (1000, 0)]),
    fastaxis=st.sampled_from([-1, 1]),
    slowaxis=st.sampled_from([-2, 2]),
    zeroframe=st.booleans(),
    inverse=st.booleans(),
    ipc=st.sampled_from([0, 2, 4]),
    dark=st.sampled_from(["same", "frames", "short", "short frames", "unfit"]),
    mean_dark=st.sampled_from(["none", "scalar", "image"]),
    missing=st.lists(
        st.sampled_from(["mask", "saturation", "superbias", "linearity", "dark"]), max_size=2, unique=True
    ).map(tuple),
    rejection_sigma=st.sampled_from([3.0, 4.0, 12.0]),
    saturated=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    zeros=st.sampled_from([0.0, 0.002, 0.05]),
    jumps=st.sampled_from([0.0, 0.05, 0.99]),
    dropped=st.integers(-1, 6),
    snowballs=st.integers(0, 6),
).filter(lambda ramp: ramp.groups > 1 or not ramp.inverse)


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    cache = tmp_path_factory.mktemp("crds")
    write_crds_cache(SMALL, cache)
    environment = {"CRDS_PATH": str(cache), "CRDS_CONTEXT": SIMULATED_CONTEXT, "CRDS_READONLY_CACHE": "1"}
    return workers.plan_workers(1, None, 600.0, None, environment)


@pytest.mark.slow
@settings(
    max_examples=5,
    deadline=None,
    # An example takes seconds, and the first that fails is hard to make smaller.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(RAMPS)
@example(HardRamp(groups=1, nframes=2, zeroframe=True))
@example(HardRamp(groups=2, zeroframe=True, inverse=True, ipc=4, dark="frames"))
@example(HardRamp(groups=12, zeroframe=True, inverse=True, mean_dark="scalar", dark="short frames", ipc=2))
@example(HardRamp(groups=7, saturated=0.0, jumps=0.0, snowballs=6))
def test_hard_ramps_equal_those_of_the_jwst_package(children, tmp_path, ramp):
    assert workers.run(children, differences_between_engines, ramp, tmp_path / "ramp").result == []


@pytest.mark.slow
@pytest.mark.parametrize(("fastaxis", "slowaxis"), [(-1, 2), (1, -2)])
def test_full_frames_with_their_reference_pixels_equal_those_of_the_jwst_package(
    children, tmp_path, fastaxis, slowaxis
):
    ramp = HardRamp(groups=3, side=FULL, fastaxis=fastaxis, slowaxis=slowaxis, zeroframe=True, ipc=2)
    assert workers.run(children, differences_between_engines, ramp, tmp_path / "ramp").result == []


@pytest.mark.parametrize("engine", ["fused", "jwst"])
@pytest.mark.parametrize(("counts_dn", "reason"), [(65535, "all pixels are saturated"), (0, "no pixel has a value")])
def test_ramps_without_a_usable_pixel_are_refused_by_name(children, tmp_path, engine, counts_dn, reason):
    told = workers.run(children, calibrate_constant, counts_dn, engine, SMALL, tmp_path).result
    assert reason in told
    assert told.startswith("jw01727001001_02101_00001_nrcb1_uncal.fits")
    assert "exclude" in told
