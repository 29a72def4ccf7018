"""Cost and agreement of Stages 1 and 2 beside the jwst package's pipelines, in one run.

    python benchmarks/calibrate.py --json calibrate.json --exposures 6 10 sub640

Ramps are simulated once and kept under ``--work``: full frames of 6 and 10 groups, and a subarray. Each engine
calibrates one ramp in a process of its own, twice; the second time is measured, from the ``_uncal`` file to the written
``_rate`` and ``_cal`` files. A JSON file that exists is added to.
"""

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cosmosaic.calibrate.references import SIMULATED_CONTEXT
from cosmosaic.processes.memory import keep_freed_memory, peak_memory_mb, reset_peak_memory, return_freed_memory
from cosmosaic.survey import ExposureSettings, FilterPair, SimulationSettings

SIZES = ("6", "10", "sub640")
DETECTOR = "NRCB1"


def settings_of(size: str) -> SimulationSettings:
    """Return the simulated survey of one ramp."""
    return SimulationSettings(
        subarray="SUB640" if size == "sub640" else "FULL",
        groups=6 if size == "sub640" else int(size),
        detectors=(DETECTOR,),
        dithers_arcsec=((0.4, 0.3),),
        filter_pairs=(FilterPair(short="F150W", long="F277W"),),
    )


def simulate(size: str, work: Path) -> Path:
    """Make one ramp and its reference files; kept for the next time."""
    folder = work / size
    if not list((folder / "raw").glob("*_uncal.fits")):
        from cosmosaic.simulate.survey import simulate_survey

        simulate_survey(settings_of(size), folder)
    (ramp,) = (folder / "raw").glob("*_uncal.fits")
    return ramp


def with_jwst(ramp: Path, folder: Path, *, flicker: bool) -> None:
    """Calibrate with the jwst package's pipelines alone."""
    from jwst.pipeline import Detector1Pipeline, Image2Pipeline

    stage1 = {"clean_flicker_noise": {"skip": not flicker}, "persistence": {"skip": True}}
    rate = Detector1Pipeline.call(str(ramp), steps=stage1, save_results=True, output_dir=str(folder))
    Image2Pipeline.call(rate, steps={"resample": {"skip": True}}, save_results=True, output_dir=str(folder))


def with_ours(ramp: Path, folder: Path, settings: ExposureSettings) -> None:
    """Calibrate as the main job does."""
    from cosmosaic.calibrate.stages import calibrate_ramp, calibrate_rate

    rate = calibrate_ramp(ramp, None, settings, DETECTOR, folder).files["rate"]
    calibrate_rate(rate, settings.flicker_noise, folder)


ENGINES: dict[str, Callable[[Path, Path], None]] = {
    "jwst_flicker": lambda ramp, folder: with_jwst(ramp, folder, flicker=True),
    "jwst": lambda ramp, folder: with_jwst(ramp, folder, flicker=False),
    "ours_jwst": lambda ramp, folder: with_ours(ramp, folder, ExposureSettings(engine="jwst")),
    "ours_fused": lambda ramp, folder: with_ours(ramp, folder, ExposureSettings(engine="fused")),
}


def calibrate_twice(engine: str, ramp: Path, folder: Path) -> dict[str, float]:
    """Calibrate one ramp two times in this process; return the cost of the second.

    Ours in a process that treats memory and garbage as the main job's children do.
    """
    keep = engine.startswith("ours")
    if keep:
        keep_freed_memory()
    ENGINES[engine](ramp, folder)
    return_freed_memory()
    if keep:
        gc.freeze()
    reset_peak_memory()
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    ENGINES[engine](ramp, folder)
    if keep:
        return_freed_memory()
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF)
    system = after.ru_stime - before.ru_stime
    return {
        "cpu_s": after.ru_utime - before.ru_utime + system,
        "system_s": system,
        "wall_s": wall,
        "peak_mb": peak_memory_mb(),
    }


def start(engine: str, ramp: Path, output: Path) -> subprocess.Popen[str]:
    """Start the measurement of one engine in a process of its own."""
    output.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "CRDS_PATH": str(ramp.parents[1] / "crds"),
        "CRDS_CONTEXT": SIMULATED_CONTEXT,
        "CRDS_READONLY_CACHE": "1",
        "STPIPE_DISABLE_CRDS_STEPPARS": "true",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, __file__, "--one", engine, str(ramp), str(output)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)


def cost_of(process: subprocess.Popen[str]) -> dict[str, float]:
    """Wait for a measurement."""
    stdout, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}")
    return json.loads(stdout.splitlines()[-1])


def are_equal(folder: Path) -> dict[str, Any]:
    """Compare what both of our engines made: count rates to the bit, and the largest difference of the cal's SCI."""
    from cosmosaic.calibrate.verification import compare_planes

    pairs = {}
    for level in ("rate", "cal"):
        pairs[level] = [next((folder / engine).glob(f"*_{level}.fits")) for engine in ("ours_fused", "ours_jwst")]
    differences = {level: {plane: rest for plane, *rest in compare_planes(*pair)} for level, pair in pairs.items()}
    return {
        "rate": not any(pixels for pixels, _ in differences["rate"].values()),
        "cal_max_abs_mjy_sr": differences["cal"]["SCI"][1],
    }


def efficiency_of_two(ramp: Path, single_wall_s: float) -> float:
    """Return the share of two cores that two calibrations at once put to use."""
    started = [start("ours_fused", ramp, ramp.parents[1] / f"side_{number}") for number in range(2)]
    return single_wall_s / max(cost_of(process)["wall_s"] for process in started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("calibrate.json"))
    parser.add_argument("--exposures", nargs="*", default=list(SIZES), choices=SIZES)
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--work", type=Path, default=Path("benchmark-calibrate"))
    parser.add_argument("--one", nargs=3, metavar=("ENGINE", "RAMP", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        engine, ramp, folder = arguments.one
        print(json.dumps(calibrate_twice(engine, Path(ramp), Path(folder))))
        return
    report = {"frames": {}} | (json.loads(arguments.json.read_text()) if arguments.json.exists() else {})
    for size in arguments.exposures:
        ramp = simulate(size, arguments.work.resolve())
        for engine in arguments.engines:
            cost = cost_of(start(engine, ramp, ramp.parents[1] / engine))
            report["frames"].setdefault(size, {})[engine] = cost
            print(size, engine, {name: round(value, 2) for name, value in cost.items()}, flush=True)
            arguments.json.write_text(json.dumps(report, indent=1))
        costs = report["frames"][size]
        if size == "6" and {"ours_fused", "ours_jwst"} <= set(costs):
            report["equal"] = are_equal(ramp.parents[1])
            report["efficiency_2_cores"] = efficiency_of_two(ramp, costs["ours_fused"]["wall_s"])
            print({name: report[name] for name in ("equal", "efficiency_2_cores")}, flush=True)
    arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
