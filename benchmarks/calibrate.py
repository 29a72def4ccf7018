"""Cost and agreement of Stages 1 and 2 beside the jwst package's pipelines, in one run.

    python benchmarks/calibrate.py --json calibrate.json --exposures 6 10 sub640

Ramps are simulated once and kept under ``--work``: full frames of 6 and 10 groups, and a subarray. Reference files
are expanded, since those of CRDS are not compressed. Each engine calibrates one ramp in a process of its own; the
third time is measured, from the ``_uncal`` file to the written ``_cal`` file. The jwst package's pipelines write the
``_rate`` file too; ours keep it in memory, as the main job does, and write it the first time only, for the
comparison. The efficiency of two cores is the shortest of several times alone over the shortest of two at once, the
time in which other work had the core left out. A JSON file that exists is added to.
"""

import argparse
import gc
import gzip
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
ROUNDS = 6
GZIP_MAGIC = b"\x1f\x8b"


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
    for path in (folder / "crds").rglob("*.fits"):
        content = path.read_bytes()
        if content.startswith(GZIP_MAGIC):
            path.write_bytes(gzip.decompress(content))
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
    from cosmosaic.calibrate.stages import calibrate_ramp

    calibrate_ramp(ramp, None, settings, DETECTOR, folder)


ENGINES: dict[str, Callable[[Path, Path, bool], None]] = {
    "jwst_flicker": lambda ramp, folder, _: with_jwst(ramp, folder, flicker=True),
    "jwst": lambda ramp, folder, _: with_jwst(ramp, folder, flicker=False),
    "ours_jwst": lambda ramp, folder, rate: with_ours(
        ramp, folder, ExposureSettings(engine="jwst", publish_rates=rate)
    ),
    "ours_fused": lambda ramp, folder, rate: with_ours(
        ramp, folder, ExposureSettings(engine="fused", publish_rates=rate)
    ),
}
"""By name: functions of a ramp, the folder of its results, and whether the count rate is written."""


def serve(engine: str, ramp: Path, folder: Path) -> None:
    """Calibrate one ramp, then again for each line of the standard input; print the cost of each time.

    Ours in a process that treats memory and garbage as the main job's children do.
    """
    keep = engine.startswith("ours")
    if keep:
        keep_freed_memory()
    for write_rate in (True, False):
        ENGINES[engine](ramp, folder, write_rate)
        return_freed_memory()
    print(flush=True)
    for _ in sys.stdin:
        if keep:
            gc.freeze()
        reset_peak_memory()
        before, start, waited = resource.getrusage(resource.RUSAGE_SELF), time.monotonic(), waited_s()
        ENGINES[engine](ramp, folder, False)
        if keep:
            return_freed_memory()
        wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF)
        system = after.ru_stime - before.ru_stime
        cost = {"cpu_s": after.ru_utime - before.ru_utime + system, "system_s": system, "wall_s": wall}
        print(json.dumps(cost | {"peak_mb": peak_memory_mb(), "waited_s": waited_s() - waited}), flush=True)


def waited_s() -> float:
    """Return the time that this process was ready and had no core: other work on the machine took it."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


class Server:
    """A process that calibrates one ramp again and again."""

    def __init__(self, engine: str, ramp: Path, output: Path) -> None:
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
        command = [sys.executable, __file__, "--serve", engine, str(ramp), str(output)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)
        self.read()

    def read(self) -> str:
        """Wait for a line."""
        while line := self.process.stdout.readline():
            if not line.strip() or line.startswith("{"):
                return line
        raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}")

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def costs_at_once(servers: list[Server]) -> list[dict[str, float]]:
    """Let servers calibrate at the same time."""
    for server in servers:
        server.process.stdin.write("\n")
        server.process.stdin.flush()
    return [json.loads(server.read()) for server in servers]


def cost_of(engine: str, ramp: Path) -> dict[str, float]:
    """Return the cost of one engine in a process of its own."""
    server = Server(engine, ramp, ramp.parents[1] / engine)
    (cost,) = costs_at_once([server])
    server.close()
    return cost


def are_equal(folder: Path) -> dict[str, Any]:
    """Compare what both of our engines made: count rates to the bit, and the largest difference of the cal's SCI."""
    from jwst import datamodels

    from cosmosaic.calibrate.verification import compare_planes

    differences = {}
    for level in ("rate", "cal"):
        paths = [next((folder / engine).glob(f"*_{level}.fits")) for engine in ("ours_fused", "ours_jwst")]
        with datamodels.open(paths[0]) as ours, datamodels.open(paths[1]) as theirs:
            differences[level] = {plane: rest for plane, *rest in compare_planes(ours, theirs)}
    return {
        "rate": not any(pixels for pixels, _ in differences["rate"].values()),
        "cal_max_abs_mjy_sr": differences["cal"]["SCI"][1],
    }


def efficiency_of_two(ramp: Path) -> float:
    """Return the share of two cores that two calibrations at once put to use."""
    servers = [Server("ours_fused", ramp, ramp.parents[1] / f"side_{number}") for number in range(2)]
    alone, together = [], []
    for _ in range(ROUNDS):
        alone += costs_at_once(servers[:1])
        together.append(max(costs_at_once(servers), key=own_s))
        for costs in (alone, together):
            print({name: round(value, 2) for name, value in costs[-1].items()}, flush=True)
    for server in servers:
        server.close()
    return min(map(own_s, alone)) / min(map(own_s, together))


def own_s(cost: dict[str, float]) -> float:
    """Return the wall time without that in which the process waited for a core: there are as many as processes."""
    return cost["wall_s"] - cost["waited_s"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("calibrate.json"))
    parser.add_argument("--exposures", nargs="*", default=list(SIZES), choices=SIZES)
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--work", type=Path, default=Path("benchmark-calibrate"))
    parser.add_argument("--serve", nargs=3, metavar=("ENGINE", "RAMP", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        engine, ramp, folder = arguments.serve
        serve(engine, Path(ramp), Path(folder))
        return
    report = {"frames": {}} | (json.loads(arguments.json.read_text()) if arguments.json.exists() else {})
    for size in arguments.exposures:
        ramp = simulate(size, arguments.work.resolve())
        for engine in arguments.engines:
            cost = cost_of(engine, ramp)
            report["frames"].setdefault(size, {})[engine] = cost
            print(size, engine, {name: round(value, 2) for name, value in cost.items()}, flush=True)
            arguments.json.write_text(json.dumps(report, indent=1))
        costs = report["frames"][size]
        if size == "6" and {"ours_fused", "ours_jwst"} <= set(costs):
            report["equal"] = are_equal(ramp.parents[1])
            report["efficiency_2_cores"] = efficiency_of_two(ramp)
            print({name: report[name] for name in ("equal", "efficiency_2_cores")}, flush=True)
    arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
