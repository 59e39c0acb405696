"""Processor time of 'truecopy serve' per request, by what it is spent on: decoding, geometry and network apart.

The server runs in this process, whose threads' processor time is read directly; the load comes from a child process.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.figures import Figure, Results
from benchmarks.load_generator import Request, run, run_closed
from benchmarks.servers import free_port, photos
from material.paths import ARTIFACT

_MODEL = "model"
_FLOOR_MS = 0.8

# What the workers do for an input, which is no work of the server itself.
_STAGES = ("decode and geometry", "network")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--artifact", type=Path, default=ARTIFACT, help="the model that is served (%(default)s)")
    parser.add_argument("--photo", type=Path, action="append", help="a photo to send; by default those of the demo")
    parser.add_argument("--clients", type=int, default=4, help="clients at a time (%(default)s)")
    parser.add_argument("--requests", type=int, default=400, help="requests of a turn (%(default)s)")
    parser.add_argument("--turns", type=int, default=7, help="turns, of which the cheapest counts (%(default)s)")


def measure(options: argparse.Namespace) -> Results:
    """Return where the processor time of a request goes, in the turn in which the server itself took least."""
    bodies = options.photo or []
    turns = _serve(options, [path.read_bytes() for path in bodies] or photos())
    best = min(turns, key=own_ms)
    table = Table("part of a request", "processor ms", box=None, header_style="bold", pad_edge=False)
    for part, milliseconds in best.items():
        table.add_row(part, f"{milliseconds:.3f}")
    own = own_ms(best)
    return Results(
        figures=[
            Figure(
                promise=f"processor time of the server itself per request, {options.clients} clients",
                measured=f"{own:.2f} ms",
                target=f"{_FLOOR_MS} ms",
                met=own <= _FLOOR_MS,
            )
        ],
        details={"turns": turns},
        tables=[table],
    )


def own_ms(parts: dict[str, float]) -> float:
    """Return the time of all parts but those that the model takes."""
    return sum(milliseconds for part, milliseconds in parts.items() if part not in _STAGES)


class _Parts:
    """Processor seconds by part, of functions that run on one thread from their start to their end."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._inside = threading.local()

    def time(self, owner: Any, name: str, part: str) -> None:
        """Count the time of the function ``name`` of a class or module for ``part``, without timed ones inside it."""
        function = getattr(owner, name)

        @contextlib.contextmanager
        def count() -> Iterator[None]:
            outer, self._inside.seconds = getattr(self._inside, "seconds", 0.0), 0.0
            started = time.thread_time()
            try:
                yield
            finally:
                seconds = time.thread_time() - started
                with self._lock:
                    self.seconds[part] += seconds - self._inside.seconds
                self._inside.seconds = outer + seconds

        def timed(*arguments: Any, **options: Any) -> Any:
            with count():
                return function(*arguments, **options)

        async def timed_coroutine(*arguments: Any, **options: Any) -> Any:
            with count():
                return await function(*arguments, **options)

        setattr(owner, name, timed_coroutine if asyncio.iscoroutinefunction(function) else timed)


def _serve(options: argparse.Namespace, bodies: list[bytes]) -> list[dict[str, float]]:
    from runtime.server.settings import Settings
    from runtime.server.startup import run_server

    parts = _timed_parts()
    port = free_port()
    turns: list[dict[str, float]] = []
    failures: list[BaseException] = []

    def load() -> None:
        try:
            _send(port, bodies, options.clients, options.requests)
            turns.extend(
                _turn(parts, lambda: _send(port, bodies, options.clients, options.requests), options.requests)
                for _ in range(options.turns)
            )
        except BaseException as error:
            failures.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=load, name="load")
    thread.start()
    run_server(
        Settings(
            artifacts=[f"{_MODEL}={options.artifact}"], http_port=port, grpc_port=None, device="cpu", log_format="none"
        )
    )
    thread.join()
    if failures:
        raise failures[0]
    return turns


def _timed_parts() -> _Parts:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from runtime.model import Model
    from runtime.server import scheduler, service
    from runtime.server.http import endpoints, requests
    from runtime.server.http.limits import BoundedProtocol

    parts = _Parts()
    parts.time(scheduler, "_prepare_input", _STAGES[0])
    parts.time(scheduler, "_score", _STAGES[1])
    parts.time(BoundedProtocol, "data_received", "HTTP parsing")
    parts.time(service.Scheduler, "put", "hand-off to a worker")
    parts.time(service.Service, "_count_job", "statistics and metrics")
    parts.time(Model, "interpret", "interpretation of the scores")
    parts.time(RequestResponseCycle, "send", "response to the socket")
    parts.time(endpoints, "encode_predictions", "JSON")
    parts.time(requests, "source_from_body", "inputs of the body")
    return parts


def _turn(parts: _Parts, send: Callable[[], None], count: int) -> dict[str, float]:
    parts.seconds.clear()
    before = _thread_seconds()
    send()
    after = _thread_seconds()
    used = {name: after[name] - before.get(name, 0.0) for name in after}
    timed = dict(parts.seconds)
    loop = used["main"] - sum(seconds for part, seconds in timed.items() if part not in _STAGES)
    workers = used["worker"] - sum(timed[part] for part in _STAGES)
    seconds = {**timed, "event loop, ASGI and sockets": loop, "workers: queue, checks, wake-ups": workers}
    return {part: value / count * 1000 for part, value in seconds.items()}


def _thread_seconds() -> dict[str, float]:
    """Return the processor seconds of the event loop's thread, and of all workers."""
    seconds = {"main": 0.0, "worker": 0.0}
    numbers = {thread.native_id: thread.name for thread in threading.enumerate()}
    for number, name in numbers.items():
        used = int(Path(f"/proc/self/task/{number}/schedstat").read_text().split()[0]) / 1e9
        if name == "MainThread":
            seconds["main"] += used
        elif name.startswith(("worker-", "batcher", "converter")):
            seconds["worker"] += used
    return seconds


def _send(port: int, bodies: list[bytes], clients: int, count: int) -> None:
    """Send requests from a child process, and fail where one fails; the server may still be starting."""
    numbers = {"port": port, "clients": clients, "count": count}
    message = json.dumps({**numbers, "bodies": [base64.b64encode(body).decode() for body in bodies]})
    subprocess.run([sys.executable, "-m", "benchmarks.own_time"], input=message, text=True, check=True)


def _main() -> None:
    load = json.load(sys.stdin)
    url = f"http://127.0.0.1:{load['port']}"
    requests = [Request(path=f"/predict/{_MODEL}", body=base64.b64decode(body)) for body in load["bodies"]]
    for _ in range(600):
        if run(run_closed(url, requests, clients=1, count=1)).statuses[200]:
            break
        time.sleep(0.05)
    statuses = run(run_closed(url, requests, clients=load["clients"], count=load["count"])).statuses
    if set(statuses) != {200}:
        raise SystemExit(f"unexpected statuses: {dict(statuses)}")


if __name__ == "__main__":
    _main()
