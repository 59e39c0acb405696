"""Arrival times of requests: Poisson, bursts, or a recorded log."""

import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError

Times = NDArray[np.float64]

# Rate during a burst as a multiple of the mean, its mean length, and the mean distance between bursts: a third of the
# requests come in a ninth of the time.
BURST_FACTOR = 3.0
BURST_S = 1.0
BURST_EVERY_S = 9.0

_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?")
_LEAST_TIMES = 100


def poisson(per_s: float, count: int, generator: np.random.Generator) -> Times:
    """Return ``count`` times of a Poisson process, in seconds from 0."""
    return np.cumsum(generator.exponential(1.0 / per_s, count))


def bursts(per_s: float, count: int, generator: np.random.Generator) -> Times:
    """Return ``count`` times at a mean rate of ``per_s``, with bursts of ``BURST_FACTOR`` times that rate.

    Bursts and the calm between them last exponential times, ``BURST_S`` and ``BURST_EVERY_S - BURST_S`` on average.
    """
    calm_s = BURST_EVERY_S - BURST_S
    calm_factor = (BURST_EVERY_S - BURST_FACTOR * BURST_S) / calm_s
    # In units of expected requests the process is Poisson of rate 1; each phase stretches its part of that axis.
    expected = np.cumsum(generator.exponential(1.0, count))
    phases = max(8, int(2.5 * count / (per_s * BURST_EVERY_S)) * 2 + 8)
    lengths = np.empty(phases)
    while True:
        lengths[0::2] = generator.exponential(calm_s, (len(lengths) + 1) // 2)
        lengths[1::2] = generator.exponential(BURST_S, len(lengths) // 2)
        rates = np.where(np.arange(len(lengths)) % 2 == 0, calm_factor, BURST_FACTOR) * per_s
        passed = np.concatenate([[0.0], np.cumsum(lengths * rates)])
        if passed[-1] > expected[-1]:
            break
        lengths = np.empty(2 * len(lengths))
    times = np.interp(expected, passed, np.concatenate([[0.0], np.cumsum(lengths)]))
    # The mean rate is ``per_s`` in every run and not only on average.
    scaled: Times = times * (count / per_s / times[-1])
    return scaled


def recorded(log: Times, per_s: float, count: int, generator: np.random.Generator) -> Times:
    """Return ``count`` random times whose rate follows that of ``log``, scaled so that the whole log has ``per_s``.

    A shorter log is repeated; of a longer one, the busiest stretch is taken, at the rate that it then has.
    """
    factor = per_s / rate_of(log)
    rows = max(2, math.ceil(count / factor) + 1)
    if rows < len(log):
        start = int(np.argmin(log[rows - 1 :] - log[: len(log) - rows + 1]))
        log = log[start : start + rows]
    shifted = log - log[0]
    # One more gap, of average length, separates two repetitions.
    length_s = float(shifted[-1]) * len(log) / (len(log) - 1)
    expected = np.cumsum(generator.exponential(1.0, count)) / factor
    rounds = int(expected[-1] // len(log)) + 2
    knots = np.concatenate([shifted + number * length_s for number in range(rounds)])
    times: Times = np.interp(expected, np.arange(len(knots)), knots)
    return times


def rate_of(log: Times) -> float:
    """Return the mean rate of a log, in requests per second."""
    return (len(log) - 1) / float(log[-1] - log[0])


def read_log(path: Path) -> Times:
    """Return the times in a file, in seconds, sorted.

    A line is a number of seconds, an ISO 8601 time, or a JSON object with one of these as ``time``, as 'truecopy serve
    --log-format json' writes them; such objects with another ``event`` than 'request' are skipped. Raises InputError
    for any other line, and for fewer than 100 requests.
    """
    times = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                text = line.strip()
                if text:
                    time = _time(text, f"'{path}' line {number}")
                    if time is not None:
                        times.append(time)
    except OSError as error:
        raise InputError(f"'{path}': {error.strerror}. Pass --arrivals poisson, bursts or a file of times.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}': not a text file: {error}. Pass a log with one time per line.") from error
    log = np.sort(np.array(times, dtype=np.float64))
    if len(log) < _LEAST_TIMES or log[0] == log[-1]:
        raise InputError(
            f"'{path}': too few requests: expected at least {_LEAST_TIMES} at different times, got {len(log)}. "
            "Pass a longer log."
        )
    return log


def _time(text: str, subject: str) -> float | None:
    """Return the time of one line; None for a line of the server's log that is no request."""
    value: Any = text
    if text.startswith("{"):
        try:
            row = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise InputError(f"{subject}: not JSON: {error}. Write one time per line.") from None
        if row.get("event", "request") != "request":
            return None
        value = row.get("time")
        if value is None:
            raise InputError(
                f"{subject}: no time: expected a field 'time', got {', '.join(row)}. Add it to every line."
            )
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise InputError(
            f"{subject}: not a time: expected seconds or ISO 8601, got {str(value)[:40]!r}. Remove or rewrite the line."
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
