"""Functions that the tests run in child processes."""

import logging
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from cosmosaic.steps.result import Made


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


def name_of_a_lock(folder):
    """Make a lock as libraries do, and tell the name of its semaphore, if the system knows it by one."""
    return multiprocessing.RLock()._semlock.name


def hoard(gigabytes, folder):
    return np.ones(int(gigabytes * 1e9 / 8)).nbytes


def be_alone(place, seconds, folder):
    """Fail if another call does the same at the same time."""
    with Path(place).open("x"):
        time.sleep(seconds)
    Path(place).unlink()


def meet(place, number, folder):
    """Wait until so many calls do the same at the same time; return how many were there at most."""
    place = Path(place)
    mine = place / Path(folder).name
    mine.touch()
    most, deadline = 0, time.monotonic() + 5
    while most < number and time.monotonic() < deadline:
        most = max(most, len(list(place.iterdir())))
        time.sleep(0.02)
    time.sleep(0.2)
    mine.unlink()
    return most


def memory(folder):
    """Tell how many bytes of memory the process holds."""
    return psutil.Process().memory_info().rss


def use_planes_of_all_sizes(folder):
    kept = []
    for megabytes in (30, 17, 9, 25, 11, 17, 30):
        arrays = [np.ones(int(size * 1e6 / 8)) for size in (megabytes, 17, megabytes + 3, 10)]
        kept.append(np.ones(50_000))
        del arrays


def page_faults_of_reuse(folder):
    """Tell how often the system had to give a page for a plane as large as one that was freed just before."""
    np.ones(25_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(25_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def work_in(folder):
    Path("left.txt").write_text("in the scratch folder")
    return str(folder), str(Path.cwd())


def refuse(text, folder):
    raise ValueError(text)


def join_files(parts, word, folder, last=None):
    path = folder / "joined.txt"
    texts = [part.read_text() for part in (*parts, *([last] if last else []))]
    path.write_text(word.join(texts))
    return Made(joined=path, facts={"files": len(texts)})


def warn_and_join(parts, word, folder, last=None):
    """As a function of the library that goes on all the same."""
    logging.getLogger("cosmosaic.sky").warning("%s has no words", parts[0].name)
    logging.getLogger("stcal").warning("not ours")
    return join_files(parts, word, folder, last)


def promise_breaker(parts, word, folder, last=None):
    """Makes a file of another kind than is declared."""
    path = folder / "joined.fits"
    path.write_text(word)
    return Made(joined=path)


def hoard_and_join(parts, word, folder, last=None):
    hoard(4.0, folder)
    return join_files(parts, word, folder, last)
