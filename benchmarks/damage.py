"""One bad exposure among good ones, damaged in hundreds of ways, through the whole run.

    python benchmarks/damage.py [first seed] [number of seeds]

An exposure that is refused must leave the products of the others as they are without it; one that is accepted must give
products that are finite. Printed is what became of each seed, and how many were accepted, refused and failed.
"""

import shutil
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.damage import damaged
from support.one_bad_frame import BAD, KINDS, check, run, simulated_exposures


def main(first: int = 0, number: int = 300) -> int:
    """Try the seeds; return how many failed."""
    warnings.simplefilter("ignore")
    found: dict[str, list[int]] = {"accepted": [], "refused": [], "failed": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "frames").mkdir()
        frames = simulated_exposures(folder / "frames")
        good = run(frames, folder / "good", None)
        for seed in range(first, first + number):
            try:
                made = run(frames, folder / "run", damaged(frames[BAD], seed, KINDS))
                outcome, reason = "accepted" if check(made, good, frames[BAD].name) else "refused", ""
            except Exception as error:
                outcome, reason = "failed", f" ({type(error).__name__}: {str(error)[:300]})"
            found[outcome].append(seed)
            print(f"seed {seed}: {outcome}{reason}", flush=True)
            shutil.rmtree(folder / "run", ignore_errors=True)
    for outcome, seeds in found.items():
        print(f"{outcome}: {len(seeds)}")
    return len(found["failed"])


if __name__ == "__main__":
    sys.exit(bool(main(*map(int, sys.argv[1:]))))
