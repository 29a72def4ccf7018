"""Errors of ramps with few groups are the scatter of their pixels."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.single_group import noise_and_error

from cosmosaic.calibrate import stages
from cosmosaic.calibrate.references import SIMULATED_CONTEXT
from cosmosaic.calibrate.single_group import measure_errors
from cosmosaic.processes import workers
from cosmosaic.simulate.references import write_crds_cache
from cosmosaic.survey import SimulationSettings

SKY = SimulationSettings(
    detectors=("NRCBLONG",), subarray="SUB320", groups=3, galaxies_per_arcmin2=0.0, stars_per_arcmin2=0.0
)


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    cache = tmp_path_factory.mktemp("crds")
    write_crds_cache(SKY, cache)
    environment = {"CRDS_PATH": str(cache), "CRDS_CONTEXT": SIMULATED_CONTEXT, "CRDS_READONLY_CACHE": "1"}
    return workers.plan_workers(1, None, 600.0, None, environment)


@pytest.mark.slow
@pytest.mark.parametrize("reset_noise", [0.0, 20.0])
def test_the_error_of_one_group_is_its_scatter(children, reset_noise):
    noise, error = workers.run(children, noise_and_error, 1, reset_noise, SKY).result
    # A scatter of 100,000 pixels is known to 0.4 %; VAR_POISSON follows the noise of each pixel.
    assert error == pytest.approx(noise, rel=0.03)


def test_the_noise_of_the_reset_makes_an_exposure_of_one_group_worse_and_one_of_two_not(children):
    def noise(groups, reset_noise):
        return workers.run(children, noise_and_error, groups, reset_noise, SKY).result

    assert noise(1, 20.0)[1] > 1.5 * noise(1, 0.0)[1]
    assert noise(2, 20.0)[1] == pytest.approx(noise(2, 0.0)[1], rel=0.02)


def rate(read_noise: float, photon_noise: float) -> SimpleNamespace:
    """A count rate of a flat sky whose pixels scatter by 1 DN/s, and what the ramp fit says of its noise."""
    shape, generator = (200, 200), np.random.default_rng(3)
    variances = {
        f"var_{kind}": np.full(shape, noise**2, np.float32)
        for kind, noise in (("rnoise", read_noise), ("poisson", photon_noise))
    }
    return SimpleNamespace(
        data=generator.normal(5.0, 1.0, shape).astype(np.float32),
        err=np.full(shape, np.hypot(read_noise, photon_noise), np.float32),
        dq=np.zeros(shape, np.uint32),
        meta=SimpleNamespace(exposure=SimpleNamespace(ngroups=1)),
        **variances,
    )


def test_without_photon_noise_all_scatter_is_read_noise():
    given = rate(2.0, 0.0)
    # The MAD of 40,000 differences is known to 0.6 %.
    assert measure_errors(given) == pytest.approx(0.5, rel=0.02)
    assert given.err == pytest.approx(np.full(given.err.shape, 1.0), rel=0.02)


@pytest.mark.parametrize("unmeasurable", ["photon noise above the scatter", "no usable pixel"])
def test_errors_that_cannot_be_measured_stay_and_are_told(unmeasurable):
    given = rate(1.0, 3.0 if unmeasurable.startswith("photon") else 0.0)
    if unmeasurable == "no usable pixel":
        given.dq |= 1
    errors = given.err.copy()
    assert stages._errors_of_one_group(given) == {"read_noise_ratio": None, "errors_unmeasured": 1.0}
    assert (given.err == errors).all()


@pytest.mark.parametrize(("groups", "told"), [(1, ["read_noise_ratio", "errors_unmeasured"]), (2, []), (None, [])])
def test_errors_of_several_groups_are_left_alone(groups, told):
    given = rate(2.0, 0.0)
    given.meta.exposure.ngroups = groups
    facts = stages._errors_of_one_group(given)
    assert list(facts) == told
    assert (given.err == 2.0).all() == (not told)
    if told:
        assert facts == {"read_noise_ratio": pytest.approx(0.5, rel=0.02), "errors_unmeasured": 0.0}
