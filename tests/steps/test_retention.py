"""What nobody uses goes, what somebody may use stays."""

import os
import time

import pytest

from cosmosaic.steps.retention import DAY_S, find_unused, record_use

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
