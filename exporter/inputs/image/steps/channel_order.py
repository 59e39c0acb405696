"""Order of channels: reading, ONNX nodes, TorchScript."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from exporter.conversion.node_builder import NodeBuilder, Value
from exporter.errors import PreprocessingError
from exporter.inputs.image.step_module import Readers, TransformInput
from runtime.manifest import ChannelOrder


def describe(step: ChannelOrder) -> str:
    """Return the step in a few words for people."""
    return "RGB to BGR" if step.order == (2, 1, 0) else f"channels {' '.join(map(str, step.order))}"


def write_onnx(nodes: NodeBuilder, values: Value, step: ChannelOrder) -> Value:
    """Append the choice of channels."""
    return nodes.apply("Gather", values, nodes.integers(*step.order), axis=1)


def to_module(step: ChannelOrder) -> nn.Module:
    """Return the choice of channels."""
    return PickChannels(step.order)


class PickChannels(nn.Module):
    """Channels by their indices, of tensors [..., channels, height, width]; a transform, and its own module."""

    order: Tensor

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor(list(order), dtype=torch.int64))

    def forward(self, values: Tensor) -> Tensor:
        """Return the chosen channels."""
        return values.index_select(-3, self.order.to(values.device))


def _read(transform: PickChannels, before: TransformInput) -> Sequence[ChannelOrder]:
    if not before.is_float:
        raise PreprocessingError(f"{before.subject}: comes before the image is floats. Move it behind ToTensor.")
    return [ChannelOrder(order=tuple(int(index) for index in transform.order))]


READERS: Readers = {PickChannels: _read}
