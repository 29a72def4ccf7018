"""Cost and agreement of the mosaic engine beside the jwst package's steps and SWarp, in one run.

    python benchmarks/mosaic.py --json mosaic.json --exposures 4 16 64 lw

``jwst_interpolated`` is the jwst package with interpolated pixel maps (`INTERPOLATED`), its faster way. Exposures are
simulated once, full-frame and calibrated, and kept under ``--work``; that, and the compilation of the
kernel (once per machine), is not measured. Reading and writing is, for all; ``coadd`` is our engine without search
for outliers and without errors, as SWarp does it. The exposures lie at constant depth over
a growing area: 4 dithers of one detector, of four detectors, and of four detectors at four pointings; ``lw`` is 4
dithers of both long-wavelength detectors. The jwst package is left out above ``--jwst-largest`` exposures. A JSON file
that exists is added to.
"""

import argparse
import contextlib
import filecmp
import gc
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from astropy.io import fits

from cosmosaic.mosaic.memory import Resources, fit_memory
from cosmosaic.nircam import FULL_FRAME, LONG_PIXEL_ARCSEC, SHORT_PIXEL_ARCSEC
from cosmosaic.processes.memory import keep_freed_memory, return_freed_memory
from cosmosaic.steps.declaration import Step
from cosmosaic.steps.files import stored_in
from cosmosaic.steps.result import StepResult
from cosmosaic.survey import DrizzleSettings, GridSettings, OutlierSettings, ResourceSettings, Survey

DITHERS = ((-4.1, -3.2), (0.4, 0.3), (3.9, 3.1), (-1.3, 2.2))
SHORT = ("NRCA1", "NRCA2", "NRCA3", "NRCA4")
CENTRE = (150.1163213, 2.200973097)
POINTING_STEP_DEG = 0.038
ENGINES = ("ours", "coadd", "jwst", "jwst_interpolated", "swarp")
INTERPOLATED = {"pixmap_stepsize": 10.0, "pixmap_order": 3}
"""Pixel maps of the jwst package evaluated at every tenth pixel, with cubic splines between: half its cost."""
PROCESSES = 2
MEMORY_GB = 1.9
"""For the workers; the process that waits for them is the rest of 2 GB."""
SAMPLING_S = 0.05
"""Peaks last for a few tenths of a second."""


def settings_of(size: str) -> Any:
    """Return the simulated survey of one size."""
    from cosmosaic.survey import FilterPair, Pointing, SimulationSettings

    detectors = {"4": SHORT[:1], "lw": ("NRCALONG", "NRCBLONG")}.get(size, SHORT)
    steps = [(0, 0), (1, 0), (0, 1), (1, 1)] if size == "64" else [(0, 0)]
    pointings = tuple(
        Pointing(ra=CENTRE[0] + i * POINTING_STEP_DEG, dec=CENTRE[1] + j * POINTING_STEP_DEG) for i, j in steps
    )
    return SimulationSettings(
        level="cal",
        subarray="FULL",
        detectors=detectors,
        dithers_arcsec=DITHERS,
        pointings=pointings,
        filter_pairs=(FilterPair(short="F150W", long="F277W"),),
    )


def simulate(size: str, work: Path) -> Path:
    """Make the exposures of one size and measure their sky; kept for the next time."""
    folder = work / size
    if (folder / "levels.json").exists():
        return folder
    from cosmosaic.drizzle.exposure import read_exposure
    from cosmosaic.simulate.survey import simulate_survey
    from cosmosaic.sky.detector_median import clipped_median

    frames = simulate_survey(settings_of(size), folder)
    exposures = [read_exposure(path) for path in frames]
    levels = {exposure.name: clipped_median(exposure.sci, exposure.dq) for exposure in exposures}
    (folder / "levels.json").write_text(json.dumps(levels))
    return folder


def inputs_of(folder: Path) -> tuple[list[Path], dict[str, float], Any]:
    """Return exposures, sky levels and the grid that all engines fill."""
    from cosmosaic.exposures.footprints import read_footprint
    from cosmosaic.exposures.library import exposure_name
    from cosmosaic.geometry.grid import survey_grid

    frames = sorted((folder / "raw").glob("*_cal.fits"))
    footprints = {exposure_name(frame.name): read_footprint(frame) for frame in frames}
    return frames, json.loads((folder / "levels.json").read_text()), survey_grid(GridSettings(), footprints)


