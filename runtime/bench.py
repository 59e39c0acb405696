"""Benchmark of an artifact: latency, throughput, stages and PyTorch baselines."""

import gc
import os
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.artifact.difference import largest_difference
from runtime.artifact.golden import read_golden
from runtime.artifact.limits import run_within_limit
from runtime.artifact.open import open_artifact
from runtime.engine.concurrency import ConcurrencyPlan, build_plan
from runtime.engine.cpu import usable_cores
from runtime.engine.process import peak_mb
from runtime.engine.session import Arrays
from runtime.errors import InputError
from runtime.manifest import FULL_PRECISION
from runtime.model import Model
from runtime.results import Failure

# Runs the network, from the arrays of the network graph to the first output.
Runner: TypeAlias = Callable[[Arrays], NDArray[Any]]

OURS = "truecopy"

_MINIMUM_CALLS = 5
_ACCELERATOR_BATCHES = (1, 8, 16, 32)


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Latency of single calls, in milliseconds."""

    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float


class Stages(msgspec.Struct, frozen=True, kw_only=True):
    """Time of one input by stage: medians in milliseconds; ``rest`` is names, labels and checks."""

    decode_ms: float
    geometry_ms: float
    network_ms: float
    rest_ms: float


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs per second with one plan, and CPU time per input."""

    plan: ConcurrencyPlan
    per_s: float
    cpu_ms: float


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run the network alone, one prepared input at a time; times in milliseconds.

    ``difference`` is the largest difference between its first output and truecopy's; None where their shapes differ, as
    before and after an activation that the export added.
    """

    name: str
    first_ms: float
    p50_ms: float
    difference: float | None


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of 'truecopy bench'; ``load1`` is the machine's load average before the measurement.

    ``deferred`` is the share of rows that ran again in fp32, None where the precision defers none.
    """

    artifact: str
    precision: str = FULL_PRECISION
    device: str
    cores: int
    load1: float
    inputs: int
    load_ms: float
    first_ms: float
    latency: Latency
    deferred: float | None = None
    stages: Stages
    peak_mb: float
    throughput: tuple[Throughput, ...]
    baselines: tuple[Baseline, ...]

    @property
    def best(self) -> Throughput:
        """The plan with the most inputs per second."""
        return max(self.throughput, key=lambda figure: figure.per_s)


def measure_model(
    artifact: str | Path,
    *,
    precision: str = FULL_PRECISION,
    device: str = "auto",
    samples: Sequence[Path] = (),
    seconds: float = 2.0,
    build_baselines: Callable[[str], Mapping[str, Runner]] | None = None,
) -> BenchReport:
    """Measure a ``precision`` of an artifact on ``device``, each figure over about ``seconds``.

    ``samples`` are files to measure with, by default the artifact's golden inputs. ``build_baselines`` is called with
    the device after all else is measured, as what it loads takes memory. Raises what ``load`` and ``predict`` raise.
    """
    load1 = os.getloadavg()[0]
    sources: list[Any] = list(samples) or _golden_inputs(artifact)
    start = time.perf_counter()
    opened = open_artifact(artifact)
    model = Model(opened, precision=precision, device=device)
    load_ms = _since(start)
    with model:
        start = time.perf_counter()
        if samples:
            model.predict(sources[0])
        else:
            run_within_limit(opened, lambda: model.predict(sources[0]))
        first_ms = _since(start)
        latency = _measure_latency(model, sources, seconds)
        stages = _measure_stages(model, sources, seconds)
        peak = peak_mb()
        opened_device = model.device
        rows = model.stats

    def open_model(**options: Any) -> Model:
        return Model(open_artifact(artifact), precision=precision, device=opened_device, **options)

    throughput = tuple(_measure_throughput(open_model, plan, sources, seconds) for plan in _plans(opened_device))
    baselines: tuple[Baseline, ...] = ()
    if build_baselines is not None:
        runners = build_baselines(opened_device)
        with open_model() as model:
            baselines = _measure_baselines(model, runners, sources, seconds)
    return BenchReport(
        artifact=str(artifact),
        precision=precision,
        device=opened_device,
        cores=usable_cores(),
        load1=load1,
        inputs=len(sources),
        load_ms=load_ms,
        first_ms=first_ms,
        latency=latency,
        deferred=rows[FULL_PRECISION] / sum(rows.values()) if rows else None,
        stages=stages,
        peak_mb=peak,
        throughput=throughput,
        baselines=baselines,
    )


def _golden_inputs(artifact: str | Path) -> list[bytes]:
    opened = open_artifact(artifact)
    return [case.source for case in read_golden(opened.file(opened.manifest.golden.file)).cases]


