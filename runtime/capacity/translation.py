"""From what was measured to what is simulated."""

from collections.abc import Sequence

import numpy as np

from runtime.capacity.measurement import Measurement
from runtime.capacity.replica import Demand, Process
from runtime.server.limits import Limits

# Of the event loop's work for a request, what comes before its jobs; the rest writes the answer. Which is which moves a
# request's time by less than a millisecond, so it is not measured.
_BEFORE = 0.5


def process_of(measured: Measurement, limits: Limits, *, rivals: float = 0.0) -> Process:
    """Return a server process on cores of the machine that was measured.

    Its neighbours on the machine are taken to be as busy as it is. ``rivals`` is how many threads of other programs
    always want its cores, and have the same right to them.
    """
    cores = measured.process_cores
    workers = np.array([busy.workers for busy in measured.busy], dtype=np.float64)
    slowdowns = np.maximum.accumulate([max(1.0, busy.slowdown) for busy in measured.busy])
    on_machine = measured.cores / cores
    speeds = [
        min(1.0, cores / (busy + rivals)) / float(np.interp(busy * on_machine, workers, slowdowns))
        for busy in range(1, cores + 1)
    ]
    return Process(
        workers=cores,
        speeds=speeds,
        limits=limits,
        wide_threads=cores if measured.wide < 1 else 1,
        batch_s={batch.size: batch.network_ms / 1000 for batch in measured.batches} if measured.batched else {},
    )


def demands_of(measured: Measurement, count: int, *, seed: int, inputs: Sequence[int] | None = None) -> list[Demand]:
    """Return what each of ``count`` requests takes: measured rows, drawn at random.

    ``inputs`` says which input each request brings, by its position; by default any.
    """
    chance = np.random.default_rng([seed, 1])
    server = measured.server
    rows = [
        Demand(
            receive=server.loop_ms * _BEFORE / 1000,
            prepare=(stage.prepare_ms + server.worker_ms) / 1000,
            network=stage.network_ms / 1000,
            wide=stage.network_ms * measured.wide / 1000,
            answer=server.loop_ms * (1 - _BEFORE) / 1000,
            outside=server.outside_ms / 1000,
        )
        for stage in measured.stages
    ]
    if inputs is None:
        return [rows[row] for row in chance.integers(len(rows), size=count).tolist()]
    by_input: dict[int, list[Demand]] = {}
    for stage, row in zip(measured.stages, rows, strict=True):
        by_input.setdefault(stage.input, []).append(row)
    draws = chance.random(count).tolist()
    return [
        by_input[position][int(draw * len(by_input[position]))] for position, draw in zip(inputs, draws, strict=True)
    ]


def core_ms(measured: Measurement) -> dict[str, float]:
    """Return the milliseconds of a core that one request takes when all cores are busy, by stage."""
    slowdown = max(1.0, *(busy.slowdown for busy in measured.busy))
    means = {
        "decode": np.mean([stage.decode_ms for stage in measured.stages]),
        "geometry": np.mean([stage.geometry_ms for stage in measured.stages]),
        "network": 0.0 if measured.batched else np.mean([stage.network_ms for stage in measured.stages]),
        "server": measured.server.loop_ms + measured.server.worker_ms,
    }
    return {name: float(mean) * slowdown for name, mean in means.items()}


def most_per_s(measured: Measurement) -> dict[str, float]:
    """Return the requests a second that each part of one server process could bear, whatever the others do."""
    found = {
        "cores": measured.process_cores * 1000 / sum(core_ms(measured).values()),
        "event loop": 1000 / measured.server.loop_ms if measured.server.loop_ms else float("inf"),
    }
    if measured.batched:
        found["device"] = max(batch.size * 1000 / batch.network_ms for batch in measured.batches)
    return found
