"""Parameters of the simulation, derived from a measurement."""

from collections.abc import Sequence

import numpy as np

from capacity.measurement import Measurement
from capacity.replica import Demand, Process
from runtime.server.limits import Limits

# Of the event loop's work for a request, what comes before its jobs; the rest writes the answer. Which is which moves a
# request's time by less than a millisecond, so it is not measured.
_BEFORE = 0.5


def process_of(measured: Measurement, limits: Limits, *, others: float = 0.0) -> Process:
    """Return a server process on cores of the measured machine.

    Other processes of the service on that machine are assumed to be as busy as this one. ``others`` is the number of
    threads of other programs that compete for its cores all the time, with the same priority.
    """
    cores = measured.process_cores
    workers = np.array([busy.workers for busy in measured.busy], dtype=np.float64)
    slowdowns = np.maximum.accumulate([max(1.0, busy.slowdown) for busy in measured.busy])
    on_machine = measured.cores / cores
    speeds = [
        min(1.0, cores / (busy + others)) / float(np.interp(busy * on_machine, workers, slowdowns))
        for busy in range(1, cores + 1)
    ]
    return Process(
        workers=cores,
        speeds=speeds,
        limits=limits,
        lone_threads=cores if measured.all_cores < 1 else 1,
        batch_s={batch.size: batch.network_ms / 1000 for batch in measured.batches} if measured.batched else {},
    )


def demands_of(measured: Measurement, count: int, *, seed: int, inputs: Sequence[int] | None = None) -> list[Demand]:
    """Return the demand of each of ``count`` requests: measured rows, drawn at random.

    ``inputs`` are the indices of the input that each request has; by default any.
    """
    generator = np.random.default_rng([seed, 1])
    server = measured.server
    rows = [
        Demand(
            receive=server.loop_ms * _BEFORE / 1000,
            prepare=(stage.prepare_ms + server.worker_ms) / 1000,
            network=stage.network_ms / 1000,
            all_cores=stage.network_ms * measured.all_cores / 1000,
            respond=server.loop_ms * (1 - _BEFORE) / 1000,
            outside=server.outside_ms / 1000,
        )
        for stage in measured.stages
    ]
    if inputs is None:
        return [rows[row] for row in generator.integers(len(rows), size=count).tolist()]
    by_input: dict[int, list[Demand]] = {}
    for stage, row in zip(measured.stages, rows, strict=True):
        by_input.setdefault(stage.input, []).append(row)
    draws = generator.random(count).tolist()
    return [by_input[index][int(draw * len(by_input[index]))] for index, draw in zip(inputs, draws, strict=True)]


def core_ms(measured: Measurement) -> dict[str, float]:
    """Return the core time of one request when all cores are busy, in milliseconds by stage."""
    slowdown = max(1.0, *(busy.slowdown for busy in measured.busy))
    means = {
        "decode": np.mean([stage.decode_ms for stage in measured.stages]),
        "geometry": np.mean([stage.geometry_ms for stage in measured.stages]),
        "network": 0.0 if measured.batched else np.mean([stage.network_ms for stage in measured.stages]),
        "server": measured.server.loop_ms + measured.server.worker_ms,
    }
    return {name: float(mean) * slowdown for name, mean in means.items()}


def most_per_s(measured: Measurement) -> dict[str, float]:
    """Return the highest rate of each part of one server process, in requests per second, the others aside."""
    rates = {
        "cores": measured.process_cores * 1000 / sum(core_ms(measured).values()),
        "event loop": 1000 / measured.server.loop_ms if measured.server.loop_ms else float("inf"),
    }
    if measured.batched:
        rates["device"] = max(batch.size * 1000 / batch.network_ms for batch in measured.batches)
    return rates
