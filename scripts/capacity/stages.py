"""Measurement of an artifact's stages: alone, with other workers busy, in batches, on all cores."""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import msgspec
import numpy as np

from capacity.bodies import Body, to_body
from capacity.measurement import Batch, Busy, InputTimes, Measurement, StageTimes
from capacity.server_cost import measure_server
from runtime.artifact.golden import read_golden
from runtime.artifact.open import Artifact, open_artifact
from runtime.deploy.artifact_copies import artifact_digest
from runtime.engine.concurrency import BATCH_SIZES
from runtime.engine.cpu import usable_cores
from runtime.errors import InputError
from runtime.inputs.registry import source_format_of
from runtime.jobs.sources import read_sources
from runtime.model import Model

_MOST_SAMPLES = 64
_MOST_STAGES = 400
_ROUNDS = 3
_LEAST_CALLS = 5

# A session on all cores has to be this much faster: otherwise the server would rarely choose it.
_WORTHWHILE = 0.97


def measure(
    artifact: Path,
    *,
    device: str = "auto",
    samples: Sequence[Path] = (),
    cores: int | None = None,
    seconds: float = 2.0,
) -> Measurement:
    """Return the times of each stage and of the server around them, each figure taken over about ``seconds``.

    ``samples`` are files, folders or tables to measure with, by default the golden inputs. ``cores`` is the number of
    cores of a server process, by default all. Raises InputError for unusable samples or more cores than there are,
    DeviceError where the server cannot be measured.
    """
    load1 = os.getloadavg()[0]
    machine = usable_cores()
    cores = machine if cores is None else cores
    if not 1 <= cores <= machine:
        raise InputError(
            f"--replica-cores: expected 1 to {machine}, the cores of this machine, got {cores}. "
            "Measure on a larger machine, and plan with --measured."
        )
    opened = open_artifact(artifact)
    bodies = _bodies(opened, samples)
    with Model(opened, device=device, threads=1) as model:
        counts = sorted({1, *(2**power for power in range(1, 10) if 2**power < machine), machine})
        by_workers = {count: _Round(workers=count, rows=[], seconds=0.0, wall_s=0.0) for count in counts}
        for _ in range(_ROUNDS):
            # In turn, so that a busy moment of the machine affects all alike.
            for count in counts:
                by_workers[count].add(_work(model, bodies, count, seconds / _ROUNDS))
        device = model.device
        all_cores = _measure_all_cores(opened, model, bodies, cores, seconds) if device == "cpu" and cores > 1 else 1.0
        batches = _measure_batches(model, bodies, seconds)
    alone = by_workers[1]
    busy = tuple(_busy(by_workers[count], alone) for count in counts)
    server = measure_server(artifact, bodies, device=device, cores=cores, seconds=seconds)
    # Its workers were as busy as these: the rest is the server's own time.
    bare_ms = alone.mean("total_ms" if device == "cpu" else "prepare_ms") * busy[-1].slowdown
    server = msgspec.structs.replace(server, worker_ms=max(0.0, server.worker_ms - bare_ms))
    return Measurement(
        artifact=opened.manifest.name,
        sha256=artifact_digest(artifact),
        artifact_bytes=sum(entry.size_bytes for entry in opened.manifest.files.values()),
        device=device,
        cores=machine,
        process_cores=cores,
        load1=load1,
        lost_share=max(0.0, 1 - sum(row.total_ms for row in alone.rows) / 1000 / alone.wall_s),
        inputs=tuple(_input_times(index, body, alone.rows) for index, body in enumerate(bodies)),
        stages=tuple(_thinned(alone.rows)),
        busy=busy,
        all_cores=all_cores,
        batches=batches,
        server=server,
    )


@dataclass(kw_only=True)
class _Round:
    """Stage times of ``workers`` threads over ``seconds``; ``wall_s`` is the wall-clock time of all stages."""

    workers: int
    rows: list[StageTimes]
    seconds: float
    wall_s: float

    def add(self, other: "_Round") -> None:
        self.rows += other.rows
        self.seconds += other.seconds
        self.wall_s += other.wall_s

    def mean(self, stage: str) -> float:
        """Return the mean of a stage, with the same weight for each input however often it was measured."""
        by_input: dict[int, list[float]] = {}
        for row in self.rows:
            by_input.setdefault(row.input, []).append(getattr(row, stage))
        return fmean(map(fmean, by_input.values()))


def _bodies(artifact: Artifact, samples: Sequence[Path]) -> list[Body]:
    manifest = artifact.manifest
    if not samples:
        cases = read_golden(artifact.file(manifest.golden.file)).cases
        named: list[tuple[str, Any]] = [(f"golden input {row}", case.source) for row, case in enumerate(cases)]
    else:
        kind = source_format_of(manifest.inputs)
        named = list(islice(read_sources([str(sample) for sample in samples], kind), _MOST_SAMPLES))
    for name, source in named:
        if isinstance(source, InputError):
            raise InputError(f"--samples: '{name}': {source}")
    return [to_body(name, source, manifest) for name, source in named]


