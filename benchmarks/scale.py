"""How cost grows with the number of exposures.

    python benchmarks/scale.py --json scale.json

``solver``: levels with their errors, and planes, of synthetic exposures of one filter: 2 x 4 detectors at every
pointing, four dithers each. Each size runs in a process of its own; CPU seconds include the compilation or loading of
kernels. ``peak_mb`` is the memory of the whole process.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cosmosaic.sky.overlap import OverlapStep, solve_levels
from cosmosaic.sky.pedestal import Level

SOLVER_SIZES = (250, 1000, 4000, 12000)
DITHERS = ((0.0, 0.0), (0.31, 0.11), (0.12, 0.42), (0.45, 0.33))
"""In widths of a detector."""
SPACING = 1.05
"""Of detectors, in their widths."""
NOISE = 0.001
"""Error of a step over a whole detector, MJy/sr."""
LEAST_OVERLAP = 0.02


def synthetic_positions(number: int) -> np.ndarray:
    """Lower left corners of exposures in widths of a detector, shape ``(number, 2)``: dithers over a square field."""
    side = int(np.ceil(np.sqrt(number / len(DITHERS))))
    detectors = SPACING * np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    return (detectors[:, None] + np.array(DITHERS)).reshape(-1, 2)[:number]


def synthetic_steps(number: int) -> tuple[list[OverlapStep], dict[str, Level]]:
    """Steps and pedestals of exposures with known levels; some of them wrong, as sources make them."""
    from scipy.spatial import cKDTree

    draw = np.random.default_rng(number)
    positions = synthetic_positions(number)
    levels = draw.normal(0.3, 0.02, number)
    steps = []
    pairs = cKDTree(positions).query_pairs(1.0, p=np.inf, output_type="ndarray")
    for first, second in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].tolist():
        apart = positions[second] - positions[first]
        fraction = float(np.prod(1 - np.abs(apart)))
        if fraction < LEAST_OVERLAP:
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


def _name(index: int) -> str:
    return f"exposure{index:05}"


def solve(number: int) -> dict[str, Any]:
    """Find the levels of synthetic exposures; return what it cost."""
    steps, pedestals = synthetic_steps(number)
    start, clock = time.process_time(), time.perf_counter()
    solve_levels(steps, pedestals)
    return {"steps": len(steps), "cpu_s": time.process_time() - start, "wall_s": time.perf_counter() - clock}


def alone(function: Callable[[int], dict[str, Any]], size: int) -> dict[str, Any]:
    """Call a function in a process of its own; add the peak of its memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        cost = pool.submit(function, size).result()
        peak = pool.submit(peak_mb).result()
    return {name: round(value, 2) for name, value in cost.items()} | {"peak_mb": round(peak)}


def peak_mb() -> float:
    """Return the largest memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_solver(sizes: list[int]) -> dict[str, Any]:
    """Measure the solution of levels alone."""
    costs = {}
    for size in sizes:
        costs[str(size)] = alone(solve, size)
        print(f"levels of {size}: {costs[str(size)]}", flush=True)
    return {"solver": costs}


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("scale.json"))
    parser.add_argument("--solver", type=int, nargs="*", default=list(SOLVER_SIZES), metavar="N", help="exposures")
    arguments = parser.parse_args()
    result = measure_solver(arguments.solver)
    arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
