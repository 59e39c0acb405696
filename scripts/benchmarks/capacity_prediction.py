"""Latency and saturation as scripts/plan-capacity predicts them, against real servers over loopback.

Each round measures the machine anew, sends requests at random times to real servers, and simulates the same requests at
the same times. Threads of other programs that compete for the cores meanwhile, including the load generator, are
counted, and compete in the simulation as well.
"""

import argparse
import contextlib
import os
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median

from rich.table import Table

from benchmarks.figures import Figure, Results
from benchmarks.load_generator import Report, Request, run, run_open
from capacity.cluster import Outcome, simulate
from capacity.measurement import Measurement
from capacity.server_cost import NAME, Server, serving
from capacity.simulation_inputs import core_ms, demands_of, most_per_s, process_of
from capacity.stages import measure as measure_artifact
from material.paths import ARTIFACT, PHOTOS
from runtime.engine.cpu import usable_cores
from runtime.server.limits import Limits

# Shares of the measured capacity of the servers; the last is for the saturation.
LOADS = (0.3, 0.6, 0.8, 1.5)
FLOOR = 0.2

# With more threads of others than this, the load generator included, times say more of them than of the prediction.
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


class OtherProcesses:
    """Counts, twice a second, the runnable threads of other processes."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._known = {os.getpid(), *(server.process.pid for server in servers)}
        self._counts: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started, self._cpu = time.perf_counter(), time.process_time()

    def __enter__(self) -> "OtherProcesses":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def mean(self) -> float:
        """Mean number of such threads, plus the share of a core that this process used."""
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
    measured: Measurement, report: Report, *, processes: int, others: float, limits: Limits, seed: int
) -> Outcome:
    """Return the simulated outcome of the requests of a run, at their times, with their inputs."""
    responses = sorted(report.responses, key=lambda response: response.sent)
    first = responses[0].sent
    inputs = [int(response.request.kind) for response in responses]
    return simulate(
        process_of(measured, limits, others=others / processes),
        replicas=processes,
        arrivals=[response.sent - first for response in responses],
        demands=demands_of(measured, len(responses), seed=seed, inputs=inputs),
        seed=seed,
    )


def run_load(
    servers: list[Server], requests: list[Request], *, per_s: float, seconds: float, seed: int
) -> tuple[Report, float, float]:
    """Return the responses to a load, the competing threads meanwhile, and the servers' processor seconds."""
    before = sum(sum(server.thread_seconds().values()) for server in servers)
    with OtherProcesses(servers) as others:
        report = run(
            run_open(
                servers[0].url,
                requests,
                per_s=per_s,
                seconds=seconds,
                seed=seed,
                more_urls=[server.url for server in servers[1:]],
            )
        )
        mean = others.mean
    return report, mean, sum(sum(server.thread_seconds().values()) for server in servers) - before


def run_round(artifact: Path, photos: list[Path], processes: int, seconds: float, seed: int) -> list[Point]:
    """Return the points of one round."""
    cores = core_sets(processes)
    limits = Limits()
    points = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*EXIF")
        measured = measure_artifact(artifact, device="cpu", samples=photos, cores=len(cores[0]), seconds=2.0)
    # In the measurement's own order of samples.
    requests = [
        Request(path=f"/predict/{NAME}", body=Path(times.name).read_bytes(), kind=str(index))
        for index, times in enumerate(measured.inputs)
    ]
    most = min(most_per_s(measured).values()) * processes
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving(artifact, device="cpu", cores=own)) for own in cores]
        run_load(servers, requests, per_s=most / 2, seconds=2.0, seed=seed)
        for load in LOADS:
            report, others, cpu_s = run_load(servers, requests, per_s=most * load, seconds=seconds, seed=seed)
            outcome = predict(measured, report, processes=processes, others=others, limits=limits, seed=seed)
            # A refusal costs the event loop alone.
            responses_cpu_s = cpu_s - report.statuses[429] * measured.server.loop_ms / 1000
            first = min(response.sent for response in report.responses)
            sent = max(response.sent for response in report.responses) - first
            elapsed = max(response.sent + response.seconds for response in report.responses) - first
            points.append(
                Point(
                    processes=processes,
                    load=load,
                    per_s=len(report.responses) / sent,
                    rivals=others,
                    cpu_ms=(responses_cpu_s / report.statuses[200] * 1000, sum(core_ms(measured).values())),
                    p50=(report.quantile_ms(0.5), outcome.quantile_ms(0.5)),
                    p99=(report.quantile_ms(0.99), outcome.quantile_ms(0.99)),
                    answered_per_s=(
                        report.statuses[200] / elapsed,
                        outcome.counts.get("answered", 0) / outcome.seconds,
                    ),
                    refused=(report.statuses[429] / len(report.responses), outcome.share("refused")),
                )
            )
    return points


