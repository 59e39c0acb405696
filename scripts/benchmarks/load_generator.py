"""Load generator for servers on this machine, in closed and open loops over keep-alive connections.

In a closed loop each client sends its next request when it has a response; in an open loop requests come at their own
times, whatever the server does.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import uvloop

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request: a body for a path; ``kind`` labels its responses in a report."""

    path: str
    body: bytes
    kind: str = ""
    content_type: str = "image/jpeg"
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"


@dataclass(frozen=True, kw_only=True)
class Response:
    """One response; status 0 stands for none. Times are in seconds."""

    request: Request
    status: int
    body: bytes
    sent: float
    seconds: float


@dataclass(kw_only=True)
class Report:
    """The responses of one run, and its duration."""

    responses: list[Response] = field(repr=False)  # asyncio's runner takes the repr of what it ran
    seconds: float

    def of(self, kind: str) -> "Report":
        """Return the responses to one kind of request."""
        return Report(
            responses=[response for response in self.responses if response.request.kind == kind], seconds=self.seconds
        )

    @property
    def statuses(self) -> Counter[int]:
        """Number of responses by status."""
        return Counter(response.status for response in self.responses)

    @property
    def good_per_s(self) -> float:
        """Responses of status 200 per second."""
        return self.statuses[200] / self.seconds

    def quantile_ms(self, share: float, status: int = 200) -> float:
        """Return the time in milliseconds within which this share of the responses of ``status`` came."""
        times = sorted(response.seconds for response in self.responses if response.status == status)
        return times[min(len(times) - 1, int(share * len(times)))] * 1000 if times else float("nan")


class Connection(asyncio.Protocol):
    """One keep-alive connection, opened again when the server closes it.

    It uses the event loop's bare protocol: on a small machine the generator takes its time from the servers under test.
    """

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname in {"127.0.0.1", "localhost", "::1"}, "load goes to this machine alone"
        self._host, self._port = address.hostname, address.port
        self._transport: Any = None
        self._response: asyncio.Future[tuple[int, bytes]] | None = None
        self._received = b""
        self._heads: dict[int, bytes] = {}

    async def send(self, request: Request, *, timeout_s: float = 60) -> Response:
        """Return the response, with status 0 where none came in time."""
        sent = time.perf_counter()
        loop = asyncio.get_running_loop()
        self._response, self._received = loop.create_future(), b""
        timer = loop.call_later(timeout_s, self._fail, TimeoutError())
        try:
            if self._transport is None:
                await loop.create_connection(lambda: self, self._host, self._port)
            self._transport.writelines((self._head(request), request.body))
            status, body = await self._response
        except OSError:  # includes timeouts
            self.close()
            status, body = 0, b""
        finally:
            timer.cancel()
        return Response(request=request, status=status, body=body, sent=sent, seconds=time.perf_counter() - sent)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._transport is not None:
            self._transport.abort()
        self._transport = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("closed"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        whole = _response_in(self._received)
        if whole is None or self._response is None or self._response.done():
            return
        status, body, last = whole
        self._response.set_result((status, body))
        if last:
            self.close()

    def _fail(self, error: OSError) -> None:
        if self._response is not None and not self._response.done():
            self._response.set_exception(error)

    def _head(self, request: Request) -> bytes:
        head = self._heads.get(id(request))
        if head is None:
            lines = [f"{request.method} {request.path} HTTP/1.1", f"Host: {self._host}:{self._port}", "Accept: */*"]
            lines += [f"Content-Type: {request.content_type}", f"Content-Length: {len(request.body)}"]
            lines += [f"{name}: {value}" for name, value in request.headers.items()]
            head = self._heads[id(request)] = "\r\n".join([*lines, "", ""]).encode()
        return head


def _response_in(data: bytes) -> tuple[int, bytes, bool] | None:
    """Return a response's status and body, and whether the connection ends; None while it is incomplete."""
    head, blank, rest = data.partition(b"\r\n\r\n")
    if not blank:
        return None
    status = int(head[9:12])
    if status == 100:
        return _response_in(rest)
    fields = head.lower()
    last = b"\nconnection: close" in fields
    if b"\ntransfer-encoding: chunked" in fields:
        body = _unchunked(rest)
        return None if body is None else (status, body, last)
    _, _, length = fields.partition(b"\ncontent-length:")
    size = int(length.partition(b"\r")[0] or 0)
    return (status, rest[:size], last) if len(rest) >= size else None


def _unchunked(data: bytes) -> bytes | None:
    """Return the body in chunks, None while the last one is missing."""
    parts = []
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            return None
        size = int(line.partition(b";")[0], 16)
        if len(data) < size + 2:
            return None
        if size == 0:
            return b"".join(parts)
        parts.append(data[:size])
        data = data[size + 2 :]


def run(load: Coroutine[Any, Any, T]) -> T:
    """Return the result of ``load``, run on uvloop, which takes the least processor time."""
    return uvloop.run(load)


async def run_closed(
    url: str, requests: Sequence[Request], *, clients: int, seconds: float = 0.0, count: int = 0, timeout_s: float = 60
) -> Report:
    """Return the responses to ``clients`` that each send the next request as soon as they have a response.

    Requests are taken from ``requests`` in turn, for ``seconds``, or until ``count`` were sent.
    """
    responses: list[Response] = []
    started = time.perf_counter()
    sent = 0

    async def client(number: int) -> None:
        nonlocal sent
        connection = Connection(url)
        index = number
        while (count and sent < count) or (not count and time.perf_counter() - started < seconds):
            sent += 1
            responses.append(await connection.send(requests[index % len(requests)], timeout_s=timeout_s))
            index += clients
        connection.close()

    await asyncio.gather(*map(client, range(clients)))
    return Report(responses=responses, seconds=time.perf_counter() - started)


async def run_open(
    url: str, requests: Sequence[Request], *, per_s: float, seconds: float, seed: int = 0, more_urls: Sequence[str] = ()
) -> Report:
    """Return the responses to requests at random times with a mean rate of ``per_s`` per second (Poisson).

    With ``more_urls`` the servers take turns.
    """
    generator = random.Random(seed)
    urls = [url, *more_urls]
    free: dict[str, list[Connection]] = {url: [] for url in urls}
    responses: list[Response] = []
    running: set[asyncio.Task[None]] = set()

    async def send(request: Request, to: str) -> None:
        connection = free[to].pop() if free[to] else Connection(to)
        responses.append(await connection.send(request))
        free[to].append(connection)

    started = time.perf_counter()
    due = started
    index = 0
    while due - started < seconds:
        due += generator.expovariate(per_s)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(send(requests[index % len(requests)], urls[index % len(urls)]))
        running.add(task)
        task.add_done_callback(running.discard)
        index += 1
    offered = time.perf_counter() - started
    while running:
        await asyncio.wait(set(running))
    for connection in [connection for pool in free.values() for connection in pool]:
        connection.close()
    return Report(responses=responses, seconds=offered)
