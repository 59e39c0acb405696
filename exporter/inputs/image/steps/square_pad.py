"""Padding to a square: ONNX nodes, TorchScript; it is read by probes, as no library has it."""

import torch
from torch import Tensor, nn

from exporter.conversion.node_builder import Value
from exporter.inputs.image.sizes_onnx import image_size
from exporter.inputs.image.step_module import PixelNodes, Readers
from exporter.inputs.image.steps.pad import add_frame, frame_tensor
from runtime.manifest import SquarePad


def describe(step: SquarePad) -> str:
    """Return the step in a few words for people."""
    return f"SquarePad on {' '.join(map(str, step.fill))}"


def write_onnx(nodes: PixelNodes, pixels: Value, step: SquarePad) -> Value:
    """Append padding of the shorter side, of nothing where the image is square."""
    size = image_size(pixels)
    lacking = nodes.apply("ReduceMax", size, keepdims=1) - size
    small = lacking // 2
    before, after = (lacking - small, small) if step.odd == "before" else (small, lacking - small)
    none = nodes.integers(0, 0)
    return add_frame(nodes, pixels, nodes.apply("Concat", none, before, none, after, axis=0), step.fill)


def to_module(step: SquarePad) -> nn.Module:
    """Return the padding as a module."""
    return _SquarePad(step)


class _SquarePad(nn.Module):
    fill: Tensor

    def __init__(self, step: SquarePad) -> None:
        super().__init__()
        # What of an odd number comes before the image.
        self.odd = 1 if step.odd == "before" else 0
        self.register_buffer("fill", torch.tensor(step.fill, dtype=torch.int32).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        side = max(pixels.shape[2], pixels.shape[3])
        rows, columns = side - pixels.shape[2], side - pixels.shape[3]
        top, left = (rows + self.odd) // 2, (columns + self.odd) // 2
        return frame_tensor(pixels, self.fill, left, top, columns - left, rows - top)


READERS: Readers = {}
