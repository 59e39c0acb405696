"""Rates, costs, latencies and start-up times of servers, in rounds in which they take turns."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median

from benchmarks.figures import Figure
from benchmarks.load_generator import run, run_closed
from benchmarks.servers import OURS, PEER_SETUPS, PeerError, RunningServer, ServerSetup, install, photos, running
from material.paths import ARTIFACT, PHOTOS

CLIENTS = (1, 4, 32)

# One photo at a time in a process of its own, on the server's own installation, with a session on all cores.
_ALONE = """
import json, sys, time
import runtime
model = runtime.load(sys.argv[1], device="cpu")
bodies = [open(path, "rb").read() for path in sys.argv[3:]]
times = []
for number in range(int(sys.argv[2])):
    for body in bodies:
        started = time.perf_counter()
        model.predict(body)
        times.append(time.perf_counter() - started)
print(json.dumps(sorted(times)[len(times) // 2] * 1000))
"""

Row = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """truecopy without a server: CPU milliseconds per image, images per second, milliseconds of a single image."""

    cpu_ms: float
    per_s: float
    alone_ms: float


def measure_baseline(count: int = 200) -> Baseline:
    """Return the cost of 'truecopy predict' without its start-up, and the time of a single photo."""
    bin_folder = install("truecopy")
    files = [str(path) for path in sorted(PHOTOS.iterdir())]
    figures = []
    # The first start of a round may find nothing of it in memory, and does not count.
    for repeats in (4, 4, 4 + count // len(files)):
        before, started = os.times(), time.perf_counter()
        command = [str(bin_folder / "truecopy"), "predict", str(ARTIFACT), *files * repeats, "--format", "jsonl"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        figures.append((len(files) * repeats, cpu, time.perf_counter() - started))
    _, (few, few_cpu, few_s), (many, many_cpu, many_s) = figures
    command = [str(bin_folder / "python"), "-c", _ALONE, str(ARTIFACT), "15", *files]
    alone = subprocess.run(command, check=True, capture_output=True, text=True)
    return Baseline(
        cpu_ms=(many_cpu - few_cpu) / (many - few) * 1000,
        per_s=(many - few) / (many_s - few_s),
        alone_ms=float(json.loads(alone.stdout)),
    )


def measure_rates(server: RunningServer, seconds: float) -> Row:
    """Return rate, cost and latency of closed loops of 1, 4 and 32 clients."""
    requests = [server.setup.request(body) for body in photos()]
    row: Row = {}
    for clients in CLIENTS:
        run(run_closed(server.url, requests, clients=clients, seconds=min(1.0, seconds)))
        before = server.cpu_s
        report = run(run_closed(server.url, requests, clients=clients, seconds=seconds))
        good = report.statuses[200]
        if not good:
            raise PeerError(f"{server.setup.name}: no valid response: {report.statuses}")
        row |= {
            f"per_s_{clients}": report.good_per_s,
            f"cpu_ms_{clients}": (server.cpu_s - before) / good * 1000,
            f"p50_ms_{clients}": report.quantile_ms(0.5),
            f"p99_ms_{clients}": report.quantile_ms(0.99),
        }
    return row


def compare(chosen: list[ServerSetup], rounds: int, seconds: float) -> tuple[dict[str, Row], Baseline]:
    """Return medians over rounds, in each of which every server, and truecopy without one, is measured once."""
    measured: dict[str, list[Row]] = {}
    baselines: list[Baseline] = []
    failed: set[str] = set()
    for number in range(rounds):
        baselines.append(measure_baseline())
        for setup in chosen:
            if setup.name in failed:
                continue
            print(f"round {number + 1} of {rounds}: {setup.name}", file=sys.stderr)
            try:
                with running(setup, ARTIFACT) as server:
                    row = {"start_s": server.wait_until_ready(photos()[0])}
                    row |= measure_rates(server, seconds)
                    row["resident_mb"] = server.resident_mb
            except PeerError as error:
                if setup is OURS:
                    raise
                print(f"skipped: {error}", file=sys.stderr)
                failed.add(setup.name)
                continue
            measured.setdefault(setup.name, []).append(row)
    rows = {
        name: {key: median(row[key] for row in server_rows) for key in server_rows[0]}
        for name, server_rows in measured.items()
        if name not in failed
    }
    keys = ("cpu_ms", "per_s", "alone_ms")
    return rows, Baseline(**{key: median(getattr(baseline, key) for baseline in baselines) for key in keys})


def figures_of_comparison(rows: dict[str, Row], without: Baseline) -> list[Figure]:
    """Return the figures of truecopy's server in the comparison."""
    ours = rows["truecopy"]
    best = max(ours["per_s_4"], ours["per_s_32"])
    cpu, lone = ours["cpu_ms_4"] / without.cpu_ms, ours["p50_ms_1"] / without.alone_ms
    figures = [
        Figure(
            promise="CPU per image, JPEG body to labels, against 'truecopy predict'",
            measured=f"{cpu:.2f} times ({ours['cpu_ms_4']:.1f} ms, predict {without.cpu_ms:.1f} ms)",
            target="1.15 times",
            met=cpu <= 1.15,
        ),
        Figure(
            promise="saturated rate against 'truecopy predict'",
            measured=f"{best / without.per_s:.2f} ({best:.0f}/s, predict {without.per_s:.0f}/s)",
            target="0.92",
            met=best >= 0.92 * without.per_s,
        ),
        Figure(
            promise="one client against a session on all cores in process",
            measured=f"{lone:.2f} times ({ours['p50_ms_1']:.1f} ms, there {without.alone_ms:.1f} ms)",
            target="1.1 times",
            met=lone <= 1.1,
        ),
        Figure(
            promise="first response after the process's start",
            measured=f"{ours['start_s']:.1f} s",
            target="2 s",
            met=ours["start_s"] < 2,
        ),
        Figure(
            promise="resident memory after load",
            measured=f"{ours['resident_mb']:.0f} MB",
            target="250 MB",
            met=ours["resident_mb"] < 250,
        ),
    ]
    floors = {setup.name: setup.rate_floor for setup in PEER_SETUPS}
    for name, row in rows.items():
        if name == "truecopy":
            continue
        target = floors[name]
        ratios = [ours[f"per_s_{clients}"] / row[f"per_s_{clients}"] for clients in CLIENTS]
        figures.append(
            Figure(
                promise=f"rate at 1, 4 and 32 clients against {name}",
                measured=", ".join(f"{ratio:.2f}" for ratio in ratios)
                + f" times (CPU per image {ours['cpu_ms_4'] / row['cpu_ms_4']:.2f} times)",
                target=f"{target:g} times at 4 and 32",
                met=min(ratios[1:]) >= target,
            )
        )
    return figures
