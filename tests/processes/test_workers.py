"""Child processes: what breaks in them reaches the caller, and the next call works."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from support import children

from cosmosaic.processes import workers


@pytest.fixture(scope="module")
def plan():
    yield workers.plan_workers(1, 3.0, 5.0, None, {"CRDS_PATH": "somewhere", "HOME_OF_NOBODY": ""})
    workers.stop_workers()


def test_processes_are_reused_and_have_their_own_environment(plan, monkeypatch):
    monkeypatch.setenv("CRDS_PATH", "elsewhere")
    first = workers.run(plan, children.process_id)
    assert workers.run(plan, children.process_id).result == first.result
    assert workers.run(plan, children.environment, "CRDS_PATH").result == "somewhere"


def test_children_of_plans_that_nobody_uses_any_more_end():
    """A worker of a cluster serves one survey after the other; what it kept for the first goes."""
    plans = [workers.plan_workers(1, 3.0, 60.0, None, {"CRDS_PATH": str(number)}) for number in range(4)]
    first, *_, last = [workers.run(plan, children.process_id).result for plan in plans]
    assert not psutil.pid_exists(first)
    assert psutil.pid_exists(last)
    assert workers.run(plans[-1], children.process_id).result == last
    workers.stop_workers()


def test_children_start_before_there_is_work_and_without_being_waited_for():
    workers.stop_workers()
    plan = workers.plan_workers(1, 3.0, 60.0, None, {"CRDS_PATH": "begun"})
    known = {child.pid for child in psutil.Process().children()}
    workers.start(plan)
    deadline = time.monotonic() + 20
    while not {child.pid for child in psutil.Process().children()} - known:
        assert time.monotonic() < deadline, "no child was started"
        time.sleep(0.05)
    assert workers.run(plan, children.environment, "CRDS_PATH").result == "begun"
    workers.stop_workers()


def test_work_happens_in_a_scratch_folder_that_is_removed(plan):
    folder, current = workers.run(plan, children.work_in).result
    assert Path(folder).resolve() == Path(current).resolve()
    assert not Path(folder).exists()


def test_time_limit_kills_and_the_next_call_works(plan):
    start = time.monotonic()
    with pytest.raises(workers.WorkerError, match=r"sleep took longer than 5 s.*time_limit_s"):
        workers.run(plan, children.sleep, 60)
    assert time.monotonic() - start < 20
    assert workers.run(plan, children.environment, "CRDS_PATH").result == "somewhere"


def test_who_waits_for_a_child_that_is_stopped_is_told():
    plan = workers.plan_workers(1, 3.0, 60.0, None, {})
    workers.run(plan, children.process_id)
    told = []

    def wait():
        try:
            workers.run(plan, children.sleep, 30)
        except workers.WorkerError as error:
            told.append(str(error))

    # One is at work, the other in the queue.
    waiting = [threading.Thread(target=wait, daemon=True) for _ in range(2)]
    for thread in waiting:
        thread.start()
    time.sleep(1.0)
    workers.stop_workers()
    for thread in waiting:
        thread.join(10.0)
    assert told == ["sleep was stopped with its run; the next run will repeat it"] * 2


def test_exit_of_crds_becomes_an_error_that_says_what_to_set(plan):
    with pytest.raises(workers.WorkerError, match=r"references\.crds_path"):
        workers.run(plan, children.give_up)


def test_death_is_told(plan):
    with pytest.raises(workers.WorkerError, match="exit code 9"):
        workers.run(plan, children.die)


def test_a_lock_that_a_library_makes_leaves_nothing_behind_when_its_child_is_killed(plan):
    """A semaphore without a name ends with its process."""
    assert workers.run(plan, children.name_of_a_lock).result is None


def test_memory_is_bounded(plan):
    with pytest.raises(workers.WorkerError, match=r"memory; raise resources\.memory_gb"):
        workers.run(plan, children.hoard, 20)


@pytest.fixture
def two():
    yield workers.plan_workers(2, 6.0, 60.0, None, {})
    workers.stop_workers()


def test_a_call_that_needs_more_than_its_share_is_given_it(two):
    with pytest.raises(workers.WorkerError, match=r"hoard needs more than 3\.0 GB"):
        workers.run(two, children.hoard, 4.0)
    assert workers.run(two, children.hoard, 4.0, needed_gb=5.0).result == 4e9
    with pytest.raises(workers.WorkerError, match=r"hoard needs more than 6\.0 GB"):
        workers.run(two, children.hoard, 7.0, needed_gb=8.0)
    with pytest.raises(workers.WorkerError, match=r"hoard needs more than 3\.0 GB"):
        workers.run(two, children.hoard, 4.0)


def test_calls_whose_memory_exceeds_the_whole_run_one_after_the_other(two, tmp_path):
    with ThreadPoolExecutor(4) as callers:
        calls = [
            callers.submit(workers.run, two, children.be_alone, str(tmp_path / "busy"), 0.2, needed_gb=4.0)
            for _ in range(4)
        ]
        for call in calls:
            call.result()


@pytest.mark.slow
@pytest.mark.parametrize(("needed_gb", "together"), [(1.4, 4), (None, 2), (2.0, 3)])
def test_as_many_calls_are_at_work_as_the_memory_that_they_need_allows(tmp_path, needed_gb, together):
    plan = workers.plan_workers(4, 6.0, 60.0, None, {})
    with ThreadPoolExecutor(4) as callers:
        calls = [
            callers.submit(workers.run, plan, children.meet, str(tmp_path), 4, needed_gb=needed_gb) for _ in range(4)
        ]
        assert max(call.result().result for call in calls) == together
    workers.stop_workers()


def test_a_call_that_needs_more_than_it_tells_is_allowed_a_share(two):
    assert workers.run(two, children.hoard, 2.5, needed_gb=1.0).result == 2.5e9


def test_peak_memory_is_that_of_the_call(plan):
    large = workers.run(plan, children.hoard, 0.4)
    small = workers.run(plan, children.process_id)
    assert large.peak_mb - small.peak_mb == pytest.approx(400e6 / 2**20, rel=0.1)


def test_a_process_does_not_grow_with_its_work(plan):
    before = workers.run(plan, children.memory).result
    workers.run(plan, children.use_planes_of_all_sizes)
    assert workers.run(plan, children.memory).result - before < 4e6


def test_freed_memory_is_reused_during_a_call(plan):
    assert workers.run(plan, children.page_faults_of_reuse).result < 100


def test_errors_keep_their_type_and_text(plan):
    with pytest.raises(ValueError, match="gain map of the wrong detector"):
        workers.run(plan, children.refuse, "gain map of the wrong detector")


@pytest.mark.parametrize(("memory_gb", "processes"), [(1.0, 1), (7.0, 2), (13.0, 4)])
def test_number_of_processes_is_bounded_by_memory(memory_gb, processes):
    assert workers.plan_workers(8, memory_gb, 1.0, None, {}).processes == processes
