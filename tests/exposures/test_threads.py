"""Exposures are read by several threads at a time."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from astropy.modeling.polynomial import Polynomial2D

from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.survey import simulate_exposure, survey_scene
from cosmosaic.survey import SimulationSettings

SIMULATION = SimulationSettings(
    level="cal", subarray="SUB160", detectors=("NRCB1",), stars_per_arcmin2=0.0, galaxies_per_arcmin2=0.0
)


@pytest.fixture
def threads_alternate_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.slow
@pytest.mark.usefixtures("threads_alternate_often")
def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    frame = plan_exposures(SIMULATION)[0]
    cal = str(simulate_exposure(frame, survey_scene(SIMULATION, [frame]), SIMULATION, tmp_path)[0])
    expected = describe_exposure(cal)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(40):
            # As in a process that has read no exposure yet: a class of astropy's learns names from its instances.
            Polynomial2D._parameters_.clear()
            assert all(found == expected for found in pool.map(describe_exposure, [cal] * 8))
