"""The server's behavior at half load, under overload, with invalid and hostile requests, and over time."""

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.figures import Figure
from benchmarks.load_generator import Connection, Report, Request, run, run_closed, run_open
from benchmarks.servers import RunningServer, photos
from material.paths import ARTIFACT


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """Lengths of the measurements, in seconds and requests; ``peak_per_s`` is the server's best rate."""

    peak_per_s: float
    half_load_s: float
    neighbors_s: float
    overload_s: float
    distinct: int
    soak: int


def measure_peak(server: RunningServer, seconds: float) -> float:
    """Return the best rate of closed loops of 4 and of 32 clients."""
    requests = [server.setup.request(body) for body in photos()]
    run(run_closed(server.url, requests, clients=4, seconds=1))
    return max(
        run(run_closed(server.url, requests, clients=clients, seconds=seconds)).good_per_s for clients in (4, 32)
    )


def measure_half_load(server: RunningServer, amounts: Amounts) -> list[Figure]:
    """Return how the latency spreads at half of the peak rate."""
    requests = [server.setup.request(body) for body in photos()]
    report = run(run_open(server.url, requests, per_s=amounts.peak_per_s / 2, seconds=amounts.half_load_s))
    p50, p99 = report.quantile_ms(0.5), report.quantile_ms(0.99)
    return [
        Figure(
            promise="p99 against p50 at half load",
            measured=f"{p99 / p50:.2f} times ({p50:.1f}, {p99:.1f} ms)",
            target="2.5 times",
            met=p99 / p50 <= 2.5,
        )
    ]


