"""Noise floor: how far the eager model differs from itself, and the limits that follow.

No number here is a tolerance for a network: what a network may differ by is measured on it. The constants are the
number of roundings of its largest value that any tensor may be off, and the limit as a multiple of the floor.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.conversion.network_io import call
from exporter.conversion.sigmoids import SIGMOID_LIMIT, SigmoidWatch
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.array_diff import Tolerance, signal_of, size_of
from exporter.parity.cases import ReferenceOutput
from exporter.parity.randomness import find_randomness
from exporter.parity.reruns import (
    NoiseSource,
    against_batch,
    against_float64,
    against_input,
    against_threads,
    continuous,
)
from exporter.progress import Advance, Count
from runtime.artifact.difference import largest_difference
from runtime.evidence import Noise, Stage

# The least floor, in roundings of the tensor's largest value: what one operator of another library may differ by. The
# network's input has one: a scale and an offset.
ROUNDINGS = 4
_INPUT_ROUNDINGS = 1

# A small network is measured on many inputs, a large one on a few: float64 is slow.
_SMALL_PARAMETERS = 2_000_000
_MANY, _FEW = 16, 2

# Outputs that move with the batch by more than this many times the rest of the noise depend on it.
_DEPENDENT = 100.0

# A tensor has to vary by this many times its limit, or a comparison of it shows nothing.
SIGNAL_OF_LIMIT = 3.0

_NO_TRANSFORM = "the transform's own precision cannot be changed: a rounding of the largest value"
_SIGMOID = f"values of a sigmoid, of which onnxruntime's own error is up to {SIGMOID_LIMIT:g}"
_CALIBRATED = "calibrated: the formulas of the forms differ in their rounding"
_INTEGERS = "whole numbers: they have to be equal"


@dataclass(frozen=True, kw_only=True)
class NoiseMeasurement:
    """The noise of every tensor.

    ``random`` says, where it is not empty, that the eager model gives different outputs for the same input;
    ``no_batch`` why it cannot take several inputs at once, or gives others for them.
    """

    noise: tuple[Noise, ...]
    random: str = ""
    no_batch: str = ""

    def tolerance(self, stage: Stage, unit: str) -> Tolerance:
        """Return the tolerance of differences at ``stage``."""
        return Tolerance(unit=unit, noise={noise.tensor: noise for noise in self.noise if noise.stage == stage})

    def limits(self) -> dict[str, float]:
        """Return the limits of the outputs, end to end, by name."""
        return {noise.tensor: noise.limit for noise in self.noise if noise.stage == "end to end"}

    def size(self, output: str) -> float:
        """Return the largest absolute value of an output."""
        return next(noise.size for noise in self.noise if noise.stage == "end to end" and noise.tensor == output)


@dataclass(frozen=True, kw_only=True)
class _NoiseSources:
    """The causes of noise that could be measured; ``note`` says why float64 could not be run."""

    precision: NoiseSource | None
    threads: NoiseSource | None
    batch: NoiseSource | None
    input: NoiseSource | None
    note: str

    def of_inner(self, name: str) -> "_Causes":
        """Return what each cause moves one of the network's own outputs by."""
        return self._causes(lambda source: source.inner.get(name))

    def of_output(self, name: str) -> "_Causes":
        """Return what each cause moves one of the artifact's outputs by."""
        return self._causes(lambda source: source.outputs.get(name))

    def of_output_from_input(self, name: str) -> "_Causes":
        """Return the same, end to end: a rounding of the input is one more cause."""
        causes = self.of_output(name)
        moved = self.input.outputs.get(name) if self.input is not None else None
        if not moved:
            return causes
        sentence = f"a rounding of its input moves it by {moved:.1e}"
        return replace(causes, input=moved, note="; ".join(filter(None, (causes.note, sentence))))

    def _causes(self, read: Callable[[NoiseSource], float | None]) -> "_Causes":
        precision, threads, batch = (
            read(source) if source is not None else None for source in (self.precision, self.threads, self.batch)
        )
        return _Causes(precision=precision, threads=threads, batch=batch, note=self.note)


@dataclass(frozen=True, kw_only=True)
class _Causes:
    """The largest difference of one tensor by cause, None where it was not measured; ``note`` is for the report."""

    precision: float | None = None
    threads: float | None = None
    batch: float | None = None
    input: float | None = None
    note: str = ""

    @property
    def without_batch(self) -> float:
        """The largest difference of all causes except the batch."""
        known = [value for value in (self.precision, self.threads, self.input) if value is not None]
        return max(known, default=0.0)


