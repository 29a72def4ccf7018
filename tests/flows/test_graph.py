"""Steps start when their inputs are stored and room is free; what cannot be done is skipped, and every wait ends."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from cosmosaic.records import StoredObject
from cosmosaic.steps.declaration import Outputs, Step, if_made, surviving
from cosmosaic.steps.files import File, Many
from cosmosaic.steps.result import StepResult
from tasks.runtime.graph import SKIPPED, Graph, Outcome


class Part(File, suffix=".txt", kind="part"):
    """A part."""


@dataclass(frozen=True)
class Made(Outputs):
    """A part, and parts by name."""

    part: Part
    many: Many[Part]


@dataclass(frozen=True, kw_only=True)
class Work(Step[Made]):
    """Needs all its parts."""

    title, version, function, per = "Work", 1, "nowhere:work", "exposure"

    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Gather(Step[Made]):
    """Takes the parts that there are."""

    title, version, function, per = "Gather", 1, "nowhere:gather", "survey"

    parts: Mapping[str, Part] = surviving()


@dataclass(frozen=True, kw_only=True)
class Report(Step[Made]):
    """Tells of its parts, if there are any."""

    title, version, function, per = "Report", 1, "nowhere:report", "survey"

    first: Part | None = if_made()
    parts: Mapping[str, Part] = if_made()


def stored(name):
    return StoredObject(uri=f"/{name}", sha256=name, size=1)


class Bench:
    """Does steps in threads, some of them badly, and notes what was under way at once."""

    def __init__(self, room=4, failing=(), refused=()):
        self.failing, self.refused = failing, refused
        self.ended, self.started, self.at_once, self.most = {}, [], 0, 0
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()
        self.graph = Graph(self.start, lambda node, outcome: self.ended.update({node.label: outcome}), room)

    def submit(self, step, label):
        return step.outputs.promised(self.graph.add(step, label))

    def start(self, node, step, done):
        if node.label in self.refused:
            raise RuntimeError("can't start new thread")
        with self.lock:
            self.started.append((node.label, step))
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        threading.Thread(target=self.work, args=(node.label, done)).start()

    def work(self, label, done):
        self.gate.wait(10)
        with self.lock:
            self.at_once -= 1
        if label in self.failing:
            done(Outcome(None, error="broken"))
            return
        files = {"part": stored(label), "many": {"a": stored(f"{label} a")}}
        done(Outcome(StepResult(step="work", key="", files=files, cpu_s=0, wall_s=0, peak_mb=0)))

    def step_of(self, label):
        return dict(self.started)[label]


@pytest.fixture
def bench():
    made = []

    def make(**how):
        made.append(Bench(**how))
        return made[-1]

    yield make
    for each in made:
        each.graph.close()


def test_a_step_starts_with_its_inputs_stored(bench):
    run = bench()
    first = run.submit(Work(), "first")
    run.submit(Work(parts=(first.part, first.many["a"])), "second")
    run.graph.wait()
    assert run.step_of("second").parts == (Part(stored("first")), Part(stored("first a")))


def test_no_more_steps_are_under_way_than_there_is_room_for(bench):
    run = bench(room=3)
    run.gate.clear()
    for number in range(40):
        run.submit(Work(), str(number))
    while run.most < 3:
        time.sleep(0.01)
    run.gate.set()
    run.graph.wait()
    assert len(run.ended) == 40
    assert run.most == 3


def test_steps_that_are_far_along_go_first(bench):
    run = bench(room=1)
    run.gate.clear()
    first = run.submit(Work(), "first")
    for number in range(5):
        run.submit(Work(), str(number))
    run.submit(Work(parts=(first.part,)), "second")
    run.gate.set()
    run.graph.wait()
    assert [label for label, _ in run.started][:2] == ["first", "second"]


def test_what_needs_a_failed_step_is_skipped_down_to_the_end(bench):
    run = bench(failing=("bad",))
    bad, good = run.submit(Work(), "bad"), run.submit(Work(), "good")
    needs = run.submit(Work(parts=(bad.part, good.part)), "needs")
    run.submit(Work(parts=(needs.part,)), "far")
    run.submit(Work(parts=(good.part,)), "unharmed")
    run.graph.wait()
    late = run.submit(Work(parts=(bad.part,)), "late")
    run.graph.wait([late.node])
    assert {label: outcome.error for label, outcome in run.ended.items() if outcome.error} == {
        "bad": "broken", "needs": SKIPPED, "far": SKIPPED, "late": SKIPPED
    }  # fmt: skip


def test_a_step_that_can_do_without_takes_what_is_there(bench):
    run = bench(failing=("bad", "worse"))
    bad, good, worse = (run.submit(Work(), name) for name in ("bad", "good", "worse"))
    run.submit(Gather(parts={"bad": bad.part, "good": good.part}), "some")
    run.submit(Gather(parts={"bad": bad.part, "worse": worse.part}), "none")
    run.graph.wait()
    assert run.step_of("some").parts == {"good": Part(stored("good"))}
    assert run.ended["none"].error == SKIPPED


def test_a_step_that_can_do_without_any_waits_for_what_is_there_and_runs(bench):
    run = bench(failing=("bad", "worse"))
    run.gate.clear()
    bad, good, worse = (run.submit(Work(), name) for name in ("bad", "good", "worse"))
    skipped = run.submit(Work(parts=(bad.part,)), "skipped")
    run.submit(Report(first=good.part, parts={"bad": bad.part, "good": good.part}), "some")
    run.submit(Report(first=worse.part, parts={"bad": bad.part, "skipped": skipped.part}), "none")
    run.submit(Report(first=None, parts={}), "nothing asked for")
    run.gate.set()
    run.graph.wait()
    some = run.step_of("some")
    assert (some.first, some.parts) == (Part(stored("good")), {"good": Part(stored("good"))})
    assert all(
        (run.step_of(name).first, run.step_of(name).parts) == (None, {}) for name in ("none", "nothing asked for")
    )
    assert run.ended["skipped"].error == SKIPPED


def test_a_step_that_cannot_be_started_fails_with_the_reason_and_holds_nobody_up(bench):
    run = bench(refused=("refused",))
    refused = run.submit(Work(), "refused")
    run.submit(Work(parts=(refused.part,)), "next")
    run.submit(Work(), "other")
    run.graph.wait()
    assert "can't start new thread" in run.ended["refused"].error
    assert run.ended["next"].error == SKIPPED
    assert run.ended["other"].error is None


def test_an_input_that_was_not_made_is_named(bench):
    run = bench()
    first = run.submit(Work(), "first")
    run.submit(Work(parts=(first.many["b"],)), "second")
    run.graph.wait()
    assert "there is no many of b" in run.ended["second"].error


def test_thousands_of_steps_in_a_chain_need_no_thread_each(bench):
    run = bench(room=8)
    made = run.submit(Work(), "0")
    for number in range(1, 3000):
        made = run.submit(Work(parts=(made.part,)), str(number))
    assert threading.active_count() < 40
    run.graph.wait()
    assert len(run.ended) == 3000
    assert not any(outcome.error for outcome in run.ended.values())
