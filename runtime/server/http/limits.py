"""Limits of HTTP connections: headers, pipelining, idle time, and responses that nobody reads."""

import asyncio
import sys
import time
from collections.abc import Iterable
from typing import Any

import msgspec
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

_HEADER_LIMIT_BYTES = 64 * 1024
_HEADER_LIMIT_S = 10.0

# Requests that wait on one connection for the response before them; each is parsed when its bytes arrive.
_MOST_PIPELINED = 64

# Each chunk of a body takes a call of the event loop's thread: after so many, the average must not be tiny.
_FREE_CHUNKS = 10_000
_LEAST_CHUNK_BYTES = 256

# A response of which the client has read nothing for so long is dropped, with its connection.
_UNREAD_LIMIT_S = 30.0

# How often unread responses are looked at.
_SWEEP_S = 1.0

# Connections above the limit that are let in for health checks.
_SPARE_CONNECTIONS = 64

# What is wrong with most requests that are none.
_CHECK_REQUEST = "Check its first line, headers and Content-Length, and whether the client means https"

_HEALTH = (b"/v2/health/", b"/ping")


class _RefusedError(Exception):
    """The request is refused by the connection itself; ends the parser's work on the bytes that have arrived."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _ResponseWriter:
    """What uvicorn's cycle of a request writes its response to: the head goes out with the first piece of the body.

    As two writes they are two packets, and wake the client twice. ASGI wants it so: the head is not to be sent before
    the first piece of the body.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._head: bytes | None = None
        self._has_body = False

    def write(self, data: bytes) -> None:
        """Write a piece of the response, the first of which is its head."""
        if self._cycle.waiting_for_100_continue or self._has_body:
            self._transport.write(data)
        elif self._head is None and self._cycle.scope["method"] != "HEAD":
            self._head = data
        else:
            self._has_body = True
            self._transport.writelines([self._head or b"", data])

    def close(self) -> None:
        """Close the connection when what was written has been sent."""
        if self._head is not None and not self._has_body:
            self._transport.write(self._head)
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether the connection is closing or closed."""
        return self._transport.is_closing()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol; closes connections whose headers are too large, too slow or ambiguous.

    ``most_connections`` is the number from which the connection that has been idle longest makes room for a new one.
    ``root_path`` is the prefix that a proxy may have left on a path.
    """

    def __init__(self, *arguments: Any, most_connections: int, root_path: str = "", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._most_connections = most_connections
        self._root_path = root_path.encode()
        self.quiet_since = time.monotonic()
        self._refused: _RefusedError | None = None
        self._in_headers = True
        self._header_bytes = 0
        self._bytes_since_progress = 0
        self._chunks = self._body_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._unread = (0, 0.0)

    @property
    def idle(self) -> bool:
        """Whether no request is in progress: none has begun, or the last one has its response."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def unread_bytes(self) -> int:
        """The bytes of responses that the client has not read."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room for the connection, and start the timer of its first request's headers."""
        super().connection_made(transport)
        excess = len(self.connections) - self._most_connections
        if excess > 0 and not self._close_an_idle_one() and excess > _SPARE_CONNECTIONS:
            self.transport.abort()
            return
        self._timer = self.loop.call_later(_HEADER_LIMIT_S, self._close_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bound the bytes that the parser keeps of a header or a trailer without an end."""
        if self._refused is not None:
            return
        self.quiet_since = time.monotonic()
        self._bytes_since_progress += len(data)
        super().data_received(data)
        if self._in_headers and self._timer is None:  # of a later request, which has a time of its own
            self._timer = self.loop.call_later(_HEADER_LIMIT_S, self._close_slow)
        if self._bytes_since_progress > _HEADER_LIMIT_BYTES + len(data) and not self.transport.is_closing():
            self._refused = _too_large()
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """Respond to a request that the parser cannot read, or that is refused, and close the connection.

        On a connection that owes earlier responses, this one would be taken for the first of them: what cannot be read
        after whole requests, such as more bytes than their Content-Length, closes it once they are sent.
        """
        refused = self._refused
        error = self._refused = refused or _RefusedError(400, f"not HTTP: {sys.exception() or msg}. {_CHECK_REQUEST}")
        if not self.idle and not self.cycle.more_body and refused is None:
            self.cycle.keep_alive = False
            return
        in_first_body = not self.idle and not self.pipeline and not self.cycle.response_started
        if in_first_body:  # its own body cannot be read: this is its response
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.idle or in_first_body:
            body = msgspec.json.encode({"error": f"request: {error}"})
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[error.status] + head + body)
        self.transport.close()

    def on_message_begin(self) -> None:
        """Start to count a request's headers."""
        super().on_message_begin()
        self._in_headers = True
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Count a piece of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; a trailer, which follows a chunked body, is counted with them and dropped."""
        self._count(len(name) + len(value) + 4)
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the headers; the body follows, which has its own limits."""
        self._in_headers = False
        self._bytes_since_progress = self._chunks = self._body_bytes = 0
        self._stop_timer()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise self._refuse(400, f"expected one Host header, got {hosts}. Send one.")
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise self._refuse(400, f"more than {_MOST_PIPELINED} requests wait for a response. Read the responses.")
        is_health = self.url.removeprefix(self._root_path).startswith(_HEALTH)
        crowded = len(self.connections) > self._most_connections and not is_health
        self.app = service_unavailable if crowded else self.config.loaded_app
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.transport = _ResponseWriter(self.cycle)  # type: ignore[assignment]

    def on_chunk_header(self) -> None:
        """Count a chunk that begins."""
        self._bytes_since_progress = 0
        self._chunks += 1
        if self._chunks > _FREE_CHUNKS + self._body_bytes // _LEAST_CHUNK_BYTES:
            raise self._refuse(400, f"chunks of fewer than {_LEAST_CHUNK_BYTES} bytes. Send larger ones.")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._bytes_since_progress = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Note that the connection is idle."""
        self.quiet_since = time.monotonic()
        super().on_response_complete()

    def is_unread(self, now: float) -> bool:
        """Return whether the client has read nothing of its responses for longer than the limit."""
        size_bytes = self.unread_bytes
        before, since = self._unread
        if size_bytes == 0 or size_bytes < before or since == 0:
            self._unread = (size_bytes, now if size_bytes else 0.0)
            return False
        self._unread = (size_bytes, since)
        return now - since > _UNREAD_LIMIT_S

    def _count(self, size_bytes: int) -> None:
        self._header_bytes += size_bytes
        if self._header_bytes > _HEADER_LIMIT_BYTES:
            error = _too_large()
            raise self._refuse(error.status, str(error))

    def _refuse(self, status: int, reason: str) -> _RefusedError:
        self._refused = _RefusedError(status, reason)
        return self._refused

    def _close_an_idle_one(self) -> bool:
        idle = [other for other in self.connections if isinstance(other, BoundedProtocol) and other.idle]
        idle = [other for other in idle if other is not self]
        if not idle:
            return False
        longest = min(idle, key=lambda other: other.quiet_since)
        longest.transport.abort()
        self.connections.discard(longest)
        return True

    def _close_slow(self) -> None:
        self._timer = None
        if self._in_headers and not self.transport.is_closing():
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def drop_unread(connections: Iterable[Any], *, most_bytes: int) -> None:
    """Close, from now on, the connections whose clients do not read their responses.

    Where all responses together take more than ``most_bytes``, those that take most are the first to go.
    """
    while True:
        await asyncio.sleep(_SWEEP_S)
        now = time.monotonic()
        unread = sorted((each for each in connections if each.unread_bytes), key=lambda each: each.unread_bytes)
        total_bytes = sum(each.unread_bytes for each in unread)
        for each in reversed(unread):
            if each.is_unread(now) or total_bytes > most_bytes:
                total_bytes -= each.unread_bytes
                each.transport.abort()


def _too_large() -> _RefusedError:
    return _RefusedError(
        431, f"too large headers: expected at most {_HEADER_LIMIT_BYTES} bytes with the request line. Send less."
    )