def measure_overload(server: RunningServer, amounts: Amounts) -> list[Figure]:
    """Return what happens when twice the peak is offered."""
    peak, seconds = amounts.peak_per_s, amounts.overload_s
    requests = [server.setup.request(body) for body in photos()]
    health: list[float] = []
    memory: list[float] = []

    async def watch() -> None:
        connection, request = Connection(server.url), Request(method="GET", path="/v2/health/ready", body=b"")
        while True:
            # Reading a process's memory takes longer than a response: only now and then.
            if len(health) % 20 == 0:
                memory.append(server.resident_mb)
            response = await connection.send(request)
            assert response.status == 200, "a server under load is healthy"
            health.append(response.seconds)
            await asyncio.sleep(0.1)

    async def measure() -> Report:
        watching = asyncio.create_task(watch())
        report = await run_open(server.url, requests, per_s=2 * peak, seconds=seconds)
        watching.cancel()
        return report

    report = run(measure())
    refused_ms = report.quantile_ms(0.99, 429)  # nan, and so a miss, where none was refused
    others = {status: count for status, count in report.statuses.items() if status not in {200, 429}}
    health_ms = sorted(health)[int(0.99 * len(health))] * 1000
    half = memory[len(memory) // 2 :]
    growth = half[-1] / half[0] - 1
    return [
        Figure(
            promise=f"goodput while twice the peak is offered for {seconds:g} s",
            measured=f"{report.good_per_s / peak:.2f} of the peak",
            target="0.9",
            met=report.good_per_s >= 0.9 * peak,
        ),
        Figure(
            promise="the rest is refused, p99",
            measured=f"{report.statuses[429]} with 429 in {refused_ms:.0f} ms; other statuses: {others or 'none'}",
            target="100 ms",
            met=refused_ms < 100 and not others,
        ),
        Figure(promise="health meanwhile, p99", measured=f"{health_ms:.0f} ms", target="50 ms", met=health_ms < 50),
        Figure(
            promise="memory over the second half of it",
            measured=f"{growth:+.1%} ({half[-1]:.0f} MB)",
            target="5%",
            met=abs(growth) < 0.05,
        ),
    ]


def measure_neighbors(server: RunningServer, amounts: Amounts) -> list[Figure]:
    """Return what 2 clients that send garbage and truncated photos do to 14 that send good ones."""
    bodies = photos()
    good = [server.setup.request(body) for body in bodies]
    bad = [
        server.setup.request(b"not a photo" * 10, "bad"),
        server.setup.request(bodies[0][: len(bodies[0]) // 2], "bad"),
    ]

    async def measure() -> tuple[Report, Report]:
        both = await asyncio.gather(
            run_closed(server.url, good, clients=14, seconds=amounts.neighbors_s),
            run_closed(server.url, bad, clients=2, seconds=amounts.neighbors_s),
        )
        return both[0], both[1]

    fine, spoiled = run(measure())
    failed = 1 - fine.statuses[200] / max(1, len(fine.responses))
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(spoiled.statuses.items()))
    return [
        Figure(
            promise="good requests that fail next to bad ones",
            measured=f"{failed:.1%} of {len(fine.responses)}; the bad ones got {statuses}",
            target="0%",
            met=failed == 0 and set(spoiled.statuses) <= {400, 415},
        )
    ]


def measure_distinct(server: RunningServer, amounts: Amounts) -> list[Figure]:
    """Return whether each of many distinct inputs, 64 at once, gets the same response as alone."""
    count = amounts.distinct
    random = np.random.default_rng(0)
    base = [np.asarray(Image.open(io.BytesIO(body)).convert("RGB")) for body in photos()]
    bodies = []
    for number in range(count):
        pixels = np.roll(base[number % len(base)], int(random.integers(0, 300)), axis=int(random.integers(0, 2)))
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "JPEG", quality=int(random.integers(60, 95)))
        bodies.append(stream.getvalue())
    import runtime

    model = runtime.load(ARTIFACT, device="cpu", threads=1)
    requests = [server.setup.request(body, str(number)) for number, body in enumerate(bodies)]
    report = run(run_closed(server.url, requests, clients=64, count=count))
    wrong = 0
    for response in report.responses:
        row = json.loads(response.body)["predictions"][0] if response.status == 200 else {}
        alone = model.predict(bodies[int(response.request.kind)])
        same = row.get("label") == alone.label and abs(row["probability"] - alone.probability) < 1e-4
        wrong += not same
    return [
        Figure(
            promise=f"{count} distinct inputs, 64 at once: responses that differ from a single request's",
            measured=str(wrong),
            target="0",
            met=wrong == 0,
        )
    ]


def measure_bomb(server: RunningServer, _amounts: Amounts) -> list[Figure]:
    """Return what a PNG of 169 megapixels in a few kilobytes costs."""
    stream = io.BytesIO()
    Image.new("1", (13_000, 13_000)).save(stream, "PNG", optimize=True)
    before = server.resident_mb
    report = run(run_closed(server.url, [server.setup.request(stream.getvalue())], clients=1, count=3))
    worst = max(response.seconds for response in report.responses) * 1000
    grown = server.resident_mb - before
    (status,) = report.statuses
    return [
        Figure(
            promise="a PNG of 169 megapixels",
            measured=f"{status} after {worst:.0f} ms, {grown:+.0f} MB",
            target="refused before decoding",
            met=status in {400, 413} and grown < 50,
        )
    ]


def measure_soak(server: RunningServer, amounts: Amounts) -> list[Figure]:
    """Return how memory does over many requests, good and hostile ones mixed."""
    bodies = photos()
    requests = [server.setup.request(body) for body in bodies * 3]
    requests += [
        server.setup.request(b"", "bad"),
        server.setup.request(b"garbage", "bad"),
        server.setup.request(bodies[1][:5000], "bad"),
        Request(path=server.setup.path, body=b"[" * 5000, kind="bad", content_type="application/json"),
        Request(path="/v2/models/model/infer", body=b'{"inputs": []}', kind="bad", content_type="application/json"),
        Request(path="/nowhere", body=b"", kind="missing"),
    ]
    count = amounts.soak
    memory = []
    statuses: dict[str, set[int]] = {}
    for _ in range(20):
        report = run(run_closed(server.url, requests, clients=16, count=count // 20))
        memory.append(server.resident_mb)
        for response in report.responses:
            statuses.setdefault(response.request.kind, set()).add(response.status)
    growth = memory[-1] / memory[len(memory) // 2] - 1
    expected = {"good": {200}, "bad": {400}, "missing": {404}}
    return [
        Figure(
            promise=f"soak of {count} requests: memory over the second half",
            measured=f"{growth:+.1%} ({memory[-1]:.0f} MB); statuses {statuses}",
            target="5%, none unexpected",
            met=abs(growth) < 0.05 and statuses == expected,
        )
    ]


# By the name that --only takes.
MEASUREMENTS: dict[str, Callable[[RunningServer, Amounts], list[Figure]]] = {
    "half-load": measure_half_load,
    "neighbors": measure_neighbors,
    "distinct": measure_distinct,
    "bomb": measure_bomb,
    "overload": measure_overload,
    "soak": measure_soak,
}