def _plans(device: str) -> list[ConcurrencyPlan]:
    """Return the concurrency plans that are worth a comparison on this device."""
    cores = usable_cores()
    if device != "cpu":
        best = build_plan("throughput", device=device, cores=cores)
        return [
            *(ConcurrencyPlan(workers=best.workers, threads=1, batch=batch) for batch in _ACCELERATOR_BATCHES),
            *(ConcurrencyPlan(workers=count, threads=1, batch=best.batch) for count in {cores} - {best.workers}),
        ]
    counts = sorted({1, *(2**power for power in range(1, 10) if 2**power < cores), cores})
    spread = [ConcurrencyPlan(workers=count, threads=max(1, cores // count), batch=1) for count in counts]
    return [
        ConcurrencyPlan(workers=1, threads=1, batch=1),
        *(plan for plan in spread if plan.workers * plan.threads > 1),
        ConcurrencyPlan(workers=cores, threads=1, batch=8),
    ]


def _measure_latency(model: Model, sources: Sequence[Any], seconds: float) -> Latency:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _MINIMUM_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        model.predict(sources[len(times) % len(sources)])
        times.append(_since(start))
    p50, p90, p99 = np.percentile(times, [50, 90, 99])
    return Latency(calls=len(times), p50_ms=float(p50), p90_ms=float(p90), p99_ms=float(p99))


def _measure_stages(model: Model, sources: Sequence[Any], seconds: float) -> Stages:
    times: list[list[float]] = [[], [], [], []]
    end = time.perf_counter() + seconds
    while len(times[0]) < _MINIMUM_CALLS or time.perf_counter() < end:
        source = sources[len(times[0]) % len(sources)]
        marks = [time.perf_counter()]
        decoded = model.decode(source)
        marks.append(time.perf_counter())
        prepared = model.prepare(decoded)
        marks.append(time.perf_counter())
        scores = model.score([prepared])
        marks.append(time.perf_counter())
        model.interpret(scores[0], name="")
        marks.append(time.perf_counter())
        for stage, start, stop in zip(times, marks, marks[1:], strict=False):
            stage.append((stop - start) * 1000)
    decode, geometry, network, rest = map(statistics.median, times)
    return Stages(decode_ms=decode, geometry_ms=geometry, network_ms=network, rest_ms=rest)


def _measure_throughput(
    open_model: Callable[..., Model], plan: ConcurrencyPlan, sources: Sequence[Any], seconds: float
) -> Throughput:
    with open_model(workers=plan.workers, threads=plan.threads, batch=plan.batch) as model:
        warm = max(_MINIMUM_CALLS, plan.workers * plan.batch * 2)
        for result in model.predict([sources[number % len(sources)] for number in range(warm)]):
            if isinstance(result, Failure):
                raise InputError(f"{result}")
        start, cpu = time.perf_counter(), time.process_time()
        done = 0
        end = start + seconds

        def until_end() -> Any:
            number = 0
            while number < _MINIMUM_CALLS or time.perf_counter() < end:
                yield (str(number), sources[number % len(sources)])
                number += 1

        for _ in model.predict_each(until_end()):
            done += 1
        elapsed = time.perf_counter() - start
        return Throughput(plan=plan, per_s=done / elapsed, cpu_ms=(time.process_time() - cpu) * 1000 / done)


def _measure_baselines(
    model: Model, baselines: Mapping[str, Runner], sources: Sequence[Any], seconds: float
) -> tuple[Baseline, ...]:
    """Measure truecopy and the baselines in turns, so that a busy moment of the machine affects all alike."""
    # Writable copies: PyTorch warns about others.
    prepared = [
        {name: np.array(array) for name, array in model.stack([model.prepare(source)]).items()} for source in sources
    ]
    output = model.manifest.outputs[0].name
    runners: dict[str, Runner] = {OURS: lambda arrays: model.run(arrays)[output], **baselines}
    first_ms: dict[str, float] = {}
    scores: dict[str, NDArray[Any]] = {}
    for name, runner in list(runners.items()):
        start = time.perf_counter()
        try:
            scores[name] = runner(prepared[0])
        except Exception as error:  # torch.compile without a C++ compiler, and what other libraries raise
            if name == OURS:
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            warnings.warn(f"{name} is skipped, as it fails here: {reason}", stacklevel=3)
            del runners[name]
            continue
        first_ms[name] = _since(start)
        runner(prepared[0])
    times: dict[str, list[float]] = {name: [] for name in runners}
    gc.collect()
    end = time.perf_counter() + seconds * len(runners)
    rounds = 0
    while rounds < _MINIMUM_CALLS or time.perf_counter() < end:
        for name, runner in runners.items():
            start = time.perf_counter()
            runner(prepared[rounds % len(prepared)])
            times[name].append(_since(start))
        rounds += 1
    return tuple(
        Baseline(
            name=name,
            first_ms=first_ms[name],
            p50_ms=statistics.median(times[name]),
            difference=(
                largest_difference(scores[name], scores[OURS]) if scores[name].shape == scores[OURS].shape else None
            ),
        )
        for name in runners
    )


def _since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
