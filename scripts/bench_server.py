"""Measure 'truecopy serve', and other servers beside it, with EfficientNet-Lite0 and JPEG photos on loopback.

Ratios within one run are what counts; the load of the machine is printed with them.
"""

import argparse
import asyncio
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import bench_subjects as subjects
import httpx
import numpy as np
from bench_subjects import OURS, PEER_SUBJECTS, ROOT, Running, Subject, running
from load_generator import Ask, Report, run_closed, run_open
from PIL import Image
from rich.console import Console
from rich.table import Table

ARTIFACT = ROOT / "artifacts" / "efficientnet-lite0"
PHOTOS = ROOT / "build" / "demo" / "photos"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured promise; ``target`` is empty where nothing was promised."""

    promise: str
    measured: str
    target: str = ""
    met: bool | None = None


class PeerError(Exception):
    """A server did not start, or gave no good answer."""


def photos() -> list[bytes]:
    """Return the demo's photos."""
    return [path.read_bytes() for path in sorted(PHOTOS.iterdir())]


def wait_until_ready(server: Running, body: bytes, *, timeout_s: float = 120) -> float:
    """Return the seconds from the process's start to its first right answer."""
    ask = server.subject.ask(body)
    until = server.started + timeout_s
    while time.perf_counter() < until:
        if server.process.poll() is not None:
            log = (subjects.PEERS / f"{server.subject.name}.log").read_text(errors="replace")
            raise PeerError(f"{server.subject.name} ended: {log[-2000:]}")
        report = asyncio.run(run_closed(server.url, [ask], clients=1, count=1, timeout_s=30))
        if report.statuses[200]:
            return time.perf_counter() - server.started
        time.sleep(0.02)
    raise PeerError(f"{server.subject.name} gave no answer in {timeout_s} s")


