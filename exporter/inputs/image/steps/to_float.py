"""Pixels to floats: reading, ONNX nodes, TorchScript."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms import v2

from exporter.conversion.node_builder import NodeBuilder, Value
from exporter.errors import PreprocessingError
from exporter.inputs.image.step_module import Readers, TransformInput
from runtime.manifest import ToFloat


def describe(step: ToFloat) -> str:
    """Return the step in a few words for people."""
    return "to float" if step.divisor == 1 else f"divide by {step.divisor:g}"


def write_onnx(nodes: NodeBuilder, values: Value, step: ToFloat) -> Value:
    """Append the division of float32 values."""
    return values / nodes.floats([step.divisor], shape=[], name="divisor")


def to_module(step: ToFloat) -> nn.Module:
    """Return the division of float32 values."""
    return _ToFloat(step.divisor)


class _ToFloat(nn.Module):
    def __init__(self, divisor: float) -> None:
        super().__init__()
        self.divisor = divisor

    def forward(self, values: Tensor) -> Tensor:
        return values / self.divisor


def _read_to_tensor(_transform: Any, before: TransformInput) -> Sequence[ToFloat] | None:
    if before.is_tensor:
        return None
    if before.pixels.dtype == "uint16":
        raise PreprocessingError(
            f"{before.subject}: leaves 16-bit pixels as they are: expected v2.ToImage and "
            "v2.ToDtype(torch.float32, scale=True). Use these."
        )
    return [ToFloat(divisor=255.0)]


def _read_conversion(transform: Any, before: TransformInput) -> Sequence[ToFloat]:
    kind, scale = transform.dtype, getattr(transform, "scale", True)
    if kind == getattr(torch, before.pixels.dtype) and not before.is_float:
        return []
    if kind != torch.float32 or not before.is_tensor:
        raise PreprocessingError(
            f"{before.subject}: cannot be folded in: expected a conversion of a tensor to torch.float32, got {kind}. "
            "Put PILToTensor or ToImage before it, and convert to float32."
        )
    return [] if before.is_float else [ToFloat(divisor=float(before.pixels.largest) if scale else 1.0)]


def _read_albumentations(transform: Any, before: TransformInput) -> Sequence[ToFloat] | None:
    return None if before.is_float else [ToFloat(divisor=float(transform.max_value or 255.0))]


READERS: Readers = {
    transforms.ToTensor: _read_to_tensor,
    v2.ToTensor: _read_to_tensor,
    "timm.data.transforms.MaybeToTensor": _read_to_tensor,
    transforms.ConvertImageDtype: _read_conversion,
    v2.ConvertImageDtype: _read_conversion,
    v2.ToDtype: _read_conversion,
    "albumentations.ToFloat": _read_albumentations,
}
