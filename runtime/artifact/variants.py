"""Variants on this machine: where they run, and how fast."""

import statistics
import time
import warnings
from collections.abc import Callable, Sequence

from runtime.artifact.golden import read_golden
from runtime.artifact.open import Artifact
from runtime.engine.cpu import has_fast_int8
from runtime.engine.session import Arrays, open_session
from runtime.errors import DeviceError
from runtime.manifest import FULL_PRECISION, Variant

_MINIMUM_RUNS = 5
_SECONDS = 0.3


def device_for(variant: Variant, device: str) -> str:
    """Return the device that a variant runs on. Raises DeviceError for one that runs 8 bits otherwise."""
    if variant.approximation is None or not variant.approximation.quantization.is_integer:
        return device
    if device not in {"auto", "cpu"}:
        raise DeviceError(
            f"device '{device}': precision {variant.precision} was measured on the CPU alone, and runs there. Use "
            f"device cpu, or precision {FULL_PRECISION}."
        )
    return "cpu"


def warn_if_slow(artifact: Artifact, variant: Variant) -> None:
    """Warn where a quantized variant runs on a processor without instructions for it; with the ratio, measured."""
    measured = variant.approximation
    if measured is None or not measured.quantization.is_integer or has_fast_int8() is not False:
        return
    cases = read_golden(artifact.file(artifact.manifest.golden.file)).cases
    ratio = speed_ratio(artifact, variant, [case.prepared for case in cases])
    advice = f" Precision {FULL_PRECISION} is faster here." if ratio < 1 else ""
    warnings.warn(
        f"'{artifact.path}': this processor has no fast {variant.precision} instructions (VNNI): {variant.precision} "
        f"runs {ratio:.2f} times as fast as {FULL_PRECISION} here, on one thread.{advice}",
        stacklevel=3,
    )


def speed_ratio(artifact: Artifact, variant: Variant, inputs: Sequence[Arrays], *, seconds: float = _SECONDS) -> float:
    """Return how many times as fast as fp32 a variant's network runs on prepared inputs, on one thread of the CPU.

    The two run in turns, over about ``seconds`` each, so that a busy moment of the machine affects both alike.
    """
    sessions = [
        open_session(
            artifact.graph(graphs.network, weights=graphs.weights, shared=graphs.shared_weights),
            device="cpu",
            threads=1,
        )
        for graphs in (artifact.manifest.variant(FULL_PRECISION), variant)
    ]
    full, own = median_times([session.run for session in sessions], inputs, seconds=seconds)
    return full / own


def median_times(
    functions: Sequence[Callable[[Arrays], object]], inputs: Sequence[Arrays], *, seconds: float = _SECONDS
) -> list[float]:
    """Return the median time of each function in seconds, called in turns with the same inputs."""
    for function in functions:
        function(inputs[0])
    times: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + seconds * len(functions)
    while len(times[0]) < _MINIMUM_RUNS or time.perf_counter() < end:
        arrays = inputs[len(times[0]) % len(inputs)]
        for function, own in zip(functions, times, strict=True):
            start = time.perf_counter()
            function(arrays)
            own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]