def measure_noise(
    network: nn.Module,
    references: Sequence[ReferenceOutput],
    postprocessing: Postprocessing,
    *,
    max_ratio: float,
    every_input: bool = False,
    advance: Advance | None = None,
) -> NoiseMeasurement:
    """Return the noise of ``network``, whose outputs the others are compared with.

    A large network is measured on a few of the inputs, unless ``every_input`` asks for more. A limit is ``max_ratio``
    times the floor. ``advance`` hears how many runs of the network are done.
    """
    small = every_input or sum(parameter.numel() for parameter in network.parameters()) <= _SMALL_PARAMETERS
    measured = spread(references, len(references) if every_input else _MANY if small else _FEW)
    floats = any(
        array.dtype.kind == "f"
        for reference in references[:1]
        for array in (*reference.inner.values(), *reference.outputs.values())
    )
    few = measured if small else measured[:_FEW]
    # The number of threads changes the order of sums alike for every input, and less than float64 does.
    threaded = few if small else few[:1]
    count = Count(advance, 1 + len(measured) + len(few) + len(threaded) if floats else 1)
    random = find_randomness(network, measured[0], postprocessing)
    count.next()
    precision, note = against_float64(network, measured, postprocessing, count) if floats else (None, _INTEGERS)
    threads = against_threads(network, threaded, postprocessing, count) if floats else None
    moved = against_input(network, few, postprocessing, continuous(references), count) if floats else None
    batch, no_batch = against_batch(network, references, postprocessing)
    sources = _NoiseSources(precision=precision, threads=threads, batch=batch, input=moved, note=note)
    report = _NoiseReport(
        references,
        sources,
        max_ratio,
        _sigmoids(network, measured[0], postprocessing),
        least_limit=postprocessing.least_limit,
    )
    computes = postprocessing.computes
    noise = (
        *report.of_inputs(),
        *(report.of_inner() if computes else ()),
        *(report.of_activation(measured, postprocessing) if computes else ()),
        *(() if computes else report.of_outputs("network", sources.of_output)),
        *report.of_outputs("end to end", sources.of_output_from_input),
    )
    return NoiseMeasurement(noise=noise, random=random, no_batch=no_batch or report.depends_on_batch)


def describe_unstable(
    network: nn.Module,
    references: Sequence[ReferenceOutput],
    postprocessing: Postprocessing,
    measured: NoiseMeasurement,
    *,
    name: str,
) -> str:
    """Return in words that the eager model itself moves beyond its limit on the input ``name``; else empty.

    The limits are those of the inputs that were ``measured``; weights that were never trained may amplify roundings a
    million times more on another one.
    """
    count = Count(None, 0)
    for reference in references:
        if reference.case.name != name:
            continue
        sources = (
            against_threads(network, [reference], postprocessing, count),
            against_input(network, [reference], postprocessing, continuous(references), count),
        )
        for source in filter(None, sources):
            for stage, moves in (("network", source.inner), ("end to end", source.outputs)):
                for noise in measured.noise:
                    moved = moves.get(noise.tensor, 0.0)
                    if noise.stage == stage and moved > noise.limit > 0:
                        return (
                            f"The eager model itself gives '{noise.tensor}' {moved:.1e} apart for '{name}' where "
                            f"roundings alone differ, and {noise.floor:.1e} elsewhere: its values grow until the last "
                            "bit decides, as with weights that were never trained. Export trained ones."
                        )
    return ""


