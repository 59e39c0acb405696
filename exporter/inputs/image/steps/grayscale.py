"""Grayscale: reading, ONNX nodes, TorchScript."""

from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms import v2

from exporter.conversion.node_builder import Value
from exporter.errors import PreprocessingError
from exporter.inputs.image.step_module import PixelNodes, Readers, TransformInput
from runtime.manifest import Grayscale

_UINT8, _INT32 = onnx.TensorProto.UINT8, onnx.TensorProto.INT32

# Pillow's L24 macro: ITU-R 601 luma in 16-bit fixed point, rounded by half.
_LUMA = (19595, 38470, 7471)
_HALF_UNIT = 0x8000
_UNIT = 0x10000


def describe(step: Grayscale) -> str:
    """Return the step in a few words for people."""
    return f"Grayscale {step.channels}"


def write_onnx(nodes: PixelNodes, pixels: Value, step: Grayscale) -> Value:
    """Append the weighted sum of the channels, rounded."""
    weighted = pixels.cast(_INT32) * nodes.int32s(_LUMA, shape=[3, 1, 1], name="luma")
    total = nodes.apply("ReduceSum", weighted, 1, keepdims=1)
    rounded = total + nodes.int32s([_HALF_UNIT], shape=[], name="half")
    gray = (rounded // nodes.int32s([_UNIT], shape=[], name="one")).cast(_UINT8)
    return gray if step.channels == 1 else nodes.apply("Concat", gray, gray, gray, axis=1)


def to_module(step: Grayscale) -> nn.Module:
    """Return the weighted sum of the channels as a module."""
    return _Grayscale(step)


class _Grayscale(nn.Module):
    luma: Tensor

    def __init__(self, step: Grayscale) -> None:
        super().__init__()
        self.register_buffer("luma", torch.tensor(_LUMA, dtype=torch.int32).view(3, 1, 1))
        self.channels = step.channels
        self.half_unit, self.unit = _HALF_UNIT, _UNIT

    def forward(self, pixels: Tensor) -> Tensor:
        total = (pixels.to(torch.int32) * self.luma.to(pixels.device)).sum(dim=1, keepdim=True, dtype=torch.int32)
        return ((total + self.half_unit) // self.unit).to(torch.uint8).expand(-1, self.channels, -1, -1)


def _read(transform: Any, before: TransformInput) -> Sequence[Grayscale]:
    before.check_pixels()
    before.check_image()
    if before.pixels.mode != "RGB":
        raise PreprocessingError(
            f"{before.subject}: the images are read as {before.pixels.mode}: expected RGB, of which it makes gray. "
            "Leave out --pixel-format: gray images read as RGB come out the same."
        )
    return [Grayscale(channels=transform.num_output_channels)]


READERS: Readers = {transforms.Grayscale: _read, v2.Grayscale: _read}
