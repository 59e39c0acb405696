"""Normalization by an image's own statistics: ONNX nodes, TorchScript; it is read by probes, as no library has it."""

import onnx
from torch import Tensor, nn

from exporter.conversion.node_builder import NodeBuilder, Value
from exporter.inputs.image.step_module import Readers
from runtime.manifest import Standardize

_FLOAT, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE


def describe(step: Standardize) -> str:
    """Return the step in a few words for people."""
    of = "each channel" if step.per == "channel" else "each image"
    return f"Standardize by the mean and {'sample ' if step.unbiased else ''}deviation of {of}"


def write_onnx(nodes: NodeBuilder, values: Value, step: Standardize) -> Value:
    """Append the subtraction of the mean and the division by the deviation, of all values or of each channel.

    In float64: onnxruntime's sums of float32 lose more digits than torch's.
    """
    axes = nodes.integers(2, 3) if step.per == "channel" else nodes.integers(1, 2, 3)
    precise = values.cast(_DOUBLE)
    centered = precise - nodes.apply("ReduceMean", precise, axes, keepdims=1)
    squares = nodes.apply("ReduceSum", nodes.apply("Mul", centered, centered), axes, keepdims=1)
    shape = values.sizes(2, 4) if step.per == "channel" else values.sizes(1, 4)
    count = nodes.apply("ReduceProd", shape, keepdims=1)
    count = count - 1 if step.unbiased else count
    deviation = nodes.apply("Sqrt", squares / count.cast(_DOUBLE))
    return (centered / (deviation + nodes.doubles([step.epsilon], name="epsilon"))).cast(_FLOAT)


def to_module(step: Standardize) -> nn.Module:
    """Return the normalization as a module."""
    return _Standardize(step)


class _Standardize(nn.Module):
    def __init__(self, step: Standardize) -> None:
        super().__init__()
        self.dimensions = [2, 3] if step.per == "channel" else [1, 2, 3]
        self.correction = 1 if step.unbiased else 0
        self.epsilon = step.epsilon

    def forward(self, values: Tensor) -> Tensor:
        mean = values.mean(dim=self.dimensions, keepdim=True)
        deviation = values.std(dim=self.dimensions, correction=self.correction, keepdim=True)
        return (values - mean) / (deviation + self.epsilon)


READERS: Readers = {}
