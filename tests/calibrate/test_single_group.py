"""Errors of ramps with few groups are the scatter of their pixels."""

import pytest
from support.single_group import noise_and_error

from cosmosaic.calibrate.references import SIMULATED_CONTEXT
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