def fitted(folder: Path) -> Resources:
    """Cut the work to fit the memory, as the main job does."""
    scale = LONG_PIXEL_ARCSEC if folder.name == "lw" else SHORT_PIXEL_ARCSEC
    return fit_memory(MEMORY_GB, PROCESSES, FULL_FRAME, 1000.0 * scale / GridSettings().pixel_scale_mas)


@contextlib.contextmanager
def workers(resources: Resources) -> Iterator[Executor]:
    """Start worker processes, which treat memory as those of the main job do."""
    context = get_context("spawn")
    with ProcessPoolExecutor(resources.processes, context, initializer=keep_freed_memory) as executor:
        # They start at once, as those of the main job do, and not with the first unit.
        for _ in range(resources.processes):
            executor.submit(_be_ready)
        yield Returning(executor)


def _be_ready() -> None:
    """Import what every unit needs."""
    from cosmosaic.drizzle import units  # noqa: F401


class Returning(Executor):
    """Returns the memory that a unit freed to the system after each unit."""

    def __init__(self, inner: Executor) -> None:
        self._inner = inner

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Do one unit."""
        return self._inner.submit(_do_and_return_memory, function, *arguments)


def _do_and_return_memory(function: Callable[..., Any], *arguments: Any) -> Any:
    gc.freeze()
    try:
        return function(*arguments)
    finally:
        return_freed_memory()


def run_ours(folder: Path, output: Path) -> None:
    """Make crf files and mosaic with the engine of tiles."""
    resources = fitted(folder)
    with workers(resources) as executor:
        # Not at the top, which the workers import too.
        from cosmosaic.mosaic.alone import make_mosaic

        frames, levels, grid = inputs_of(folder)
        publish(*make_mosaic(frames, levels, grid, survey_of(resources), output, executor), output)


def publish(mosaic: Path, crfs: Mapping[str, Path], folder: Path) -> None:
    """Give the products the names by which other runs find them; nothing is copied."""
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    for source, target in (
        (mosaic, folder / "benchmark_i2d.fits"),
        *((crf, parts / crf.name) for crf in crfs.values()),
    ):
        target.unlink(missing_ok=True)
        target.hardlink_to(source)


def survey_of(resources: Resources, **settings: Any) -> Survey:
    """Return the settings of a mosaic, with jwst's weights."""
    tiles = ResourceSettings(tile_pixels=resources.tile_pixels)
    drizzle = settings.pop("drizzle", DrizzleSettings()).model_copy(update={"weight_type": "ivm"})
    return Survey(name="benchmark", raw="given", resources=tiles, drizzle=drizzle, **settings)


class Remembering(Executor):
    """Runs a step only where its inputs or parameters differ from the last time, as the flow's cache does."""

    def __init__(self, inner: Executor, record: Path) -> None:
        self._inner, self._record = inner, record
        self._known: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {"made": {}, "digests": {}}
        self._running: dict[str, Future[StepResult]] = {}
        self.executed: Counter[str] = Counter()

    def submit(self, function: Callable[..., Any], /, step: Step, folder: Path) -> Future[StepResult]:
        """Do one step, or recall what it made."""
        inputs = {
            name: [self._digest(stored.uri) for stored in stored_in(value)] for name, value in step.inputs.items()
        }
        decisive = f"{step.name} {inputs} {step.parameters}"
        key = hashlib.sha256(decisive.encode()).hexdigest()
        if key in self._known["made"]:
            future: Future[StepResult] = Future()
            future.set_result(StepResult.model_validate_json(self._known["made"][key]))
            return future
        self.executed[step.name] += 1
        self._running[key] = self._inner.submit(function, step, folder)
        return self._running[key]

    def close(self) -> None:
        """Write down what was done."""
        self._known["made"] |= {key: future.result().model_dump_json() for key, future in self._running.items()}
        self._record.write_text(json.dumps(self._known))

    def _digest(self, path: str) -> str:
        facts = Path(path).stat()
        stamp = [facts.st_mtime_ns, facts.st_size]
        digests = self._known["digests"]
        if digests.get(path, [[], ""])[0] != stamp:
            with Path(path).open("rb") as file:
                digests[path] = [stamp, hashlib.file_digest(file, "sha256").hexdigest()]
        return str(digests[path][1])


