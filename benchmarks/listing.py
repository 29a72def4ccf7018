"""Raw exposures on an S3 server of this machine (OpenStack Swift): listed, described and hashed, twice.

    python benchmarks/listing.py --json listing.json

The second time they are those of the first, of which a run remembers descriptions and checksums.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import s3fs

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.exposure_files import put
from support.s3_server import install, serve

from cosmosaic.exposures.search import READING_THREADS, find_exposures
from cosmosaic.storage.store import requests_sent

BUCKET = "survey"


def upload(number: int, folder: Path) -> None:
    """Put exposures into the bucket as a user does, without checksums beside them."""
    filesystem = s3fs.S3FileSystem()
    filesystem.mkdir(BUCKET)
    paths = [put(folder, one) for one in range(1, number + 1)]
    with ThreadPoolExecutor(READING_THREADS) as pool:
        list(pool.map(lambda path: filesystem.put_file(str(path), f"{BUCKET}/raw/{path.name}"), paths))


def found_once() -> dict[str, float]:
    """Find all exposures; return seconds, CPU seconds of this process, and requests."""
    begin, cpu = time.perf_counter(), time.process_time()
    found = find_exposures(f"s3://{BUCKET}/raw", memo=f"s3://{BUCKET}/cache/checksums")
    return {
        "exposures": len(found.exposures),
        "s": round(time.perf_counter() - begin, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "requests": requests_sent(),
    }


def in_a_process() -> dict[str, float]:
    """Find all exposures in a process of its own, which remembers nothing."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(found_once).result()


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("listing.json"))
    parser.add_argument("--number", type=int, default=10_000, help="exposures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        programs = install(Path(work) / "programs")
        with serve(programs, Path(work) / "swift") as server:
            os.environ |= server.environment
            upload(arguments.number, Path(work) / "raw")
            made = {"first": in_a_process(), "again": in_a_process()}
    arguments.json.write_text(json.dumps(made, indent=1))
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
