"""Indices of the nearest colors, as ImageGPT takes images: ONNX nodes, TorchScript."""

import torch
from torch import Tensor, nn

from exporter.conversion.node_builder import NodeBuilder, Value
from exporter.inputs.image.step_module import Readers
from runtime.manifest import NearestColor


def describe(step: NearestColor) -> str:
    """Return the step in a few words for people."""
    return f"nearest of {len(step.colors)} colors"


def write_onnx(nodes: NodeBuilder, values: Value, step: NearestColor) -> Value:
    """Append the squared distances to all colors, as transformers computes them, and the index of the smallest."""
    flat = [value for color in step.colors for value in color]
    colors = nodes.value(nodes.floats(flat, shape=[len(step.colors), 3], name="colors"))
    rows = nodes.apply("Transpose", values, perm=[0, 2, 3, 1])
    pixels = nodes.apply("Reshape", rows, nodes.integers(0, -1, 3))
    across = nodes.apply("MatMul", pixels, nodes.apply("Transpose", colors, perm=[1, 0]))
    own = nodes.apply("ReduceSumSquare", pixels, nodes.integers(2), keepdims=1)
    theirs = nodes.apply("ReduceSumSquare", colors, nodes.integers(1), keepdims=0)
    distances = own - (across + across) + theirs
    return nodes.apply("ArgMin", distances, axis=2, keepdims=0)


def to_module(step: NearestColor) -> nn.Module:
    """Return the choice of colors as a module."""
    return _NearestColor(step)


class _NearestColor(nn.Module):
    colors: Tensor

    def __init__(self, step: NearestColor) -> None:
        super().__init__()
        self.register_buffer("colors", torch.tensor(step.colors, dtype=torch.float32))

    def forward(self, values: Tensor) -> Tensor:
        pixels = values.permute(0, 2, 3, 1).flatten(1, 2)
        across = torch.matmul(pixels, self.colors.t())
        distances = (pixels**2).sum(2, keepdim=True) - 2 * across + (self.colors**2).sum(1)
        return distances.argmin(2)


# transformers' processor alone has it.
READERS: Readers = {}
