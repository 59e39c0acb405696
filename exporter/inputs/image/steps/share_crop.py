"""Center crop to shares of the short side: ONNX nodes, TorchScript."""

import onnx
from torch import Tensor, nn

from exporter.conversion.node_builder import Value
from exporter.inputs.image.sizes_onnx import HEIGHT, WIDTH, crop_origin, image_size
from exporter.inputs.image.sizes_torch import crop_window
from exporter.inputs.image.step_module import PixelNodes, Readers
from runtime.manifest import ShareCrop


def describe(step: ShareCrop) -> str:
    """Return the step in a few words for people."""
    shares = f"{step.height:g}" if step.height == step.width else f"{step.height:g} x {step.width:g}"
    return f"CenterCrop {shares} of the short side"


def write_onnx(nodes: PixelNodes, pixels: Value, step: ShareCrop) -> Value:
    """Append the crop, whose size follows from the image's."""
    size = image_size(pixels)
    short = nodes.apply("ReduceMin", size, keepdims=1).cast(onnx.TensorProto.DOUBLE)
    shares = nodes.doubles([step.height, step.width], name=f"shares{len(nodes.nodes)}")
    crop = (short * shares).cast(onnx.TensorProto.INT64).at_least(1)
    start = crop_origin(size, crop, "down")
    return nodes.apply("Slice", pixels, start, start + crop, nodes.integers(HEIGHT, WIDTH))


def to_module(step: ShareCrop) -> nn.Module:
    """Return the crop as a module."""
    return _ShareCrop(step)


class _ShareCrop(nn.Module):
    def __init__(self, step: ShareCrop) -> None:
        super().__init__()
        self.height, self.width = float(step.height), float(step.width)

    def forward(self, pixels: Tensor) -> Tensor:
        short = min(pixels.shape[2], pixels.shape[3])
        top, height = crop_window(pixels.shape[2], max(1, int(self.height * short)), True)
        left, width = crop_window(pixels.shape[3], max(1, int(self.width * short)), True)
        return pixels[:, :, top : top + height, left : left + width]


# No library has it as a transform of its own.
READERS: Readers = {}
