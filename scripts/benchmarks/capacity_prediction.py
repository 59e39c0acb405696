"""What 'truecopy capacity' predicts of a server's latency and saturation, against the server itself, on loopback.

Each round measures the machine anew, then asks real servers at times drawn at random, and simulates the same requests
at the same times. Threads of other programs that want the cores meanwhile are counted, and rivals in the simulation,
as is the program that asks.
"""

import argparse
import asyncio
import contextlib
import json
import os
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median

from load_generator import Ask, Report, run_open
from rich.console import Console
from rich.table import Table

from capacity.cluster import Outcome, simulate
from capacity.measurement import Measurement
from capacity.stages import measure
from capacity.server_cost import NAME, Server, serving
from capacity.simulation_inputs import core_ms, demands_of, most_per_s, process_of
from runtime.engine.cpu import usable_cores
from runtime.server.limits import Limits

ROOT = Path(__file__).resolve().parents[1]
ARTIFACT = ROOT / "artifacts" / "efficientnet-lite0"
PHOTOS = ROOT / "build" / "demo" / "photos"

# Shares of what the measurement says the servers can bear; the last is for the saturation.
LOADS = (0.3, 0.6, 0.8, 1.5)
FLOOR = 0.2

# More threads of others than this, the one that asks included, and times say more of them than of the prediction.
QUIET = 0.5


@dataclass(frozen=True, kw_only=True)
class Point:
    """One load on one or two processes, measured and predicted; times in milliseconds."""

    processes: int
    load: float
    per_s: float
    rivals: float
    cpu_ms: tuple[float, float]
    p50: tuple[float, float]
    p99: tuple[float, float]
    answered_per_s: tuple[float, float]
    refused: tuple[float, float]


class Rivals:
    """Counts, twice a second, the threads of other processes that want a core."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._known = {os.getpid(), *(server.process.pid for server in servers)}
        self._counts: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started, self._cpu = time.perf_counter(), time.process_time()

    def __enter__(self) -> "Rivals":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def mean(self) -> float:
        """How many there were on average, and the share of a core that this process had."""
        own = (time.process_time() - self._cpu) / (time.perf_counter() - self._started)
        return (fmean(self._counts) if self._counts else 0.0) + own

    def _run(self) -> None:
        while not self._end.wait(0.5):
            total = 0
            for stat in Path("/proc").glob("[0-9]*/task/[0-9]*/stat"):
                if int(stat.parts[2]) in self._known:
                    continue
                with contextlib.suppress(OSError, IndexError):
                    fields = stat.read_text().rpartition(")")[2].split()
                    total += fields[0] == "R"
            self._counts.append(total)


def core_sets(processes: int) -> list[list[int]]:
    """Return the cores of each process: equal shares of those that may be used."""
    allowed = sorted(os.sched_getaffinity(0))
    each = len(allowed) // processes
    return [allowed[number * each : (number + 1) * each] for number in range(processes)]


def predict(
    measured: Measurement, report: Report, *, processes: int, rivals: float, limits: Limits, seed: int
) -> Outcome:
    """Return what the simulation makes of the requests of a run, at their times, with their inputs."""
    answers = sorted(report.answers, key=lambda answer: answer.sent)
    first = answers[0].sent
    inputs = [int(answer.ask.kind) for answer in answers]
    return simulate(
        process_of(measured, limits, rivals=rivals / processes),
        replicas=processes,
        arrivals=[answer.sent - first for answer in answers],
        demands=demands_of(measured, len(answers), seed=seed, inputs=inputs),
        seed=seed,
    )


def run_load(
    servers: list[Server], asks: list[Ask], *, per_s: float, seconds: float, seed: int
) -> tuple[Report, float, float]:
    """Return the answers to a load, the rivals meanwhile, and the servers' processor seconds."""
    before = sum(sum(server.thread_seconds().values()) for server in servers)
    with Rivals(servers) as rivals:
        report = asyncio.run(
            run_open(
                servers[0].url,
                asks,
                per_s=per_s,
                seconds=seconds,
                seed=seed,
                more_urls=[server.url for server in servers[1:]],
            )
        )
        mean = rivals.mean
    return report, mean, sum(sum(server.thread_seconds().values()) for server in servers) - before


