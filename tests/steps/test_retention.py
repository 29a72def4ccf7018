"""What nobody uses goes, what somebody may use stays."""

import os
import time

import pytest

from cosmosaic.steps.result import StepResult
from cosmosaic.steps.retention import DAY_S, find_unused, record_use, shrink

KEYS = {name: name[0] * 32 for name in ("a", "b", "c")}


@pytest.fixture
def cache(tmp_path):
    """Results of three steps, all written forty days ago."""
    for name, key in KEYS.items():
        for path in (tmp_path / "results" / key, tmp_path / "drizzle_frame" / key / f"{name}.fits"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            age(path, 40)
    (tmp_path / "checksums" / "aa").mkdir(parents=True)
    (tmp_path / "checksums" / "aa" / "memo.json").write_text("{}")
    age(tmp_path / "checksums" / "aa" / "memo.json", 40)
    return tmp_path


def age(path, days):
    moment = time.time() - days * DAY_S
    os.utime(path, (moment, moment))


def used(cache, monkeypatch, *, days_ago, run, survey, keys):
    moment = time.time() - days_ago * DAY_S
    with monkeypatch.context() as patch:
        patch.setattr("cosmosaic.steps.retention.time.time", lambda: moment)
        record_use(str(cache), run, survey, {KEYS[name] for name in keys})


def removable(cache, days=30.0):
    return [uri.removeprefix(f"{cache}/") for uri in find_unused(str(cache), days).uris]


def test_what_no_run_used_goes_with_prefects_record_first(cache, monkeypatch):
    used(cache, monkeypatch, days_ago=1, run="1", survey="deep", keys="ab")
    assert removable(cache) == [f"results/{KEYS['c']}", f"drizzle_frame/{KEYS['c']}/c.fits"]


def test_the_last_run_of_a_survey_keeps_what_it_used_however_long_ago(cache, monkeypatch):
    used(cache, monkeypatch, days_ago=300, run="1", survey="deep", keys="a")
    used(cache, monkeypatch, days_ago=200, run="2", survey="deep", keys="b")
    used(cache, monkeypatch, days_ago=100, run="3", survey="wide", keys="c")
    assert removable(cache) == [f"results/{KEYS['a']}", f"drizzle_frame/{KEYS['a']}/a.fits"]


def test_what_was_written_lately_stays_since_a_run_may_be_about_to_use_it(cache, monkeypatch):
    used(cache, monkeypatch, days_ago=1, run="1", survey="deep", keys="ab")
    for path in cache.rglob("c.fits"):
        age(path, 3)
    assert removable(cache) == [f"results/{KEYS['c']}"]
    assert removable(cache, days=2.0) == [f"results/{KEYS['c']}", f"drizzle_frame/{KEYS['c']}/c.fits"]


def test_the_bytes_are_counted(cache):
    assert find_unused(str(cache), 30.0).size == 6


COSTS = {"a": 90.0, "b": 5.0, "c": 40.0}
"""CPU seconds of each step."""


def results(names):
    done = {"step": "drizzle", "files": {}, "wall_s": 1.0, "peak_mb": 1.0}
    return [StepResult(key=KEYS[name], cpu_s=COSTS[name], **done) for name in names]


def shrunk(cache, kilobytes, used):
    """Remove what is too much, each step having made 100 kB; return what is left."""
    for name, key in KEYS.items():
        (cache / "drizzle_frame" / key / f"{name}.fits").write_bytes(bytes(100_000))
    shrink(str(cache), kilobytes / 1e6, results(used))
    return {path.stem for path in cache.rglob("*.fits")}


def test_the_cheapest_results_go_until_the_rest_fits(cache):
    assert shrunk(cache, 320, "abc") == {"a", "b", "c"}
    assert shrunk(cache, 250, "abc") == {"a", "c"}
    assert not (cache / "results" / KEYS["b"]).exists()
    assert shrunk(cache, 150, "abc") == {"a"}


def test_what_no_run_uses_goes_before_the_cheapest(cache, monkeypatch):
    for path in cache.rglob("c"):
        age(path, 40)
    used(cache, monkeypatch, days_ago=0, run="1", survey="deep", keys="ab")
    for name, key in KEYS.items():
        path = cache / "drizzle_frame" / key / f"{name}.fits"
        path.write_bytes(bytes(100_000))
        age(path, 40)
    shrink(str(cache), 250 / 1e6, results("ab"))
    assert {path.stem for path in cache.rglob("*.fits")} == {"a", "b"}


def test_the_results_of_other_surveys_stay_though_the_cache_is_too_large(cache, monkeypatch):
    used(cache, monkeypatch, days_ago=3, run="1", survey="wide", keys="bc")
    assert shrunk(cache, 50, "a") == {"b", "c"}
