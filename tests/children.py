"""Functions that the tests run in child processes."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from cosmosaic.records import Made


def environment(name, folder):
    return os.environ.get(name)


def process_id(folder):
    return os.getpid()


def give_up(folder):
    sys.exit(-1)


def die(folder):
    os._exit(9)


def sleep(seconds, folder):
    time.sleep(seconds)


def hoard(gigabytes, folder):
    return np.ones(int(gigabytes * 1e9 / 8)).nbytes


def grow(folder):
    """Use planes of all sizes, keep a little of each round, and tell by how many bytes the process has grown."""
    before, kept = psutil.Process().memory_info().rss, []
    for megabytes in (30, 17, 9, 25, 11, 17, 30):
        arrays = [np.ones(int(size * 1e6 / 8)) for size in (megabytes, 17, megabytes + 3, 10)]
        kept.append(np.ones(50_000))
        del arrays
    return psutil.Process().memory_info().rss - before - sum(array.nbytes for array in kept)


def work_in(folder):
    Path("left.txt").write_text("in the scratch folder")
    return str(folder), str(Path.cwd())


def refuse(text, folder):
    raise ValueError(text)


def join_files(paths, word, folder):
    path = folder / "joined.txt"
    path.write_text(word.join(path.read_text() for path in paths))
    return Made([path], {"files": len(paths)})
