"""Access log: one line per request on standard error, as JSON or text."""

import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from runtime.server.context import RequestContext
from runtime.server.decoding import describe
from runtime.server.options import LogFormat

_logger = logging.getLogger("truecopy.server")


class AccessLog:
    """Writes requests and events; the format ``none`` omits the requests."""

    def __init__(self, log_format: LogFormat = "text") -> None:
        self._format = log_format

    def write_request(
        self, transport: str, method: str, path: str, status: int | str, context: RequestContext, seconds: float
    ) -> None:
        """Write the line of one request."""
        if self._format == "none":
            return
        fields: dict[str, Any] = {
            "front": transport,
            "method": method,
            "path": path[:200],
            "status": status,
            "request_id": context.request_id,
            "ms": round(seconds * 1000, 2),
        }
        fields |= {f"{stage}_ms": round(value * 1000, 2) for stage, value in context.stage_seconds.items()}
        if context.traceparent:
            fields["trace_id"] = context.traceparent.split("-")[1]
        if context.error:
            fields["error"] = context.error
        self._write("request", fields)

    def write_event(self, event: str, **fields: object) -> None:
        """Write the line of an event that is not a request, such as a start, a reload or a stop."""
        self._write(event, fields)

    def write_internal_error(self, error: BaseException, context: RequestContext) -> None:
        """Write a fault of the server itself, with its traceback."""
        _logger.error("request %s: %s", context.request_id, describe(error), exc_info=error)

    def _write(self, event: str, fields: dict[str, Any]) -> None:
        if self._format == "json":
            now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
            line = msgspec.json.encode({"time": now, "event": event, **fields}).decode()
        else:
            # repr keeps a hostile path or name on its line.
            line = event + "".join(
                f" {name}={value if isinstance(value, int | float) else repr(value)}" for name, value in fields.items()
            )
        sys.stderr.write(line + "\n")
