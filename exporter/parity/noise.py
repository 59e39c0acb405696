"""Noise floor: how far the eager model differs from itself, and the limits that follow.

No number here is a tolerance for a network: what a network may differ by is measured on it. The constants are the
number of roundings of its largest value that any tensor may be off, and the limit as a multiple of the floor.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.conversion.network_io import Arrays, call
from exporter.conversion.sigmoids import SIGMOID_LIMIT, SigmoidWatch
from exporter.errors import ConversionError, ExportError
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.array_diff import Tolerance, signal_of, size_of
from exporter.parity.cases import ReferenceOutput
from exporter.parity.randomness import random_operators
from exporter.progress import Advance, Count
from runtime.artifact.difference import largest_difference
from runtime.errors import listed
from runtime.evidence import Noise, Stage

# The least floor, in roundings of the tensor's largest value: what one operator of another library may differ by. The
# network's input has one: a scale and an offset.
ROUNDINGS = 4
_INPUT_ROUNDINGS = 1

# A small network is measured on many inputs, a large one on a few: float64 is slow.
_SMALL_PARAMETERS = 2_000_000
_MANY, _FEW = 16, 2
_BATCH = 4

# A model that is further than this from itself, relative to its largest output, on the same input and the same
# threads, draws random numbers: that is no rounding.
_RANDOM = 1e-3

# How the reason begins where the eager model gives others for the same input.
RANDOM = "the eager model is random"

# Outputs that move with the batch by more than this many times the rest of the noise depend on it.
_DEPENDENT = 100.0

# Rows are [batch, columns]; images, sound and series have more dimensions.
_DIMENSIONS_OF_ROWS = 2
_DIMENSIONS_OF_SIGNALS = 3

# A tensor has to vary by this many times its limit, or a comparison of it shows nothing.
SIGNAL_OF_LIMIT = 3.0

_NO_TRANSFORM = "the transform's own precision cannot be changed: a rounding of the largest value"
_SIGMOID = f"values of a sigmoid, of which onnxruntime's own error is up to {SIGMOID_LIMIT:g}"
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
class _NoiseSource:
    """One cause of noise: the largest difference by tensor, of the network's outputs and of the artifact's."""

    inner: Mapping[str, float]
    outputs: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class _NoiseSources:
    """The causes of noise that could be measured; ``note`` says why float64 could not be run."""

    precision: _NoiseSource | None
    threads: _NoiseSource | None
    batch: _NoiseSource | None
    input: _NoiseSource | None
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

    def _causes(self, read: Callable[[_NoiseSource], float | None]) -> "_Causes":
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
    few = measured[: len(measured) if small else 2]
    count = Count(advance, 1 + len(measured) + 2 * len(few) if floats else 1)
    random = _find_randomness(network, measured[0], postprocessing)
    count.next()
    precision, note = _against_float64(network, measured, postprocessing, count) if floats else (None, _INTEGERS)
    threads = _against_threads(network, few, postprocessing, count) if floats else None
    moved = _against_input(network, few, postprocessing, _continuous(references), count) if floats else None
    batch, no_batch = _against_batch(network, references, postprocessing)
    sources = _NoiseSources(precision=precision, threads=threads, batch=batch, input=moved, note=note)
    report = _NoiseReport(references, sources, max_ratio, _sigmoids(network, measured[0], postprocessing))
    computes = postprocessing.computes
    noise = (
        *report.of_inputs(),
        *(report.of_inner() if computes else ()),
        *(report.of_activation(measured, postprocessing) if computes else ()),
        *(() if computes else report.of_outputs("network", sources.of_output)),
        *report.of_outputs("end to end", sources.of_output_from_input),
    )
    return NoiseMeasurement(noise=noise, random=random, no_batch=no_batch or report.depends_on_batch)


class _NoiseReport:
    """Floors and limits of the reference's tensors, for the measured causes."""

    def __init__(
        self,
        references: Sequence[ReferenceOutput],
        sources: _NoiseSources,
        max_ratio: float,
        sigmoids: Mapping[Stage, frozenset[str]],
    ) -> None:
        self._references = references
        self._sources = sources
        self._max_ratio = max_ratio
        # Why inputs may not share a batch; empty where they may.
        self.depends_on_batch = ""
        self._sigmoids = sigmoids

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
    with SigmoidWatch() as watch:
        value = call(network, reference.prepared.tensors)
        inner, outputs = (
            frozenset(name for name, array in arrays.items() if watch.made(array))
            for arrays in (postprocessing.expect_inner(value), postprocessing.expect(value))
        )
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


def _find_randomness(network: nn.Module, reference: ReferenceOutput, postprocessing: Postprocessing) -> str:
    """Return in words that a second run on the same input gives another output; empty where it does not."""
    again = postprocessing.expect_inner(call(network, reference.prepared.tensors))
    for name, array in again.items():
        if array.dtype.kind != "f":
            continue
        difference = largest_difference(array, reference.inner[name])
        if difference > _RANDOM * size_of([reference.inner[name]]):
            operators = random_operators(lambda: call(network, reference.prepared.tensors))
            drawn = listed(operators, 3) if operators else "what is no operator of torch"
            return (
                f"{RANDOM}: expected the same output for '{reference.case.name}' twice, got '{name}' "
                f"{difference:.1e} apart; {drawn} draws random numbers"
            )
    return ""