def _work(model: Model, bodies: Sequence[Body], workers: int, seconds: float) -> _Round:
    """Return the times that ``workers`` threads measure while each takes one input after the other."""
    on_cpu = model.device == "cpu"
    rows: list[list[StageTimes]] = [[] for _ in range(workers)]
    walls = [0.0] * workers
    errors: list[Exception] = []
    gate = threading.Barrier(workers + 1)
    end = [0.0]

    def work(worker: int) -> None:
        try:
            _take(model, bodies, worker, on_cpu)
            gate.wait()
            index = worker
            while len(rows[worker]) < _LEAST_CALLS or time.perf_counter() < end[0]:
                row, wall_s = _take(model, bodies, index, on_cpu)
                rows[worker].append(row)
                walls[worker] += wall_s
                index += 1
        except threading.BrokenBarrierError:
            pass
        except Exception as error:  # raised again by the calling thread
            errors.append(error)
            gate.abort()

    threads = [threading.Thread(target=work, args=(worker,), name=f"measuring-{worker}") for worker in range(workers)]
    end[0] = float("inf")
    for thread in threads:
        thread.start()
    started = time.perf_counter()
    try:
        gate.wait()
        started = time.perf_counter()
        end[0] = started + seconds
    except threading.BrokenBarrierError:
        end[0] = 0.0
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return _Round(
        workers=workers,
        rows=[row for of_worker in rows for row in of_worker],
        seconds=time.perf_counter() - started,
        wall_s=sum(walls),
    )


def _take(model: Model, bodies: Sequence[Body], index: int, on_cpu: bool) -> tuple[StageTimes, float]:
    """Return the stage times of one input, and its wall-clock time in seconds."""
    body = bodies[index % len(bodies)]
    wall = time.perf_counter()
    marks = [time.thread_time()]
    decoded = model.decode(body.source, subject=body.name)
    marks.append(time.thread_time())
    prepared = model.prepare(decoded, subject=body.name)
    marks.append(time.thread_time())
    network = time.perf_counter()
    model.score([prepared])
    network_s = time.perf_counter() - network
    marks.append(time.thread_time())
    decode, geometry, on_thread = (1000 * (after - before) for before, after in pairwise(marks))
    # A thread that waits for a device uses no processor.
    row = StageTimes(
        input=index % len(bodies),
        decode_ms=decode,
        geometry_ms=geometry,
        network_ms=on_thread if on_cpu else network_s * 1000,
    )
    return row, time.perf_counter() - wall


def _busy(together: _Round, alone: _Round) -> Busy:
    stages = ("decode_ms", "geometry_ms", "network_ms", "total_ms")
    decode, geometry, network, total = (
        together.mean(stage) / alone.mean(stage) if alone.mean(stage) > 0 else 1.0 for stage in stages
    )
    return Busy(
        workers=together.workers,
        per_s=len(together.rows) / together.seconds,
        decode=decode,
        geometry=geometry,
        network=network,
        slowdown=total,
    )


def _measure_all_cores(artifact: Artifact, single: Model, bodies: Sequence[Body], cores: int, seconds: float) -> float:
    """Return the time of a lone input's network on ``cores`` cores, as a share of its time on one."""
    with Model(artifact, device="cpu", threads=cores, workers=1) as multi:
        prepared = [single.prepare(body.source, subject=body.name) for body in bodies]
        times: dict[int, list[float]] = {0: [], 1: []}
        end = time.perf_counter() + seconds
        turn = 0
        while turn < _LEAST_CALLS or time.perf_counter() < end:
            for which, model in enumerate((single, multi)):
                started = time.perf_counter()
                model.score([prepared[turn % len(prepared)]])
                times[which].append(time.perf_counter() - started)
            turn += 1
    share = median(times[1]) / median(times[0])
    return share if share < _WORTHWHILE else 1.0


def _measure_batches(model: Model, bodies: Sequence[Body], seconds: float) -> tuple[Batch, ...]:
    """Return the time of a call by batch size, over inputs that may share a batch."""
    prepared = [model.prepare(body.source, subject=body.name) for body in bodies]
    alike = [arrays for arrays in prepared if model.bucket(arrays) == model.bucket(prepared[0])]
    batches = []
    for size in BATCH_SIZES:
        rows = [alike[row % len(alike)] for row in range(size)]
        model.score(rows)
        times: list[float] = []
        end = time.perf_counter() + seconds / len(BATCH_SIZES)
        while len(times) < _LEAST_CALLS or time.perf_counter() < end:
            started = time.perf_counter() if model.device != "cpu" else time.thread_time()
            model.score(rows)
            times.append((time.perf_counter() if model.device != "cpu" else time.thread_time()) - started)
        batches.append(Batch(size=size, network_ms=median(times) * 1000))
    return tuple(batches)


def _input_times(index: int, body: Body, rows: Sequence[StageTimes]) -> InputTimes:
    own = [row for row in rows if row.input == index] or list(rows)
    return InputTimes(
        name=body.name,
        size_bytes=len(body.content),
        decode_ms=median(row.decode_ms for row in own),
        geometry_ms=median(row.geometry_ms for row in own),
        network_ms=median(row.network_ms for row in own),
    )


def _thinned(rows: Sequence[StageTimes]) -> list[StageTimes]:
    """Return at most ``_MOST_STAGES`` rows, taken evenly over the time in which they were measured."""
    if len(rows) <= _MOST_STAGES:
        return list(rows)
    return [rows[int(index)] for index in np.linspace(0, len(rows) - 1, _MOST_STAGES)]
