"""Normalization by mean and deviation: reading, ONNX nodes, TorchScript."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms import v2

from exporter.conversion.node_builder import NodeBuilder, Value
from exporter.errors import PreprocessingError
from exporter.inputs.image.step_module import Readers, TransformInput
from runtime.manifest import Normalize, ToFloat


def describe(step: Normalize) -> str:
    """Return the step in a few words for people."""
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (step.mean, step.std))
    return f"Normalize mean {mean}, std {std}"


def write_onnx(nodes: NodeBuilder, values: Value, step: Normalize) -> Value:
    """Append the subtraction of the mean and the division by the deviation."""
    centered = values - nodes.floats(step.mean, shape=[-1, 1, 1], name="mean")
    return centered / nodes.floats(step.std, shape=[-1, 1, 1], name="std")


def to_module(step: Normalize) -> nn.Module:
    """Return the normalization as a module."""
    return _Normalize(step)


class _Normalize(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, step: Normalize) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(step.mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(step.std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std


def check_channels(step: Normalize, channels: int, origin: str) -> None:
    """Raise PreprocessingError unless a transform's mean and deviation have one value, or one per channel."""
    if {len(step.mean), len(step.std)} - {1, channels}:
        raise PreprocessingError(
            f"'{origin}': Normalize has the wrong number of channels: expected {channels} values, "
            f"got a mean of {len(step.mean)} and a std of {len(step.std)}. Correct the transform, or pass another one "
            "with --preprocess FILE.py:NAME."
        )


def _read(transform: Any, before: TransformInput) -> Sequence[Normalize]:
    if not before.is_float:
        raise PreprocessingError(f"{before.subject}: comes before the image is floats. Move it behind ToTensor.")
    mean, std = _floats(transform.mean), _floats(transform.std)
    if 0.0 in std:
        raise PreprocessingError(f"{before.subject}: divides by zero: got a std of {list(std)}. Correct it.")
    return [Normalize(mean=mean, std=std)]


def _floats(values: Sequence[float] | torch.Tensor) -> tuple[float, ...]:
    return tuple(float(value) for value in torch.as_tensor(values, dtype=torch.float64).reshape(-1))


def _read_albumentations(transform: Any, before: TransformInput) -> Sequence[ToFloat | Normalize] | None:
    """Return albumentations' Normalize, whose mean and deviation are shares of its ``max_pixel_value``."""
    if getattr(transform, "normalization", "standard") != "standard":
        return None
    steps = _read(transform, replace(before, is_float=True))
    divisor = float(transform.max_pixel_value)
    if before.is_float:
        return steps if divisor == 1 else None
    return [ToFloat(divisor=divisor), *steps]


READERS: Readers = {
    transforms.Normalize: _read,
    v2.Normalize: _read,
    "albumentations.Normalize": _read_albumentations,
}
