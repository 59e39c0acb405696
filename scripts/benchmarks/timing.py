"""Timing of commands and functions, in rounds in which they take turns."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished command: wall time, and the peak resident memory of its process."""

    seconds: float
    peak_mb: float


# A process starts with the peak memory of its parent: this small one stands between.
LAUNCHER = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[2:], stdout=open(sys.argv[1], "w"))
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - start, usage.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def run(command: Sequence[str], *, stdout: Path = Path(os.devnull)) -> Run:
    """Run a command to its end, with its output in ``stdout``, and measure it; exits where it fails."""
    launched = [sys.executable, "-S", "-E", "-c", LAUNCHER, str(stdout), *command]
    done = subprocess.run(launched, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    seconds, peak_mb = map(float, done.stdout.split())
    return Run(seconds=seconds, peak_mb=peak_mb)


def alternate(actions: Sequence[Callable[[], T]], rounds: int, *, warm_up: int = 1) -> list[list[T]]:
    """Return the results of each action over rounds in which they take turns, after rounds that are not counted."""
    results: list[list[T]] = [[] for _ in actions]
    for number in range(warm_up + rounds):
        for action, kept in zip(actions, results, strict=True):
            result = action()
            if number >= warm_up:
                kept.append(result)
    return results


def median_runs(commands: Sequence[Sequence[str]], rounds: int) -> list[Run]:
    """Return the median time and memory of each command over alternating rounds."""
    return [
        Run(
            seconds=statistics.median(measured.seconds for measured in runs),
            peak_mb=statistics.median(measured.peak_mb for measured in runs),
        )
        for runs in alternate([lambda command=command: run(command) for command in commands], rounds)
    ]


def median_ms(functions: Sequence[Callable[[], object]], rounds: int, *, warm_up: int = 5) -> list[float]:
    """Return the median time of each function in milliseconds over alternating rounds."""
    timed = [lambda function=function: seconds_of(function) for function in functions]
    return [statistics.median(seconds) * 1000 for seconds in alternate(timed, rounds, warm_up=warm_up)]


def seconds_of(function: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
