"""How cost grows with the number of exposures.

    python benchmarks/scale.py --json scale.json

``real``: the flow on tiny calibrated exposures in two filters, from its start to its end, with its embedded server and
two child processes; then again, when all is cached, less what a run of 16 exposures takes that are cached
(``cached_s``); then with one exposure more, where one mosaic is made of the whole survey (``added_whole``), and where
its tiles are named (``added``). ``exponents`` are those of each cost between the two largest surveys. ``solver``:
levels with their errors of synthetic exposures of one filter, four dithers of each place; ``planes``: one search for
their planes; ``plan``: which exposures reach which tiles. ``stubbed``: the flow on full-frame ramps of COSMOS-Web's
field, in four filters, with steps that make only records of files: what is left is the cost of starting and recording
them. ``dask``: wall seconds of one survey on this machine's runner and on clusters of 2 and 4 workers that lose one and
get one, and whether their products are equal. Each size runs in a process of its own; CPU seconds include the
compilation or loading of kernels. ``peak_mb`` is the memory of the whole process.
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scale_dask import measure_dask
from scale_runs import add_exposure, make_exposures, name_tiles, run
from scale_stubbed import run_stubbed
from scipy.sparse import coo_array, csc_array
from scipy.spatial import KDTree

from cosmosaic.geometry.grid import pixel_to_sky
from cosmosaic.geometry.windows import Box, lattice, make_plan, window_of
from cosmosaic.records import MosaicGrid
from cosmosaic.sky.overlap import OverlapStep, solve_levels
from cosmosaic.sky.pedestal import Level
from cosmosaic.sky.planes import LEAST_OVERLAP, TERMS, most_likely

EMPTY = 16
"""Exposures of a run that takes little more than its start and its end."""
RUN_SIZES = (200, 800, 3200)
COSTS = ("wall_s", "flow_cpu_s", "flow_rss_mb", "threads", "children_cpu_s", "database_mb", "cache_files")
STUBBED_SIZES = (12_880,)
"""COSMOS-Web's."""
DASK_SIZES = (200,)
SOLVER_SIZES = (250, 1000, 4000, 12000)
DITHERS = ((0.0, 0.0), (0.31, 0.11), (0.12, 0.42), (0.45, 0.33))
"""In widths of a detector."""
SPACING = 1.05
"""Of detectors, in their widths."""
NOISE = 0.001
"""Error of a step over a whole detector, MJy/sr."""
NARROWEST = 0.02
"""Overlap that counts, in parts of a detector."""
PLANE_POINTS = 6
"""Places in an overlap that tell its planes."""
PLAN_SIZES = (200, 800, 3220)
EXPOSURE_PIXELS = 2100
PIXELS_PER_EXPOSURE = 2.4e6
"""Of a mosaic of 30 mas."""


def synthetic_positions(number: int) -> np.ndarray:
    """Lower left corners of exposures in widths of a detector, shape ``(number, 2)``: dithers over a square field."""
    side = int(np.ceil(np.sqrt(number / len(DITHERS))))
    detectors = SPACING * np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    return (detectors[:, None] + np.array(DITHERS)).reshape(-1, 2)[:number]


def synthetic_steps(number: int) -> tuple[list[OverlapStep], dict[str, Level]]:
    """Steps and pedestals of exposures with known levels; some of them wrong, as sources make them."""
    draw = np.random.default_rng(number)
    positions = synthetic_positions(number)
    levels = draw.normal(0.3, 0.02, number)
    steps = []
    for first, second in overlapping(positions).tolist():
        apart = positions[second] - positions[first]
        fraction = float(np.prod(1 - np.abs(apart)))
        if fraction < NARROWEST:
            continue
        error = NOISE / np.sqrt(fraction)
        off = draw.normal(0.0, error) + draw.normal(0.0, 0.1 * NOISE) * np.sqrt(2 * (1 / fraction - 1))
        off += (draw.random() < 0.02) * draw.normal(0.0, 20 * error)
        middles = tuple((apart / 2).tolist()), tuple((-apart / 2).tolist())
        difference = float(levels[first] - levels[second] + off)
        steps.append(OverlapStep(_name(first), _name(second), difference, error, 10**6, fraction, middles))  # type: ignore[arg-type]
    noise = draw.normal(0.0, 3 * NOISE, number)
    slopes = draw.normal(0.0, 2 * NOISE, (number, 2))
    return steps, {
        _name(index): Level(float(levels[index] + noise[index]), NOISE, tuple(slopes[index]), (2 * NOISE, 2 * NOISE))
        for index in range(number)
    }


