"""The noise floor: how far the eager model is from itself, and the limits that follow.

Nothing here is a tolerance for a network: what it allows is measured on it. The stated numbers are how many roundings
of its largest value any tensor may be off, and the multiple of the floor at which a limit stands.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.conversion.network_io import call
from exporter.errors import ConversionError, ExportError
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.array_diff import Tolerance, largest, signal_of, size_of
from exporter.parity.cases import Arrays, ReferenceOutput
from runtime.evidence import Noise, Stage

# The limit as a multiple of the floor. Measured: kernels that add in another order came to 3 times the floor.
MAX_RATIO = 10.0

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

# Answers that move more than this many times the rest of the noise with the batch depend on it.
_DEPENDENT = 100.0

# Rows are [batch, columns]; images, sound and series have more dimensions.
_DIMENSIONS_OF_SIGNALS = 3

# A tensor has to vary by this many times its limit, or a comparison of it shows nothing.
SIGNAL_OF_LIMIT = 3.0

_NO_TRANSFORM = "the transform's own precision cannot be changed: a rounding of the largest value"
_WHOLE = "whole numbers: they have to be equal"


@dataclass(frozen=True, kw_only=True)
class NoiseMeasurement:
    """The noise of every tensor, and what was found out beside it.

    ``random`` says, where it is not empty, that the eager model gives other answers to the same input; ``no_batch`` why
    it cannot take several inputs at once.
    """

    noise: tuple[Noise, ...]
    random: str = ""
    no_batch: str = ""

    def ruler(self, stage: Stage, unit: str) -> Tolerance:
        """Return what differences at ``stage`` are measured by."""
        return Tolerance(unit=unit, noise={one.tensor: one for one in self.noise if one.stage == stage})

    def limits(self) -> dict[str, float]:
        """Return the limits of the outputs, end to end, by name."""
        return {one.tensor: one.limit for one in self.noise if one.stage == "end to end"}

    def size(self, output: str) -> float:
        """Return the largest value of an output."""
        return next(one.size for one in self.noise if one.stage == "end to end" and one.tensor == output)


@dataclass(frozen=True)
class _NoiseSource:
    """One cause of noise: the largest difference by tensor, of the network's outputs and of the artifact's."""

    inner: Mapping[str, float]
    outputs: Mapping[str, float]


def measure_noise(
    network: nn.Module,
    answers: Sequence[ReferenceOutput],
    postprocessing: Postprocessing,
    *,
    max_ratio: float = MAX_RATIO,
    every_input: bool = False,
) -> NoiseMeasurement:
    """Return the noise of ``network``, whose answers the others are compared with.

    Of a large network it is measured on a few of the inputs, unless ``every_input`` asks for more.
    """
    small = every_input or sum(parameter.numel() for parameter in network.parameters()) <= _SMALL_PARAMETERS
    some = spread(answers, len(answers) if every_input else _MANY if small else _FEW)
    floats = any(
        array.dtype.kind == "f"
        for answer in answers[:1]
        for array in (*answer.inner.values(), *answer.outputs.values())
    )
    random = _find_randomness(network, some[0], postprocessing)
    precision, note = _against_float64(network, some, postprocessing) if floats else (None, _WHOLE)
    threads = _against_threads(network, some[: len(some) if small else 2], postprocessing) if floats else None
    shaken = _against_input(network, some[: len(some) if small else 2], postprocessing) if floats else None
    batch, no_batch = _against_batch(network, answers, postprocessing)
    causes = {"precision": precision, "threads": threads, "batch": batch}
    return NoiseMeasurement(
        noise=(
            *_of_inputs(answers, max_ratio),
            *(_of_inner(answers, causes, note, max_ratio) if postprocessing.computes else ()),
            *(_of_activation(answers, some, postprocessing, max_ratio) if postprocessing.computes else ()),
            *_of_outputs("network", answers, causes, None, note, max_ratio, skip=postprocessing.computes),
            *_of_outputs("end to end", answers, causes, shaken, note, max_ratio),
        ),
        random=random,
        no_batch=no_batch,
    )


def _of_inputs(answers: Sequence[ReferenceOutput], max_ratio: float) -> Iterator[Noise]:
    for name in answers[0].prepared.tensors:
        arrays = [answer.prepared.tensors[name].numpy() for answer in answers]
        yield _noise("arithmetic", name, arrays, {}, _NO_TRANSFORM, max_ratio, roundings=_INPUT_ROUNDINGS)


def _of_inner(
    answers: Sequence[ReferenceOutput], causes: Mapping[str, _NoiseSource | None], note: str, max_ratio: float
) -> Iterator[Noise]:
    for name in answers[0].inner:
        arrays = [answer.inner[name] for answer in answers]
        found = {cause: source.inner.get(name) for cause, source in causes.items() if source is not None}
        yield _noise("network", name, arrays, found, note, max_ratio)


def _of_activation(
    answers: Sequence[ReferenceOutput],
    some: Sequence[ReferenceOutput],
    postprocessing: Postprocessing,
    max_ratio: float,
) -> Iterator[Noise]:
    """Give the noise of what follows the network alone: on eager's own logits, in float64."""
    for name in answers[0].outputs:
        arrays = [answer.outputs[name] for answer in answers]
        apart = None
        if arrays[0].dtype.kind == "f":
            exact = [postprocessing.activate(dict(answer.inner), torch.float64)[name] for answer in some]
            apart = max(largest(answer.outputs[name], array) for answer, array in zip(some, exact, strict=True))
        yield _noise("activation", name, arrays, {"precision": apart}, "", max_ratio)