class _NoiseReport:
    """Floors and limits of the reference's tensors, for the measured causes."""

    def __init__(
        self,
        references: Sequence[ReferenceOutput],
        sources: _NoiseSources,
        max_ratio: float,
        sigmoids: Mapping[Stage, frozenset[str]],
        *,
        least_limit: float = 0.0,
    ) -> None:
        self._references = references
        self._sources = sources
        self._max_ratio = max_ratio
        # Why inputs may not share a batch; empty where they may.
        self.depends_on_batch = ""
        self._sigmoids = sigmoids
        self._least_limit = least_limit

    def of_inputs(self) -> Iterator[Noise]:
        """Give the noise of the network's inputs."""
        for name in self._references[0].prepared.tensors:
            arrays = [reference.prepared.tensors[name].numpy() for reference in self._references]
            yield self._noise("arithmetic", name, arrays, _Causes(note=_NO_TRANSFORM), roundings=_INPUT_ROUNDINGS)

    def of_inner(self) -> Iterator[Noise]:
        """Give the noise of the network's own outputs."""
        for name in self._references[0].inner:
            arrays = [reference.inner[name] for reference in self._references]
            yield self._noise("network", name, arrays, self._sources.of_inner(name))

    def of_activation(self, measured: Sequence[ReferenceOutput], postprocessing: Postprocessing) -> Iterator[Noise]:
        """Give the noise of the postprocessing alone: on eager's own logits, in float64."""
        for name in self._references[0].outputs:
            arrays = [reference.outputs[name] for reference in self._references]
            precision = None
            if arrays[0].dtype.kind == "f":
                precision = max(
                    largest_difference(
                        reference.outputs[name], postprocessing.activate(dict(reference.inner), torch.float64)[name]
                    )
                    for reference in measured
                )
            yield self._noise("activation", name, arrays, _Causes(precision=precision))

    def of_outputs(self, stage: Stage, causes_of: Callable[[str], _Causes]) -> Iterator[Noise]:
        """Give the noise of the artifact's outputs."""
        for name in self._references[0].outputs:
            arrays = [reference.outputs[name] for reference in self._references]
            yield self._noise(stage, name, arrays, causes_of(name))

    def _noise(
        self, stage: Stage, name: str, arrays: Sequence[NDArray[Any]], causes: _Causes, *, roundings: int = ROUNDINGS
    ) -> Noise:
        size, signal = size_of(arrays), signal_of(arrays)
        if arrays[0].dtype.kind != "f":
            causes, floor = _Causes(note=_INTEGERS), 0.0
        else:
            least = roundings * float(np.finfo(arrays[0].dtype).eps) * size
            batch = causes.batch or 0.0
            if batch > _DEPENDENT * max(causes.without_batch, least):
                sentence = f"outputs depend on the batch, by {batch:.1e}: no rounding"
                self.depends_on_batch = f"'{name}' depends on what else is in the batch, by {batch:.1e}"
                causes = replace(causes, note="; ".join(filter(None, (causes.note, sentence))))
                batch = 0.0
            floor = round_up(max(causes.without_batch, least, batch))
            # The error of the function itself, which does not shrink with its values.
            if name in self._sigmoids[stage] and self._max_ratio * floor < SIGMOID_LIMIT:
                causes = replace(causes, note="; ".join(filter(None, (causes.note, _SIGMOID))))
                floor = round_up(SIGMOID_LIMIT / self._max_ratio)
            if stage in ("activation", "end to end") and self._max_ratio * floor < self._least_limit:
                causes = replace(causes, note="; ".join(filter(None, (causes.note, _CALIBRATED))))
                floor = round_up(self._least_limit / self._max_ratio)
        return Noise(
            tensor=name,
            stage=stage,
            size=size,
            signal=signal,
            precision=causes.precision,
            threads=causes.threads,
            batch=causes.batch,
            floor=floor,
            limit=float(f"{self._max_ratio * floor:.3g}"),
            note=causes.note,
        )


def _sigmoids(
    network: nn.Module, reference: ReferenceOutput, postprocessing: Postprocessing
) -> Mapping[Stage, frozenset[str]]:
    """Return the tensors that are values of sigmoids, the network's own or an added one, by stage."""
    inner: frozenset[str] = frozenset()
    with SigmoidWatch() as watch:
        if any(bool(((array >= 0) & (array <= 1)).all()) for array in reference.inner.values()):
            value = call(network, reference.prepared.tensors)
            inner = watch.names_made(postprocessing.expect_inner(value))
            outputs = watch.names_made(postprocessing.expect(value))
        elif postprocessing.computes:  # a sigmoid of the network's own would give numbers from 0 to 1
            outputs = watch.names_made(postprocessing.activate(dict(reference.inner)))
        else:
            outputs = inner
    network_stage = inner if postprocessing.computes else outputs
    return {"arithmetic": frozenset(), "network": network_stage, "activation": outputs, "end to end": outputs}


def varies(noise: Noise) -> bool:
    """Return whether a tensor varies enough over the inputs for a comparison to show something."""
    return noise.signal > SIGNAL_OF_LIMIT * noise.limit


def round_up(value: float) -> float:
    """Return a number rounded up to two digits, so that it reads well and does not change with the last bit."""
    if not value or not math.isfinite(value):
        return 0.0
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / digit - 1e-6) * digit:.1e}")


def spread(references: Sequence[ReferenceOutput], count: int) -> list[ReferenceOutput]:
    """Return ``count`` references, spread over all of them."""
    rows = np.unique(np.linspace(0, len(references) - 1, min(count, len(references))).round().astype(int))
    return [references[row] for row in rows]