def overlapping(positions: np.ndarray) -> np.ndarray:
    """Pairs of exposures that overlap, in order, shape ``(pairs, 2)``."""
    pairs = KDTree(positions).query_pairs(1.0, p=np.inf, output_type="ndarray")
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _name(index: int) -> str:
    return f"exposure{index:05}"


def solve(number: int) -> dict[str, Any]:
    """Find the levels of synthetic exposures; return what it cost."""
    steps, pedestals = synthetic_steps(number)
    start, clock = time.process_time(), time.perf_counter()
    solve_levels(steps, pedestals)
    return {"steps": len(steps), "cpu_s": time.process_time() - start, "wall_s": time.perf_counter() - clock}


def find_planes(number: int) -> dict[str, Any]:
    """Find the planes of synthetic exposures; return what it cost."""
    draw, positions = np.random.default_rng(number), synthetic_positions(number)
    pairs = overlapping(positions)
    apart = positions[pairs[:, 1]] - positions[pairs[:, 0]]
    wide = np.prod(1 - np.abs(apart), axis=1) > LEAST_OVERLAP
    pairs, apart = np.repeat(pairs[wide], PLANE_POINTS, axis=0), np.repeat(apart[wide], PLANE_POINTS, axis=0)
    # Places in the first exposure that the second one sees, from the middle of each.
    places = draw.uniform(np.maximum(apart, 0) - 0.5, np.minimum(apart, 0) + 0.5)
    terms = [np.column_stack([np.ones(len(pairs)), places - off]) / NOISE for off in (0.0, apart)]
    entries = np.concatenate([terms[0].ravel(), -terms[1].ravel()])
    row = np.tile(np.repeat(np.arange(len(pairs)), TERMS), 2)
    column = np.concatenate([(TERMS * pairs[:, [end]] + np.arange(TERMS)).ravel() for end in (0, 1)])
    design = csc_array(coo_array((entries, (row, column)), shape=(len(pairs), TERMS * number)))
    right = design.T @ draw.standard_normal(len(pairs))
    levels = [Level(0.0, NOISE)] * number
    start, clock = time.process_time(), time.perf_counter()
    most_likely(csc_array(design.T @ design), right, levels, 2 * NOISE)
    return {"cpu_s": time.process_time() - start, "wall_s": time.perf_counter() - clock}


