"""One bad exposure among good ones costs only itself: it is refused, or its products are sound.

`benchmarks/damage.py` tries many more seeds.
"""

from pathlib import Path

import pytest
from support.damage import damaged
from support.one_bad_frame import BAD, KINDS, check, run, simulated_exposures
from support.whole_run import Produced

SEEDS = range(8)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return simulated_exposures(tmp_path_factory.mktemp("frames"))


@pytest.fixture(scope="module")
def good(frames: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Produced:
    made = run(frames, tmp_path_factory.mktemp("good"), None)
    assert len(made.members) == 3
    return made


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_exposure_costs_only_itself(frames: list[Path], good: Produced, tmp_path: Path, seed: int) -> None:
    check(run(frames, tmp_path, damaged(frames[BAD], seed, KINDS)), good, frames[BAD].name)
