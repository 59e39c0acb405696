"""Signals that end runs and loads of graphs, which keep Python's own handlers waiting."""

import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

# How long runs may go on after the first signal, and the process after the second, to clean up.
_GRACE_S = 0.5


class Terminable(Protocol):
    """What holds a thread inside a library."""

    def terminate(self) -> None:
        """End it as soon as possible; called from another thread."""


_everything: "weakref.WeakSet[Terminable]" = weakref.WeakSet()
_in_main_thread: list[Terminable] = []


def register(work: Terminable) -> None:
    """Let signals end ``work``, for as long as it exists."""
    _everything.add(work)


@contextmanager
def running(work: Terminable) -> Iterator[None]:
    """Mark what the current thread runs: the main thread handles no signal before it is back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _in_main_thread.append(work)
    try:
        yield
    finally:
        _in_main_thread.pop()


@contextmanager
def ending_runs() -> Iterator[None]:
    """Let SIGINT and SIGTERM end runs: the main thread's at the first one, all others soon after it.

    The handlers of the signals, which say how the process ends, run when the main thread is back. The second signal
    ends the process, after a moment in which they may do it themselves. A server's event loop takes signals over.
    """
    reader, writer = os.pipe()
    if hasattr(os, "set_blocking"):  # Windows has it since Python 3.12, and does without
        os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)


def _watch(reader: int) -> None:
    count = 0
    while numbers := os.read(reader, 64):
        for number in numbers:
            if number not in {signal.SIGINT, signal.SIGTERM}:
                continue
            count += 1
            if count == 1:
                for work in _in_main_thread:
                    work.terminate()
                _later(_terminate_everything)
            else:
                _later(os._exit, 128 + number)
    os.close(reader)


def _later(function: Callable[..., object], *arguments: int) -> None:
    timer = threading.Timer(_GRACE_S, function, arguments)
    timer.daemon = True
    timer.start()


def _terminate_everything() -> None:
    for work in list(_everything):
        work.terminate()