def _remembered(folder: Path, left_out: int) -> None:
    output = folder / "incremental"
    output.mkdir(exist_ok=True)
    resources = fitted(folder)
    with workers(resources) as pool:
        from cosmosaic.mosaic.alone import make_mosaic

        frames, levels, grid = inputs_of(folder)
        executor = Remembering(pool, output / "record.json")
        chosen = frames[: len(frames) - left_out]
        made = make_mosaic(chosen, levels, grid, survey_of(resources), output / f"{len(chosen)}", executor)
        publish(*made, output)
        executor.close()
    print("units executed:", dict(executor.executed))


def run_base(folder: Path, output: Path) -> None:
    """Make the mosaic of all exposures but the last, and remember its units."""
    shutil.rmtree(folder / "incremental", ignore_errors=True)
    _remembered(folder, left_out=1)


def run_added(folder: Path, output: Path) -> None:
    """Add the last exposure."""
    _remembered(folder, left_out=0)


def run_coadd(folder: Path, output: Path) -> None:
    """Make the mosaic alone, science and weight, without a search for outliers."""
    resources = fitted(folder)
    survey = survey_of(resources, outliers=OutlierSettings(enabled=False), drizzle=DrizzleSettings(errors="none"))
    with workers(resources) as executor:
        from cosmosaic.mosaic.alone import make_mosaic

        frames, levels, grid = inputs_of(folder)
        make_mosaic(frames, levels, grid, survey, output, executor)


def run_jwst(folder: Path, output: Path, **pixel_maps: Any) -> None:
    """Make crf files and mosaic with the steps of the jwst package, in memory as is its default."""
    from jwst.datamodels import ModelLibrary
    from jwst.outlier_detection import OutlierDetectionStep
    from jwst.resample import ResampleStep

    from cosmosaic.exposures.library import exposure_name
    from cosmosaic.geometry.grid import resample_parameters

    frames, levels, grid = inputs_of(folder)
    members = [{"expname": str(frame), "exptype": "science"} for frame in frames]
    association = {"asn_id": "a3001", "asn_pool": "none", "asn_type": "image3"}
    association["products"] = [{"name": "benchmark", "members": members}]
    table = output / "benchmark_asn.json"
    table.write_text(json.dumps(association))
    library = ModelLibrary(str(table), on_disk=False)
    with library:
        for model in library:
            level = levels[exposure_name(model.meta.filename)]
            model.data -= level
            model.meta.background.level, model.meta.background.subtracted = level, True
            library.shelve(model)
    library = OutlierDetectionStep.call(library, in_memory=True, **pixel_maps)
    with library:
        for model in library:
            model.save(str(output / f"{exposure_name(model.meta.filename)}_crf.fits"))
            library.shelve(model, modify=False)
    mosaic = ResampleStep.call(library, fillval="NAN", **pixel_maps, **resample_parameters(grid))
    mosaic.save(str(output / "benchmark_i2d.fits"))


def run_reference(folder: Path, output: Path) -> None:
    """Drizzle the engine's own crf files with jwst's resample step, to compare the pixels."""
    from jwst.resample import ResampleStep

    from cosmosaic.exposures.library import open_exposures
    from cosmosaic.geometry.grid import resample_parameters

    grid = inputs_of(folder)[2]
    crf = sorted((output.parent / "ours" / "parts").glob("*_crf.fits"))
    mosaic = ResampleStep.call(open_exposures(crf, output), fillval="NAN", **resample_parameters(grid))
    mosaic.save(str(output / "benchmark_i2d.fits"))


