"""Center crop: reading, ONNX nodes, TorchScript."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms import v2

from exporter.conversion.node_builder import Value
from exporter.inputs.image.sizes_onnx import HEIGHT, WIDTH, crop_origin, image_size
from exporter.inputs.image.sizes_torch import crop_window, frame_before
from exporter.inputs.image.step_module import PixelNodes, Readers, TransformInput
from exporter.inputs.image.steps.pad import add_frame, frame_tensor, read_fill
from runtime.manifest import CenterCrop


def describe(step: CenterCrop) -> str:
    """Return the step in a few words for people."""
    size = f"{step.height}" if step.height == step.width else f"{step.height} x {step.width}"
    fill = f" on {' '.join(map(str, step.fill))}" if any(step.fill) else ""
    return f"CenterCrop {size}{fill}"


def write_onnx(nodes: PixelNodes, pixels: Value, step: CenterCrop) -> Value:
    """Append padding, of nothing where the image is large enough, and the cut."""
    crop = nodes.value(nodes.integers(step.height, step.width))
    lacking = (crop - image_size(pixels)).at_least(0)
    before = lacking - lacking // 2 if step.rounding == "floor" else lacking // 2
    # All eight lengths, though ONNX would take 'axes': onnxruntime 1.31 miscounts them when it moves a Transpose past.
    none = nodes.integers(0, 0)
    pads = nodes.apply("Concat", none, before, none, lacking - before, axis=0)
    pixels = add_frame(nodes, pixels, pads, step.fill)
    start = crop_origin(image_size(pixels), crop, step.rounding)
    return nodes.apply("Slice", pixels, start, start + crop, nodes.integers(HEIGHT, WIDTH))


def to_module(step: CenterCrop) -> nn.Module:
    """Return the crop as a module."""
    return _CenterCrop(step)


class _CenterCrop(nn.Module):
    fill: Tensor

    def __init__(self, step: CenterCrop) -> None:
        super().__init__()
        self.height, self.width = step.height, step.width
        self.down = step.rounding != "half_even"
        self.up = step.rounding == "floor"
        self.register_buffer("fill", torch.tensor(step.fill, dtype=torch.int32).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        rows, columns = max(self.height - pixels.shape[2], 0), max(self.width - pixels.shape[3], 0)
        if rows > 0 or columns > 0:
            left, above = frame_before(columns, self.up), frame_before(rows, self.up)
            pixels = frame_tensor(pixels, self.fill, left, above, columns - left, rows - above)
        top = crop_window(pixels.shape[2], self.height, self.down)[0]
        left = crop_window(pixels.shape[3], self.width, self.down)[0]
        return pixels[:, :, top : top + self.height, left : left + self.width]


def _read(transform: Any, before: TransformInput) -> Sequence[CenterCrop]:
    before.check_pixels()
    size = transform.size
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    fill = read_fill(getattr(transform, "fill", 0), before.subject)
    return [CenterCrop(height=int(height), width=int(width), fill=fill)]


def _read_crop_or_pad(transform: Any, before: TransformInput) -> Sequence[CenterCrop] | None:
    return _read(transform, before) if transform.padding_mode == "constant" else None


def _read_albumentations(transform: Any, before: TransformInput) -> Sequence[CenterCrop] | None:
    before.check_pixels()
    if getattr(transform, "pad_if_needed", False):
        return None
    return [CenterCrop(height=int(transform.height), width=int(transform.width), rounding="down")]


def _read_pad_if_needed(transform: Any, before: TransformInput) -> Sequence[CenterCrop] | None:
    """Return a frame up to a size as a crop to it: equal where no image is larger, which is held against the whole."""
    before.check_pixels()
    position = str(getattr(transform.position, "value", transform.position))
    if transform.min_height is None or transform.min_width is None or transform.border_mode or position != "center":
        return None
    fill = read_fill(getattr(transform, "fill", getattr(transform, "value", None)) or 0, before.subject)
    return [CenterCrop(height=int(transform.min_height), width=int(transform.min_width), rounding="down", fill=fill)]


READERS: Readers = {
    transforms.CenterCrop: _read,
    v2.CenterCrop: _read,
    "timm.data.transforms.CenterCropOrPad": _read_crop_or_pad,
    "albumentations.CenterCrop": _read_albumentations,
    "albumentations.PadIfNeeded": _read_pad_if_needed,
}
