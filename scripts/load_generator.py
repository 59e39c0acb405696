"""Load for servers, in closed loops (each client asks again when it has its answer) and open ones (requests come at
their own times, whatever the server does), over keep-alive connections to addresses on this machine.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit


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

    answers: list[Answer]
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


class Connection:
    """One keep-alive connection, opened again when the server closes it."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname in {"127.0.0.1", "localhost", "::1"}, "load goes to this machine alone"
        self._host, self._port = address.hostname, address.port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, ask: Ask, *, timeout_s: float = 60) -> Answer:
        """Return the answer, or one of status 0 where none came in time."""
        sent = time.perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                status, body = await self._exchange(ask)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, asyncio.LimitOverrunError):
            self.close()
            status, body = 0, b""
        return Answer(ask=ask, status=status, body=body, sent=sent, seconds=time.perf_counter() - sent)

    async def _exchange(self, ask: Ask) -> tuple[int, bytes]:
        if self._writer is None or self._reader is None or self._reader.at_eof():
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        lines = [f"{ask.method} {ask.path} HTTP/1.1", f"Host: {self._host}:{self._port}", "Accept: */*"]
        lines += [f"Content-Type: {ask.content_type}", f"Content-Length: {len(ask.body)}"]
        lines += [f"{name}: {value}" for name, value in ask.headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + ask.body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while size := int((await self._reader.readline()).split(b";")[0], 16):
                parts.append(await self._reader.readexactly(size))
                await self._reader.readexactly(2)
            await self._reader.readline()
            body = b"".join(parts)
        else:
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return int(head[0].split()[1]), body

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._writer is not None:
            self._writer.close()
        self._writer = self._reader = None


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