def _of_outputs(
    stage: Stage,
    answers: Sequence[ReferenceOutput],
    causes: Mapping[str, _NoiseSource | None],
    shaken: _NoiseSource | None,
    note: str,
    max_ratio: float,
    *,
    skip: bool = False,
) -> Iterator[Noise]:
    for name in () if skip else answers[0].outputs:
        arrays = [answer.outputs[name] for answer in answers]
        found = {cause: source.outputs.get(name) for cause, source in causes.items() if source is not None}
        more = ""
        if shaken is not None and (moved := shaken.outputs.get(name)):
            more = f"a rounding of its input moves it by {moved:.1e}"
            found["input"] = moved
        yield _noise(stage, name, arrays, found, "; ".join(filter(None, (note, more))), max_ratio)


def _noise(
    stage: Stage,
    name: str,
    arrays: Sequence[NDArray[Any]],
    found: Mapping[str, float | None],
    note: str,
    max_ratio: float,
    *,
    roundings: int = ROUNDINGS,
) -> Noise:
    size, signal = size_of(arrays), signal_of(arrays)
    if arrays[0].dtype.kind != "f":
        found, floor, note = {}, 0.0, _WHOLE
    else:
        rest = max((value for cause, value in found.items() if value is not None and cause != "batch"), default=0.0)
        least = roundings * float(np.finfo(arrays[0].dtype).eps) * size
        batch = found.get("batch")
        if batch is not None and batch > _DEPENDENT * max(rest, least):
            note = "; ".join(filter(None, (note, f"answers depend on the batch, by {batch:.1e}: no rounding")))
            batch = None
        floor = round_up(max(rest, least, batch or 0.0))
    return Noise(
        tensor=name,
        stage=stage,
        size=size,
        signal=signal,
        precision=found.get("precision"),
        threads=found.get("threads"),
        batch=found.get("batch"),
        floor=floor,
        limit=float(f"{max_ratio * floor:.3g}"),
        note=note,
    )


def round_up(value: float) -> float:
    """Return a number rounded up to two digits, so that it reads well and does not change with the last bit."""
    if not value or not math.isfinite(value):
        return 0.0
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / digit - 1e-6) * digit:.1e}")


def spread(answers: Sequence[ReferenceOutput], count: int) -> list[ReferenceOutput]:
    """Return ``count`` answers, spread over all of them."""
    rows = np.unique(np.linspace(0, len(answers) - 1, min(count, len(answers))).round().astype(int))
    return [answers[row] for row in rows]


def _find_randomness(network: nn.Module, answer: ReferenceOutput, postprocessing: Postprocessing) -> str:
    again = postprocessing.expect_inner(call(network, answer.prepared.tensors))
    for name, array in again.items():
        if array.dtype.kind != "f":
            continue
        apart = largest(array, answer.inner[name])
        if apart > _RANDOM * size_of([answer.inner[name]]):
            return (
                f"the eager model is random: expected the same answer for '{answer.case.name}' twice, got '{name}' "
                f"{apart:.1e} apart"
            )
    return ""


