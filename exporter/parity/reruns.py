"""The eager model run again in other ways, each of which is right: how far its outputs move."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from exporter.checkpoint.memory import drop_pages, release_memory
from exporter.conversion.network_io import Arrays, call
from exporter.errors import ConversionError, ExportError
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.cases import ReferenceOutput
from exporter.progress import Count
from runtime.artifact.difference import largest_difference

# Rows are [batch, columns]; images, sound and series have more dimensions.
_DIMENSIONS_OF_ROWS = 2
_DIMENSIONS_OF_SIGNALS = 3

# Weights whose pages are let go of at once.
_LARGE_BYTES = 100_000_000

# Inputs of the batch that outputs are compared with.
_BATCH = 4


@dataclass(frozen=True, kw_only=True)
class NoiseSource:
    """One cause of noise: the largest difference by tensor, of the network's outputs and of the artifact's."""

    inner: Mapping[str, float]
    outputs: Mapping[str, float]


def against_float64(
    network: nn.Module, references: Sequence[ReferenceOutput], postprocessing: Postprocessing, count: Count
) -> tuple[NoiseSource | None, str]:
    """Return how far float32 is from float64, or None and why that cannot be run."""
    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        # The weights are doubled while they are copied: copied first, they would be held three times.
        tensors = (*network.parameters(), *network.buffers())
        memo = {}
        for tensor in tensors:
            if tensor.is_floating_point():
                memo[id(tensor)] = _doubled(tensor)
                if tensor.nbytes > _LARGE_BYTES:
                    drop_pages(network)
        exact = copy.deepcopy(network, memo).double()
        release_memory(network)
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


def against_threads(
    network: nn.Module, references: Sequence[ReferenceOutput], postprocessing: Postprocessing, count: Count
) -> NoiseSource | None:
    """Return how far the model is from itself on another number of threads."""
    with _threads(1 if torch.get_num_threads() > 1 else 2):
        pairs = []
        for reference in references:
            count.next()
            pairs.append((reference, call(network, reference.prepared.tensors)))
        return _differences(pairs, postprocessing)


def against_input(
    network: nn.Module,
    references: Sequence[ReferenceOutput],
    postprocessing: Postprocessing,
    continuous: Mapping[str, torch.Tensor],
    count: Count,
) -> NoiseSource | None:
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


def continuous(references: Sequence[ReferenceOutput]) -> dict[str, torch.Tensor]:
    """Return, by input, which columns have numbers that a rounding may move, as bool that broadcasts.

    Whole numbers in every case are categories and counts: every path has them exactly, and less a rounding one of them
    would be another index. Only rows have columns; of other inputs every number counts.
    """
    found: dict[str, torch.Tensor] = {}
    for name, first in references[0].prepared.tensors.items():
        if not first.is_floating_point() or not first.numel():
            continue
        tensors = [reference.prepared.tensors[name] for reference in references]
        has_columns = first.ndim == _DIMENSIONS_OF_ROWS and len({tensor.shape for tensor in tensors}) == 1
        fractions = [(tensor != tensor.round()).any(dim=0 if has_columns else None) for tensor in tensors]
        found[name] = torch.stack(fractions).any(dim=0)
    return found


def against_batch(
    network: nn.Module, references: Sequence[ReferenceOutput], postprocessing: Postprocessing
) -> tuple[NoiseSource | None, str]:
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
    source = NoiseSource(
        inner=_largest_differences([reference.inner for reference in batch], inner),
        outputs=_largest_differences([reference.outputs for reference in batch], outputs),
    )
    return source, ""


def _differences(
    pairs: Sequence[tuple[ReferenceOutput, Any]], postprocessing: Postprocessing, dtype: torch.dtype = torch.float32
) -> NoiseSource:
    """Return how far the forward's values are from the references that they stand beside."""
    inner = [postprocessing.expect_inner(value, dtype) for _, value in pairs]
    outputs = [postprocessing.expect(value, dtype) for _, value in pairs]
    return NoiseSource(
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
