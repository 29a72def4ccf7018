"""Temporary files are found when their process is dead, and left alone while it lives."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cosmosaic.processes import workers
from cosmosaic.records import StoredObject
from cosmosaic.storage import scratch, store

HOLDER = """
import sys, time
from cosmosaic.storage.scratch import open_scratch
print(open_scratch(sys.argv[1], "step")[0], flush=True)
time.sleep(60)
"""


def test_folder_is_removed_at_the_end_however_it_ends(tmp_path):
    def fail():
        with scratch.scratch_folder(str(tmp_path), "step") as folder:
            (folder / "large.fits").write_text("x")
            raise ValueError("broken frame")

    with pytest.raises(ValueError, match="broken frame"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    left = holder.stdout.readline().strip()
    assert scratch.clean_scratch(str(tmp_path)) == []
    assert Path(left).is_dir()
    holder.kill()
    holder.wait()
    assert [str(folder) for folder in scratch.clean_scratch(str(tmp_path))] == [left]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_about_to_be_locked_is_left_alone_until_it_is_old(tmp_path):
    young, old = tmp_path / "cosmosaic-step-1-a", tmp_path / "cosmosaic-step-1-b"
    young.mkdir()
    old.mkdir()
    os.utime(old, (time.time() - 3600,) * 2)
    assert scratch.clean_scratch(str(tmp_path)) == [old]


def test_other_folders_are_left_alone(tmp_path):
    other = tmp_path / "somebody-else"
    other.mkdir()
    os.utime(other, (0, 0))
    assert scratch.clean_scratch(str(tmp_path)) == []


def test_missing_room_is_told_with_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(100e9, 99e9, 1e9))
    with pytest.raises(
        scratch.ScratchError, match=r"3\.50 GB.*1\.00 GB free: 2\.50 GB are missing.*resources\.scratch"
    ):
        scratch.require_space(tmp_path, 3.5e9, "Calibrate")


def test_resources_are_checked_before_the_work_starts(tmp_path, monkeypatch):
    plan = workers.plan_workers(1, 1e6, 1.0, str(tmp_path), {})
    with pytest.raises(workers.ResourceError, match=r"resources\.memory_gb.*GB are missing"):
        workers.check_resources(plan)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(100e9, 99e9, 1e9))
    with pytest.raises(scratch.ScratchError, match="child processes needs about 2"):
        workers.check_resources(workers.plan_workers(1, 3.0, 1.0, str(tmp_path), {}))


def test_a_fetch_without_room_is_refused_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(100e9, 100e9, 0))
    large = StoredObject(uri="s3://bucket/large.fits", sha256="0" * 64, size=10**10)
    with pytest.raises(scratch.ScratchError, match=r"10\.00 GB"):
        store.fetch(large, tmp_path, tmp_path / "shared")