def _against_float64(
    network: nn.Module, answers: Sequence[ReferenceOutput], postprocessing: Postprocessing
) -> tuple[_NoiseSource | None, str]:
    """Return how far float32 is from float64, or None and why that cannot be run."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        exact = copy.deepcopy(network).double()
        pairs = []
        for answer in answers:
            tensors = {
                name: tensor.double() if tensor.is_floating_point() else tensor
                for name, tensor in answer.prepared.tensors.items()
            }
            pairs.append((answer, call(exact, tensors)))
        return _apart(pairs, postprocessing, torch.float64), ""
    except Exception as error:  # the user's forward may hold float32 constants, or not be copied
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        return None, f"not run in float64: {reason[:120]}"
    finally:
        torch.set_default_dtype(before)


def _against_threads(
    network: nn.Module, answers: Sequence[ReferenceOutput], postprocessing: Postprocessing
) -> _NoiseSource | None:
    """Return how far the model is from itself on another number of threads."""
    with _threads(1 if torch.get_num_threads() > 1 else 2):
        return _apart([(answer, call(network, answer.prepared.tensors)) for answer in answers], postprocessing)


def _against_input(
    network: nn.Module, answers: Sequence[ReferenceOutput], postprocessing: Postprocessing
) -> _NoiseSource | None:
    """Return how far the answers move with a rounding of the input, which another path may round otherwise.

    Pixels and samples share one scale and an offset, so that a value near zero is as far off as the largest. Columns of
    a row have nothing in common: each moves by its own rounding.
    """
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for answer in answers:
        tensors = dict(answer.prepared.tensors)
        moved = False
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and tensor.numel():
                signs = torch.randint(0, 2, tensor.shape, generator=generator).to(tensor.dtype) * 2 - 1
                sizes = tensor.abs() if tensor.ndim < _DIMENSIONS_OF_SIGNALS else tensor.abs().max()
                tensors[name] = tensor + signs * (sizes * torch.finfo(tensor.dtype).eps / 2)
                moved = True
        if moved:
            pairs.append((answer, call(network, tensors)))
    return _apart(pairs, postprocessing) if pairs else None


def _against_batch(
    network: nn.Module, answers: Sequence[ReferenceOutput], postprocessing: Postprocessing
) -> tuple[_NoiseSource | None, str]:
    """Return how far the answers are from those in a batch; None without one, and why eager takes none."""
    groups: dict[tuple[tuple[int, ...], ...], list[ReferenceOutput]] = {}
    for answer in answers:
        key = tuple(tuple(tensor.shape) for tensor in answer.prepared.tensors.values())
        groups.setdefault(key, []).append(answer)
    several = (max(groups.values(), key=len) * 2)[: max(2, _BATCH)]
    stacked = {
        name: torch.cat([answer.prepared.tensors[name] for answer in several]) for name in several[0].prepared.tensors
    }
    try:
        value = call(network, stacked)
        inner, outputs = postprocessing.expect_rows(value, len(several))
    except (ConversionError, ExportError) as error:
        return None, str(error)
    found = _NoiseSource(
        inner=_worst([answer.inner for answer in several], inner),
        outputs=_worst([answer.outputs for answer in several], outputs),
    )
    return found, ""


def _apart(
    pairs: Sequence[tuple[ReferenceOutput, Any]], postprocessing: Postprocessing, dtype: torch.dtype = torch.float32
) -> _NoiseSource:
    inner = [postprocessing.expect_inner(value, dtype) for _, value in pairs]
    outputs = [postprocessing.expect(value, dtype) for _, value in pairs]
    return _NoiseSource(
        inner=_worst([answer.inner for answer, _ in pairs], inner),
        outputs=_worst([answer.outputs for answer, _ in pairs], outputs),
    )


def _worst(expected: Sequence[Arrays], found: Sequence[Arrays]) -> dict[str, float]:
    """Return the largest difference by tensor, of the floats whose shape is the same."""
    worst: dict[str, float] = {}
    for one, other in zip(expected, found, strict=True):
        for name, array in one.items():
            if array.dtype.kind == "f" and name in other and other[name].shape == array.shape:
                worst[name] = max(worst.get(name, 0.0), largest(array, other[name]))
    return {name: value for name, value in worst.items() if math.isfinite(value)}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
