"""Admission control: limits on runs of the model and buffered body bytes."""

import math
from threading import Lock
from typing import Protocol

from runtime.inputs.json_size import json_bytes
from runtime.server.errors import QueueFullError, TooLargeError
from runtime.server.limits import MIB, Limits


class Deadline(Protocol):
    """The part of a request's context that admission depends on."""

    def check(self) -> None:
        """Raise LateError when the response would be of no use."""

    def remaining_s(self) -> float:
        """Return the seconds until the deadline; negative when it has passed."""


class BodyReservation:
    """The memory of one request: its body, and what is made of it; released when the request ends.

    Everything is reserved before it is made, by what the request claims, or as it arrives.
    """

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.size_bytes = 0

    def extend(self, size_bytes: int) -> None:
        """Reserve ``size_bytes`` more.

        Raises TooLargeError for more than one request may hold, QueueFullError where all requests together would exceed
        their limit.
        """
        self._admission.check_request(self.size_bytes + size_bytes)
        self._admission.reserve(size_bytes)
        self.size_bytes += size_bytes

    def extend_for_json(self, text: bytes) -> None:
        """Reserve the memory of all values of a JSON text, which are about to be made at once.

        Raises TooLargeError for more than one text may have, and what ``json_bytes`` and ``extend`` raise.
        """
        size_bytes = json_bytes(text)
        self._admission.check_parsed(size_bytes)
        self.extend(size_bytes)

    def __enter__(self) -> "BodyReservation":
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.release(self.size_bytes)
        self.size_bytes = 0


class Admission:
    """Tracks runs of the model and buffered body bytes.

    A run is one input, or several inputs of one request where they share a run. Bytes are also reserved by the thread
    that decompresses and converts bodies; everything else is for the event loop's thread alone.
    """

    def __init__(self, limits: Limits, *, workers: int) -> None:
        self.limits = limits
        self.runs = 0
        self.held_bytes = 0
        self._workers = workers
        self._seconds_per_run = 0.0
        self._bytes_lock = Lock()

    def reserve(self, size_bytes: int) -> None:
        """Count ``size_bytes`` of a request; raises QueueFullError where all together would exceed the limit."""
        with self._bytes_lock:
            if self.held_bytes + size_bytes > self.limits.held_bytes:
                raise QueueFullError(
                    f"request: the server is at its limit of buffered request bodies: {self.held_bytes / MIB:.0f} MB "
                    f"of {self.limits.held_bytes / MIB:.0f} MB (--max-buffered-mb). Try again later.",
                    retry_after_s=self._retry_after_s(),
                )
            self.held_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Stop counting ``size_bytes`` of a request."""
        with self._bytes_lock:
            self.held_bytes -= size_bytes

    def check_request(self, size_bytes: int) -> None:
        """Raise TooLargeError for a request that would take more bytes of memory than one request may."""
        if size_bytes > self.limits.request_bytes:
            raise TooLargeError(
                f"request: too much memory for what it claims: expected at most {self.limits.request_bytes} bytes for "
                f"the body and its values, got {size_bytes} or more. Send less in one request, send tensors as binary "
                "data, or raise the limit (--max-body-mb: four times that)."
            )

    def check_parsed(self, size_bytes: int) -> None:
        """Raise TooLargeError for JSON whose values would take more bytes of memory than those of one text may."""
        if size_bytes > self.limits.parsed_bytes:
            raise TooLargeError(
                f"body: too many values in JSON: expected at most {self.limits.parsed_bytes} bytes of memory for them, "
                f"got {size_bytes} or more. Send less in one request, send tensors as binary data, or raise the limit "
                "(--max-body-mb: twice that)."
            )

    def check_inputs(self, inputs: int, inputs_per_run: int) -> None:
        """Raise TooLargeError for more ``inputs`` than the queue ever holds, of a model that runs so many at a time."""
        most = self.limits.most_inputs(inputs_per_run)
        if inputs > most:
            raise TooLargeError(
                f"request: too many inputs: expected at most {most} in one request, got {inputs}. Split the request, "
                "or raise the limit (--max-queue)."
            )

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
        if self.runs + runs > self.limits.queue:
            retry_after_s = self._retry_after_s()
            raise QueueFullError(
                f"request: the queue is full: {self.runs} of at most {self.limits.queue} runs of the model wait or are "
                f"in progress. Try again in {retry_after_s} s.",
                retry_after_s=retry_after_s,
            )
        wait_s = self.expected_wait_s()
        if wait_s > deadline.remaining_s():
            retry_after_s = self._retry_after_s()
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
