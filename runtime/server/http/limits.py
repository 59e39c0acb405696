"""HTTP header limits: size and time."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEADER_LIMIT_BYTES = 64 * 1024
_HEADER_LIMIT_S = 10.0


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol; closes a connection whose request line and headers are too large or too slow."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_headers = True
        self._header_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer of the first request's headers."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(_HEADER_LIMIT_S, self._close_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes before the body; the parser itself has no limit."""
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > _HEADER_LIMIT_BYTES and not self.transport.is_closing():
            self.send_400_response("Request line and headers are too large.")

    def on_message_begin(self) -> None:
        """Start to count a request's headers; those of a later request on this connection have a timer of their own."""
        super().on_message_begin()
        if self._timer is None:
            self._timer = self.loop.call_later(_HEADER_LIMIT_S, self._close_slow)
        self._in_headers = True

    def on_headers_complete(self) -> None:
        """Stop counting: the body follows, which has its own limits."""
        self._in_headers = False
        self._header_bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def _close_slow(self) -> None:
        self._timer = None
        if self._in_headers and not self.transport.is_closing():
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
