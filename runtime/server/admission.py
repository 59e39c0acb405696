"""Who is let in: counted before a byte is decoded, so that what a server holds at once is bounded."""

import math
import time
from dataclasses import dataclass, field

from runtime.server.errors import ClientLeftError, DeadlineError, QueueFullError, TooLargeError
from runtime.server.limits import MIB, Limits


@dataclass(kw_only=True)
class RequestContext:
    """One request on its way: whose it is, until when it is of use, and whether anyone still waits.

    ``deadline`` is on ``time.monotonic``'s clock. ``left`` is set by the front end and read by the workers. ``seconds``
    and ``outcome`` are for the log: the time of each stage, and the error if there was one.
    """

    request_id: str
    deadline: float
    traceparent: str = ""
    started: float = field(default_factory=time.monotonic)
    left: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    outcome: str = ""

    def remaining_s(self) -> float:
        """Return the seconds until the deadline; negative when it has passed."""
        return self.deadline - time.monotonic()

    def shorten(self, seconds: float) -> None:
        """Honour the client's own deadline, ``seconds`` from the start, where it is the earlier one."""
        if seconds > 0:
            self.deadline = min(self.deadline, self.started + seconds)

    def check(self) -> None:
        """Raise ClientLeftError or DeadlineError when the answer would be of no use."""
        if self.left:
            raise ClientLeftError("request: the client left before its answer was ready. Nothing to do.")
        if self.remaining_s() <= 0:
            raise self.late()

    def late(self) -> DeadlineError:
        """Return the error that the passed deadline is."""
        allowed = self.deadline - self.started
        return DeadlineError(
            f"request: deadline passed: expected an answer within {allowed:g} s, which the queue and the model did not "
            "allow. Send less at once, or allow more time."
        )


class BodyReservation:
    """The bytes of one request's body, given back when the request ends."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.size = 0

    def extend(self, count: int) -> None:
        """BodyReservation ``count`` more bytes; raises QueueFullError where all bodies together would be too much."""
        self._admission.hold(count)
        self.size += count

    def __enter__(self) -> "BodyReservation":
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.held_bytes -= self.size
        self.size = 0


class Admission:
    """Counts the inputs and the bytes that are in the house; used by the event loop's thread alone."""

    def __init__(self, limits: Limits, *, workers: int) -> None:
        self.limits = limits
        self.inputs = 0
        self.held_bytes = 0
        self._workers = workers
        self._seconds_per_input = 0.0

    def hold(self, count: int) -> None:
        """Count ``count`` bytes of a body; raises QueueFullError when there is no room for them."""
        if self.held_bytes + count > self.limits.held_bytes:
            raise QueueFullError(
                f"request: the server holds {self.held_bytes / MIB:.0f} MB of requests, as much as it may "
                f"({self.limits.held_bytes / MIB:.0f} MB). Try again later.",
                retry_after_s=self.wait_s(),
            )
        self.held_bytes += count

    def check_body(self, size: int) -> None:
        """Raise TooLargeError for a body of more bytes than one request may have."""
        if size > self.limits.body_bytes:
            raise TooLargeError(
                f"body: too large: expected at most {self.limits.body_bytes} bytes, got {size} or more. "
                "Send less in one request, or raise the limit (--max-body-mb)."
            )

    def enter(self, inputs: int, call: RequestContext) -> None:
        """Let ``inputs`` in; raises what ``check_room`` raises."""
        self.check_room(inputs, call)
        self.inputs += inputs

    def check_room(self, inputs: int, call: RequestContext) -> None:
        """Raise TooLargeError for more ``inputs`` than ever fit, QueueFullError where they do not fit now.

        A request that could not be answered before its own deadline is refused at once, too; DeadlineError is for one
        whose deadline has passed already.
        """
        call.check()
        if inputs > self.limits.queue:
            raise TooLargeError(
                f"request: too many inputs: expected at most {self.limits.queue} in one request, got {inputs}. "
                "Send fewer at once."
            )
        wait_s = self.wait_s()
        if self.inputs + inputs > self.limits.queue:
            raise QueueFullError(
                f"request: the queue is full: {self.inputs} inputs of at most {self.limits.queue} wait or run. "
                f"Try again in {math.ceil(wait_s)} s.",
                retry_after_s=wait_s,
            )
        if wait_s > call.remaining_s():
            raise QueueFullError(
                f"request: the queue is too long for it: expected room within {max(call.remaining_s(), 0):.1f} s, "
                f"got a wait of about {wait_s:.1f} s. Try again later, or allow more time.",
                retry_after_s=wait_s,
            )

    def leave(self, inputs: int, busy_s: float) -> None:
        """Let ``inputs`` out again, which kept workers busy for ``busy_s`` seconds together (0: they never ran)."""
        self.inputs -= inputs
        if busy_s > 0:
            latest = busy_s / inputs
            before = self._seconds_per_input or latest
            self._seconds_per_input = before + 0.1 * (latest - before)

    def wait_s(self) -> float:
        """Return about how long an input that came now would wait for a worker."""
        return max(0, self.inputs - self._workers + 1) * self._seconds_per_input / self._workers