def run_round(artifact: Path, photos: list[Path], processes: int, seconds: float, seed: int) -> list[Point]:
    """Return the points of one round."""
    cores = core_sets(processes)
    limits = Limits()
    points = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*EXIF")
        measured = measure(artifact, device="cpu", samples=photos, cores=len(cores[0]), seconds=2.0)
    # The command's own order of samples.
    asks = [
        Ask(path=f"/predict/{NAME}", body=Path(one.name).read_bytes(), kind=str(position))
        for position, one in enumerate(measured.inputs)
    ]
    most = min(most_per_s(measured).values()) * processes
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving(artifact, device="cpu", cores=own)) for own in cores]
        run_load(servers, asks, per_s=most / 2, seconds=2.0, seed=seed)
        for load in LOADS:
            report, rivals, cpu_s = run_load(servers, asks, per_s=most * load, seconds=seconds, seed=seed)
            outcome = predict(measured, report, processes=processes, rivals=rivals, limits=limits, seed=seed)
            # A refusal costs the event loop alone.
            answers_cpu_s = cpu_s - report.statuses[429] * measured.server.loop_ms / 1000
            sent = max(answer.sent for answer in report.answers) - min(answer.sent for answer in report.answers)
            last = max(answer.sent + answer.seconds for answer in report.answers)
            elapsed = last - min(answer.sent for answer in report.answers)
            points.append(
                Point(
                    processes=processes,
                    load=load,
                    per_s=len(report.answers) / sent,
                    rivals=rivals,
                    cpu_ms=(answers_cpu_s / report.statuses[200] * 1000, sum(core_ms(measured).values())),
                    p50=(report.quantile_ms(0.5), outcome.quantile_ms(0.5)),
                    p99=(report.quantile_ms(0.99), outcome.quantile_ms(0.99)),
                    answered_per_s=(
                        report.statuses[200] / elapsed,
                        outcome.counts.get("answered", 0) / outcome.seconds,
                    ),
                    refused=(report.statuses[429] / len(report.answers), outcome.share("refused")),
                )
            )
    return points


def print_points(points: list[Point]) -> None:
    """Print medians over the rounds: what was measured, and the prediction as a share of it."""
    table = Table(
        *(
            "processes",
            "load",
            "p50 ms",
            "predicted",
            "p99 ms",
            "predicted",
            "answered/s",
            "predicted",
            "CPU ms",
            "predicted",
            "429",
            "predicted",
        ),
        box=None,
    )
    for key in sorted({(one.processes, one.load) for one in points}):
        own = [one for one in points if (one.processes, one.load) == key]
        row = [str(key[0]), f"{key[1]:g}"]
        for name, form in (("p50", ".1f"), ("p99", ".1f"), ("answered_per_s", ".1f"), ("cpu_ms", ".1f")):
            pairs = [getattr(one, name) for one in own]
            ratio = median(predicted / actual for actual, predicted in pairs)
            mark = "" if abs(ratio - 1) <= FLOOR else " !"
            row += [format(median(actual for actual, _ in pairs), form), f"{ratio:.2f}{mark}"]
        row += [f"{median(actual for actual, _ in (one.refused for one in own)):.0%}"]
        row += [f"{median(predicted for _, predicted in (one.refused for one in own)):.0%}"]
        table.add_row(*row)
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", type=Path, default=ARTIFACT)
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="files or a folder to measure and ask with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15, help="how long each load lasts")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="write every point of every round to this file")
    options = parser.parse_args()
    before = os.getloadavg()[0]
    points = []
    for number in range(options.rounds):
        for processes in options.processes:
            points += run_round(options.artifact, [options.photos], processes, options.seconds, seed=number)
    if options.json:
        options.json.write_text(json.dumps([asdict(point) for point in points], indent=2))
    print_points(points)
    others = median(point.rivals for point in points)
    print(
        f"load average before {before:.1f}, after {os.getloadavg()[0]:.1f}, on {usable_cores()} cores; "
        f"{others:.1f} threads of others wanted these meanwhile, the one that asks included. Predictions are shares of "
        f"what was measured; '!' marks those that are more than {FLOOR:.0%} off."
    )
    if others > QUIET:
        # Who gets a core when many want it is a matter of priorities, groups and sessions, which are not simulated.
        print(f"Too busy for a verdict on times: expected at most {QUIET:g} such threads. CPU ms can be compared.")


if __name__ == "__main__":
    main()
