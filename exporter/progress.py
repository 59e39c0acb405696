"""Makes the steps of an export visible while they run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec


class Step(msgspec.Struct, kw_only=True):
    """One step: its name, how long it took, and what it found, in words."""

    name: str
    seconds: float = 0.0
    finding: str = ""


class ProgressListener(Protocol):
    """Whoever wants to know: a terminal, a log, a test."""

    def started(self, name: str) -> None:
        """Be told that a step begins."""

    def finished(self, step: Step) -> None:
        """Be told that a step ended well; a failed one raises instead."""


class Progress:
    """The steps so far, each told to a listener as it begins and ends."""

    def __init__(self, listener: ProgressListener | None) -> None:
        self.done: list[Step] = []
        self._listener = listener

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time a block; it writes what it found into the step that it is given."""
        if self._listener:
            self._listener.started(name)
        step = Step(name=name)
        start = time.perf_counter()
        yield step
        step.seconds = time.perf_counter() - start
        self.done.append(step)
        if self._listener:
            self._listener.finished(step)
