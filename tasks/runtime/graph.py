"""The steps of a run and their dependencies: a step is started when its inputs are stored and there is room for it.

One thread owns the graph. No thread waits for a single step: a survey has more steps than a machine has threads.
"""

import threading
from collections.abc import Callable, Iterable, Set
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from queue import SimpleQueue
from typing import Any

from cosmosaic.records import Reference, StoredObject
from cosmosaic.steps.declaration import Step
from cosmosaic.steps.files import File, Many, Promise, files_in, stored_in
from cosmosaic.steps.publication import place_of
from cosmosaic.steps.result import StepResult

SKIPPED = "skipped: a step it needs failed"
CLOSING_S = 1.0
"""Longest wait for the graph's thread, which may be waiting for a server or a store."""


@dataclass(eq=False, slots=True)
class Node:
    """A submitted step."""

    label: str
    step: Step | None
    """None once it has ended."""
    kind: type[Step]
    number: int
    needed: Set["Node"] = frozenset()
    """Steps that it needs; empty once it has ended."""
    waits_for: int = 0
    followers: list["Node"] = field(default_factory=list)
    depth: int = 0
    """Number of steps in a row before it."""
    has_ended: bool = False
    result: StepResult | None = None
    """None if it failed."""
    task_run: Any = None
    """Identifier of its task run."""
    inputs: tuple[StoredObject, ...] = ()
    references: tuple[Reference, ...] = ()
    """What it was started with."""

    @property
    def row(self) -> dict[str, Any]:
        """Its columns of the run table; empty if it failed."""
        return self.kind.row(self.result.facts) if self.result else {}


@dataclass(frozen=True)
class Outcome:
    """Outcome of a step."""

    result: StepResult | None
    is_cached: bool = False
    error: str | None = None


Start = Callable[[Node, Step, Callable[[Outcome], None]], None]
"""Starts a step whose inputs are stored; the last argument is to be called once, from any thread, with its outcome."""


class Graph:
    """Starts steps as they become ready, up to a maximum number at a time, later stages of the work first.

    Parameters
    ----------
    start
        Starts a step.
    ended
        Called for each step that has ended, from the graph's own thread.
    room
        Steps that may be under way at once.
    """

    def __init__(self, start: Start, ended: Callable[[Node, Outcome], None], room: int) -> None:
        self._start, self._ended, self._room = start, ended, room
        self._events: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._ready: list[tuple[int, int, Node]] = []
        self._under_way = 0
        self._nodes = 0
        self._open: set[Node] = set()
        # Prefect knows the flow by the context that its tasks are submitted in.
        self._thread = threading.Thread(target=copy_context().run, args=(self._work,), daemon=True)
        self._thread.start()

    def add(self, step: Step, label: str) -> Node:
        """Add a step; it starts when the steps it needs have ended."""
        node = Node(label, step, type(step), self._nodes)
        with self._changed:
            self._nodes += 1
            self._open.add(node)
        self._events.put(partial(self._enter, node))
        return node

    def soon(self, function: Callable[[], None]) -> None:
        """Call a function in the graph's thread, which has the context of the flow; it must not raise."""
        self._events.put(function)

    def wait(self, nodes: Iterable[Node] | None = None) -> None:
        """Wait until some steps, or all, have ended."""
        with self._changed:
            if nodes is None:
                self._changed.wait_for(lambda: not self._open)
                return
            # One after the other: each end of a step wakes this thread, which then looks at one node, not at all.
            for node in nodes:
                while node in self._open:
                    self._changed.wait()

    def close(self) -> None:
        """End the graph's thread: no further steps are started, and outcomes are no longer recorded."""
        self._events.put(None)
        self._thread.join(CLOSING_S)

    def _work(self) -> None:
        while (event := self._events.get()) is not None:
            event()
            self._start_ready()

    def _enter(self, node: Node) -> None:
        step = node.step
        assert step is not None
        needed = {promise.node for promise in step.promises}
        before = needed | {promise.node for promise in step.welcome}
        node.needed = needed
        node.depth = 1 + max((other.depth for other in before), default=-1)
        waiting = [other for other in before if not other.has_ended]
        node.waits_for = len(waiting)
        for other in waiting:
            other.followers.append(node)
        if any(other.has_ended and other.result is None for other in needed):
            self._end(node, Outcome(None, error=SKIPPED))
        elif not waiting:
            self._push(node)

    def _push(self, node: Node) -> None:
        heappush(self._ready, (-node.depth, node.number, node))

    def _start_ready(self) -> None:
        while self._ready and self._under_way < self._room:
            _, _, node = heappop(self._ready)
            self._under_way += 1
            try:
                step = self._settled(node)
                if step is None:
                    self._done(node, Outcome(None, error=SKIPPED))
                else:
                    node.inputs = stored_in((*step.inputs.values(), *step.sources))
                    node.references = step.references
                    self._start(node, step, partial(self._hear, node))
            except Exception as error:
                self._done(node, Outcome(None, error=f"{type(error).__name__}: {error}"))

    def _hear(self, node: Node, outcome: Outcome) -> None:
        self._events.put(partial(self._done, node, outcome))

    def _settled(self, node: Node) -> Step | None:
        """Return a step with its inputs; None if the steps of all inputs failed."""
        assert node.step is not None
        step = node.step.settled(_look_up)
        if any(not getattr(step, name) for name in step.needing_one()):
            return None
        return step.prepared()

    def _done(self, node: Node, outcome: Outcome) -> None:
        self._under_way -= 1
        self._end(node, outcome)

    def _end(self, node: Node, outcome: Outcome) -> None:
        """Record the outcome of a step, and end the steps that cannot run because of it."""
        ending = [(node, outcome)]
        while ending:
            node, outcome = ending.pop()
            if node.has_ended:
                continue
            node.result, node.has_ended, node.step = outcome.result, True, None
            self._ended(node, outcome)
            for follower in node.followers:
                follower.waits_for -= 1
                if follower.has_ended:
                    continue
                if outcome.result is None and node in follower.needed:
                    ending.append((follower, Outcome(None, error=SKIPPED)))
                elif not follower.waits_for:
                    self._push(follower)
            node.followers, node.needed = [], frozenset()
            with self._changed:
                self._open.discard(node)
                self._changed.notify_all()


def placed(files: tuple[File | Many, ...]) -> dict[str, tuple[File, Node | None]]:
    """Return files by the place that each is published at, with the step that made it where one did."""
    return {
        place_of(one): (one, file.source.node if isinstance(file.source, Promise) else None)
        for file in files
        if (made := settled(file)) is not None
        for one in files_in((made,))
    }


def settled(file: File | Many) -> File | Many | None:
    """Return a file as the step that has ended stored it; None if it made no such file."""
    if not isinstance(file.source, Promise):
        return file
    found = _look_up(file.source)
    if found is None:
        return None
    return Many(file.kind, found) if isinstance(file, Many) else type(file)(found)  # type: ignore[arg-type]


def _look_up(promise: Promise) -> StoredObject | dict[str, StoredObject] | None:
    """Return an output of a step that has ended; None if it failed or made no such file."""
    result: StepResult | None = promise.node.result
    made = result.files[promise.output] if result else None
    return made.get(promise.name) if isinstance(made, dict) and promise.name is not None else made