def measure_predict(count: int) -> tuple[float, float]:
    """Return CPU milliseconds an image and images a second of 'truecopy predict', start-up left out."""
    truecopy = str(subjects.install("truecopy") / "truecopy")
    files = [str(path) for path in sorted(PHOTOS.iterdir())]
    figures = []
    for repeats in (4, 4 + count // len(files)):
        before, started = os.times(), time.perf_counter()
        subprocess.run(
            [truecopy, "predict", str(ARTIFACT), *files * repeats, "--format", "jsonl"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        figures.append((len(files) * repeats, cpu, time.perf_counter() - started))
    (few, few_cpu, few_s), (many, many_cpu, many_s) = figures
    return (many_cpu - few_cpu) / (many - few) * 1000, (many - few) / (many_s - few_s)


@dataclass(kw_only=True)
class Throughput:
    """What one server does at one number of clients."""

    per_s: float
    cpu_ms: float
    p50_ms: float
    p99_ms: float


def measure_throughput(server: Running, clients: int, seconds: float) -> Throughput:
    """Return the rate, cost and latency of a closed loop of ``clients``."""
    asks = [server.subject.ask(body) for body in photos()]
    asyncio.run(run_closed(server.url, asks, clients=clients, seconds=min(1.0, seconds)))
    before = server.cpu_s
    report = asyncio.run(run_closed(server.url, asks, clients=clients, seconds=seconds))
    good = report.statuses[200]
    if not good:
        raise PeerError(f"{server.subject.name}: no good answer: {report.statuses}")
    return Throughput(
        per_s=report.good_per_s,
        cpu_ms=(server.cpu_s - before) / good * 1000,
        p50_ms=report.quantile_ms(0.5),
        p99_ms=report.quantile_ms(0.99),
    )


def compare(chosen: list[Subject], rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Return the medians over rounds, in each of which every server is measured once."""
    measured: dict[str, dict[str, list[float]]] = {}
    for subject in [subject for _ in range(rounds) for subject in chosen]:
        try:
            with running(subject, ARTIFACT) as server:
                into = measured.setdefault(subject.name, {})
                into.setdefault("start_s", []).append(wait_until_ready(server, photos()[0]))
                for clients in (1, 4, 32):
                    one = measure_throughput(server, clients, seconds)
                    into.setdefault(f"per_s_{clients}", []).append(one.per_s)
                    into.setdefault(f"cpu_ms_{clients}", []).append(one.cpu_ms)
                    into.setdefault(f"p50_ms_{clients}", []).append(one.p50_ms)
                    into.setdefault(f"p99_ms_{clients}", []).append(one.p99_ms)
                into.setdefault("resident_mb", []).append(server.resident_mb)
        except PeerError as error:
            if subject is OURS:
                raise
            print(f"left out: {error}", file=sys.stderr)
            measured.pop(subject.name, None)
    return {name: {key: median(values) for key, values in row.items()} for name, row in measured.items()}


def measure_latency_session(rounds: int) -> float:
    """Return milliseconds of one photo, bytes to scores, in process with a session on all cores."""
    import runtime

    model = runtime.load(ARTIFACT, device="cpu")
    bodies = photos()
    times = []
    for _ in range(rounds):
        for body in bodies:
            started = time.perf_counter()
            model.predict(body)
            times.append(time.perf_counter() - started)
    return median(times) * 1000


def measure_half_load(server: Running, peak: float, seconds: float) -> list[Figure]:
    """Return how the latency spreads at half of the peak rate."""
    asks = [server.subject.ask(body) for body in photos()]
    report = asyncio.run(run_open(server.url, asks, per_s=peak / 2, seconds=seconds))
    p50, p99 = report.quantile_ms(0.5), report.quantile_ms(0.99)
    return [
        Figure(
            promise="p99 against p50 at half load",
            measured=f"{p99 / p50:.2f} times ({p50:.1f}, {p99:.1f} ms)",
            target="2.5 times",
            met=p99 / p50 <= 2.5,
        )
    ]


def measure_overload(server: Running, peak: float, seconds: float) -> list[Figure]:
    """Return what happens when twice the peak is offered."""
    asks = [server.subject.ask(body) for body in photos()]
    health: list[float] = []
    memory: list[float] = []

    async def watch() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                started = time.perf_counter()
                (await client.get(f"{server.url}/v2/health/ready")).raise_for_status()
                health.append(time.perf_counter() - started)
                memory.append(server.resident_mb)
                await asyncio.sleep(0.25)

    async def run() -> Report:
        watching = asyncio.create_task(watch())
        report = await run_open(server.url, asks, per_s=2 * peak, seconds=seconds)
        watching.cancel()
        return report

    report = asyncio.run(run())
    refused_ms = report.quantile_ms(0.99, 429)
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


def measure_neighbours(server: Running, seconds: float) -> list[Figure]:
    """Return what 2 clients that send garbage and truncated photos do to 14 that send good ones."""
    bodies = photos()
    good = [server.subject.ask(body) for body in bodies]
    bad = [server.subject.ask(b"not a photo" * 10, "bad"), server.subject.ask(bodies[0][: len(bodies[0]) // 2], "bad")]

    async def run() -> tuple[Report, Report]:
        both = await asyncio.gather(
            run_closed(server.url, good, clients=14, seconds=seconds),
            run_closed(server.url, bad, clients=2, seconds=seconds),
        )
        return both[0], both[1]

    fine, spoiled = asyncio.run(run())
    failed = 1 - fine.statuses[200] / max(1, len(fine.answers))
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(spoiled.statuses.items()))
    return [
        Figure(
            promise="good requests that fail beside bad ones",
            measured=f"{failed:.1%} of {len(fine.answers)}; the bad ones got {statuses}",
            target="0%",
            met=failed == 0 and set(spoiled.statuses) <= {400, 415},
        )
    ]


def measure_distinct(server: Running, count: int) -> list[Figure]:
    """Return whether each of many distinct inputs, 64 at once, gets the answer that it gets alone."""
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
    asks = [server.subject.ask(body, str(number)) for number, body in enumerate(bodies)]
    report = asyncio.run(run_closed(server.url, asks, clients=64, count=count))
    wrong = 0
    for answer in report.answers:
        row = json.loads(answer.body)["predictions"][0] if answer.status == 200 else {}
        alone = model.predict(bodies[int(answer.ask.kind)])
        same = row.get("label") == alone.label and abs(row["probability"] - alone.probability) < 1e-4
        wrong += not same
    return [
        Figure(
            promise=f"{count} distinct inputs, 64 at once: answers that are not the single one's",
            measured=str(wrong),
            target="0",
            met=wrong == 0,
        )
    ]


def measure_bomb(server: Running) -> list[Figure]:
    """Return what a PNG of 169 megapixels in a few kilobytes costs."""
    stream = io.BytesIO()
    Image.new("1", (13_000, 13_000)).save(stream, "PNG", optimize=True)
    before = server.resident_mb
    report = asyncio.run(run_closed(server.url, [server.subject.ask(stream.getvalue())], clients=1, count=3))
    worst = max(answer.seconds for answer in report.answers) * 1000
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


def measure_soak(server: Running, count: int) -> list[Figure]:
    """Return how memory does over many requests, good and hostile ones mixed."""
    bodies = photos()
    asks = [server.subject.ask(body) for body in bodies * 3]
    asks += [
        server.subject.ask(b"", "bad"),
        server.subject.ask(b"garbage", "bad"),
        server.subject.ask(bodies[1][:5000], "bad"),
        Ask(path=server.subject.path, body=b"[" * 5000, kind="bad", content_type="application/json"),
        Ask(path="/v2/models/model/infer", body=b'{"inputs": []}', kind="bad", content_type="application/json"),
        Ask(path="/nowhere", body=b"", kind="missing"),
    ]
    memory = []
    statuses: dict[str, set[int]] = {}
    for _ in range(20):
        report = asyncio.run(run_closed(server.url, asks, clients=16, count=count // 20))
        memory.append(server.resident_mb)
        for answer in report.answers:
            statuses.setdefault(answer.ask.kind, set()).add(answer.status)
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


def figures_of_comparison(
    rows: dict[str, dict[str, Any]], predict: tuple[float, float], alone_ms: float
) -> list[Figure]:
    """Return what the comparison says about our promises."""
    ours = rows["truecopy"]
    cpu, rate = predict
    best = max(ours["per_s_4"], ours["per_s_32"])
    figures = [
        Figure(
            promise="CPU an image, JPEG body to labels, against 'truecopy predict'",
            measured=f"{ours['cpu_ms_4'] / cpu:.2f} times ({ours['cpu_ms_4']:.1f} ms, predict {cpu:.1f} ms)",
            target="1.15 times",
            met=ours["cpu_ms_4"] <= 1.15 * cpu,
        ),
        Figure(
            promise="saturated rate against 'truecopy predict'",
            measured=f"{best / rate:.2f} ({best:.0f}/s, predict {rate:.0f}/s)",
            target="0.92",
            met=best >= 0.92 * rate,
        ),
        Figure(
            promise="one client against a session on all cores in process",
            measured=f"{ours['p50_ms_1'] / alone_ms:.2f} times ({ours['p50_ms_1']:.1f} ms, there {alone_ms:.1f} ms)",
            target="1.1 times",
            met=ours["p50_ms_1"] <= 1.1 * alone_ms,
        ),
        Figure(
            promise="first answer after the process's start",
            measured=f"{ours['start_s']:.1f} s",
            target="2 s",
            met=ours["start_s"] <= 2,
        ),
        Figure(
            promise="memory after load",
            measured=f"{ours['resident_mb']:.0f} MB",
            target="250 MB",
            met=ours["resident_mb"] < 250,
        ),
    ]
    for name, row in rows.items():
        if name == "truecopy":
            continue
        target = 1.35 if name == "fastapi-pool" else 1.0
        ratios = [ours[f"per_s_{clients}"] / row[f"per_s_{clients}"] for clients in (1, 4, 32)]
        figures.append(
            Figure(
                promise=f"rate at 1, 4 and 32 clients against {name}",
                measured=", ".join(f"{ratio:.2f}" for ratio in ratios) + " times",
                target=f"{target:g} times at 4 and 32",
                met=min(ratios[1:]) >= target,
            )
        )
    return figures


def print_tables(rows: dict[str, dict[str, Any]], figures: list[Figure]) -> None:
    """Print what was measured for people."""
    console = Console(width=150)
    table = Table(
        "server",
        "1/s at 1",
        "at 4",
        "at 32",
        "CPU ms at 4",
        "p50 ms at 1",
        "start s",
        "MB",
        box=None,
        header_style="bold",
    )
    for name, row in rows.items():
        keys = ("per_s_1", "per_s_4", "per_s_32", "cpu_ms_4", "p50_ms_1", "start_s", "resident_mb")
        table.add_row(name, *(f"{row[key]:.1f}" for key in keys))
    console.print(table)
    table = Table("promise", "measured", "target", "", box=None, header_style="bold", pad_edge=False)
    for figure in figures:
        verdict = {True: "met", False: "[red]missed[/]", None: ""}[figure.met]
        table.add_row(figure.promise, figure.measured, figure.target, verdict)
    console.print(table)
    console.print(
        f"load average: {', '.join(f'{load:.1f}' for load in os.getloadavg())} (1, 5, 15 min) on {os.cpu_count()} cores"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peers", default="none", help="'all', 'none', or names: " + ", ".join(s.name for s in PEER_SUBJECTS)
    )
    parser.add_argument("--rounds", type=int, default=3, help="each server is measured this often; medians count")
    parser.add_argument("--seconds", type=float, default=8, help="of each run at 1, 4 and 32 clients")
    parser.add_argument("--overload", type=float, default=15, help="seconds of twice the peak")
    parser.add_argument("--soak", type=int, default=2000, help="requests of the soak")
    parser.add_argument("--distinct", type=int, default=1000, help="distinct inputs, 64 at once")
    parser.add_argument("--only-compare", action="store_true", help="leave out what is measured of truecopy alone")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of tables")
    options = parser.parse_args()
    if not ARTIFACT.is_dir():
        raise SystemExit(f"no '{ARTIFACT}': run scripts/demo first")
    names = {subject.name for subject in PEER_SUBJECTS} if options.peers == "all" else set(options.peers.split(","))
    unknown = names - {subject.name for subject in PEER_SUBJECTS} - {"none"}
    if unknown:
        raise SystemExit(f"unknown peers: {', '.join(sorted(unknown))}")
    chosen = [OURS, *(subject for subject in PEER_SUBJECTS if subject.name in names)]
    for subject in chosen:
        subjects.install(subject.environment)
    predict = measure_predict(200)
    rows = compare(chosen, options.rounds, options.seconds)
    figures = figures_of_comparison(rows, predict, measure_latency_session(15))
    if not options.only_compare:
        peak = max(rows["truecopy"]["per_s_4"], rows["truecopy"]["per_s_32"])
        with running(OURS, ARTIFACT) as server:
            wait_until_ready(server, photos()[0])
            figures += measure_half_load(server, peak, max(15.0, options.seconds))
            figures += measure_neighbours(server, options.seconds)
            figures += measure_distinct(server, options.distinct)
            figures += measure_bomb(server)
            figures += measure_overload(server, peak, options.overload)
            figures += measure_soak(server, options.soak)
    if options.json:
        print(json.dumps({"servers": rows, "figures": [asdict(figure) for figure in figures]}, indent=2))
    else:
        print_tables(rows, figures)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
