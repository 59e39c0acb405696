"""Request context: request ID, trace context, deadline and disconnection."""

import random
import re
import time
from dataclasses import dataclass, field

from runtime.server.errors import ClientLeftError, DeadlineError

# Characters that stand in a log line and in a header without escaping.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

# IDs tell requests apart, and are no secret: no system call for each.
_random = random.Random()  # noqa: S311

# W3C Trace Context, version 00 and any later one that keeps its form.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(kw_only=True)
class RequestContext:
    """One request in flight; the front end, the event loop and the workers share it.

    ``started`` and ``deadline`` are on ``time.monotonic``'s clock. ``disconnected`` is set by the front end and read by
    the workers. ``stage_seconds`` and ``error`` are for the log: the time of each stage, and the message of the error.
    """

    request_id: str
    deadline: float
    traceparent: str = ""
    started: float = field(default_factory=time.monotonic)
    disconnected: bool = False
    stage_seconds: dict[str, float] = field(default_factory=dict)
    error: str = ""

    def remaining_s(self) -> float:
        """Return the seconds until the deadline; negative when it has passed."""
        return self.deadline - time.monotonic()

    def shorten(self, seconds: float) -> None:
        """Apply the client's own deadline, ``seconds`` from the start, where it is the earlier one; 0 means none."""
        if seconds > 0:
            self.deadline = min(self.deadline, self.started + seconds)

    def check(self) -> None:
        """Raise ClientLeftError or DeadlineError when the response would be of no use."""
        if self.disconnected:
            raise ClientLeftError
        if self.remaining_s() <= 0:
            raise self.deadline_error()

    def deadline_error(self) -> DeadlineError:
        """Return the error for the deadline that passed."""
        allowed_s = self.deadline - self.started
        return DeadlineError(
            f"request: deadline passed: no response within {allowed_s:g} s. Send fewer inputs at once, or allow more "
            "time."
        )


def new_context(*, request_id: str, traceparent: str, deadline_s: float) -> RequestContext:
    """Return the context of a request that arrives now.

    ``request_id`` and ``traceparent`` are the client's; an ID that is not safe to print is replaced by a random one,
    and a malformed trace context is dropped.
    """
    now = time.monotonic()
    return RequestContext(
        request_id=request_id if _REQUEST_ID.fullmatch(request_id) else f"{_random.getrandbits(64):016x}",
        traceparent=traceparent if _TRACEPARENT.fullmatch(traceparent) else "",
        started=now,
        deadline=now + deadline_s,
    )
