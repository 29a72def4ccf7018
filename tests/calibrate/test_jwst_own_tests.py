"""The jwst package's own tests of Stage 1 pass with the compiled functions in place of the package's."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jwst
import pytest

from cosmosaic.calibrate.references import SIMULATED_CONTEXT
from cosmosaic.simulate.references import write_crds_cache
from cosmosaic.survey import SimulationSettings

TESTS = Path(__file__).parents[1]
STEPS = ("jump", "saturation", "linearity", "ramp_fitting", "refpix")
OTHERS = ("irs2", "nrs", "nirspec", "miri", "fgs", "sirs", "stripe")
"""Parts of names of tests for other instruments and modes, which the compiled functions leave to jwst."""
FEWEST = {
    "test_jump_step.py": 20,
    "test_saturation.py": 9,
    "test_linearity.py": 5,
    "test_ramp_fit.py": 24,
    "test_ramp_fit_step.py": 5,
    "test_refpix.py": 13,
}
"""Tests in which the compiled functions were called; some of those of jumps depend on the number of cores."""


@pytest.mark.slow
def test_the_package_s_own_tests_pass_with_the_compiled_functions(tmp_path):
    cache = tmp_path / "crds"
    write_crds_cache(SimulationSettings(detectors=("NRCB1",), subarray="SUB160", groups=3), cache)
    written = tmp_path / "called.json"
    folders = [str(Path(jwst.__file__).parent / step / "tests") for step in STEPS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "support.kernels_for_jwst", f"--kernels={written}"]
    command += [f"--rootdir={tmp_path}", "-c", os.devnull, "-p", "no:cacheprovider", "--import-mode=importlib"]
    command += ["-k", " and ".join(f"not {name}" for name in OTHERS), *folders]
    offline = {
        "CRDS_PATH": str(cache),
        "CRDS_CONTEXT": SIMULATED_CONTEXT,
        "CRDS_READONLY_CACHE": "1",
        "STPIPE_DISABLE_CRDS_STEPPARS": "true",
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
    }
    run = subprocess.run(command, env=os.environ | offline, cwd=tmp_path, text=True, capture_output=True, check=False)
    called = json.loads(written.read_text())
    assert called["failed"] == [], run.stdout
    passed = Counter(Path(name.split("::")[0]).name for name in called["passed"])
    few = {name: passed[name] for name, fewest in FEWEST.items() if passed[name] < fewest}
    assert not few, f"{few}: {called}\n{run.stdout}"
