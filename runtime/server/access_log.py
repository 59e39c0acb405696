"""One line a request, as JSON or for people, on standard error."""

import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from runtime.server.admission import RequestContext

LogFormat = Literal["json", "text", "none"]

_logger = logging.getLogger("truecopy.server")


class AccessLog:
    """Writes what happened; ``none`` writes events alone, and no line for a request."""

    def __init__(self, form: LogFormat = "text") -> None:
        self._form = form

    def write(
        self, front: str, method: str, path: str, status: int | str, call: RequestContext, seconds: float
    ) -> None:
        """Write the line of one request."""
        if self._form == "none":
            return
        row: dict[str, Any] = {
            "front": front,
            "method": method,
            "path": path[:200],
            "status": status,
            "request_id": call.request_id,
            "ms": round(seconds * 1000, 2),
        }
        row |= {f"{stage}_ms": round(value * 1000, 2) for stage, value in call.seconds.items()}
        if call.traceparent:
            row["trace_id"] = call.traceparent.split("-")[1]
        if call.outcome:
            row["error"] = call.outcome
        self._emit("request", row)

    def write_event(self, event: str, **fields: object) -> None:
        """Write the line of something that is not a request: a start, a swap, a stop."""
        self._emit(event, fields)

    def write_fault(self, error: Exception, call: RequestContext) -> None:
        """Write a fault of ours, with its traceback."""
        _logger.error("request %s: %s", call.request_id, error, exc_info=error)

    def _emit(self, event: str, fields: dict[str, Any]) -> None:
        if self._form == "json":
            now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
            line = msgspec.json.encode({"time": now, "event": event, **fields}).decode()
        else:
            # repr keeps a hostile path or name on its line.
            line = event + "".join(
                f" {name}={value if isinstance(value, int | float) else repr(value)}" for name, value in fields.items()
            )
        sys.stderr.write(line + "\n")