def plan(number: int) -> dict[str, Any]:
    """Plan the tiles of exposures that fill a square mosaic; return what it cost."""
    draw, side = np.random.default_rng(number), int(np.sqrt(PIXELS_PER_EXPOSURE * number))
    grid = MosaicGrid(
        tangent_ra=150.1, tangent_dec=2.2, rotation=20.0, pixel_scale_mas=30.0, crpix=(-0.5, -0.5), shape=(1, 1)
    )
    window = window_of(grid, Box(-(side // 2), -(side // 2), side, side), "full")
    corners = EXPOSURE_PIXELS * np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    footprints = {
        f"{_name(index)}_nrcb1": [
            (float(ra), float(dec))
            for ra, dec in pixel_to_sky(
                lattice(window), corners + draw.uniform(-(side // 2), side // 2 - EXPOSURE_PIXELS, 2)
            )
        ]
        for index in range(number)
    }
    start, clock = time.process_time(), time.perf_counter()
    made = make_plan(footprints, window)
    for tile in made.tiles:
        made.companions(tile)
    cost = {"cpu_s": time.process_time() - start, "wall_s": time.perf_counter() - clock}
    return {"tiles": len(made.tiles)} | cost


def alone(function: Callable[[int], dict[str, Any]], size: int) -> dict[str, Any]:
    """Call a function in a process of its own; add the peak of its memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        cost = pool.submit(function, size).result()
        peak = pool.submit(peak_mb).result()
    return {name: round(value, 2) for name, value in cost.items()} | {"peak_mb": round(peak)}


def peak_mb() -> float:
    """Return the largest memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, sizes: Sequence[int]) -> dict[str, Any]:
    """Measure one part for several numbers of exposures."""
    costs = {}
    for size in sizes:
        costs[str(size)] = alone(PARTS[name][0], size)
        print(f"{name} of {size}: {costs[str(size)]}", flush=True)
    return costs


def measure_runs(sizes: Sequence[int]) -> dict[str, Any]:
    """Run the flow on surveys of several sizes, again when all is cached, and once more with one more exposure."""
    real, again = {}, {}
    added: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="scale-") as work:
        for size in (EMPTY, *sizes):
            folder, raw = Path(work) / str(size), make_exposures(size, Path(work) / f"raw{size}")
            real[str(size)] = run(raw, folder)
            again[str(size)] = run(raw, folder)
            if again[str(size)]["executed"]:
                raise RuntimeError(f"{again[str(size)]['executed']} steps of {size} exposures were executed again")
            print(f"{size} exposures: {real[str(size)]}, cached {again[str(size)]}", flush=True)
            if size == sizes[-1]:
                added = measure_added(size, raw, folder)
            shutil.rmtree(folder)
    cached = {str(size): round(again[str(size)]["wall_s"] - again[str(EMPTY)]["wall_s"], 1) for size in sizes}
    return {
        "real": {str(size): real[str(size)] for size in sizes},
        "exponents": exponents(real, sizes),
        "cached_s": cached,
        **added,
    }


def measure_added(size: int, raw: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Add one exposure to a finished survey, whose mosaic is one, and once more when its tiles are named."""
    costs = {}
    for which, (name, settings) in enumerate((("added_whole", {}), ("added", name_tiles(size, folder)))):
        if settings:
            run(raw, folder, settings)
        add_exposure(size, raw, which)
        costs[name] = run(raw, folder, settings)
        print(f"{name}: {costs[name]}", flush=True)
    return {name: {"s": cost["wall_s"], "steps": cost["executed"]} for name, cost in costs.items()}


def measure_stubbed(sizes: Sequence[int]) -> dict[str, Any]:
    """Run the flow without the work of its steps; return what the largest survey cost, and the growth to it."""
    costs = {}
    for size in sizes:
        costs[str(size)] = run_stubbed(size)
        print(f"stubbed {size}: {costs[str(size)]}", flush=True)
    return {"stubbed": costs[str(sizes[-1])], "stubbed_exponents": exponents(costs, sizes)}


def exponents(costs: dict[str, dict[str, Any]], sizes: Sequence[int]) -> dict[str, float]:
    """Return the power of the number of exposures with which each cost grew between the two largest surveys."""
    if len(sizes) < 2:
        return {}
    small, large = (costs[str(size)] for size in sizes[-2:])
    growth = np.log(sizes[-1] / sizes[-2])
    return {name: round(float(np.log(large[name] / small[name]) / growth), 2) for name in COSTS if small[name]}


PARTS: dict[str, tuple[Callable[[int], dict[str, Any]], Sequence[int]]] = {
    "solver": (solve, SOLVER_SIZES),
    "planes": (find_planes, SOLVER_SIZES),
    "plan": (plan, PLAN_SIZES),
}
RUNS: dict[str, tuple[Callable[[Sequence[int]], dict[str, Any]], Sequence[int]]] = {
    "real": (measure_runs, RUN_SIZES),
    "stubbed": (measure_stubbed, STUBBED_SIZES),
    "dask": (measure_dask, DASK_SIZES),
}
"""Parts that run the flow."""


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("scale.json"))
    parser.add_argument("--parts", nargs="+", choices=[*RUNS, *PARTS], default=[*RUNS, *PARTS])
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="exposures, instead of those of each part")
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    for name in arguments.parts:
        if name in RUNS:
            result |= RUNS[name][0](arguments.sizes or RUNS[name][1])
    result |= {name: measure(name, arguments.sizes or PARTS[name][1]) for name in arguments.parts if name in PARTS}
    arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
