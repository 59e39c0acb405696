"""Load for servers, in closed loops (each client asks again when it has its answer) and open ones (requests come at
their own times, whatever the server does), over keep-alive connections to addresses on this machine.
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
class Ask:
    """One request: a body for a path; ``kind`` is how its answers are told apart."""

    path: str
    body: bytes
    kind: str = ""
    content_type: str = "image/jpeg"
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of it: status 0 stands for no answer at all; times are in seconds."""

    ask: Ask
    status: int
    body: bytes
    sent: float
    seconds: float


@dataclass(kw_only=True)
class Report:
    """The answers of one run, and how long it took."""

    answers: list[Answer] = field(repr=False)  # the event loop's runner asks for the repr of what it ran
    seconds: float

    def of(self, kind: str) -> "Report":
        """Return the answers to one kind of request."""
        return Report(answers=[one for one in self.answers if one.ask.kind == kind], seconds=self.seconds)

    @property
    def statuses(self) -> Counter[int]:
        """How often each status came."""
        return Counter(answer.status for answer in self.answers)

    @property
    def good_per_s(self) -> float:
        """Answers of status 200 a second."""
        return self.statuses[200] / self.seconds

    def quantile_ms(self, share: float, status: int = 200) -> float:
        """Return the time in milliseconds within which this share of the answers of ``status`` came."""
        times = sorted(answer.seconds for answer in self.answers if answer.status == status)
        return times[min(len(times) - 1, int(share * len(times)))] * 1000 if times else float("nan")


class Connection(asyncio.Protocol):
    """One keep-alive connection, opened again when the server closes it.

    Written on the loop's bare protocol: what the generator takes of a small machine, the servers under test lose.
    """

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname in {"127.0.0.1", "localhost", "::1"}, "load goes to this machine alone"
        self._host, self._port = address.hostname, address.port
        self._transport: Any = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._received = b""
        self._heads: dict[int, bytes] = {}

    async def send(self, ask: Ask, *, timeout_s: float = 60) -> Answer:
        """Return the answer, or one of status 0 where none came in time."""
        sent = time.perf_counter()
        loop = asyncio.get_running_loop()
        self._answer, self._received = loop.create_future(), b""
        timer = loop.call_later(timeout_s, self._fail, TimeoutError())
        try:
            if self._transport is None:
                await loop.create_connection(lambda: self, self._host, self._port)
            self._transport.writelines((self._head(ask), ask.body))
            status, body = await self._answer
        except OSError:  # a timeout is one, too
            self.close()
            status, body = 0, b""
        finally:
            timer.cancel()
        return Answer(ask=ask, status=status, body=body, sent=sent, seconds=time.perf_counter() - sent)

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
        whole = _answer_in(self._received)
        if whole is None or self._answer is None or self._answer.done():
            return
        status, body, last = whole
        self._answer.set_result((status, body))
        if last:
            self.close()

    def _fail(self, error: OSError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _head(self, ask: Ask) -> bytes:
        head = self._heads.get(id(ask))
        if head is None:
            lines = [f"{ask.method} {ask.path} HTTP/1.1", f"Host: {self._host}:{self._port}", "Accept: */*"]
            lines += [f"Content-Type: {ask.content_type}", f"Content-Length: {len(ask.body)}"]
            lines += [f"{name}: {value}" for name, value in ask.headers.items()]
            head = self._heads[id(ask)] = "\r\n".join([*lines, "", ""]).encode()
        return head


def _answer_in(data: bytes) -> tuple[int, bytes, bool] | None:
    """Return an HTTP answer's status and body, and whether it is the connection's last; None while it is not whole."""
    head, blank, rest = data.partition(b"\r\n\r\n")
    if not blank:
        return None
    status = int(head[9:12])
    if status == 100:
        return _answer_in(rest)
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
    """Return what ``load`` returns, on the cheapest event loop there is."""
    return uvloop.run(load)


async def run_closed(
    url: str, asks: Sequence[Ask], *, clients: int, seconds: float = 0.0, count: int = 0, timeout_s: float = 60
) -> Report:
    """Return the answers of ``clients`` that each ask again as soon as they have theirs.

    Requests are taken from ``asks`` in turn, for ``seconds``, or until ``count`` were sent.
    """
    answers: list[Answer] = []
    started = time.perf_counter()
    sent = 0

    async def client(number: int) -> None:
        nonlocal sent
        connection = Connection(url)
        position = number
        while (count and sent < count) or (not count and time.perf_counter() - started < seconds):
            sent += 1
            answers.append(await connection.send(asks[position % len(asks)], timeout_s=timeout_s))
            position += clients
        connection.close()

    await asyncio.gather(*map(client, range(clients)))
    return Report(answers=answers, seconds=time.perf_counter() - started)


async def run_open(
    url: str, asks: Sequence[Ask], *, per_s: float, seconds: float, seed: int = 0, more_urls: Sequence[str] = ()
) -> Report:
    """Return the answers to requests that come at random times, ``per_s`` of them a second on average (Poisson).

    With ``more_urls`` the servers are asked in turn.
    """
    chance = random.Random(seed)
    urls = [url, *more_urls]
    free: dict[str, list[Connection]] = {one: [] for one in urls}
    answers: list[Answer] = []
    running: set[asyncio.Task[None]] = set()

    async def one(ask: Ask, to: str) -> None:
        connection = free[to].pop() if free[to] else Connection(to)
        answers.append(await connection.send(ask))
        free[to].append(connection)

    started = time.perf_counter()
    due = started
    position = 0
    while due - started < seconds:
        due += chance.expovariate(per_s)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(asks[position % len(asks)], urls[position % len(urls)]))
        running.add(task)
        task.add_done_callback(running.discard)
        position += 1
    offered = time.perf_counter() - started
    while running:
        await asyncio.wait(set(running))
    for connection in [connection for pool in free.values() for connection in pool]:
        connection.close()
    return Report(answers=answers, seconds=offered)