def table_of(points: list[Point]) -> Table:
    """Return medians over the rounds: the measured values, and the prediction as a share of them."""
    table = Table(
        *("processes", "load", "p50 ms", "predicted", "p99 ms", "predicted", "answered/s", "predicted"),
        *("CPU ms", "predicted", "429", "predicted"),
        box=None,
    )
    for processes, load in sorted({(point.processes, point.load) for point in points}):
        own = [point for point in points if (point.processes, point.load) == (processes, load)]
        row = [str(processes), f"{load:g}"]
        for name in ("p50", "p99", "answered_per_s", "cpu_ms"):
            pairs = [getattr(point, name) for point in own]
            ratio = median(predicted / actual for actual, predicted in pairs)
            mark = "" if abs(ratio - 1) <= FLOOR else " !"
            row += [format(median(actual for actual, _ in pairs), ".1f"), f"{ratio:.2f}{mark}"]
        row += [f"{median(point.refused[which] for point in own):.0%}" for which in (0, 1)]
        table.add_row(*row)
    return table


def to_figures(points: list[Point]) -> list[Figure]:
    """Return the worst prediction of each quantity, as medians over the rounds."""
    figures = []
    for name, promise in (("p50", "median latency"), ("p99", "p99 latency"), ("answered_per_s", "answered per second")):
        ratios = {}
        for key in {(point.processes, point.load) for point in points}:
            pairs = [getattr(point, name) for point in points if (point.processes, point.load) == key]
            ratios[key] = median(predicted / actual for actual, predicted in pairs)
        (processes, load), worst = max(ratios.items(), key=lambda item: abs(item[1] - 1))
        figures.append(
            Figure(
                promise=f"{promise}, the worst prediction",
                measured=f"{worst:.2f} of the measured value, {processes} processes at {load:g} of their capacity",
                target=f"within {FLOOR:.0%}",
                met=abs(worst - 1) <= FLOOR,
            )
        )
    return figures


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--artifact", type=Path, default=ARTIFACT)
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="files or a folder to measure with and to send")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15, help="duration of each load")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])


def measure(options: argparse.Namespace) -> Results:
    """Return the predictions next to the measured values."""
    points = []
    for number in range(options.rounds):
        for processes in options.processes:
            points += run_round(options.artifact, [options.photos], processes, options.seconds, seed=number)
    others = median(point.rivals for point in points)
    about = (
        f"{others:.1f} threads of others competed for {usable_cores()} cores, the load generator included. Predictions "
        f"are shares of the measured values; '!' marks those that are more than {FLOOR:.0%} off."
    )
    notes = [about]
    if others > QUIET:
        # Which of many threads gets a core depends on priorities, groups and sessions, which are not simulated.
        notes.append(f"Too busy to judge times: expected at most {QUIET:g} such threads. CPU ms can be compared.")
    return Results(
        figures=to_figures(points) if others <= QUIET else [],
        details={"points": [asdict(point) for point in points]},
        tables=[table_of(points), *notes],
    )