def run_swarp(folder: Path, output: Path) -> None:
    """Co-add science and weight with SWarp; the distortion, which it does not know, is left out of the headers."""
    frames, levels, grid = inputs_of(folder)
    names = []
    for frame in frames:
        with fits.open(frame) as hdus:
            header = hdus["SCI"].header.copy()
            science = hdus["SCI"].data - levels[frame.name.removesuffix("_cal.fits")]
            weight = np.nan_to_num(1.0 / hdus["VAR_RNOISE"].data)
        for keyword in list(header):
            if keyword.startswith(("A_", "B_", "AP_", "BP_")):
                del header[keyword]
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
        fits.writeto(output / frame.name, np.nan_to_num(science).astype(np.float32), header)
        fits.writeto(output / frame.name.replace(".fits", ".weight.fits"), weight.astype(np.float32), header)
        names.append(frame.name)
    rows, columns = grid.shape
    middle = (columns / 2 - 0.5, rows / 2 - 0.5)
    from cosmosaic.geometry.grid import pixel_to_sky

    ra, dec = pixel_to_sky(grid, [middle])[0]
    options = {
        "CENTER_TYPE": "MANUAL",
        "CENTER": f"{ra:.9f},{dec:.9f}",
        "PIXELSCALE_TYPE": "MANUAL",
        "PIXEL_SCALE": str(grid.pixel_scale_mas / 1000),
        "IMAGE_SIZE": f"{columns},{rows}",
        "WEIGHT_TYPE": "MAP_WEIGHT",
        "COMBINE_TYPE": "WEIGHTED",
        "RESAMPLING_TYPE": "LANCZOS3",
        "SUBTRACT_BACK": "N",
        "NTHREADS": str(PROCESSES),
        "VERBOSE_TYPE": "QUIET",
    }
    flags = [word for key, value in options.items() for word in (f"-{key}", value)]
    subprocess.run(["SWarp", *names, *flags], cwd=output, check=True)


RUNS = {
    "ours": run_ours,
    "coadd": run_coadd,
    "jwst": run_jwst,
    "jwst_interpolated": partial(run_jwst, **INTERPOLATED),
    "reference": run_reference,
    "swarp": run_swarp,
    "base": run_base,
    "added": run_added,
}


