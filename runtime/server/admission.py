"""Admission control: limits on runs of the model and buffered body bytes."""

import math
from typing import Protocol

from runtime.server.errors import QueueFullError, TooLargeError
from runtime.server.limits import MIB, Limits


class Deadline(Protocol):
    """The part of a request's context that admission depends on."""

    def check(self) -> None:
        """Raise LateError when the response would be of no use."""

    def remaining_s(self) -> float:
        """Return the seconds until the deadline; negative when it has passed."""


class BodyReservation:
    """The buffered bytes of one request's body; released when the request ends."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.size_bytes = 0

    def extend(self, size_bytes: int) -> None:
        """Reserve ``size_bytes`` more; raises QueueFullError where all bodies together would exceed the limit."""
        self._admission.reserve(size_bytes)
        self.size_bytes += size_bytes

    def __enter__(self) -> "BodyReservation":
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.held_bytes -= self.size_bytes
        self.size_bytes = 0


class Admission:
    """Tracks runs of the model and buffered body bytes; only the event loop's thread uses it.

    A run is one input, or several inputs of one request where they share a run.
    """

    def __init__(self, limits: Limits, *, workers: int) -> None:
        self.limits = limits
        self.runs = 0
        self.held_bytes = 0
        self._workers = workers
        self._seconds_per_run = 0.0

    def reserve(self, size_bytes: int) -> None:
        """Count ``size_bytes`` of a body; raises QueueFullError where all bodies together would exceed the limit."""
        if self.held_bytes + size_bytes > self.limits.held_bytes:
            raise QueueFullError(
                f"request: the server is at its limit of buffered request bodies: {self.held_bytes / MIB:.0f} MB of "
                f"{self.limits.held_bytes / MIB:.0f} MB. Try again later.",
                retry_after_s=self._retry_after_s(),
            )
        self.held_bytes += size_bytes

    def check_body(self, size_bytes: int) -> None:
        """Raise TooLargeError for a body of more bytes than one request may have."""
        if size_bytes > self.limits.body_bytes:
            raise TooLargeError(
                f"body: too large: expected at most {self.limits.body_bytes} bytes, got {size_bytes} or more. "
                "Send less in one request, or raise the limit (--max-body-mb)."
            )

    def enter(self, runs: int, deadline: Deadline) -> None:
        """Admit ``runs`` of the model; raises what ``check_capacity`` raises."""
        self.check_capacity(runs, deadline)
        self.runs += runs

    def check_capacity(self, runs: int, deadline: Deadline) -> None:
        """Raise TooLargeError for more ``runs`` than the queue ever holds, QueueFullError where it is full now.

        A request that could not be completed before its own deadline also gets QueueFullError at once; DeadlineError is
        for one whose deadline has passed already.
        """
        deadline.check()
        if runs > self.limits.queue:
            raise TooLargeError(
                f"request: too many inputs: expected at most {self.limits.queue} runs of the model in one request, got "
                f"{runs}. Split the request, or raise the limit (--max-queue)."
            )
        retry_after_s = self._retry_after_s()
        if self.runs + runs > self.limits.queue:
            raise QueueFullError(
                f"request: the queue is full: {self.runs} of at most {self.limits.queue} runs of the model wait or are "
                f"in progress. Try again in {retry_after_s} s.",
                retry_after_s=retry_after_s,
            )
        wait_s = self.expected_wait_s()
        if wait_s > deadline.remaining_s():
            raise QueueFullError(
                f"request: the queue is too long for its deadline: {max(deadline.remaining_s(), 0):.1f} s remain, and "
                f"the expected wait is {wait_s:.1f} s. Try again in {retry_after_s} s, or allow more time.",
                retry_after_s=retry_after_s,
            )

    def leave(self, runs: int, busy_s: float) -> None:
        """Release ``runs`` that kept workers busy for ``busy_s`` seconds in total (0: they never ran)."""
        self.runs -= runs
        if busy_s > 0:
            latest = busy_s / runs
            before = self._seconds_per_run or latest
            self._seconds_per_run = before + 0.1 * (latest - before)

    def expected_wait_s(self) -> float:
        """Return about how long a run that arrived now would wait for a worker."""
        return max(0, self.runs - self._workers + 1) * self._seconds_per_run / self._workers

    def _retry_after_s(self) -> int:
        """Return when a client that is refused now may try again, in whole seconds."""
        return max(1, math.ceil(self.expected_wait_s()))
