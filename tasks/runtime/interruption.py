"""Ctrl-C and SIGTERM on a command line: the work is cancelled, and the command ends within seconds.

The work is done in a thread, which leaves the main thread free to hear signals. That thread is deaf to Ctrl-C, and so
are the processes that it starts, to which a terminal sends the signal as well: this process ends them, in order.
"""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, NoReturn

CAUSES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
LIMIT_S = 4.0
"""Time limit for cancelling, even if a store or a server does not answer."""


def run_interruptibly(work: Callable[[], int], cancel: Callable[[str], None]) -> int:
    """Do some work; at a signal, cancel it and end the process with 128 plus the signal's number.

    To be called in the main thread. A second signal ends the process at once.

    Parameters
    ----------
    work
        Returns the exit code.
    cancel
        Called with the name of the signal; returns when the process may end.
    """
    heard: SimpleQueue[int | Future[int]] = SimpleQueue()
    for number in CAUSES:
        signal.signal(number, lambda number, _: heard.put(number))
    outcome: Future[int] = Future()
    outcome.add_done_callback(heard.put)
    threading.Thread(target=copy_context().run, args=(_fulfil, outcome, work), daemon=True).start()
    first = heard.get()
    if isinstance(first, Future):
        return first.result()
    return _end(signal.Signals(first), cancel)


def _fulfil(outcome: Future[int], work: Callable[[], int]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        outcome.set_result(work())
    except BaseException as error:  # raised again in the main thread
        outcome.set_exception(error)


def _end(cause: signal.Signals, cancel: Callable[[str], None]) -> NoReturn:
    code = 128 + cause

    def leave(*_: Any) -> NoReturn:
        os._exit(code)

    for number in CAUSES:
        signal.signal(number, leave)
    limit = threading.Timer(LIMIT_S, leave)
    limit.daemon = True
    limit.start()
    try:
        cancel(CAUSES[cause])
    finally:
        # Threads may still wait for a store or a server; nobody waits for them.
        leave()