def _against_float64(
    network: nn.Module, references: Sequence[ReferenceOutput], postprocessing: Postprocessing, count: Count
) -> tuple[_NoiseSource | None, str]:
    """Return how far float32 is from float64, or None and why that cannot be run."""
    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        # The weights are doubled while they are copied: copied first, they would be held three times.
        tensors = (*network.parameters(), *network.buffers())
        memo = {id(tensor): _doubled(tensor) for tensor in tensors if tensor.is_floating_point()}
        exact = copy.deepcopy(network, memo).double()
        pairs = []
        for reference in references:
            count.next()
            inputs = {
                name: tensor.double() if tensor.is_floating_point() else tensor
                for name, tensor in reference.prepared.tensors.items()
            }
            pairs.append((reference, call(exact, inputs)))
        return _differences(pairs, postprocessing, torch.float64), ""
    except Exception as error:  # the user's forward may hold float32 constants, or not be copied
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        return None, f"not run in float64: {reason[:120]}"
    finally:
        torch.set_default_dtype(default_dtype)


def _against_threads(
    network: nn.Module, references: Sequence[ReferenceOutput], postprocessing: Postprocessing, count: Count
) -> _NoiseSource | None:
    """Return how far the model is from itself on another number of threads."""
    with _threads(1 if torch.get_num_threads() > 1 else 2):
        pairs = []
        for reference in references:
            count.next()
            pairs.append((reference, call(network, reference.prepared.tensors)))
        return _differences(pairs, postprocessing)


def _against_input(
    network: nn.Module,
    references: Sequence[ReferenceOutput],
    postprocessing: Postprocessing,
    continuous: Mapping[str, torch.Tensor],
    count: Count,
) -> _NoiseSource | None:
    """Return how far the outputs move with a rounding of the input, which another path may round otherwise.

    Pixels and samples share one scale and an offset, so that a value near zero is as far off as the largest. Columns of
    a row have nothing in common: each moves by its own rounding. What is not ``continuous`` stays as it is.
    """
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for reference in references:
        count.next()
        tensors = dict(reference.prepared.tensors)
        moved = False
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and tensor.numel():
                signs = torch.randint(0, 2, tensor.shape, generator=generator).to(tensor.dtype) * 2 - 1
                sizes = tensor.abs() if tensor.ndim < _DIMENSIONS_OF_SIGNALS else tensor.abs().max()
                change = signs * (sizes * torch.finfo(tensor.dtype).eps / 2)
                tensors[name] = torch.where(continuous[name], tensor + change, tensor)
                moved = True
        if moved:
            pairs.append((reference, call(network, tensors)))
    return _differences(pairs, postprocessing) if pairs else None


def _continuous(references: Sequence[ReferenceOutput]) -> dict[str, torch.Tensor]:
    """Return, by input, which columns have numbers that a rounding may move, as bool that broadcasts.

    Whole numbers in every case are categories and counts: every path has them exactly, and less a rounding one of them
    would be another index. Only rows have columns; of other inputs every number counts.
    """
    continuous: dict[str, torch.Tensor] = {}
    for name, first in references[0].prepared.tensors.items():
        if not first.is_floating_point() or not first.numel():
            continue
        tensors = [reference.prepared.tensors[name] for reference in references]
        has_columns = first.ndim == _DIMENSIONS_OF_ROWS and len({tensor.shape for tensor in tensors}) == 1
        fractions = [(tensor != tensor.round()).any(dim=0 if has_columns else None) for tensor in tensors]
        continuous[name] = torch.stack(fractions).any(dim=0)
    return continuous


def _against_batch(
    network: nn.Module, references: Sequence[ReferenceOutput], postprocessing: Postprocessing
) -> tuple[_NoiseSource | None, str]:
    """Return how far outputs are from those in a batch; None without a batch, and why eager takes none."""
    groups: dict[tuple[tuple[int, ...], ...], list[ReferenceOutput]] = {}
    for reference in references:
        shapes = tuple(tuple(tensor.shape) for tensor in reference.prepared.tensors.values())
        groups.setdefault(shapes, []).append(reference)
    batch = (max(groups.values(), key=len) * 2)[: max(2, _BATCH)]
    stacked = {
        name: torch.cat([reference.prepared.tensors[name] for reference in batch]) for name in batch[0].prepared.tensors
    }
    try:
        value = call(network, stacked)
        inner, outputs = postprocessing.expect_rows(value, len(batch))
    except (ConversionError, ExportError) as error:
        return None, str(error)
    source = _NoiseSource(
        inner=_largest_differences([reference.inner for reference in batch], inner),
        outputs=_largest_differences([reference.outputs for reference in batch], outputs),
    )
    return source, ""


def _differences(
    pairs: Sequence[tuple[ReferenceOutput, Any]], postprocessing: Postprocessing, dtype: torch.dtype = torch.float32
) -> _NoiseSource:
    """Return how far the forward's values are from the references that they stand beside."""
    inner = [postprocessing.expect_inner(value, dtype) for _, value in pairs]
    outputs = [postprocessing.expect(value, dtype) for _, value in pairs]
    return _NoiseSource(
        inner=_largest_differences([reference.inner for reference, _ in pairs], inner),
        outputs=_largest_differences([reference.outputs for reference, _ in pairs], outputs),
    )


def _largest_differences(expected: Sequence[Arrays], actual: Sequence[Arrays]) -> dict[str, float]:
    """Return the largest difference by tensor, of the floats whose shape is the same."""
    largest: dict[str, float] = {}
    for expected_arrays, actual_arrays in zip(expected, actual, strict=True):
        for name, array in expected_arrays.items():
            if array.dtype.kind == "f" and name in actual_arrays and actual_arrays[name].shape == array.shape:
                largest[name] = max(largest.get(name, 0.0), largest_difference(array, actual_arrays[name]))
    return {name: value for name, value in largest.items() if math.isfinite(value)}


def _doubled(tensor: torch.Tensor) -> torch.Tensor:
    exact = tensor.detach().double()
    return nn.Parameter(exact, requires_grad=False) if isinstance(tensor, nn.Parameter) else exact


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
