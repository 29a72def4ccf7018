"""A calibrated exposure is that of the jwst package's own pipelines, to the bit, and so is its header."""

import pytest
from support.calibrated_twice import different_cards

from cosmosaic.calibrate.references import SIMULATED_CONTEXT
from cosmosaic.processes import workers
from cosmosaic.simulate.references import write_crds_cache
from cosmosaic.survey import SimulationSettings

SETTINGS = SimulationSettings(detectors=("NRCBLONG",), subarray="SUB160", groups=4)
OURS = {
    "PRIMARY": {"CMSTAGE1", "DATE", "FILENAME"},
    # Without jwst's log, which has the times of the run.
    "ASDF": {"NAXIS1", "TFORM1"},
}
"""Keywords in which the files may differ."""


@pytest.mark.slow
def test_the_header_and_the_pixels_are_those_of_the_jwst_package(tmp_path):
    write_crds_cache(SETTINGS, tmp_path / "crds")
    environment = {"CRDS_PATH": str(tmp_path / "crds"), "CRDS_CONTEXT": SIMULATED_CONTEXT, "CRDS_READONLY_CACHE": "1"}
    plan = workers.plan_workers(1, None, 600.0, None, environment)
    different = workers.run(plan, different_cards, SETTINGS).result
    assert different.keys() >= {"SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"}
    assert {name: set(cards) for name, cards in different.items() if cards} == OURS, different