def measure(what: str, size: str, work: Path) -> dict[str, float]:
    """Run one engine in a process of its own and measure the whole process tree."""
    output = work / size / what
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    crds = work / size / "crds"
    context = next(crds.glob("mappings/jwst/*.pmap")).name
    environment = os.environ | {"CRDS_PATH": str(crds), "CRDS_CONTEXT": context, "OMP_NUM_THREADS": "1"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    arguments = [sys.executable, __file__, "--run", what, "--size", size, "--work", str(work)]
    with (output.parent / f"{what}.log").open("w") as log:
        process = subprocess.Popen(arguments, env=environment, stdout=log, stderr=log)
        peaks = [0.0]
        watch = threading.Thread(target=_watch, args=(process.pid, peaks))
        watch.start()
        status = process.wait()
    wall = time.perf_counter() - start
    watch.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if status:
        raise RuntimeError(
            f"{what} on {size} exposures ended with status {status}; see {output.parent / f'{what}.log'}"
        )
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # The machine's load, by which to judge the wall time.
    load = round(os.getloadavg()[0], 1)
    return {"cpu_s": round(cpu, 2), "wall_s": round(wall, 2), "peak_rss_mb": round(peaks[0], 1), "load": load}


def _watch(pid: int, peaks: list[float]) -> None:
    """Sum the resident memory of a process and its descendants until it ends."""
    while True:
        try:
            parent = psutil.Process(pid)
            if parent.status() == psutil.STATUS_ZOMBIE:
                return
            family = [parent, *parent.children(recursive=True)]
            total = sum(member.memory_info().rss for member in family if member.is_running())
            peaks[0] = max(peaks[0], total / 1e6)
        except psutil.NoSuchProcess:
            if not psutil.pid_exists(pid):
                return
        time.sleep(SAMPLING_S)


def agreement(size: str, work: Path) -> dict[str, float | bool]:
    """Compare the engine's mosaic with jwst's resample step on identical exposures and flags."""
    ours, theirs = (work / size / what / "benchmark_i2d.fits" for what in ("ours", "reference"))
    with fits.open(ours) as a, fits.open(theirs) as b:
        covered = b["WHT"].data > 0
        error = b["ERR"].data[covered]
        science = np.abs(a["SCI"].data[covered] - b["SCI"].data[covered]) / error
        relative = {name: np.abs(a[name].data[covered] / b[name].data[covered] - 1.0) for name in ("WHT", "ERR")}
        return {
            "sci_over_err": float(np.nanpercentile(science, 99.99)),
            "wht_rel": float(np.nanpercentile(relative["WHT"], 99.99)),
            "err_rel": float(np.nanpercentile(relative["ERR"], 99.99)),
            "nan_equal": bool(np.array_equal(np.isnan(a["SCI"].data), np.isnan(b["SCI"].data))),
        }


def incremental(size: str, full: dict[str, float], work: Path) -> dict[str, float | bool]:
    """Add one exposure to all others, and compare with the build of all at once."""
    for folder in (work / size / "ours").iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    measure("base", size, work)
    added = measure("added", size, work)
    same = filecmp.cmp(work / size / "incremental/benchmark_i2d.fits", work / size / "ours/benchmark_i2d.fits", False)
    return {"share": round(added["cpu_s"] / full["cpu_s"], 4), "identical": same}


def number_of_frames(size: str) -> int:
    """Return the number of exposures of one size."""
    return 8 if size == "lw" else int(size)


def benchmark(sizes: list[str], chosen: list[str], work: Path, jwst_largest: int, target: Path) -> dict[str, Any]:
    """Measure engines on all sizes; the JSON is written anew after each, and what it holds of others stays."""
    result: dict[str, Any] = {engine: {} for engine in ENGINES}
    if target.exists():
        result |= json.loads(target.read_text())
    for size in sizes:
        simulate(size, work)
        if size == sizes[0]:
            measure("ours", size, work)  # compiles the kernels
        for engine in chosen:
            if engine.startswith("jwst") and number_of_frames(size) > jwst_largest:
                continue
            result[engine][size] = measure(engine, size, work)
            print(size, engine, result[engine][size], flush=True)
            target.write_text(json.dumps(result, indent=1))
            if engine != "ours":
                shutil.rmtree(work / size / engine)
    counted = [size for size in sizes if size.isdigit()]
    if "4" in counted:
        measure("reference", "4", work)
        result["agreement"] = agreement("4", work)
    if counted:
        largest = max(counted, key=int)
        result["incremental"] = {"exposures": largest} | incremental(largest, result["ours"][largest], work)
    result["growth"] = {engine: _growth(result[engine]) for engine in ("ours", "jwst", "jwst_interpolated")}
    target.write_text(json.dumps(result, indent=1))
    return result


def _growth(costs: dict[str, dict[str, float]]) -> float | None:
    """CPU per exposure of the largest set over that of the smallest."""
    counted = sorted((int(size), cost["cpu_s"]) for size, cost in costs.items() if size.isdigit())
    if len(counted) < 2:
        return None
    (few, low), (many, high) = counted[0], counted[-1]
    return round(high / many / (low / few), 3)


LABELS = {
    "ours": ("cosmosaic: outliers and drizzle", "#1f5fbf", "o-"),
    "jwst": ("jwst: outliers and drizzle", "#c2410c", "s--"),
    "jwst_interpolated": ("jwst: with interpolated pixel maps", "#eab308", "s-."),
    "coadd": ("cosmosaic: co-add alone", "#5aa0e0", "o:"),
    "swarp": ("SWarp: co-add alone", "#6b7280", "^:"),
}


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw CPU seconds and peak memory against the number of exposures."""
    # Not at the top, which the processes that are measured import too.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    axes = figure.subplots(1, 2)
    for engine, (label, colour, style) in LABELS.items():
        counted = sorted((int(size), cost) for size, cost in result[engine].items() if size.isdigit())
        frames = [number for number, _ in counted]
        for panel, what in zip(axes, ("cpu_s", "peak_rss_mb"), strict=True):
            panel.plot(frames, [cost[what] for _, cost in counted], style, color=colour, label=label)
    for panel, title in zip(axes, ("CPU seconds", "peak memory of all processes [MB]"), strict=True):
        panel.set(xscale="log", xlabel="full frames of 2048 x 2048 pixels", title=title, ylim=(0, None))
        panel.set_xticks([4, 16, 64], ["4", "16", "64"])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    axes[0].set(yscale="log", ylim=(3, 600))
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the benchmark, or one engine of it in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("mosaic.json"))
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--plot", type=Path, help="draw cost and memory against exposures (PNG)")
    parser.add_argument("--exposures", nargs="*", default=["4", "16", "64", "lw"], choices=["4", "16", "64", "lw"])
    parser.add_argument("--work", type=Path, default=Path("benchmark-mosaic"))
    parser.add_argument("--jwst-largest", type=int, default=16)
    parser.add_argument("--run", choices=list(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--size", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    if arguments.run:
        RUNS[arguments.run](work / arguments.size, work / arguments.size / arguments.run)
        return
    if arguments.exposures:
        benchmark(arguments.exposures, arguments.engines, work, arguments.jwst_largest, arguments.json)
    result = json.loads(arguments.json.read_text())
    print(json.dumps(result, indent=1))
    if arguments.plot:
        plot(result, arguments.plot)


if __name__ == "__main__":
    main()
